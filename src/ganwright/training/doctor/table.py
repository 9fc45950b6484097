"""The one table of checks. A new check is one class in a file of its family and one line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ganwright.training.doctor.check import Check
from ganwright.training.doctor.collapse import MissingClasses, ModeCollapse
from ganwright.training.doctor.divergence import Divergence
from ganwright.training.doctor.gradients import VanishingGradients
from ganwright.training.doctor.memorisation import Memorisation
from ganwright.training.doctor.non_finite import NonFinite
from ganwright.training.doctor.regression import MetricRegression
from ganwright.training.doctor.saturation import DiscriminatorSaturation


@dataclass(frozen=True)
class CheckInfo:
    """One row of the table.

    Attributes:
        name: What the log and `Doctor(checks=…)` call it.
        make: Makes the check with its default thresholds.
        looks_at: The evidence: "log", "samples" or "evaluation".
        summary: What it finds, in a sentence.
        source: Where the idea and the numbers come from.
    """

    name: str
    make: Callable[[], Check]
    looks_at: str
    summary: str
    source: str


_ROWS = (
    CheckInfo(
        NonFinite.name,
        NonFinite,
        "log",
        "a logged number is NaN or infinite",
        "IEEE 754: NaN spreads through every later update",
    ),
    CheckInfo(
        Divergence.name,
        Divergence,
        "log",
        "a loss has exploded",
        "float32 resolution; thresholds measured here",
    ),
    CheckInfo(
        DiscriminatorSaturation.name,
        DiscriminatorSaturation,
        "log",
        "the discriminator tells real from fake without error",
        "Arjovsky & Bottou 2017 (arXiv:1701.04862), section 2.1",
    ),
    CheckInfo(
        VanishingGradients.name,
        VanishingGradients,
        "log",
        "the generator's gradient has all but disappeared",
        "Goodfellow et al. 2014 (arXiv:1406.2661), section 3; Arjovsky & Bottou 2017, theorem 2.4",
    ),
    CheckInfo(
        ModeCollapse.name,
        ModeCollapse,
        "samples",
        "samples are far more alike than real images are",
        "Goodfellow 2016 (arXiv:1701.00160), section 5.1.1; Arora & Zhang 2017 (arXiv:1706.08224)",
    ),
    CheckInfo(
        MissingClasses.name,
        MissingClasses,
        "evaluation",
        "some classes are not generated",
        "Srivastava et al. 2017 (arXiv:1705.07761): modes counted by a classifier",
    ),
    CheckInfo(
        Memorisation.name,
        Memorisation,
        "samples",
        "samples are closer to training images than unseen real images are",
        "Meehan et al. 2020 (arXiv:2004.05675); Carlini et al. 2023 (arXiv:2301.13188)",
    ),
    CheckInfo(
        MetricRegression.name,
        MetricRegression,
        "evaluation",
        "a metric is clearly worse than it was",
        "Brock et al. 2019 (arXiv:1809.11096), section 4",
    ),
)

CHECKS: dict[str, CheckInfo] = {row.name: row for row in _ROWS}
"""All checks by name, in the order in which they are asked."""
