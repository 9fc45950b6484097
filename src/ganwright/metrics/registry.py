"""The table of metrics. A new one is a file with a function from `Measured` to estimates, and a row here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ganwright.errors import SettingsError, nearest
from ganwright.metrics import class_accuracy, frechet, inception_score, kernel
from ganwright.metrics.estimate import Estimate
from ganwright.metrics.measured import Measured


@dataclass(frozen=True)
class Metric:
    """One row.

    Attributes:
        compute: The estimates.
        needs: What must be there: "moments" (mean and covariance of both sides), "samples" (features of the samples),
            "reference" (features of both sides), "logits", "spatial" (of both sides), "held_out" (features of real
            images not trained on), "classes" (of both sides), "judge" (labelled data), "asked" (samples of classes
            that were asked for).
        what: What it tells, in a few words.
    """

    compute: Callable[[Measured], list[Estimate]]
    needs: frozenset[str]
    what: str


METRICS: dict[str, Metric] = {
    "fd": Metric(frechet.estimate, frozenset({"moments"}), "distance of distributions; FID over inception"),
    "kid": Metric(kernel.estimate, frozenset({"reference"}), "the same without bias; KID over inception"),
    "is": Metric(inception_score.estimate, frozenset({"logits"}), "sharp and varied classes"),
    "class-accuracy": Metric(
        class_accuracy.estimate_accuracy, frozenset({"judge", "asked"}), "samples read as the class asked for"
    ),
    "class-coverage": Metric(class_accuracy.estimate_coverage, frozenset({"judge"}), "classes that are present"),
}


def choose_metrics(names: Iterable[str], available: Iterable[str] | None = None) -> dict[str, Metric]:
    """The metrics of these names whose needs are met.

    Args:
        names: As in `METRICS`.
        available: What is there, of `Metric.needs`; None: everything.

    Raises:
        SettingsError: An unknown name.
    """
    chosen = {}
    for name in names:
        if name not in METRICS:
            raise SettingsError(
                f"There is no metric '{name}'.{nearest(name, METRICS)}",
                where="metrics",
                fix="choose from " + ", ".join(METRICS),
            )
        if available is None or METRICS[name].needs <= set(available):
            chosen[name] = METRICS[name]
    return chosen
