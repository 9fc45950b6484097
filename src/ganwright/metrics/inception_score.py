"""Inception score: exp E KL(p(y|x) ‖ p(y)) (Salimans et al. 2016)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.special

from ganwright.errors import MetricError
from ganwright.metrics.constants import FEW, Z95
from ganwright.metrics.estimate import Estimate

if TYPE_CHECKING:
    from ganwright.metrics.measured import Measured


class InceptionScore(NamedTuple):
    """The score over all samples, and the standard error of its logarithm."""

    value: float
    log_standard_error: float


def inception_score(logits: npt.NDArray[np.floating]) -> InceptionScore:
    """Score of class logits (n, K), without splits.

    The influence of a sample on the score's logarithm is, to first order, its own divergence KL(p(y|x) ‖ p(y)):
    the marginal is where that mean is smallest, so its own variation does not count. The plug-in marginal biases
    the score downwards, by about (effective classes - 1) / (2 n) in the logarithm; that is not in the error.

    Raises:
        MetricError: Fewer than two rows, or values that are not finite.
    """
    divergences = _divergences(logits)
    error = divergences.std(ddof=1) / math.sqrt(len(divergences))
    return InceptionScore(float(np.exp(divergences.mean())), float(error))


def split_inception_score(logits: npt.NDArray[np.floating], splits: int = 10) -> tuple[float, float]:
    """Mean and standard deviation over consecutive splits, as the score is usually published."""
    scores = [float(np.exp(_divergences(part).mean())) for part in np.array_split(logits, splits)]
    return float(np.mean(scores)), float(np.std(scores))


def _divergences(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    if logits.ndim != 2 or len(logits) < 2:
        raise MetricError(f"An Inception score needs at least 2 samples, not an array {logits.shape}.")
    if not np.isfinite(logits).all():
        raise MetricError("Some class logits are NaN or infinite.")
    log_p = scipy.special.log_softmax(np.asarray(logits, np.float64), axis=1)
    log_marginal = scipy.special.logsumexp(log_p, axis=0) - math.log(len(log_p))
    result: npt.NDArray[np.float64] = (np.exp(log_p) * (log_p - log_marginal)).sum(axis=1)
    return result


def estimate(measured: Measured) -> list[Estimate]:
    """The score over all samples (no splits), with a log-normal interval."""
    assert measured.samples.logits is not None
    value, error = inception_score(measured.samples.logits)
    provenance = replace(measured.provenance, reference="", n_reference=0)
    warnings = measured.warnings
    if measured.n < FEW:
        low = f"n = {measured.n:,}: the score is biased downwards below {FEW:,} samples; compare only at equal n"
        warnings = (*warnings, low)
    if not measured.inception:
        warnings = (
            *warnings,
            f"over the classes of {measured.extractor_name}, not those of the published score",
        )
    return [
        Estimate(
            "is",
            measured.label("IS", "IS"),
            value,
            value * math.exp(-Z95 * error),
            value * math.exp(Z95 * error),
            measured.n,
            provenance,
            "95 %, delta method on the logarithm",
            True,
            warnings,
        )
    ]
