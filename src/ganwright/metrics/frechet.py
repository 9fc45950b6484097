"""The Fréchet distance between Gaussians fitted to two feature sets, and its standard error.

FID is this distance over the 2015 Inception features; over any other features it is named FD with the
extractor. Fitting the Gaussians lives in `moments.py`, extracting features in `extractors.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg

from ganwright.metrics.constants import FEW
from ganwright.metrics.estimate import Estimate
from ganwright.metrics.moments import CHUNK, Float64Array, FloatArray, Moments, check_same_width

if TYPE_CHECKING:
    from ganwright.metrics.measured import Measured


@dataclass(frozen=True)
class FrechetResult:
    """A Fréchet distance.

    Attributes:
        distance: Squared 2-Wasserstein distance of the fitted Gaussians, in squared feature units, >= 0.
        standard_error: Of `distance`, from the sampling of those sets whose features were given.
    """

    distance: float
    standard_error: float


def frechet_distance(a: FloatArray | Moments, b: FloatArray | Moments, *, ddof: int = 1) -> float:
    """The Fréchet distance between two sets of features or between two Gaussians.

    d² = |mu1 - mu2|² + tr(S1) + tr(S2) - 2 tr((S1 S2)^½)   (Dowson & Landau 1982; Heusel et al. 2017, eq. 6).

    With S = F'F the last trace is the sum of the singular values of F1 F2'; never complex, and sound where a
    covariance is singular, which the usual matrix square root is not. They are the roots of the eigenvalues
    of the symmetric product (S1^½ S2 S1^½ for square roots), or taken directly where those are too small.

    Args:
        a: Features (N, D), or `Moments.of_covariance(mu, sigma)`.
        b: The same; with a's D.
        ddof: Covariances of features divide by n - ddof.

    Returns:
        The distance, >= 0.

    Raises:
        MetricError: Too few rows, values that are not finite, or different dimensions.
    """
    one, two = _moments(a, ddof), _moments(b, ddof)
    check_same_width(len(one.mean), len(two.mean))
    product = one.factor @ two.factor.T
    gram = product @ product.T if product.shape[0] <= product.shape[1] else product.T @ product
    s = np.sqrt(scipy.linalg.eigvalsh(gram).clip(0))
    return _distance(one, two, s if _precise(s) else scipy.linalg.svdvals(product))


def frechet(a: FloatArray | Moments, b: FloatArray | Moments, *, ddof: int = 1) -> FrechetResult:
    """The Fréchet distance with its standard error by the delta method.

    The influence of a sample x of the first set is

        psi(x) = 2 (mu1 - mu2)'(x - mu1) + |x - mu1|² - (x - mu1)' T (x - mu1)   + const,

    T = S1^-½ (S1^½ S2 S1^½)^½ S1^-½ being the optimal-transport map from the first Gaussian to the second
    (the derivative of the distance is 2 (mu1 - mu2) in mu1 and I - T in S1), and the variance of the
    estimate is var(psi1)/n1 + var(psi2)/n2. A set given as `Moments.of_covariance` counts as known exactly.

    With n <= D samples T does not exist, but the derivative in the *weights* of the samples does: with
    F1 F2' = U diag(s) V', sample i has (x_i - mu1)' T (x_i - mu1) = (n - ddof) sum_k s_k U_ik². That is what is
    used there (the infinitesimal jackknife); for n > D it is the same number.

    The error is that of sampling. The bias of the plug-in estimate, about O(1/n) and upwards, is not in it.

    Raises:
        MetricError: As `frechet_distance`.
    """
    one, two = _moments(a, ddof), _moments(b, ddof)
    check_same_width(len(one.mean), len(two.mean))
    u, s, v = _singular(one.factor @ two.factor.T)
    variance = 0.0
    if not isinstance(a, Moments):
        variance += _variance(a, one, two.mean, u, s)
    if not isinstance(b, Moments):
        variance += _variance(b, two, one.mean, v, s)
    return FrechetResult(_distance(one, two, s), float(np.sqrt(variance)))


def _moments(given: FloatArray | Moments, ddof: int) -> Moments:
    return given if isinstance(given, Moments) else Moments.of_features(given, ddof=ddof)


def _precise(s: Float64Array) -> bool:
    """Whether singular values found as roots of eigenvalues have a precise sum (to about 1e-7)."""
    largest, eps = float(s.max(initial=0.0)), float(np.finfo(np.float64).eps)
    if largest == 0.0:
        return True
    errors = eps * largest**2 / np.maximum(s, np.sqrt(eps) * largest)
    return float(errors.sum()) < 1e-7 * float(s.sum())


def _singular(product: Float64Array) -> tuple[Float64Array, Float64Array, Float64Array]:
    """U (r1, k), s (k,), V (r2, k) with product = U diag(s) V'; where s is all but 0, a column of U or V may be 0."""
    wide = product.shape[0] <= product.shape[1]
    m = product if wide else product.T
    squares, u = scipy.linalg.eigh(m @ m.T, driver="evd")
    s = np.sqrt(squares.clip(0))
    if not _precise(s):
        u, s, vt = scipy.linalg.svd(m, full_matrices=False)
        v = vt.T
    else:
        keep = s > s.max(initial=0.0) * 1e-7
        v = (m.T @ u) * np.where(keep, 1 / np.where(keep, s, 1), 0)
    return (u, s, v) if wide else (v, s, u)


def _distance(one: Moments, two: Moments, s: Float64Array) -> float:
    d2 = float(((one.mean - two.mean) ** 2).sum()) + one.trace + two.trace - 2 * float(s.sum())
    return max(0.0, d2)


def influences(a: FloatArray, b: FloatArray, *, ddof: int = 1) -> tuple[FrechetResult, Float64Array]:
    """As `frechet`, with the influence of each sample of the first set (n,), of mean 0: see there.

    Raises:
        MetricError: As `frechet_distance`.
    """
    one, two = _moments(a, ddof), _moments(b, ddof)
    check_same_width(len(one.mean), len(two.mean))
    u, s, v = _singular(one.factor @ two.factor.T)
    psi, other = _influence(a, one, two.mean, u, s), _influence(b, two, one.mean, v, s)
    variance = float(np.var(psi, ddof=1)) / len(psi) + float(np.var(other, ddof=1)) / len(other)
    return FrechetResult(_distance(one, two, s), float(np.sqrt(variance))), psi - psi.mean()


def _variance(features: FloatArray, own: Moments, other_mean: Float64Array, u: Float64Array, s: Float64Array) -> float:
    """var(psi)/n of one side."""
    return float(np.var(_influence(features, own, other_mean, u, s), ddof=1)) / len(features)


def _influence(
    features: FloatArray, own: Moments, other_mean: Float64Array, u: Float64Array, s: Float64Array
) -> Float64Array:
    """The influences psi (n,) of one side; `u` (r, k) and `s` (k,) are the singular vectors and values on that side."""
    n = len(features)
    shift = 2 * (own.mean - other_mean)
    if own.by_sample:
        transported = own.divisor * (u**2 @ s)
        whitened_map = None
    else:
        whitened_map = own.whiten(u * np.sqrt(s))  # (D, k): x'Tx = |map' x|²
        transported = np.empty(n)
    psi = np.empty(n)
    for start in range(0, n, CHUNK):
        rows = slice(start, start + CHUNK)
        centred = features[rows] - own.mean
        if whitened_map is not None:
            transported[rows] = ((centred @ whitened_map) ** 2).sum(axis=1)
        psi[rows] = centred @ shift + (centred**2).sum(axis=1)
    return psi - transported


def _expected_bias(measured: Measured) -> str:
    """How large the bias is where both sets follow the reference's distribution: half of it against the other half."""
    r = measured.reference.features
    n = min(measured.n, len(r) // 2)
    if len(r) < 200 or n < 50 or isinstance(measured.sample_moments, Moments):
        return ""
    rows = np.random.RandomState(0).permutation(len(r))
    floor = frechet_distance(r[rows[:n]], r[rows[n : 2 * n]])
    return f" (real images against as many others, n = {n:,} on each side, give {floor:.3g} instead of 0)"


def estimate(measured: Measured) -> list[Estimate]:
    """FID, or FD over another extractor, with its interval and the warnings its sample count deserves."""
    x = measured.samples.features if measured.sample_moments is None else measured.sample_moments
    r = measured.reference.features if measured.reference_moments is None else measured.reference_moments
    result = frechet(x, r, ddof=measured.protocol.covariance_ddof)
    d = len(x.mean) if isinstance(x, Moments) else x.shape[1]
    counts = [count for count in (measured.n, measured.provenance.n_reference) if count > 0]
    few = min(counts, default=FEW)
    warnings = []
    if isinstance(x, Moments) or isinstance(r, Moments):
        warnings.append("one side is given as mean and covariance, which the interval takes for exact")
    if few < FEW:
        warnings.append(
            f"n = {few:,}: the distance is biased upwards below {FEW:,} samples{_expected_bias(measured)}; the "
            "interval covers sampling noise, not this bias. Compare only at equal n, or read KID/KD or FID∞/FD∞, "
            "which are not biased so"
        )
    if few <= d:
        warnings.append(f"fewer samples than the {d} feature dimensions: covariances are not of full rank")
    label = measured.label("FID", "FD")
    found = measured.normal_estimate(
        "fd", label, result.distance, result.standard_error, better=False, warnings=tuple(warnings)
    )
    return [replace(found, low=max(0.0, found.low))]
