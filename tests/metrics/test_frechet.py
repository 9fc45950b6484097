"""The Fréchet distance against scipy's matrix square root, closed forms and simulation."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from ganwright.errors import MetricError
from ganwright.metrics.frechet import frechet, frechet_distance
from ganwright.metrics.moments import Moments


def by_sqrtm(x: np.ndarray, y: np.ndarray) -> float:
    """The textbook formula, by the general matrix square root."""
    s1, s2 = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = scipy.linalg.sqrtm(s1 @ s2)
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s1 + s2 - 2 * np.real(root)))


def draw(seed: int, n: int, d: int, scale: float = 1.0, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ (scale * np.eye(d) + 0.3 * rng.normal(size=(d, d))) + shift


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 12), st.integers(60, 200), st.floats(0.5, 3.0), st.floats(-2.0, 2.0))
def test_equals_sqrtm_and_is_symmetric(seed: int, d: int, n: int, scale: float, shift: float) -> None:
    x, y = draw(seed, n, d), draw(seed + 1, n + 7, d, scale, shift)
    expected = by_sqrtm(x, y)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-6, abs=1e-8)
    assert frechet_distance(y, x) == pytest.approx(expected, rel=1e-6, abs=1e-8)
    assert frechet(x, y).distance == pytest.approx(expected, rel=1e-6, abs=1e-8)


def test_one_dimension_by_hand() -> None:
    # (mu1 - mu2)² + (sigma1 - sigma2)²
    a = Moments.of_covariance(np.array([1.0]), np.array([[4.0]]))
    b = Moments.of_covariance(np.array([4.0]), np.array([[25.0]]))
    assert frechet_distance(a, b) == pytest.approx(9 + 9, rel=1e-12)


def test_commuting_covariances_closed_form() -> None:
    rotation = scipy.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))[0]
    l1, l2 = np.array([1.0, 2, 3, 4, 5]), np.array([9.0, 1, 0, 2, 16])
    a = Moments.of_covariance(np.zeros(5), rotation @ np.diag(l1) @ rotation.T)
    b = Moments.of_covariance(np.zeros(5), rotation @ np.diag(l2) @ rotation.T)
    # A zero eigenvalue that was rounded to 1e-16 has a root of 1e-8: no method does better from a matrix.
    assert frechet_distance(a, b) == pytest.approx(((np.sqrt(l1) - np.sqrt(l2)) ** 2).sum(), rel=1e-7)


@pytest.mark.parametrize("n", [20, 500])  # fewer and more samples than dimensions
def test_identical_sets_are_at_zero(n: int) -> None:
    x = draw(0, n, 64).astype(np.float32)
    total = float(np.cov(x, rowvar=False).trace())
    result = frechet(x, x)
    assert 0 <= result.distance <= 1e-6 * total
    assert result.standard_error <= 1e-4 * total


@pytest.mark.parametrize("sizes", [(20, 30), (20, 300), (300, 20)])
def test_fewer_samples_than_dimensions(sizes: tuple[int, int]) -> None:
    """Against an independent exact route: eigenvalues of the small Gram form of S1 S2."""
    x, y = draw(1, sizes[0], 60), draw(2, sizes[1], 60, 2.0, 0.5)
    a = (x - x.mean(0)) / np.sqrt(len(x) - 1)
    b = (y - y.mean(0)) / np.sqrt(len(y) - 1)
    small, large = (a, b) if len(a) <= len(b) else (b, a)
    gram = small @ (large.T @ large) @ small.T
    cross = np.sqrt(scipy.linalg.eigvalsh(gram).clip(0)).sum()
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + (a**2).sum() + (b**2).sum() - 2 * cross
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-6)


def test_dead_and_constant_features() -> None:
    x, y = draw(3, 200, 6), draw(4, 200, 6, 1.5)
    dead = np.zeros((200, 3))
    padded = frechet(np.hstack([x, dead]), np.hstack([y, dead]))
    plain = frechet(x, y)
    assert padded.distance == pytest.approx(plain.distance, rel=1e-9)
    assert padded.standard_error == pytest.approx(plain.standard_error, rel=1e-6)
    constant = frechet(np.ones((50, 6)), y)  # one image again and again
    spread = ((1 - y.mean(0)) ** 2).sum() + np.cov(y, rowvar=False).trace()
    assert constant.distance == pytest.approx(spread, rel=1e-9)


def numeric_error(x: np.ndarray, y: np.ndarray) -> float:
    """The same delta method by finite differences in the weight of each sample."""

    def moments(z: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean = w @ z
        return mean, (z - mean).T @ ((z - mean) * w[:, None])

    def distance(wx: np.ndarray, wy: np.ndarray) -> float:
        (m1, s1), (m2, s2) = moments(x, wx), moments(y, wy)
        root = scipy.linalg.sqrtm(s1)
        cross = np.sqrt(scipy.linalg.eigvalsh(root @ s2 @ root).clip(0)).sum()
        return float(((m1 - m2) ** 2).sum() + np.trace(s1 + s2) - 2 * cross)

    variance, h = 0.0, 1e-5
    uniform_x, uniform_y = np.full(len(x), 1 / len(x)), np.full(len(y), 1 / len(y))
    for z, on_x in ((x, True), (y, False)):
        influence = []
        for i in range(len(z)):
            up, down = [], []
            for sign, out in ((1, up), (-1, down)):
                w = np.full(len(z), (1 - sign * h) / len(z))
                w[i] += sign * h
                out.append(distance(w, uniform_y) if on_x else distance(uniform_x, w))
            influence.append((up[0] - down[0]) / (2 * h))
        variance += np.var(influence, ddof=1) / len(z)
    return float(np.sqrt(variance))


def test_standard_error_is_the_derivative() -> None:
    x, y = draw(5, 60, 3), draw(6, 60, 3, 1.5, 0.7)
    assert frechet(x, y).standard_error == pytest.approx(numeric_error(x, y), rel=1e-5)


def test_interval_covers_the_true_distance() -> None:
    rng = np.random.default_rng(0)
    a, mu2, d, n = np.array([[1.0, 0, 0], [0.5, 1, 0], [0, 0.3, 0.8]]), np.array([1.0, 0, -0.5]), 3, 800
    truth = frechet_distance(Moments.of_covariance(np.zeros(d), np.eye(d)), Moments.of_covariance(mu2, a.T @ a))
    covered = 0
    for _ in range(400):
        result = frechet(rng.normal(size=(n, d)), rng.normal(size=(n, d)) @ a + mu2)
        covered += abs(result.distance - truth) < 1.96 * result.standard_error
    assert 0.90 <= covered / 400 <= 0.98


def test_standard_error_below_full_rank_is_the_spread_of_repeats() -> None:
    """With n < D the value is biased; the error must still tell how much it varies."""
    rng = np.random.default_rng(1)
    d, n = 80, 40
    results = [frechet(rng.normal(size=(n, d)), rng.normal(size=(n, d)) * 1.5 + 0.5) for _ in range(150)]
    spread = np.std([r.distance for r in results], ddof=1)
    stated = np.mean([r.standard_error for r in results])
    assert 0.7 < stated / spread < 1.5


def test_refuses_what_has_no_answer() -> None:
    x = draw(7, 30, 4)
    with pytest.raises(MetricError, match="too few"):
        frechet_distance(x[:1], x)
    with pytest.raises(MetricError, match="no images"):
        frechet_distance(x[:0], x)
    with pytest.raises(MetricError, match="dimensions"):
        frechet_distance(x, x[:, :3])
    broken = x.copy()
    broken[17, 2] = np.nan
    with pytest.raises(MetricError, match="image 17"):
        frechet_distance(x, broken)
    with pytest.raises(MetricError, match="not symmetric"):
        Moments.of_covariance(np.zeros(2), np.array([[1.0, 0.5], [0.0, 1.0]]))
    with pytest.raises(MetricError, match="negative eigenvalue"):
        Moments.of_covariance(np.zeros(2), np.array([[1.0, 2.0], [2.0, 1.0]]))
