"""Squared MMD with a Gaussian kernel; over CLIP's embeddings it is CMMD (Jayasumana et al. 2024).

The published estimator counts each sample with itself (biased, of minimum variance); the unbiased one is given too.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ganwright.errors import MetricError
from ganwright.metrics.constants import Z95
from ganwright.metrics.estimate import Estimate
from ganwright.metrics.kernel import TILE, Array, FloatArray, PairSums, block, pair_sums, product_type, unbiased
from ganwright.metrics.moments import check_features, check_same_width

if TYPE_CHECKING:
    from ganwright.metrics.measured import Measured

CMMD_SIGMA = 10.0
"""Bandwidth of the published CMMD."""
SCALE = 1000.0
"""The published CMMD is in thousandths."""
_PUBLISHED = ("clip", "clip:clip-vit-large-patch14-336")
"""Extractors whose embeddings the published CMMD is over."""
_MOST_FOR_SIGMA = 2000
"""Reference samples whose distances give the bandwidth, at most."""


class GaussianMMD(NamedTuple):
    """Both estimates.

    Attributes:
        biased: With each sample's kernel with itself, >= 0: the published form.
        unbiased: Without; may be below 0.
        standard_error: Of both, to first order.
    """

    biased: float
    unbiased: float
    standard_error: float


def gaussian_mmd(x: FloatArray, y: FloatArray, sigma: float) -> GaussianMMD:
    """MMD² of the kernel exp(-|x - y|² / (2 sigma²)), biased (Gretton et al. 2012, eq. 5) and unbiased (eq. 3).

    Wide kernels are all but 1, and the result a small difference of their means; therefore k - 1 is what is summed,
    which leaves both forms as they are.

    Args:
        x: Features (n, D).
        y: Features (m, D).
        sigma: Bandwidth, in units of the features.

    Raises:
        MetricError: Fewer than two rows, values that are not finite, different dimensions, or no positive bandwidth.
    """
    check_features(x, "the samples")
    check_features(y, "the reference")
    check_same_width(x.shape[1], y.shape[1])
    if not (math.isfinite(sigma) and sigma > 0):
        raise MetricError(f"The bandwidth of a Gaussian kernel must be positive, not {sigma}.")
    shift = y.mean(axis=0, dtype=np.float64)

    def sums(a: FloatArray, b: FloatArray | None) -> PairSums:
        other = a if b is None else b
        kind = product_type(a, other)
        norms_a, norms_b = _norms(a, shift, kind), _norms(other, shift, kind)

        def kernel(products: Tensor, rows: slice, columns: slice) -> Tensor:
            distances = products.mul_(-2).add_(norms_a[rows, None]).add_(norms_b[columns]).clamp_(0)
            return distances.mul_(-1 / (2 * sigma**2)).expm1_()

        return pair_sums(a, b, kernel, shift=shift, note="Gaussian kernel distance")

    xx, yy, xy = sums(x, None), sums(y, None), sums(x, y)
    n, m = len(x), len(y)
    found = unbiased(xx, yy, xy)
    biased = xx.rows.sum() / n**2 + yy.rows.sum() / m**2 - 2 * xy.rows.sum() / (n * m)
    return GaussianMMD(max(0.0, float(biased)), found.value, found.standard_error)


def _norms(x: FloatArray, shift: Array, kind: torch.dtype) -> Tensor:
    starts = range(0, len(x), TILE)
    return torch.cat([block(x, slice(start, start + TILE), kind, shift).square().sum(1) for start in starts])


def median_distance(y: FloatArray) -> float:
    """The median distance within at most 2,000 of these samples, always the same ones: a usual bandwidth.

    Where at least half the distances are 0, their mean.

    Raises:
        MetricError: All samples have the same features.
    """
    chosen = np.random.RandomState(0).permutation(len(y))[:_MOST_FOR_SIGMA]
    distances = torch.pdist(torch.from_numpy(np.asarray(y[np.sort(chosen)], np.float64)))
    sigma = float(np.median(distances.numpy())) or float(distances.mean())
    if sigma == 0:
        raise MetricError("All reference images have the same features: a kernel has no bandwidth.")
    return sigma


def unit_length(x: FloatArray) -> FloatArray:
    """Rows (n, D) over their lengths, in float32; CLIP's embeddings are compared like this."""
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    scaled: FloatArray = (x / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return scaled


def estimate(measured: Measured) -> list[Estimate]:
    """CMMD over CLIP, MMD over another extractor.

    Over CLIP everything is as published: embeddings of unit length, sigma 10, thousandths, the biased form. Elsewhere
    nothing is published to agree with: sigma is the reference's median distance, and the value the unbiased form;
    there is no number where the reference is one image again and again.
    """
    x, y = measured.samples.features, measured.reference.features
    clip = measured.extractor_name.startswith("clip")
    if clip:
        check_features(x, "the samples")
        check_features(y, "the reference")
        x, y = unit_length(x), unit_length(y)
    elif (y == y[0]).all():
        return []
    sigma = CMMD_SIGMA if clip else median_distance(y)
    biased, value, error = (SCALE * figure for figure in gaussian_mmd(x, y, sigma))
    details = {"sigma": sigma, "scale": SCALE, "biased": biased, "unbiased": value}
    if not clip:
        label = f"MMD ({measured.extractor_name})"
        return [measured.normal_estimate("mmd", label, value, error, better=False, details=details)]
    published = measured.extractor_name in _PUBLISHED
    return [
        Estimate(
            *("mmd", "CMMD" if published else f"CMMD ({measured.extractor_name})", biased),
            *(min(biased, value - Z95 * error), max(biased, value + Z95 * error)),
            *(measured.n, measured.provenance),
            "95 %, delta method around the unbiased estimate, widened to hold the published (biased) one",
            False,
            warnings=measured.warnings,
            details=details,
        )
    ]
