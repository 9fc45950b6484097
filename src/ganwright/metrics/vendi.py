"""Vendi score (Friedman & Dieng 2023): how many different images there effectively are, by cosine similarity."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.linalg

from ganwright.metrics.constants import Z95
from ganwright.metrics.estimate import Estimate
from ganwright.metrics.moments import CHUNK, Float64Array, FloatArray, check_features

if TYPE_CHECKING:
    from ganwright.metrics.measured import Measured


_ROUNDING = 1e-14
"""Eigenvalues below this share of the largest are 0 but for rounding."""


class VendiScore(NamedTuple):
    """The score, from 1 (all alike) to n (all orthogonal), and the standard error of its logarithm."""

    value: float
    log_standard_error: float


def vendi_score(features: FloatArray) -> VendiScore:
    """exp(H), H = -sum l log l over the eigenvalues l of K/n, K the cosine similarities (n, n) of the features.

    With u the features at unit length these are also the eigenvalues of R = mean u u' (D, D), so the smaller of the two
    is decomposed. H is a function of the mean R; its derivative there gives a sample's influence,

        psi = -u' (log R) u - H,

    and var(psi)/n the variance of H (delta method; for n < D the same number from the eigenvectors v of K/n, with
    u' (log R) u = n sum_k v_k² l_k log l_k). The score of few samples is biased downwards, which is not in the error.

    Images whose features are all 0 count as alike, and as unlike all others.

    Args:
        features: (n, D).

    Raises:
        MetricError: Fewer than two rows, or values that are not finite.
    """
    check_features(features)
    n = len(features)
    weights, vectors = scipy.linalg.eigh(_smaller_matrix(features), driver="evd")
    keep = weights > weights[-1] * _ROUNDING
    weights, vectors = weights[keep], vectors[:, keep]
    logs = np.log(weights)
    if n <= features.shape[1]:
        influence = n * (vectors**2 @ (weights * logs))
    else:
        parts = (_units(features[start : start + CHUNK]) for start in range(0, n, CHUNK))
        influence = np.concatenate([(part @ vectors) ** 2 @ logs for part in parts])
    return VendiScore(math.exp(-float(weights @ logs)), float(influence.std(ddof=1)) / math.sqrt(n))


def vendi_value(features: FloatArray) -> float:
    """The score alone, at a fraction of the time.

    Raises:
        MetricError: As `vendi_score`.
    """
    check_features(features)
    weights = scipy.linalg.eigvalsh(_smaller_matrix(features))
    weights = weights[weights > weights[-1] * _ROUNDING]
    return math.exp(-float(weights @ np.log(weights)))


def _smaller_matrix(features: FloatArray) -> Float64Array:
    """K/n or R, whichever is smaller; their eigenvalues other than 0 are the same."""
    n, d = features.shape
    if n <= d:
        units = _units(features)
        similarity: Float64Array = units @ units.T / n
        return similarity
    second: Float64Array = np.zeros((d + 1, d + 1))
    for start in range(0, n, CHUNK):
        units = _units(features[start : start + CHUNK])
        second += units.T @ units
    second /= n
    return second


def _units(features: FloatArray) -> Float64Array:
    """Rows at unit length, with a column (n, D + 1) in which only rows of zeros have a 1."""
    x = np.asarray(features, np.float64)
    scale = np.abs(x).max(axis=1, keepdims=True)
    x = x / np.where(scale > 0, scale, 1)  # lengths neither overflow nor vanish
    lengths = np.sqrt((x * x).sum(axis=1, keepdims=True))
    return np.hstack([x / np.where(lengths > 0, lengths, 1), lengths == 0])


def estimate(measured: Measured) -> list[Estimate]:
    """The score of the samples; in its details, that of as many real images (of all, where there are fewer)."""
    x, y = measured.samples.features, measured.reference.features
    found = vendi_score(x)
    chosen: npt.NDArray[np.int64] = np.sort(np.random.RandomState(0).permutation(len(y))[: len(x)])
    warnings = ["depends on the number of samples: read it beside reference_vendi, compare only at equal n"]
    if len(y) < len(x):
        warnings.append(f"reference_vendi is of {len(y):,} real images, not of {len(x):,}")
    details = {"reference_vendi": vendi_value(y if len(y) <= len(x) else y[chosen]), "n_reference": len(chosen)}
    spread = math.exp(Z95 * found.log_standard_error)
    return [
        replace(
            measured.normal_estimate(
                "vendi",
                f"Vendi score ({measured.extractor_name})",
                found.value,
                0.0,
                better=True,
                interval="95 %, delta method on the logarithm",
                warnings=tuple(warnings),
                details=details,
            ),
            low=max(1.0, found.value / spread),
            high=min(float(len(x)), found.value * spread),
        )
    ]
