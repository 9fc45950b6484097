"""The Fréchet distance between Gaussians fitted to two feature sets, and its standard error.

FID is this distance over the 2015 Inception features; over any other features it is named FD with the
extractor. Fitting the Gaussians lives in `moments.py`, extracting features in `extractors.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg

from ganwright.metrics.estimate import Estimate
from ganwright.metrics.moments import CHUNK, Float64Array, FloatArray, Moments, check_same_width

if TYPE_CHECKING:
    from ganwright.metrics.measured import Measured

FEW = 10_000
"""Below this many samples the bias of the estimate is worth a warning."""


@dataclass(frozen=True)
class FrechetResult:
    """A Fréchet distance.

    Attributes:
        distance: Squared 2-Wasserstein distance of the fitted Gaussians, in squared feature units, >= 0.
        standard_error: Of `distance`, from the sampling of those sets whose features were given.
    """

    distance: float
    standard_error: float


def frechet_distance(a: FloatArray | Moments, b: FloatArray | Moments) -> float:
    """The Fréchet distance between two sets of features or between two Gaussians.

    d² = |mu1 - mu2|² + tr(S1) + tr(S2) - 2 tr((S1 S2)^½)   (Dowson & Landau 1982; Heusel et al. 2017, eq. 6).

    With S = F'F the last trace is the sum of the singular values of F1 F2': never complex, and exact to
    rounding where a covariance is singular, which the usual matrix square root is not.

    Args:
        a: Features (N, D), or `Moments.of_covariance(mu, sigma)`.
        b: The same; with a's D.

    Returns:
        The distance, >= 0.

    Raises:
        MetricError: Too few rows, values that are not finite, or different dimensions.
    """
    one, two = _moments(a), _moments(b)
    check_same_width(len(one.mean), len(two.mean))
    s = scipy.linalg.svdvals(one.factor @ two.factor.T)
    return _distance(one, two, s)


def frechet(a: FloatArray | Moments, b: FloatArray | Moments) -> FrechetResult:
    """The Fréchet distance with its standard error by the delta method.

    The influence of a sample x of the first set is

        psi(x) = 2 (mu1 - mu2)'(x - mu1) + |x - mu1|² - (x - mu1)' T (x - mu1)   + const,

    T = S1^-½ (S1^½ S2 S1^½)^½ S1^-½ being the optimal-transport map from the first Gaussian to the second
    (the derivative of the distance is 2 (mu1 - mu2) in mu1 and I - T in S1), and the variance of the
    estimate is var(psi1)/n1 + var(psi2)/n2. A set given as `Moments.of_covariance` counts as known exactly.

    With n <= D samples T does not exist, but the derivative in the *weights* of the samples does: with
    F1 F2' = U diag(s) V', sample i has (x_i - mu1)' T (x_i - mu1) = (n - 1) sum_k s_k U_ik². That is what is
    used there (the infinitesimal jackknife); for n > D it is the same number.

    The error is that of sampling. The bias of the plug-in estimate, about O(1/n) and upwards, is not in it.

    Raises:
        MetricError: As `frechet_distance`.
    """
    one, two = _moments(a), _moments(b)
    check_same_width(len(one.mean), len(two.mean))
    u, s, vt = scipy.linalg.svd(one.factor @ two.factor.T, full_matrices=False)
    variance = 0.0
    if not isinstance(a, Moments):
        variance += _variance(a, one, two.mean, u, s)
    if not isinstance(b, Moments):
        variance += _variance(b, two, one.mean, vt.T, s)
    return FrechetResult(_distance(one, two, s), float(np.sqrt(variance)))


def _moments(given: FloatArray | Moments) -> Moments:
    return given if isinstance(given, Moments) else Moments.of_features(given)


def _distance(one: Moments, two: Moments, s: Float64Array) -> float:
    d2 = float(((one.mean - two.mean) ** 2).sum()) + one.trace + two.trace - 2 * float(s.sum())
    return max(0.0, d2)


def _variance(
    features: FloatArray, own: Moments, other_mean: Float64Array, u: Float64Array, s: Float64Array
) -> float:
    """var(psi)/n of one side; `u` (r, k) and `s` (k,) are the singular vectors and values on that side."""
    n = len(features)
    shift = 2 * (own.mean - other_mean)
    if own.by_sample:
        transported = (n - 1) * (u**2 @ s)
        whitened_map = None
    else:
        # Rows of the factor are orthogonal: x'Tx = |diag(s)^½ U' F x / |F|²|², directions of no variance left out.
        lengths = (own.factor**2).sum(axis=1)
        keep = lengths > lengths.max(initial=0.0) * 1e-12
        whitened_map = (own.factor[keep] / lengths[keep, None]).T @ (u[keep] * np.sqrt(s))  # (D, k)
        transported = np.empty(n)
    psi = np.empty(n)
    for start in range(0, n, CHUNK):
        rows = slice(start, start + CHUNK)
        centred = features[rows] - own.mean
        if whitened_map is not None:
            transported[rows] = ((centred @ whitened_map) ** 2).sum(axis=1)
        psi[rows] = centred @ shift + (centred**2).sum(axis=1)
    return float(np.var(psi - transported, ddof=1)) / n


def estimate(measured: Measured) -> list[Estimate]:
    """FID, or FD over another extractor, with its interval and the warnings its sample count deserves."""
    x, r = measured.samples.features, measured.reference.features
    result = frechet(x, r)
    n, d = x.shape
    warnings = []
    if min(n, len(r)) < FEW:
        warnings.append(
            f"n = {min(n, len(r)):,}: the distance is biased upwards below {FEW:,} samples; the interval covers "
            "sampling noise, not this bias. Compare only at equal n, or read KID/KD, which is unbiased"
        )
    if min(n, len(r)) <= d:
        warnings.append(f"fewer samples than the {d} feature dimensions: covariances are not of full rank")
    label = measured.label("FID", "FD")
    found = measured.normal_estimate(
        "fd", label, result.distance, result.standard_error, better=False, warnings=tuple(warnings)
    )
    return [replace(found, low=max(0.0, found.low))]
