"""The Inception score against cases worked by hand and simulation."""

from __future__ import annotations

import numpy as np
import pytest

from ganwright.errors import MetricError
from ganwright.metrics.estimate import Provenance
from ganwright.metrics.extractor_base import Features
from ganwright.metrics.inception_score import estimate, inception_score, split_inception_score
from ganwright.metrics.measured import Measured
from ganwright.metrics.protocols import find_protocol


def test_sure_and_balanced_gives_the_number_of_classes() -> None:
    logits = np.tile(np.eye(5) * 1000, (20, 1))
    assert inception_score(logits).value == pytest.approx(5, rel=1e-9)


def test_constant_predictions_give_one() -> None:
    result = inception_score(np.tile(np.array([[0.3, -1.0, 2.0]]), (10, 1)))
    assert result.value == pytest.approx(1, rel=1e-12)
    assert result.log_standard_error == pytest.approx(0, abs=1e-12)


def test_two_images_by_hand() -> None:
    # p1 = (3/4, 1/4), p2 = (1/4, 3/4), marginal (1/2, 1/2): KL = 3/4 ln 3/2 + 1/4 ln 1/2 for both
    logits = np.log(np.array([[0.75, 0.25], [0.25, 0.75]]))
    divergence = 0.75 * np.log(1.5) + 0.25 * np.log(0.5)
    assert inception_score(logits).value == pytest.approx(np.exp(divergence), rel=1e-12)


def test_logits_may_be_shifted_and_huge() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(50, 7))
    shifted = logits + rng.normal(size=(50, 1)) * 1e4
    assert inception_score(shifted).value == pytest.approx(inception_score(logits).value, rel=1e-6)
    assert np.isfinite(inception_score(logits * 1e5).value)


def test_interval_covers_the_limit() -> None:
    rng = np.random.default_rng(1)
    limit = np.log(inception_score(rng.normal(size=(400_000, 4)) * 2).value)
    results = [inception_score(rng.normal(size=(1000, 4)) * 2) for _ in range(300)]
    covered = np.mean([abs(np.log(r.value) - limit) < 1.96 * r.log_standard_error for r in results])
    assert 0.90 <= covered <= 0.98


def test_few_samples_bias_it_downwards() -> None:
    """As the warning says: log IS is a mutual information, whose plug-in bias is about -(K - 1) / (2 n) at most."""
    rng = np.random.default_rng(4)
    limit = np.log(inception_score(rng.normal(size=(100_000, 30)) * 4).value)
    few = np.mean([np.log(inception_score(rng.normal(size=(60, 30)) * 4).value) for _ in range(200)])
    assert -29 / 120 * 1.2 < few - limit < -0.05


def test_splits_of_equal_parts() -> None:
    part = np.random.default_rng(2).normal(size=(30, 4))
    mean, spread = split_inception_score(np.tile(part, (10, 1)), 10)
    assert mean == pytest.approx(inception_score(part).value, rel=1e-12)
    assert spread == pytest.approx(0, abs=1e-12)


def test_refuses_bad_input() -> None:
    with pytest.raises(MetricError, match="at least 2"):
        inception_score(np.zeros((1, 5)))
    with pytest.raises(MetricError, match="NaN"):
        inception_score(np.full((3, 5), np.nan))


@pytest.mark.parametrize("shuffled", [False, True])
def test_splits_as_torch_fidelity_cuts_them(shuffled: bool) -> None:
    logits = np.random.default_rng(3).normal(size=(103, 6)) * 3
    order = np.random.RandomState(2020).permutation(103) if shuffled else np.arange(103)
    p = np.exp(logits[order])
    p /= p.sum(axis=1, keepdims=True)
    scores = []
    for i in range(10):
        part = p[i * 103 // 10 : (i + 1) * 103 // 10]
        scores.append(np.exp((part * np.log(part / part.mean(axis=0))).sum(axis=1).mean()))
    found = split_inception_score(logits, 10, shuffled=shuffled, seed=2020)
    assert found == pytest.approx((np.mean(scores), np.std(scores)), rel=1e-10)


def measured(logits: np.ndarray | None, n: int, protocol: str = "torch-fidelity") -> Measured:
    features = Features(np.zeros((n, 2), np.float32), logits)
    return Measured(features, features, Provenance("net/1", "none", "data", n), protocol=find_protocol(protocol))


def test_estimates_follow_the_protocol() -> None:
    logits = (np.random.default_rng(5).normal(size=(50, 4)) * 3).astype(np.float32)
    whole, splits = estimate(measured(logits, 50))
    mean, std = split_inception_score(logits, 10, shuffled=True, seed=2020)
    assert (whole.name, splits.name) == ("is", "is-splits")
    assert whole.value == inception_score(logits).value
    assert splits.value == mean
    assert splits.details["split_std"] == std
    assert splits.low < splits.value < splits.high
    assert splits.high / splits.low == pytest.approx(whole.high / whole.low)
    assert estimate(measured(logits, 50, "stylegan"))[1].value == split_inception_score(logits, 10)[0]
    assert splits.value != estimate(measured(logits, 50, "stylegan"))[1].value
    assert [found.name for found in estimate(measured(logits, 50, "clean-fid"))] == ["is"]  # it has no such score


def test_too_few_for_splits_or_no_logits() -> None:
    logits = np.random.default_rng(6).normal(size=(19, 4)).astype(np.float32)
    assert [found.name for found in estimate(measured(logits, 19))] == ["is"]
    assert estimate(measured(None, 19)) == []
