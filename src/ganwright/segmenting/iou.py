"""Mean intersection over union, with an interval.

Pixels of all images are counted together. The mean is over the classes that occur in the truth; a class that never
occurs there is left out, and predicting it costs the class it was mistaken for a miss. (Some programs count such a
class as 0, or leave it out only where it is not predicted either: with them, two predictions would be averaged over
different classes.)
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ganwright.errors import MetricError
from ganwright.metrics.estimate import Estimate, Provenance
from ganwright.segmenting.classes import IGNORE

Counts = npt.NDArray[np.int64]
Array = npt.NDArray[np.float64]
RESAMPLES = 2000


def confusion(truth: npt.NDArray[np.uint8], predicted: npt.NDArray[np.uint8], num_classes: int) -> Counts:
    """Pixels by true (rows) and predicted class, int64 (K, K); those whose truth is ignored are left out.

    Args:
        truth: uint8, any shape: classes or 255.
        predicted: uint8 of the same shape: classes.
        num_classes: K.
    """
    counted = truth != IGNORE
    pairs = truth[counted].astype(np.int64) * num_classes + predicted[counted]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def iou_per_class(counts: npt.NDArray[np.generic]) -> Array:
    """Intersection over union (..., K) of confusions (..., K, K); NaN for a class that is not in the truth."""
    counts = counts.astype(np.float64)
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    truth = counts.sum(-1)
    union = truth + counts.sum(-2) - hits
    return np.where(truth > 0, hits / np.maximum(union, 1), np.nan)


def mean_iou(counts: npt.NDArray[np.generic]) -> Array:
    """Mean over the classes that occur in the truth, (...) of confusions (..., K, K); NaN where none does."""
    each = iou_per_class(counts)
    present = np.isfinite(each)
    return np.where(present.any(-1), np.nansum(each, -1) / np.maximum(present.sum(-1), 1), np.nan)


def bootstrap_mean_iou(counts: Counts, *, resamples: int = RESAMPLES, seed: int = 0) -> Array:
    """Mean IoU of resamples of images and seeds, (resamples,); equal seeds resample equal images.

    Args:
        counts: (S, N, K, K): of S training seeds and N images.
        resamples: How many.
        seed: Of the resampling.
    """
    random = np.random.default_rng(seed)
    s, n = counts.shape[:2]
    found = np.empty(resamples)
    for i in range(resamples):
        images = np.bincount(random.integers(n, size=n), minlength=n)
        seeds = random.integers(s, size=s)
        found[i] = np.nanmean(mean_iou(np.tensordot(counts[seeds], images, axes=(1, 0))))
    return found


def mean_iou_estimate(counts: Counts, label: str, provenance: Provenance, warnings: tuple[str, ...] = ()) -> Estimate:
    """Mean over seeds of the mean IoU, with its 95 % interval.

    Args:
        counts: (S, N, K, K): of S training seeds and N images.
        label: What people read.
        provenance: How it was measured.
        warnings: What a reader must know.

    Raises:
        MetricError: The truth holds no pixel of any class.
    """
    each = mean_iou(counts.sum(1))
    if not np.isfinite(each).all():
        raise MetricError("The true masks hold no pixel of any class.", fix="not all pixels may be ignored ones")
    low, high = np.nanquantile(bootstrap_mean_iou(counts), [0.025, 0.975])
    over = "images" if len(counts) == 1 else "images and seeds"
    return Estimate(
        "miou",
        label,
        float(each.mean()),
        float(low),
        float(high),
        counts.shape[1],
        provenance,
        f"95 %, bootstrap over {over}",
        True,
        warnings,
        {"seeds": float(len(counts)), **({"std_over_seeds": float(each.std(ddof=1))} if len(each) > 1 else {})},
    )
