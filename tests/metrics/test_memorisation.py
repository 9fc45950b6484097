"""Copies and duplicates: against loops, closed forms of nearest-neighbour theory, and simulations of the intervals."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from ganwright.errors import MetricError
from ganwright.metrics import kernel, memorisation
from ganwright.metrics.estimate import Estimate, Provenance
from ganwright.metrics.extractor_base import Features
from ganwright.metrics.measured import Measured
from ganwright.metrics.memorisation import authenticity, duplicates, estimate, nearest, share_below


def normal(seed: int, n: int, d: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def measure(samples: np.ndarray, training: np.ndarray, held_out: np.ndarray | None = None) -> dict[str, Estimate]:
    unseen = None if held_out is None else Features(held_out, None)
    provenance = Provenance("tiny/1", "none", "real", len(training))
    measured = Measured(Features(samples, None), Features(training, None), provenance, held_out=unseen)
    return {found.name: found for found in estimate(measured)}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 9999), st.integers(2, 60), st.integers(2, 60), st.integers(1, 12), st.sampled_from([5, 16, 999]))
def test_nearest_is_brute_force(seed: int, n: int, m: int, d: int, tile: int) -> None:
    x, y = normal(seed, n, d) + 3, normal(seed + 1, m, d) + 3
    patch = pytest.MonkeyPatch()
    patch.setattr(memorisation, "TILE", tile)
    try:
        to_other, within = nearest(x, y), nearest(y)
    finally:
        patch.undo()
    between = cdist(x, y)
    np.testing.assert_allclose(to_other.distance, between.min(1), rtol=1e-9)
    np.testing.assert_array_equal(to_other.index, between.argmin(1))
    own = cdist(y, y)
    np.fill_diagonal(own, np.inf)
    np.testing.assert_allclose(within.distance, own.min(1), rtol=1e-9)


def test_in_float32_distances_stay_exact_far_from_the_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "_EXACT", 0)
    monkeypatch.setattr(memorisation, "TILE", 64)
    x, y = normal(1, 150, 40) + 1000, normal(2, 200, 40) + 1000
    x[:20] = y[:20]
    found = nearest(x, y)
    between = cdist(x, y)
    np.testing.assert_allclose(found.distance, between.min(1), rtol=1e-9)
    assert (found.distance[:20] == 0).all() and found.index[:20].tolist() == list(range(20))
    own = cdist(x, x)
    np.fill_diagonal(own, np.inf)
    np.testing.assert_allclose(nearest(x).distance, own.min(1), rtol=1e-9)


def test_memory_mapped_features_are_read_in_place(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", normal(3, 300))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    np.testing.assert_array_equal(
        nearest(mapped, normal(4, 200)).distance, nearest(normal(3, 300), normal(4, 200)).distance
    )


def test_authenticity_is_its_definition() -> None:
    x, r = normal(5, 80, 3), normal(6, 60, 3)
    expected = []
    for sample in x:
        to_real = [math.dist(sample, real) for real in r]
        i = int(np.argmin(to_real))
        expected.append(to_real[i] > min(math.dist(r[i], real) for j, real in enumerate(r) if j != i))
    assert authenticity(nearest(x, r), nearest(r)).tolist() == expected
    assert measure(x, r)["authenticity"].value == pytest.approx(np.mean(expected))


@pytest.mark.parametrize(
    ("d", "mutual"),
    # Chance that a point's nearest neighbour has it as its own nearest, in a Poisson process (Clark & Evans 1955).
    [(1, 2 / 3), (2, 6 * math.pi / (8 * math.pi + 3 * math.sqrt(3)))],
)
def test_authenticity_of_fresh_real_images_is_that_of_a_poisson_process(d: int, mutual: float) -> None:
    random = np.random.default_rng(d)
    training, fresh = random.random((6000, d)), random.random((6000, d))
    found = measure(fresh, training, random.random((3000, d)))["authenticity"]
    # the fresh points share training points, so the tolerance is twice that of independent ones
    assert found.value == pytest.approx(1 - mutual, abs=4 * math.sqrt(0.25 / 6000))
    assert found.details["held_out"] == pytest.approx(1 - mutual, abs=4 * math.sqrt(0.25 / 3000))
    assert found.details["held_out_low"] < found.details["held_out"] < found.details["held_out_high"]
    assert "held-out real images give" in found.warnings[0]


def test_noisy_copies_are_not_authentic_and_close_to_training() -> None:
    training, held_out = normal(7, 1000), normal(8, 500)
    good = measure(normal(9, 500), training, held_out)
    copies = measure(training[:500] + 0.05 * normal(10, 500), training, held_out)
    assert copies["authenticity"].high < 0.05 < good["authenticity"].low
    assert good["nn-ratio"].low <= 0.01 <= good["nn-ratio"].high
    assert copies["nn-ratio"].low > 0.3
    assert copies["nn-ratio"].details["median_ratio"] < 0.2
    assert good["nn-ratio"].details["median_ratio"] == pytest.approx(1, abs=0.1)
    assert "unseen real images give 1%" in good["nn-ratio"].warnings[0]
    exact = measure(np.concatenate([training[:50], normal(11, 150)]), training, held_out)
    assert exact["nn-ratio"].details["copies"] == 0.25


def test_samples_far_from_everything_are_said_to_hide_copies() -> None:
    training, held_out = normal(30, 400), normal(31, 300)
    shifted = measure(training[:300] + np.float32(2), training, held_out)["nn-ratio"]
    assert shifted.value < 0.05 and any("escape" in warning for warning in shifted.warnings)
    assert not any("escape" in w for w in measure(normal(32, 300), training, held_out)["nn-ratio"].warnings)


def test_nn_ratio_needs_a_hundred_held_out_images() -> None:
    assert "nn-ratio" not in measure(normal(12, 50), normal(13, 200))
    assert "nn-ratio" not in measure(normal(12, 50), normal(13, 200), normal(14, 99))
    assert "nn-ratio" in measure(normal(12, 50), normal(13, 200), normal(14, 100))


def test_the_share_of_like_distances_is_one_percent_on_average() -> None:
    random = np.random.default_rng(15)
    values = [share_below(random.lognormal(size=200), random.lognormal(size=150)).value for _ in range(1500)]
    assert np.mean(values) == pytest.approx(0.01, abs=4 * np.std(values) / math.sqrt(1500))


_QUANTILE = -math.log(0.99)  # of the exponential distribution, at 1 %


@pytest.mark.parametrize("m", [100, 1000])
@pytest.mark.parametrize(
    ("draw", "truth"),
    [
        (lambda random, n: random.exponential(1, n), 0.01),
        (lambda random, n: random.exponential(1 / 3, n), 1 - math.exp(-3 * _QUANTILE)),
        (lambda random, n: np.where(random.random(n) < 0.3, 0, random.exponential(1, n)), 0.3 + 0.7 * 0.01),
    ],
)
def test_its_interval_covers(m: int, draw: Callable[[np.random.Generator, int], np.ndarray], truth: float) -> None:
    random = np.random.default_rng(16)
    hits = 0
    for _ in range(300):
        found = share_below(draw(random, 1000), random.exponential(1, m))
        hits += found.low <= truth <= found.high
        assert found.low <= found.value <= found.high
    # with 100 real images the rank of their 1 % quantile is 0, 1 or 2: too coarse for less than about 98 %
    assert 0.92 < hits / 300 <= (1 if m == 100 else 0.99)


def test_duplicates_of_real_like_samples_are_one_percent_and_covered() -> None:
    random = np.random.default_rng(17)
    values, hits = [], 0
    for _ in range(60):
        x, r = random.normal(size=(300, 3)), random.normal(size=(300, 3))
        found, _ = duplicates(x, nearest(r).distance)
        values.append(found.value)
        hits += found.low <= 0.01 <= found.high
    assert np.mean(values) == pytest.approx(0.01, abs=4 * np.std(values) / math.sqrt(60))
    assert hits >= 55


def test_duplicates_count_near_and_exact_ones() -> None:
    training = normal(18, 400)
    samples = normal(19, 400)
    samples[:40] = samples[40:80]  # 80 samples in exact pairs
    samples[80:120] = samples[120:160] + np.float32(1e-2)
    found = measure(samples, training)["duplicates"]
    own = cdist(samples, samples)
    np.fill_diagonal(own, np.inf)
    assert found.value == pytest.approx((own.min(1) <= found.details["threshold"]).mean())
    assert 0.4 <= found.value <= 0.44
    assert found.details["exact_copies"] == pytest.approx(0.2)
    assert found.details["reference"] == pytest.approx(0.01, abs=0.005)
    assert found.low > 0.25 and found.n == 400


def test_duplicates_are_compared_at_equal_numbers() -> None:
    """Neighbours come closer as a set grows: ten times the samples would look like duplicates of each other."""
    found = measure(normal(20, 3000, 2), normal(21, 300, 2))["duplicates"]
    assert found.n == 300 and found.low <= 0.01 <= found.high
    found = measure(normal(20, 300, 2), normal(21, 3000, 2))["duplicates"]
    assert found.n == 300 and found.low <= 0.01 <= found.high


def test_copies_among_real_images_are_no_yardstick() -> None:
    training = normal(22, 600)
    training[:60] = training[60:120]
    found = measure(normal(23, 600), training)["duplicates"]
    assert found.details["threshold"] > 0.01
    assert found.details["reference_exact_copies"] == pytest.approx(0.2)
    assert "duplicates" not in measure(normal(23, 600), np.repeat(normal(24, 40), 5, axis=0))


def test_a_collapsed_generator_is_all_duplicates() -> None:
    samples = np.repeat(normal(25, 3), 100, axis=0)
    found = measure(samples, normal(26, 500))["duplicates"]
    assert found.value == 1 and found.details["exact_copies"] == 1 and found.low > 0.9


def test_refuses_what_it_cannot_measure() -> None:
    with pytest.raises(MetricError, match="too few"):
        measure(normal(0, 10), normal(1, 2))
    with pytest.raises(MetricError, match="too few"):
        measure(normal(0, 1), normal(1, 20))
    with pytest.raises(MetricError, match="not finite"):
        measure(np.full((10, 8), np.nan, np.float32), normal(1, 20))
    with pytest.raises(MetricError, match="quantile"):
        share_below(np.ones(5), np.ones(98))
    with pytest.raises(MetricError):
        measure(normal(0, 10, 4), normal(1, 20, 5))
