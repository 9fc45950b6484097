"""Nearest training images of generated ones, with held-out images as the yardstick.

Distances are root-mean-square grey levels over images of at most 32x32, mirror images included (see `pixels`): they
find copies of training images, not subtler leaks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ganwright.errors import MetricError
from ganwright.metrics.pixels import ImageData, nearest, pick, small
from ganwright.samples import ImageSamples, Uint8Array

FEWEST_HELD_OUT = 100
"""Below this many held-out images their 1 % quantile means nothing."""
_MOST_HELD_OUT = 1000


@dataclass(frozen=True)
class NeighbourSheet:
    """Generated images beside their nearest training images.

    Attributes:
        samples: uint8 (N, H, W, C), the closest to training first.
        neighbours: uint8 (N, H, W, C), the nearest training image of each.
        distances: float (N,), in grey levels.
        indices: int64 (N,), positions of the neighbours in the data set.
        held_out_distances: float (M,), distance of each held-out image to its nearest training image; may be empty.
        threshold: The 1 % quantile of `held_out_distances`, or NaN.
        share_below: Share of all samples closer than the threshold, or NaN.
        verdict: The comparison in a sentence.
    """

    samples: Uint8Array
    neighbours: Uint8Array
    distances: npt.NDArray[np.float64]
    indices: npt.NDArray[np.int64]
    held_out_distances: npt.NDArray[np.float64]
    threshold: float
    share_below: float
    verdict: str


def nearest_neighbours(samples: ImageSamples, dataset: object, *, k: int = 12) -> NeighbourSheet:
    """The `k` samples that lie closest to a training image, and how close real unseen images lie.

    Args:
        samples: All samples to search.
        dataset: With `images`, `train_index` and `held_out_index`.
        k: How many pairs to show.

    Raises:
        MetricError: The data set has no images, or they have another number of channels.
    """
    if not isinstance(dataset, ImageData) or len(dataset.train_index) == 0 or len(samples) == 0:
        raise MetricError("Nearest neighbours need generated images and a data set of training images.")
    if samples.images.shape[-1] != dataset.images.shape[-1]:
        raise MetricError("The samples and the data set differ in channels.")
    if samples.images.shape[1:3] != dataset.images.shape[1:3]:
        raise MetricError(
            "The samples and the data set differ in size.",
            where=f"{samples.images.shape[1:3]} and {dataset.images.shape[1:3]} pixels",
            fix="open the data at the resolution of the samples",
        )
    train = small(dataset.images, dataset.train_index)
    found, found_at = nearest(small(samples.images), train, 1)
    distances, places = found[:, 0].double().numpy(), found_at[:, 0].numpy()
    held_out_index = pick(dataset.held_out_index, _MOST_HELD_OUT, 0)
    held_out = np.zeros(0)
    if len(held_out_index):
        held_out = nearest(small(dataset.images, held_out_index), train, 1)[0][:, 0].double().numpy()
    threshold = share = float("nan")
    if len(held_out) >= FEWEST_HELD_OUT:
        threshold = float(np.quantile(held_out, 0.01))
        share = float((distances < threshold).mean())
    order = np.argsort(distances, kind="stable")[:k]
    indices = dataset.train_index[places[order]]
    return NeighbourSheet(
        samples.images[order],
        np.stack([dataset.images[i] for i in indices]),
        distances[order],
        indices,
        held_out,
        threshold,
        share,
        _verdict(len(distances), len(held_out), threshold, share),
    )


def _verdict(n: int, held_out: int, threshold: float, share: float) -> str:
    if held_out < FEWEST_HELD_OUT:
        return (
            f"There are only {held_out} held-out images, too few for a yardstick ({FEWEST_HELD_OUT} are needed), so "
            "whether these distances are suspiciously small cannot be said."
        )
    lead = (
        f"{share:.1%} of {n} samples lie closer to a training image than all but 1 % of {held_out} real images the "
        f"GAN never saw do ({threshold:.1f} grey levels)"
    )
    if share * n > 0.01 * n + 3 * np.sqrt(0.01 * 0.99 * n) and share > 0.02:
        return lead + ": more than chance allows. Some samples may be copies; compare the pairs."
    return lead + ": about what chance gives, so there is no sign of copying."
