"""Mean and covariance of features in factored form, and the checks every feature matrix passes first.

The covariance is kept as a factor F with Sigma = F'F, which stays exact when there are fewer samples than
dimensions. Distances between moments live in `frechet.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.linalg

from ganwright.errors import MetricError

FloatArray = npt.NDArray[np.floating]
Float64Array = npt.NDArray[np.float64]

CHUNK = 4096
"""Rows converted to float64 at a time; bounds memory whatever the number of samples."""
_NEGATIVE_TOLERANCE = 1e-6
"""Eigenvalues of a given covariance below minus this share of the largest are an error, not rounding."""
_SINGULAR = 1e-5
"""A Cholesky factor whose diagonal spans more is not used: its covariance is singular to working precision."""


def check_features(features: FloatArray, what: str = "the samples") -> None:
    """Refuse features no statistic can be computed from.

    Args:
        features: (N, D), any float type.
        what: Whose they are, for the message.

    Raises:
        MetricError: Not a matrix, fewer than two rows, or values that are not finite.
    """
    if features.ndim != 2 or features.shape[1] == 0:
        raise MetricError(f"Features must be a matrix (N, D), not {features.shape}.", where=what)
    if len(features) < 2:
        raise MetricError(
            f"{len(features)} image is too few: a distribution needs at least 2."
            if len(features) == 1
            else "There are no images to measure.",
            where=what,
            fix="give more images; figures people can compare need thousands",
        )
    for start in range(0, len(features), CHUNK):
        finite = np.isfinite(features[start : start + CHUNK]).all(axis=1)
        if not finite.all():
            raise MetricError(
                f"The features of image {start + int(np.flatnonzero(~finite)[0])} are not finite.",
                where=what,
                fix="the extractor overflowed or its weights are damaged: try another, or full precision",
            )


def check_same_width(a: int, b: int) -> None:
    """Refuse features of different extractors.

    Raises:
        MetricError: The dimensions differ.
    """
    if a != b:
        raise MetricError(
            f"Features of {a} and of {b} dimensions cannot be compared.",
            fix="use one extractor for both sets",
        )


@dataclass(frozen=True)
class Moments:
    """Mean and covariance.

    Attributes:
        mean: float64 (D,).
        factor: float64 (r, D) with covariance `factor.T @ factor`.
        n: Samples they were estimated from; 0 where they were given.
        divisor: What the scatter was divided by: n - 1, or n.
        by_sample: Whether row i of the factor is centred sample i over the root of the divisor.
        triangular: Whether the factor is a Cholesky factor.
    """

    mean: Float64Array
    factor: Float64Array
    n: int = 0
    divisor: int = 0
    by_sample: bool = False
    triangular: bool = False

    @classmethod
    def of_features(cls, features: FloatArray, *, ddof: int = 1) -> Moments:
        """Estimate them from features (N, D), the covariance with divisor n - ddof.

        With n <= D the centred samples themselves are the factor; otherwise it is the covariance's Cholesky
        factor or, where that does not exist (constant features), its scaled eigenvectors.

        Raises:
            MetricError: Fewer than two rows, or values that are not finite.
        """
        check_features(features)
        n, d = features.shape
        mean = np.zeros(d)
        for start in range(0, n, CHUNK):
            mean += features[start : start + CHUNK].sum(axis=0, dtype=np.float64)
        mean /= n
        if n <= d:
            return cls(mean, (features - mean) / np.sqrt(n - ddof), n, n - ddof, by_sample=True)
        scatter = np.zeros((d, d))
        for start in range(0, n, CHUNK):
            centred = features[start : start + CHUNK] - mean
            scatter += centred.T @ centred
        factor, triangular = _factor(scatter / (n - ddof))
        return cls(mean, factor, n, n - ddof, triangular=triangular)

    @classmethod
    def of_covariance(cls, mean: FloatArray, covariance: FloatArray) -> Moments:
        """From a mean (D,) and a covariance (D, D), such as the reference statistics others publish.

        Raises:
            MetricError: The shapes do not fit, values are not finite, or the matrix is not a covariance.
        """
        mu, sigma = np.asarray(mean, np.float64), np.asarray(covariance, np.float64)
        if mu.ndim != 1 or sigma.shape != (len(mu), len(mu)):
            raise MetricError(f"A mean {mu.shape} and a covariance {sigma.shape} do not fit together.")
        if not (np.isfinite(mu).all() and np.isfinite(sigma).all()):
            raise MetricError("The mean or the covariance holds values that are not finite.")
        if not np.allclose(sigma, sigma.T, rtol=1e-5, atol=1e-6 * float(np.abs(sigma).max(initial=0.0))):
            raise MetricError("The covariance is not symmetric.")
        factor, triangular = _factor((sigma + sigma.T) / 2)
        return cls(mu, factor, triangular=triangular)

    def whiten(self, columns: Float64Array) -> Float64Array:
        """F⁺ C (D, k) for C (r, k): maps a centred row x to coordinates in which the covariance is C'C.

        Directions without variance are left out. Not for factors by sample.
        """
        if self.triangular:
            solved: Float64Array = scipy.linalg.solve_triangular(self.factor, columns)
            return solved
        lengths = (self.factor**2).sum(axis=1)  # the rows are orthogonal
        keep = lengths > lengths.max(initial=0.0) * 1e-12
        mapped: Float64Array = (self.factor[keep] / lengths[keep, None]).T @ columns[keep]
        return mapped

    @property
    def covariance(self) -> Float64Array:
        """The covariance (D, D)."""
        sigma: Float64Array = self.factor.T @ self.factor
        return sigma

    @property
    def trace(self) -> float:
        """Trace of the covariance."""
        return float((self.factor**2).sum())


def _factor(sigma: Float64Array) -> tuple[Float64Array, bool]:
    """F (D, D) with F'F = Sigma, and whether it is triangular."""
    try:
        upper = scipy.linalg.cholesky(sigma)
        diagonal = np.abs(np.diag(upper))
        if diagonal.min() > _SINGULAR * diagonal.max():
            return upper, True
    except scipy.linalg.LinAlgError:
        pass
    return _eigen_factor(sigma), False


def _eigen_factor(sigma: Float64Array) -> Float64Array:
    """F (D, D) with F'F = Sigma."""
    values, vectors = scipy.linalg.eigh(sigma, driver="evd")
    if values[0] < -_NEGATIVE_TOLERANCE * max(values[-1], np.finfo(float).tiny):
        raise MetricError(
            "The matrix is not a covariance: it has a clearly negative eigenvalue.",
            where=f"smallest {values[0]:.3g}, largest {values[-1]:.3g}",
        )
    factor: Float64Array = np.sqrt(values.clip(0))[:, None] * vectors.T
    return factor
