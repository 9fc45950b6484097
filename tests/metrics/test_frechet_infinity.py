"""The extrapolated Fréchet distance against the true distance, the published procedure, and simulation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg

from ganwright.errors import MetricError
from ganwright.metrics.estimate import Provenance
from ganwright.metrics.extractor_base import Features
from ganwright.metrics.frechet import frechet, frechet_distance, influences
from ganwright.metrics.frechet_infinity import can_extrapolate, estimate, frechet_infinity
from ganwright.metrics.measured import Measured
from ganwright.metrics.moments import Moments
from ganwright.metrics.protocols import find_protocol


def gaussian(d: int, scale: float, shift: float) -> Moments:
    return Moments.of_covariance(np.full(d, shift), scale**2 * np.eye(d))


def draw(rng: np.random.Generator, n: int, d: int, scale: float = 1.0, shift: float = 0.0) -> np.ndarray:
    return rng.normal(size=(n, d)) * scale + shift


def test_influences_are_those_of_the_standard_error() -> None:
    rng = np.random.default_rng(0)
    x, y = draw(rng, 90, 4), draw(rng, 70, 4, 1.3, 0.5)
    known = Moments.of_features(y)
    result, psi = influences(x, y)
    assert result == frechet(x, y)
    assert psi.mean() == pytest.approx(0, abs=1e-12)
    assert psi.std(ddof=1) / np.sqrt(90) == pytest.approx(frechet(x, known).standard_error, rel=1e-9)


def test_small_singular_values_count() -> None:
    """Many directions with next to no variance: 6e-8 of the largest each, but 200 of them."""
    rng = np.random.default_rng(1)
    scales = np.repeat([1, 2.5e-4], [30, 200])
    x, y = draw(rng, 3000, 230) * scales, draw(rng, 3000, 230) * scales
    a, b = ((z - z.mean(0)) / np.sqrt(2999) for z in (x, y))
    cross = scipy.linalg.svdvals(np.linalg.qr(a)[1] @ np.linalg.qr(b)[1].T).sum()
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + (a**2).sum() + (b**2).sum() - 2 * cross
    assert frechet(x, y).distance == pytest.approx(expected, rel=5e-5)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=5e-5)


def test_removes_the_bias() -> None:
    """64 dimensions, 600 samples: the bias is as large as the distance itself."""
    rng, d = np.random.default_rng(2), 64
    truth = frechet_distance(gaussian(d, 1, 0), gaussian(d, 1.1, 0.05))
    y = draw(rng, 20_000, d)
    found = [frechet_infinity(draw(rng, 600, d, 1.1, 0.05), y, points=8) for _ in range(6)]
    bias_before = np.mean([f.full for f in found]) - truth
    bias_after = np.mean([f.value for f in found]) - truth
    assert bias_before > truth
    assert abs(bias_after) < 0.1 * bias_before
    assert np.mean([f.slope / 600 for f in found]) == pytest.approx(bias_before, rel=0.15)


def test_equals_the_published_procedure_in_the_mean() -> None:
    """A line through distances of random subsets, without the correction to first order: the same, but noisier."""
    rng, d = np.random.default_rng(3), 8
    ours, published = [], []
    for seed in range(30):
        x, y = draw(rng, 400, d, 1.2), draw(rng, 3000, d)
        sizes = np.linspace(200, 400, 15).astype(int)
        values = [frechet_distance(x[rng.permutation(400)[:size]], y) for size in sizes]
        published.append(np.polyfit(1 / sizes, values, 1)[1])
        ours.append(frechet_infinity(x, y, seed=seed).value)
    difference = np.array(ours) - published
    assert abs(difference.mean()) < 4 * difference.std() / np.sqrt(30)
    assert np.std(ours) < np.std(published)


def test_interval_covers_the_true_distance() -> None:
    rng, d = np.random.default_rng(4), 4
    truth = frechet_distance(gaussian(d, 1, 0), gaussian(d, 1.2, 0.3))
    found = [frechet_infinity(draw(rng, 400, d, 1.2, 0.3), draw(rng, 4000, d), points=8) for _ in range(250)]
    covered = np.mean([abs(f.value - truth) < 1.96 * f.standard_error for f in found])
    assert 0.90 <= covered <= 0.98
    assert all(f.standard_error > f.fit_error > 0 for f in found)


def test_is_deterministic() -> None:
    rng = np.random.default_rng(5)
    x, y = draw(rng, 250, 3), draw(rng, 300, 3)
    assert frechet_infinity(x, y) == frechet_infinity(x, y)
    assert frechet_infinity(x, y) != frechet_infinity(x, y, seed=1)


def test_estimate_and_when_there_is_none() -> None:
    rng = np.random.default_rng(6)
    x, y = (draw(rng, 300, 5, scale).astype(np.float32) for scale in (1.2, 1.0))
    inputs = Measured(Features(x, None), Features(y, None), Provenance("net/1", "none", "data", 300))
    (found,) = estimate(inputs)
    assert (found.name, found.label) == ("fd-infinity", "FD∞ (net)")
    assert found.low < found.value < found.high
    assert found.details["distance_at_n"] == pytest.approx(frechet_distance(x, y))
    assert found.value < found.details["distance_at_n"]
    by_n = replace(inputs, protocol=find_protocol("stylegan"))
    assert estimate(by_n)[0].details["distance_at_n"] == pytest.approx(frechet_distance(x, y, ddof=0), rel=1e-9)
    assert estimate(replace(inputs, samples=Features(x[:199], None))) == []
    wide = Features(draw(rng, 300, 150).astype(np.float32), None)
    assert estimate(replace(inputs, samples=wide, reference=wide)) == []


def test_refuses_too_few() -> None:
    x = draw(np.random.default_rng(7), 300, 150)
    assert can_extrapolate(302, 150)
    assert not can_extrapolate(301, 150)
    with pytest.raises(MetricError, match="too few to extrapolate"):
        frechet_infinity(x, x)
