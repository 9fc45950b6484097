"""Inception score: exp E KL(p(y|x) ‖ p(y)) (Salimans et al. 2016), over all samples and over splits."""

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


def split_inception_score(
    logits: npt.NDArray[np.floating], splits: int = 10, *, shuffled: bool = False, seed: int = 2020
) -> tuple[float, float]:
    """Mean and standard deviation over parts, as the score is usually published.

    Part i holds samples i n / splits to (i + 1) n / splits, rounded down, as in torch-fidelity.

    Args:
        logits: (n, K).
        splits: How many parts.
        shuffled: Whether `RandomState(seed).permutation` orders the samples first.
        seed: See `shuffled`.

    Raises:
        MetricError: A part has fewer than two samples, or values that are not finite.
    """
    n = len(logits)
    order = np.random.RandomState(seed).permutation(n) if shuffled else np.arange(n)
    parts = (order[i * n // splits : (i + 1) * n // splits] for i in range(splits))
    scores = [float(np.exp(_divergences(logits[part]).mean())) for part in parts]
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
    """The score over all samples, with a log-normal interval; and over parts, as it is usually published."""
    logits = measured.samples.logits
    if logits is None:
        return []
    value, error = inception_score(logits)
    warnings = measured.warnings
    if measured.n < FEW:
        low = f"n = {measured.n:,}: the score is biased downwards below {FEW:,} samples; compare only at equal n"
        warnings = (*warnings, low)
    if not measured.inception:
        other = f"over the classes of {measured.extractor_name}, not those of the published score"
        warnings = (*warnings, other)
    label, interval = measured.label("IS", "IS"), "95 %, delta method on the logarithm"
    whole = Estimate(
        "is",
        label,
        value,
        value * math.exp(-Z95 * error),
        value * math.exp(Z95 * error),
        measured.n,
        replace(measured.provenance, reference="", n_reference=0),
        interval,
        True,
        warnings,
    )
    protocol = measured.protocol
    splits = protocol.is_splits
    if splits < 2 or measured.n < 2 * splits:
        return [whole]
    mean, std = split_inception_score(logits, splits, shuffled=protocol.is_shuffled, seed=protocol.seed)
    published = replace(
        whole,
        name="is-splits",
        label=f"{label}, mean of {splits} splits",
        value=mean,
        low=mean * math.exp(-Z95 * error),
        high=mean * math.exp(Z95 * error),
        interval=f"{interval} over all samples, around the mean of the splits",
        details={"split_std": std, "splits": splits},
    )
    return [whole, published]
