"""The Fréchet distance extrapolated to infinitely many samples (Chong & Forsyth 2020, "FID∞").

The bias of `frechet.py`'s estimate goes with 1/N. The distance is measured at several N, and a line in 1/N read at 0.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from ganwright.console import track
from ganwright.errors import MetricError
from ganwright.metrics.estimate import Estimate
from ganwright.metrics.frechet import frechet_distance, influences
from ganwright.metrics.moments import FloatArray, Moments

if TYPE_CHECKING:
    from ganwright.metrics.measured import Measured

POINTS = 15
"""Distances the line is fitted to, as published."""
FEWEST = 200
"""Samples it needs."""
_SMALLEST = 5000
"""Where the published sizes begin; half of the samples where that is less."""
_LONG = 10**10


class Extrapolated(NamedTuple):
    """The distance at infinitely many samples.

    Attributes:
        value: Intercept of the line; near 0 it may be below 0.
        standard_error: Of sampling and of the fit together.
        fit_error: Of the fit alone.
        slope: The bias at N samples is about slope / N.
        full: The distance of all samples, bias included.
        smallest: Size of the smallest subset.
    """

    value: float
    standard_error: float
    fit_error: float
    slope: float
    full: float
    smallest: int


def can_extrapolate(n: int, d: int) -> bool:
    """Whether n samples are enough: 200, and more than D in the smallest subset.

    Below full rank the bias is not linear in 1/N, and the line would miss by more than its error says.
    """
    return n >= FEWEST and n // 2 > d


def frechet_infinity(
    x: FloatArray, y: FloatArray, *, points: int = POINTS, seed: int = 0, ddof: int = 1, quiet: bool = False
) -> Extrapolated:
    """Extrapolate the distance from x to y in the number of samples of x; y stays as it is, its bias included.

    Each distance is of a random subset S without replacement. How much the drawing of S moves it is known to first
    order, mean psi over S with `frechet`'s influences psi, and is taken off: it has expectation 0, so the published
    estimate is only made steadier (its spread about halves).

    The line's error follows from its residuals. The sampling error of all samples (delta method, both sides) is in
    every point alike and adds to it.

    Args:
        x: Features (n, D) of the samples.
        y: Features (m, D) of the reference.
        points: Sizes of subsets, equally spaced from min(5,000, n / 2) to n.
        seed: Of the subsets.
        ddof: Covariances divide by n - ddof.
        quiet: Show no progress.

    Raises:
        MetricError: Too few samples (`can_extrapolate`), values that are not finite, or different dimensions.
    """
    n, d = x.shape
    if not can_extrapolate(n, d):
        raise MetricError(
            f"{n} samples of {d} dimensions are too few to extrapolate the Fréchet distance.",
            fix=f"give at least {max(FEWEST, 2 * d + 2):,} samples",
        )
    whole, psi = influences(x, y, ddof=ddof)
    real, random = Moments.of_features(y, ddof=ddof), np.random.RandomState(seed)
    sizes = np.linspace(min(_SMALLEST, n // 2), n, points).astype(np.int64)
    distances = np.full(points, whole.distance)
    for i, size in enumerate(track(sizes[:-1], "Fréchet distances to extrapolate", quiet=quiet)):
        subset: npt.NDArray[np.int64] = np.sort(random.permutation(n)[:size])
        distances[i] = frechet_distance(x[subset], real, ddof=ddof) - psi[subset].mean()
    inverse = 1 / sizes
    centred = inverse - inverse.mean()
    spread = float((centred**2).sum())
    slope = float(centred @ distances) / spread
    value = float(distances.mean() - slope * inverse.mean())
    residuals = distances - value - slope * inverse
    fit_variance = float((residuals**2).sum()) / (points - 2) * (1 / points + float(inverse.mean()) ** 2 / spread)
    error = math.sqrt(whole.standard_error**2 + fit_variance)
    return Extrapolated(value, error, math.sqrt(fit_variance), slope, whole.distance, int(sizes[0]))


def estimate(measured: Measured) -> list[Estimate]:
    """FID∞, or FD∞ over another extractor; nothing where there are too few samples."""
    x, y = measured.samples.features, measured.reference.features
    if not can_extrapolate(*x.shape):
        return []
    found = frechet_infinity(x, y, ddof=measured.protocol.covariance_ddof, quiet=len(x) * x.shape[1] ** 2 < _LONG)
    return [
        measured.normal_estimate(
            "fd-infinity",
            measured.label("FID∞", "FD∞"),
            found.value,
            found.standard_error,
            better=False,
            interval="95 %, delta method over samples and reference, and error of the fitted line",
            warnings=(f"the bias of {len(y):,} reference images is not removed",),
            details={
                "distance_at_n": found.full,
                "slope": found.slope,
                "fit_error": found.fit_error,
                "points": POINTS,
                "smallest_subset": found.smallest,
            },
        )
    ]
