"""The Vendi score against its definition, closed cases, finite differences and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
from sklearn.metrics.pairwise import cosine_similarity

from ganwright.errors import MetricError
from ganwright.metrics.estimate import Provenance
from ganwright.metrics.extractor_base import Features
from ganwright.metrics.measured import Measured
from ganwright.metrics.vendi import estimate, vendi_score, vendi_value


def by_definition(x: np.ndarray, weights: np.ndarray | None = None) -> float:
    """exp of the entropy of the eigenvalues of the weighted similarity matrix."""
    w = np.full(len(x), 1 / len(x)) if weights is None else weights
    values = scipy.linalg.eigvalsh(cosine_similarity(x.astype(float)) * np.sqrt(np.outer(w, w)))
    values = values[values > 1e-14]
    return float(np.exp(-(values * np.log(values)).sum()))


@pytest.mark.parametrize(("n", "d"), [(30, 50), (50, 50), (120, 8), (9, 1)])  # through K and through R
def test_equals_the_definition(n: int, d: int) -> None:
    x = np.random.default_rng(0).normal(size=(n, d)).astype(np.float32) + 0.5
    assert vendi_score(x).value == pytest.approx(by_definition(x), rel=1e-6)
    assert vendi_value(x) == pytest.approx(by_definition(x), rel=1e-6)


def test_closed_cases() -> None:
    assert vendi_score(np.eye(7)).value == pytest.approx(7)  # all unlike each other
    assert vendi_score(np.repeat(np.eye(4), 25, axis=0)).value == pytest.approx(4)  # four images, 25 times each
    alike = vendi_score(np.tile([[1.0, 2.0, 3.0]], (20, 1)) * np.arange(1, 21)[:, None])  # length does not count
    assert alike.value == pytest.approx(1)
    assert alike.log_standard_error == pytest.approx(0, abs=1e-9)
    # shares 3/4 and 1/4 of two orthogonal images
    skewed = vendi_score(np.repeat(np.eye(2), [30, 10], axis=0)).value
    assert skewed == pytest.approx(math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25)))


def test_features_of_zeros_are_an_image_of_their_own() -> None:
    x = np.repeat(np.vstack([np.eye(3), np.zeros((1, 3))]), 10, axis=0)
    assert vendi_score(x).value == pytest.approx(4)
    assert vendi_score(np.zeros((5, 3))).value == pytest.approx(1)


@pytest.mark.parametrize(("n", "d"), [(25, 40), (60, 5)])
def test_standard_error_is_the_derivative(n: int, d: int) -> None:
    """Finite differences in the weight of each sample, by the definition."""
    x, h = np.random.default_rng(1).normal(size=(n, d)) + 0.5, 1e-5
    influence = []
    for i in range(n):
        ends = []
        for sign in (1, -1):
            w = np.full(n, (1 - sign * h) / n)
            w[i] += sign * h
            ends.append(math.log(by_definition(x, w)))
        influence.append((ends[0] - ends[1]) / (2 * h))
    expected = np.std(influence, ddof=1) / math.sqrt(n)
    assert vendi_score(x).log_standard_error == pytest.approx(expected, rel=1e-4)


def test_interval_covers_the_limit() -> None:
    rng, scales = np.random.default_rng(2), np.array([2.0, 1, 1, 0.5])
    limit = math.log(vendi_value(rng.normal(size=(400_000, 4)) * scales + [1, 0, 0, 0]))
    found = [vendi_score(rng.normal(size=(500, 4)) * scales + [1, 0, 0, 0]) for _ in range(300)]
    covered = np.mean([abs(math.log(f.value) - limit) < 1.96 * f.log_standard_error for f in found])
    assert 0.90 <= covered <= 0.98


def test_estimate_tells_the_reference_at_the_same_n() -> None:
    rng = np.random.default_rng(3)
    x, y = (rng.normal(size=(n, 20)).astype(np.float32) for n in (40, 300))
    about = Provenance("net/1", "none", "data", 300)
    (found,) = estimate(Measured(Features(x, None), Features(y, None), about))
    assert found.value == pytest.approx(by_definition(x), rel=1e-6)
    assert 1 <= found.low < found.value < found.high <= 40
    assert found.details["n_reference"] == 40
    assert found.details["reference_vendi"] == pytest.approx(found.value, rel=0.1)  # the same distribution
    assert vendi_value(y) > 1.1 * found.details["reference_vendi"]  # more samples, higher score
    (fewer,) = estimate(Measured(Features(x, None), Features(y[:30], None), about))
    assert fewer.details["reference_vendi"] == pytest.approx(by_definition(y[:30]), rel=1e-6)
    assert any("30 real images" in warning for warning in fewer.warnings)


def test_refuses_bad_input() -> None:
    with pytest.raises(MetricError, match="too few"):
        vendi_score(np.ones((1, 3)))
    with pytest.raises(MetricError, match="not finite"):
        vendi_score(np.full((4, 3), np.nan))
