"""KID against a double loop, its chunks, and the coverage of its interval."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics.pairwise import polynomial_kernel

from ganwright.errors import MetricError
from ganwright.metrics.estimate import Provenance
from ganwright.metrics.extractor_base import Features
from ganwright.metrics.kernel import estimate, kernel_distance, subset_kernel_distance, whole_and_subsets
from ganwright.metrics.measured import Measured
from ganwright.metrics.protocols import find_protocol


def by_loops(x: np.ndarray, y: np.ndarray) -> float:
    def k(a: np.ndarray, b: np.ndarray) -> float:
        return float((a @ b / len(a) + 1) ** 3)

    n, m = len(x), len(y)
    within_x = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_y = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within_x + within_y - 2 * sum(k(a, b) for a in x for b in y) / (n * m)


@pytest.mark.parametrize("chunk", [1, 7, 1024])
def test_equals_the_definition(chunk: int) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(13, 5)), rng.normal(size=(9, 5)) + 0.5
    assert kernel_distance(x, y, chunk=chunk).value == pytest.approx(by_loops(x, y), rel=1e-12)
    assert kernel_distance(y, x, chunk=chunk).value == pytest.approx(by_loops(x, y), rel=1e-12)


def test_tiles_do_not_matter() -> None:
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(70, 5)), rng.normal(size=(90, 5)) + 0.5
    whole = kernel_distance(x, y)
    assert kernel_distance(x, y, chunk=3) == pytest.approx(whole, rel=1e-9)


def test_equals_sklearns_kernel() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(200, 16)).astype(np.float32), rng.normal(size=(150, 16)).astype(np.float32) * 1.3
    kernel = [polynomial_kernel(a.astype(float), b.astype(float), degree=3) for a, b in ((x, x), (y, y), (x, y))]
    off = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in kernel[:2]]
    assert kernel_distance(x, y).value == pytest.approx(sum(off) - 2 * kernel[2].mean(), rel=1e-9)


def test_unbiased_and_interval_covers() -> None:
    """Linear-cubic kernel of 1-d Gaussians: the true value from moments E(xy+1)³ with x, y independent."""

    def expected_kernel(m1: float, m2: float) -> float:
        def raw(m: float) -> tuple[float, float, float]:
            return m, m * m + 1, m**3 + 3 * m

        a, b = raw(m1), raw(m2)
        return a[2] * b[2] + 3 * a[1] * b[1] + 3 * a[0] * b[0] + 1

    truth = expected_kernel(0, 0) + expected_kernel(1, 1) - 2 * expected_kernel(0, 1)
    rng = np.random.default_rng(2)
    found = [kernel_distance(rng.normal(size=(400, 1)), rng.normal(size=(500, 1)) + 1) for _ in range(300)]
    values = np.array([f.value for f in found])
    assert abs(values.mean() - truth) < 4 * values.std() / np.sqrt(300)
    covered = np.mean([abs(f.value - truth) < 1.96 * f.standard_error for f in found])
    assert 0.90 <= covered <= 0.98


def test_same_distribution_contains_zero() -> None:
    rng = np.random.default_rng(3)
    inside = [
        abs(f.value) < 1.96 * f.standard_error
        for f in (kernel_distance(rng.normal(size=(100, 8)), rng.normal(size=(100, 8))) for _ in range(100))
    ]
    assert np.mean(inside) >= 0.9


def test_standard_error_counts_both_sides_alike() -> None:
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(60, 4)) * 3, rng.normal(size=(90, 4))
    one, other = kernel_distance(x, y), kernel_distance(y, x)
    assert one.standard_error == pytest.approx(other.standard_error, rel=1e-12)


def test_subsets_are_seeded_and_agree_with_the_whole() -> None:
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(400, 8)), rng.normal(size=(400, 8)) + 0.5
    mean, spread = subset_kernel_distance(x, y, subsets=30, size=100, seed=1)
    assert (mean, spread) == subset_kernel_distance(x, y, subsets=30, size=100, seed=1)
    assert abs(mean - kernel_distance(x, y).value) < 3 * spread / np.sqrt(30) + 1e-9
    with pytest.raises(MetricError, match="Subsets of 1000"):
        subset_kernel_distance(x, y)


def test_refuses_bad_input() -> None:
    x = np.ones((5, 3))
    with pytest.raises(MetricError, match="at least 2"):
        kernel_distance(x[:1], x)
    with pytest.raises(MetricError, match="not finite"):
        kernel_distance(x * np.nan, x)
    with pytest.raises(MetricError, match="dimensions"):
        kernel_distance(x, x[:, :2])


def features(seed: int, n: int, d: int) -> np.ndarray:
    """Non-negative and correlated, like those of a network."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(n, 8)) @ np.random.default_rng(9).normal(size=(8, d)) * 0.2
    return np.maximum(mixed + 0.1 * rng.normal(size=(n, d)), 0).astype(np.float32)


def test_single_precision_is_enough() -> None:
    """Large enough for float32 tiles; against the definition in float64, in any order and any tiling."""
    x, y = features(0, 700, 256), features(1, 900, 256) * np.float32(1.1)
    assert len(x) * len(y) * 256 > 1 << 26
    kernel = [polynomial_kernel(a.astype(float), b.astype(float), degree=3) for a, b in ((x, x), (y, y), (x, y))]
    off = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in kernel[:2]]
    expected, typical = sum(off) - 2 * kernel[2].mean(), kernel[2].mean()
    exact = kernel_distance(x.astype(float), y.astype(float))
    assert exact.value == pytest.approx(expected, rel=1e-9)
    order = np.random.default_rng(2).permutation(700)
    for found in (kernel_distance(x, y), kernel_distance(x[order], y, chunk=333)):
        assert abs(found.value - expected) < 1e-6 * typical
        assert found.standard_error == pytest.approx(exact.standard_error, rel=1e-4)


def test_subsets_drawn_as_torch_fidelity_draws_them() -> None:
    """Its procedure, written out: one RandomState for all subsets, first the samples, then the reference."""
    x, y = features(3, 90, 16), features(4, 70, 16) + np.float32(0.1)
    rng, values = np.random.RandomState(7), []
    for _ in range(12):
        values.append(by_loops(x[rng.choice(90, 20, replace=False)], y[rng.choice(70, 20, replace=False)]))
    expected = (np.mean(values), np.std(values))
    assert subset_kernel_distance(x, y, subsets=12, size=20, seed=7) == pytest.approx(expected, rel=1e-4)
    whole, *together = whole_and_subsets(x, y, subsets=12, size=20, seed=7)
    assert together == pytest.approx(expected, rel=1e-4)
    assert whole == pytest.approx(kernel_distance(x, y), rel=1e-9)


def test_one_pass_equals_two_in_single_precision() -> None:
    x, y = features(5, 700, 256), features(6, 900, 256) * np.float32(1.1)
    whole, mean, std = whole_and_subsets(x, y, subsets=10, size=100, seed=3)
    assert whole == pytest.approx(kernel_distance(x, y), rel=1e-9)
    assert (mean, std) == pytest.approx(subset_kernel_distance(x, y, subsets=10, size=100, seed=3), abs=1e-7)


def test_read_only_memory_is_read(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", features(5, 700, 256))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    y = features(6, 900, 256)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert kernel_distance(mapped, y) == kernel_distance(np.array(mapped), y)


def test_estimates_follow_the_protocol() -> None:
    x, y = features(7, 60, 8), features(8, 80, 8) + np.float32(0.2)
    protocol = replace(find_protocol("custom"), kid_subsets=5, kid_subset_size=60, seed=11)
    inputs = Measured(Features(x, None), Features(y, None), Provenance("net/1", "none", "data", 80), protocol=protocol)
    whole, subsets = estimate(inputs)
    assert (whole.name, whole.label) == ("kid", "KD (net)")
    assert whole.value == pytest.approx(by_loops(x, y), rel=1e-5)
    assert subsets.name == "kid-subsets"
    mean, std = subset_kernel_distance(x, y, subsets=5, size=60, seed=11)
    assert subsets.value == pytest.approx(mean, rel=1e-6)
    assert subsets.details == pytest.approx({"subset_std": std, "subsets": 5, "subset_size": 60}, rel=1e-4)
    assert subsets.high - subsets.low == pytest.approx(whole.high - whole.low)
    too_large = replace(inputs, protocol=replace(protocol, kid_subset_size=61))
    assert [found.name for found in estimate(too_large)] == ["kid"]
