"""Kernel distance: unbiased squared MMD with the cubic kernel (x·y/D + 1)³ (Bińkowski et al. 2018, "KID")."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from ganwright.errors import MetricError
from ganwright.metrics.estimate import Estimate

if TYPE_CHECKING:
    from ganwright.metrics.measured import Measured

Array = npt.NDArray[np.float64]


class KernelDistance(NamedTuple):
    """The unbiased estimate (it may be below 0) and its standard error."""

    value: float
    standard_error: float


def polynomial_kernel(x: Array, y: Array) -> Array:
    """(x·y/D + 1)³ for all pairs: (n, D) and (m, D) to (n, m)."""
    result: Array = (x @ y.T / x.shape[1] + 1) ** 3
    return result


def kernel_distance(x: npt.NDArray[np.floating], y: npt.NDArray[np.floating], *, chunk: int = 1024) -> KernelDistance:
    """Unbiased MMD² between all rows (Gretton et al. 2012, eq. 3), in chunks.

    Its standard error follows from the first-order influences of each side's samples,
    2 (mean k(xᵢ, x) - mean k(xᵢ, y)).

    Args:
        x: Features (n, D).
        y: Features (m, D).
        chunk: Rows of the kernel matrix held at a time.

    Raises:
        MetricError: Fewer than two rows, or values that are not finite.
    """
    for side in (x, y):
        if len(side) < 2:
            raise MetricError(f"A kernel distance needs at least 2 samples on each side, not {len(side)}.")
        if not np.isfinite(side).all():
            raise MetricError("Some features are NaN or infinite.")
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    n, m = len(a), len(b)
    xx, xy, yx, yy = np.zeros(n), np.zeros(n), np.zeros(m), np.zeros(m)
    for start in range(0, n, chunk):
        rows = a[start : start + chunk]
        xx[start : start + chunk] = polynomial_kernel(rows, a).sum(axis=1)
        cross = polynomial_kernel(rows, b)
        xy[start : start + chunk] = cross.sum(axis=1)
        yx += cross.sum(axis=0)
    for start in range(0, m, chunk):
        yy[start : start + chunk] = polynomial_kernel(b[start : start + chunk], b).sum(axis=1)
    xx = (xx - ((a * a).sum(axis=1) / a.shape[1] + 1) ** 3) / (n - 1)
    yy = (yy - ((b * b).sum(axis=1) / b.shape[1] + 1) ** 3) / (m - 1)
    value = float(xx.mean() + yy.mean() - 2 * xy.mean() / m)
    variance = (2 * (xx - xy / m)).var(ddof=1) / n + (2 * (yy - yx / n)).var(ddof=1) / m
    return KernelDistance(value, math.sqrt(variance))


def subset_kernel_distance(
    x: npt.NDArray[np.floating],
    y: npt.NDArray[np.floating],
    *,
    subsets: int = 100,
    size: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Mean and standard deviation over random subsets, as KID is usually published.

    Raises:
        MetricError: A side has fewer samples than a subset.
    """
    if min(len(x), len(y)) < size:
        raise MetricError(f"Subsets of {size} need as many samples; there are {min(len(x), len(y))}.")
    generator = np.random.default_rng(seed)
    values = [
        kernel_distance(
            x[generator.choice(len(x), size, replace=False)], y[generator.choice(len(y), size, replace=False)]
        ).value
        for _ in range(subsets)
    ]
    return float(np.mean(values)), float(np.std(values))


def estimate(measured: Measured) -> list[Estimate]:
    """KID, or KD over another extractor: unbiased over all samples, with its interval."""
    found = kernel_distance(measured.samples.features, measured.reference.features)
    label = measured.label("KID", "KD")
    return [measured.normal_estimate("kid", label, found.value, found.standard_error, better=False)]
