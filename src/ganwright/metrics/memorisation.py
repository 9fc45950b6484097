"""Does a generator repeat its training images, or itself? Nearest neighbours in feature space, with yardsticks.

Three shares: samples closer to training than unseen real images are, authentic samples (Alaa et al. 2022), and
near-duplicates among the samples. Copies escape where features mind their faults more than whom they show (training
digits under noise of 8 grey levels passed over EfficientNet); `neighbours.py` looks for copies in pixel space.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from ganwright.console import progress
from ganwright.errors import MetricError
from ganwright.metrics.class_accuracy import wilson_interval
from ganwright.metrics.estimate import Estimate
from ganwright.metrics.kernel import TILE, tiles
from ganwright.metrics.moments import CHUNK, FloatArray, check_features, check_same_width
from ganwright.metrics.pixels import pick

if TYPE_CHECKING:
    from ganwright.metrics.measured import Measured

Array = npt.NDArray[np.float64]
LEVEL = 0.01
"""Share of real images that lie below the yardsticks."""
FEWEST = 100
"""Fewest distances whose 1 % quantile can be told: with 99 it is the smallest of them."""
COPY = 1e-4
"""Two images are exact copies where their distance is below this share of the reference's median nearest distance."""
_FAR = 1.1
"""Samples whose median distance to training is more than so many times that of unseen images hide copies."""
_DRAWS = 4000
_LONG = 1 << 40
"""From so many multiplications on progress is shown."""


@dataclass(frozen=True)
class Nearest:
    """The nearest neighbour of each of n rows.

    Attributes:
        distance: float64 (n,), Euclidean.
        index: int64 (n,), its position.
    """

    distance: Array
    index: npt.NDArray[np.int64]


def nearest(x: FloatArray, y: FloatArray | None = None, *, note: str = "nearest neighbours") -> Nearest:
    """The nearest row of `y` to each row of `x`, or the nearest other row of `x`.

    Neighbours are found from float32 products of centred features, tile by tile; the distance to the one found is then
    computed in float64, so that copies are at 0. Among neighbours whose distances differ by less than about 1e-3 of the
    features' length it may be another than the nearest.

    Args:
        x: Features (n, D), perhaps memory-mapped.
        y: Features (m, D); None: x, each row without itself.
        note: What progress calls it.

    Raises:
        MetricError: Too few rows, values that are not finite, or different dimensions.
    """
    other = x if y is None else y
    for side, what in ((x, "the samples"), (other, "the reference")):
        check_features(side, what)
    check_same_width(x.shape[1], other.shape[1])
    centre = np.asarray(other.mean(axis=0, dtype=np.float64))
    squares = torch.from_numpy(_squares(other, centre))
    own = squares if y is None else torch.zeros(len(x), dtype=squares.dtype)
    best = torch.full((len(x),), torch.inf, dtype=torch.float64)
    place = torch.zeros(len(x), dtype=torch.int64)

    def improve(rows: slice, values: torch.Tensor, at: torch.Tensor, first: int) -> None:
        closer = values < best[rows]
        best[rows] = torch.where(closer, values.double(), best[rows])
        place[rows] = torch.where(closer, at + first, place[rows])

    total = len(x) * len(other) // (2 if y is None else 1)
    with progress(note, total, quiet=total * x.shape[1] < _LONG) as advance:
        for rows, columns, products in tiles(x, y, shift=centre, tile=TILE):
            # |x - y|² without |x|², which does not matter to which y is nearest to x
            scores = products.mul_(-2).add_(squares[columns].to(products.dtype))
            if y is None and rows == columns:
                scores.fill_diagonal_(torch.inf)
            improve(rows, *scores.min(1), columns.start)
            if y is None and rows != columns:
                shifted = scores.sub_(squares[columns].to(scores.dtype)).add_(own[rows, None].to(scores.dtype))
                improve(columns, *shifted.min(0), rows.start)
            advance(products.numel())
    index = place.numpy()
    distance = np.empty(len(x))
    for start in range(0, len(x), CHUNK):
        part = slice(start, start + CHUNK)
        gap = np.asarray(x[part], np.float64) - np.asarray(other[index[part]], np.float64)
        distance[part] = np.sqrt((gap**2).sum(1))
    return Nearest(distance, index)


def _squares(features: FloatArray, centre: Array) -> Array:
    """|y - centre|² of each row."""
    found = np.empty(len(features))
    for start in range(0, len(features), CHUNK):
        found[start : start + CHUNK] = ((features[start : start + CHUNK] - centre) ** 2).sum(1)
    return found


@dataclass(frozen=True)
class ShareBelow:
    """Share of distances below a quantile of a yardstick.

    Attributes:
        value: The share.
        low: Lower end of its 95 % interval.
        high: Upper end.
        threshold: The yardstick's quantile.
    """

    value: float
    low: float
    high: float
    threshold: float


def share_below(
    distances: Array, yardstick: Array, *, level: float = LEVEL, twins: float = 1.0, seed: int = 0
) -> ShareBelow:
    """Share of `distances` at or below the `level` quantile of `yardstick`.

    The quantile is the one with a share of `level` below it on average, whatever the distribution (position
    level (m + 1) among m; Weibull's rule), so the expected share is `level` where both sides follow one distribution.

    The interval counts the sampling of both sides: that the true quantile lies between the k-th and the next of the
    yardstick's distances (the 0th is 0) has the binomial probability of k, and is taken as uniform there; given where
    it lies, the share has Jeffreys' beta distribution. Its ends are quantiles over draws of both. (A bootstrap cannot
    look below the yardstick's smallest distance, and covers too rarely with few.)

    Args:
        distances: (n,), none negative.
        yardstick: (m,), none negative, m at least 1 / level - 1.
        level: Of the quantile.
        twins: Rows that fall below together, as the two of a pair do; counts are divided by it for the interval.
        seed: Of the draws.

    Raises:
        MetricError: Too few distances.
    """
    n, m = len(distances), len(yardstick)
    if n == 0 or m * level < 1 - level - 1e-9:
        raise MetricError(f"A quantile of {level:g} needs more than {m} real images.", fix="hold out more images")
    ordered = np.sort(yardstick)
    threshold = float(np.quantile(ordered, level, method="weibull"))
    rank = np.sort(distances)
    value = float(np.searchsorted(rank, threshold, side="right")) / n
    random = np.random.default_rng(seed)
    below = random.binomial(max(1, round(m / twins)), level, _DRAWS) * (m / max(1, round(m / twins)))
    edges = np.concatenate([[0.0], ordered, ordered[-1:]])  # edges[k]: the k-th smallest
    k = np.minimum(below.astype(np.int64), m)
    quantile = edges[k] + random.random(_DRAWS) * (edges[k + 1] - edges[k])
    between = np.searchsorted(rank, quantile, side="right") / n
    effective = n / twins
    drawn = random.beta(between * effective + 0.5, (1 - between) * effective + 0.5)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return ShareBelow(value, min(value, float(low)), max(value, float(high)), threshold)


def authenticity(samples: Nearest, reference: Nearest) -> npt.NDArray[np.bool_]:
    """Whether each sample is authentic (Alaa et al. 2022, sec. 4.2).

    It is where it lies further from its nearest training image than that image from the nearest other one: a copy with
    noise lies closer.

    Args:
        samples: Nearest training images of the samples.
        reference: Nearest other training images of the training images.
    """
    return samples.distance > reference.distance[samples.index]


def duplicates(samples: FloatArray, reference: Array) -> tuple[ShareBelow, Array]:
    """Share of samples that have a near-duplicate among the samples, and each one's distance to its nearest other.

    Two are near-duplicates where they are closer than all but 1 % of real images are to their nearest other. Exact
    copies among the real images are no yardstick and are left out of that.

    Args:
        samples: Features (n, D).
        reference: Distances of as many real images to their nearest other.

    Raises:
        MetricError: Fewer than 100 real images that are no copies.
    """
    own = nearest(samples, note="near-duplicates among the samples").distance
    real = reference[reference > COPY * float(np.median(reference))]
    if len(real) < FEWEST:
        raise MetricError(f"Near-duplicates need at least {FEWEST} different real images, not {len(real)}.")
    return share_below(own, real, twins=2.0), own


def estimate(measured: Measured) -> list[Estimate]:
    """`nn-ratio` (with held-out images), `authenticity` and `duplicates` (with at least 100 on each side)."""
    x, r = measured.samples.features, measured.reference.features
    if len(r) < 3:
        raise MetricError(f"{len(r)} real images are too few to tell copies.", fix="give more real images")
    to_training = nearest(x, r, note="nearest training images of the samples")
    within = nearest(r, note="nearest neighbours among the training images")
    held_out = None
    if measured.held_out is not None and len(measured.held_out) >= 2:
        held_out = nearest(measured.held_out.features, r, note="nearest training images of the held-out ones")
    found = [_authenticity(measured, to_training, within, held_out)]
    if held_out is not None and len(held_out.distance) >= FEWEST:
        found.insert(0, _nn_ratio(measured, to_training, held_out, within))
    k = min(len(x), len(r))
    if k >= FEWEST:
        found += _duplicates(measured, k, within)
    return found


def _nn_ratio(measured: Measured, samples: Nearest, held_out: Nearest, within: Nearest) -> Estimate:
    share = share_below(samples.distance, held_out.distance)
    m = len(held_out.distance)
    typical = float(np.median(held_out.distance))
    told = (
        f"unseen real images give {LEVEL:.0%} on average, whatever they are like (yardstick: {m:,} held out). A share "
        "well above it is a sign of copying; the interval counts both sides"
    )
    ratio = float(np.median(samples.distance)) / typical if typical > 0 else math.nan
    warnings = [told]
    if ratio > _FAR:
        warnings.append(
            f"samples typically lie {ratio:.2f} times as far from training as unseen images do: faults they all share "
            "move them away, and copies with such faults escape. Look at the nearest neighbours in pixels too"
        )
    copies = float((samples.distance <= COPY * float(np.median(within.distance))).mean())
    details = {
        "threshold": share.threshold,
        "median_ratio": ratio,
        "copies": copies,
        "n_held_out": float(m),
    }
    how = "95 %, binomial rank of the held-out quantile and Jeffreys' beta of the share"
    label = f"closer to training than {1 - LEVEL:.0%} of unseen images ({measured.extractor_name})"
    return _estimate(
        measured, "nn-ratio", label, share.value, share.low, share.high, how, False, tuple(warnings), details
    )


def _authenticity(measured: Measured, samples: Nearest, within: Nearest, held_out: Nearest | None) -> Estimate:
    authentic = authenticity(samples, within)
    low, high = wilson_interval(int(authentic.sum()), len(authentic))
    details: dict[str, float] = {}
    told = (
        "not 100 % for good samples: unseen real images give a third (few dimensions) to two thirds (many), since "
        "an image and its nearest neighbour are often each other's nearest"
    )
    if held_out is not None:
        real = authenticity(held_out, within)
        r_low, r_high = wilson_interval(int(real.sum()), len(real))
        details = {"held_out": float(real.mean()), "held_out_low": r_low, "held_out_high": r_high}
        told = (
            f"the {len(real):,} held-out real images give {real.mean():.1%} [{r_low:.1%}, {r_high:.1%}]: well below "
            "that is a sign of copying, 100 % is not the aim"
        )
    label, how = f"authenticity ({measured.extractor_name})", "95 %, Wilson; for these training images"
    value = float(authentic.mean())
    return _estimate(measured, "authenticity", label, value, low, high, how, True, (told,), details)


def _duplicates(measured: Measured, k: int, within: Nearest) -> list[Estimate]:
    """As many samples as real images, since nearest neighbours come closer as a set grows."""
    x, r = measured.samples.features, measured.reference.features
    samples = x if len(x) == k else x[np.sort(pick(np.arange(len(x)), k, 0))]
    real = within.distance
    if len(r) > k:
        fewer = r[np.sort(pick(np.arange(len(r)), k, 0))]
        real = nearest(fewer, note="nearest neighbours among as many real images").distance
    copy = COPY * float(np.median(real))
    if (real > copy).sum() < FEWEST:
        return []
    share, own = duplicates(samples, real)
    told = (
        f"real images give about {LEVEL:.0%}. Compared are {k:,} samples and as many real images; the interval counts "
        "both sides and errs on the wide side"
    )
    details = {
        "threshold": share.threshold,
        "exact_copies": float((own <= copy).mean()),
        "reference": float((real <= share.threshold).mean()),
        "reference_exact_copies": float((real <= copy).mean()),
    }
    how = "95 %, binomial rank of the real quantile and Jeffreys' beta of the share; pairs counted once"
    label = f"near-duplicates among the samples ({measured.extractor_name})"
    values = share.value, share.low, share.high
    found = _estimate(measured, "duplicates", label, *values, how, False, (told,), details, n=k)
    return [found]


def _estimate(
    measured: Measured,
    name: str,
    label: str,
    value: float,
    low: float,
    high: float,
    how: str,
    better: bool,
    warnings: tuple[str, ...],
    details: dict[str, float],
    n: int | None = None,
) -> Estimate:
    told = (*warnings, *measured.warnings)
    return Estimate(name, label, value, low, high, n or measured.n, measured.provenance, how, better, told, details)
