"""The table of metrics. A new one is a file with a function from `Measured` to estimates, and a row here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ganwright.errors import SettingsError, nearest
from ganwright.metrics import (
    class_accuracy,
    frechet,
    frechet_infinity,
    inception_score,
    kernel,
    manifold,
    memorisation,
    path_length,
    per_class,
    rbf_mmd,
    spatial,
    train_on_synthetic,
    vendi,
)
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
            that were asked for), "latent" (a generator's latent space).
        what: What it tells, in a few words.
        on_request: Left out unless it is named: it takes minutes.
    """

    compute: Callable[[Measured], list[Estimate]]
    needs: frozenset[str]
    what: str
    on_request: bool = False


def _rows(
    compute: Callable[[Measured], list[Estimate]], needs: str, on_request: bool = False, /, **what: str
) -> dict[str, Metric]:
    """One row for each number that a function gives; `kid_subsets=` is the row "kid-subsets"."""
    found = {name.rstrip("_").replace("_", "-"): text for name, text in what.items()}
    return {name: Metric(compute, frozenset(needs.split()), text, on_request) for name, text in found.items()}


METRICS: dict[str, Metric] = {
    **_rows(frechet.estimate, "moments", fd="distance of the two distributions' means and covariances"),
    **_rows(frechet_infinity.estimate, "reference", fd_infinity="the same, extrapolated to infinitely many images"),
    **_rows(
        kernel.estimate,
        "reference",
        kid="distance of the two distributions, without bias at any number of images",
        kid_subsets="the same as usually published, averaged over subsets",
    ),
    **_rows(rbf_mmd.estimate, "reference", mmd="distance of distributions by a Gaussian kernel; CMMD over CLIP"),
    **_rows(spatial.estimate, "spatial", sfid="distance of features that keep their place: layout, not only content"),
    **_rows(per_class.estimate, "reference classes", fd_by_class="mean over classes of the distance within each"),
    **_rows(
        inception_score.estimate,
        "logits",
        is_="sharp and varied classes; never looks at real images",
        is_splits="the same as usually published, averaged over parts",
    ),
    **_rows(
        manifold.estimate,
        "reference",
        precision="share of samples that look real",
        recall="share of real images that the samples come near",
        density="how deep inside the real images the samples lie; may exceed 1",
        coverage="share of real images with a sample as their neighbour",
    ),
    **_rows(vendi.estimate, "reference", vendi="effective number of different images among the samples"),
    **_rows(
        memorisation.estimate,
        "reference held_out",
        nn_ratio="share of samples closer to the training images than all but 1 % of unseen real ones",
    ),
    **_rows(
        memorisation.estimate,
        "reference",
        authenticity="share of samples that are not suspiciously close to a real image",
        duplicates="share of samples that are near-copies of another sample",
    ),
    **_rows(
        class_accuracy.estimate_accuracy,
        "judge asked",
        class_accuracy="samples that a judge reads as the class asked for",
    ),
    **_rows(class_accuracy.estimate_coverage, "judge", class_coverage="classes that are made often enough"),
    **_rows(
        train_on_synthetic.estimate,
        "judge asked held_out",
        True,
        cas="accuracy on real images of a classifier trained on samples alone",
    ),
    **_rows(path_length.estimate, "latent", True, path_length="how smoothly images change through latent space"),
}
"""Metrics by name, in the order they are shown; a new one is a file and a row."""
USUAL = tuple(name for name, metric in METRICS.items() if not metric.on_request)
"""All that are computed where none is named."""


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
