"""The Gaussian kernel distance against its definition, the published estimator, and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist
from sklearn.metrics.pairwise import rbf_kernel

from ganwright.errors import MetricError
from ganwright.metrics.estimate import Provenance
from ganwright.metrics.extractor_base import Features
from ganwright.metrics.measured import Measured
from ganwright.metrics.rbf_mmd import estimate, gaussian_mmd, median_distance, unit_length


def by_definition(x: np.ndarray, y: np.ndarray, sigma: float) -> tuple[float, float]:
    """Gretton et al. 2012, eq. 5 and eq. 3."""
    gamma = 1 / (2 * sigma**2)
    xx, yy, xy = (rbf_kernel(a.astype(float), b.astype(float), gamma) for a, b in ((x, x), (y, y), (x, y)))
    off = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (xx, yy)]
    return xx.mean() + yy.mean() - 2 * xy.mean(), sum(off) - 2 * xy.mean()


@pytest.mark.parametrize("sigma", [0.5, 3.0, 10.0])
def test_equals_the_definition(sigma: float) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(70, 6)) + 20, rng.normal(size=(90, 6)) * 1.2 + 20
    found = gaussian_mmd(x, y, sigma)
    assert found[:2] == pytest.approx(by_definition(x, y, sigma), rel=1e-9)
    other = gaussian_mmd(y, x, sigma)
    assert other == pytest.approx(found, rel=1e-9)


def test_single_precision_is_enough_for_wide_kernels() -> None:
    """As CMMD has it: unit length, sigma 10, kernels within 2 % of 1, and a difference in the fifth digit."""
    rng = np.random.default_rng(1)
    x = unit_length(rng.normal(size=(500, 512)).astype(np.float32) + 0.7)
    y = unit_length(rng.normal(size=(600, 512)).astype(np.float32) + 0.8)
    assert 500 * 600 * 512 > 1 << 26
    found, expected = gaussian_mmd(x, y, 10.0), by_definition(x, y, 10.0)
    assert found.biased == pytest.approx(expected[0], rel=1e-5)
    assert found.unbiased == pytest.approx(expected[1], rel=1e-4)


def published(x: np.ndarray, y: np.ndarray) -> float:
    """The published CMMD of embeddings of unit length: means over full matrices, in thousandths."""
    return 1000 * float(
        sum(
            sign * np.exp(-cdist(a, b, "sqeuclidean") / 200).mean() for sign, a, b in ((1, x, x), (-2, x, y), (1, y, y))
        )
    )


def test_over_clip_it_is_the_published_cmmd() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(80, 16)) + 0.5, rng.normal(size=(60, 16))
    both = Features(x.astype(np.float32), None), Features(y.astype(np.float32), None)
    (found,) = estimate(Measured(*both, Provenance("clip/1", "none", "data", 60)))
    x, y = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (x, y))
    assert (found.name, found.label) == ("mmd", "CMMD")
    assert found.value == pytest.approx(published(x, y), rel=1e-5)
    assert found.low <= found.details["unbiased"] <= found.value <= found.high
    (smaller,) = estimate(Measured(*both, Provenance("clip-base/1", "none", "data", 60)))
    assert smaller.label == "CMMD (clip-base)"


def test_elsewhere_the_bandwidth_is_the_references_median_distance() -> None:
    rng = np.random.default_rng(3)
    x, y = (rng.normal(size=(n, 16)).astype(np.float32) for n in (80, 60))
    (found,) = estimate(Measured(Features(x, None), Features(y, None), Provenance("net/1", "none", "data", 60)))
    sigma = np.median(pdist(y))
    assert found.details["sigma"] == pytest.approx(sigma, rel=1e-6)
    biased, unbiased = by_definition(x, y, sigma)
    assert (found.label, found.value) == ("MMD (net)", pytest.approx(1000 * unbiased, rel=1e-5))
    assert found.details["biased"] == pytest.approx(1000 * biased, rel=1e-5)
    alike = Features(np.ones((60, 16), np.float32), None)
    assert estimate(Measured(Features(x, None), alike, Provenance("net/1", "none", "data", 60))) == []


def test_bandwidth_of_mostly_equal_images() -> None:
    y = np.zeros((50, 3))
    y[:5] = 1.0
    assert median_distance(y) == pytest.approx(pdist(y).mean())
    with pytest.raises(MetricError, match="same features"):
        median_distance(np.ones((50, 3)))


def test_bandwidth_of_many_is_from_a_fixed_subset() -> None:
    y = np.random.default_rng(5).normal(size=(2500, 3))
    assert median_distance(y) == median_distance(y)
    assert median_distance(y) == pytest.approx(np.median(pdist(y)), rel=0.03)


def test_interval_covers_the_true_value() -> None:
    """1-d Gaussians N(0, 1) and N(1, 1): E k = s / sqrt(s² + 2) exp(-shift² / (2 (s² + 2))) at bandwidth s."""
    sigma, rng = 1.5, np.random.default_rng(4)
    wide = sigma**2 + 2
    truth = 2 * sigma / np.sqrt(wide) * (1 - np.exp(-1 / (2 * wide)))
    found = [gaussian_mmd(rng.normal(size=(300, 1)), rng.normal(size=(400, 1)) + 1, sigma) for _ in range(300)]
    values = np.array([f.unbiased for f in found])
    assert abs(values.mean() - truth) < 4 * values.std() / np.sqrt(300)
    covered = np.mean([abs(f.unbiased - truth) < 1.96 * f.standard_error for f in found])
    assert 0.90 <= covered <= 0.98


def test_refuses_bad_input() -> None:
    x = np.random.default_rng(6).normal(size=(20, 3))
    with pytest.raises(MetricError, match="too few"):
        gaussian_mmd(x[:1], x, 1.0)
    with pytest.raises(MetricError, match="dimensions"):
        gaussian_mmd(x, x[:, :2], 1.0)
    with pytest.raises(MetricError, match="bandwidth"):
        gaussian_mmd(x, x, 0.0)
    with pytest.raises(MetricError, match="not finite"):
        gaussian_mmd(x, x * np.nan, 1.0)
