"""Precision, recall, density and coverage against the definitions written out, cases by hand, and simulation."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from ganwright.errors import MetricError
from ganwright.metrics.estimate import Provenance
from ganwright.metrics.extractor_base import Features
from ganwright.metrics.manifold import (
    NAMES,
    coverage_of_equals,
    estimate,
    group_variances,
    manifolds,
    share_interval,
)
from ganwright.metrics.measured import Measured


def by_definition(x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """From full distance matrices, in float64."""
    xx, yy, xy = cdist(x, x), cdist(y, y), cdist(x, y)
    reach_x, reach_y, reach_5 = np.sort(xx, 1)[:, 3], np.sort(yy, 1)[:, 3], np.sort(yy, 1)[:, 5]
    kept = reach_y <= np.median(reach_y)
    least = 0.01 * np.sqrt(np.median(reach_y**2))
    return {
        "inside": (xy <= reach_y).any(1),
        "reached": (xy <= reach_x[:, None]).any(0),
        "held_by": (xy <= reach_5).sum(1) / 5,
        "holds": (xy <= reach_5).sum(0) / 5 * len(y) / len(x),
        "covered": xy.min(0) <= reach_5,
        "realism": (reach_y[kept] / np.maximum(xy[:, kept], least)).max(1),
    }


def check(x: np.ndarray, y: np.ndarray, undecided: int = 0) -> None:
    """`undecided`: points that may differ, as rounding to float32 tells."""
    found, expected = manifolds(x, y), by_definition(x, y)
    for name in ("inside", "reached", "held_by", "holds", "covered"):
        differ = np.abs(getattr(found, name) - expected[name].astype(float)) > 1e-9
        assert differ.sum() <= undecided, name
    np.testing.assert_allclose(found.realism, expected["realism"], rtol=2e-3)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(6, 120), st.integers(6, 120), st.integers(1, 30), st.floats(0.3, 2.0))
def test_equals_the_definition(seed: int, n: int, m: int, d: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    check(rng.normal(size=(n, d)) * scale + 5, rng.normal(size=(m, d)) + 5)


def test_equals_the_definition_across_tiles_in_single_precision() -> None:
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(n, 20)).astype(np.float32) + 3 for n in (2100, 2060))
    assert 2100 * 2100 * 20 > 1 << 26
    check(x * np.float32(1.05), y, undecided=3)


def test_order_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(90, 4)), rng.normal(size=(70, 4)) * 0.8
    order = rng.permutation(90)
    one, other = manifolds(x, y), manifolds(x[order], y[rng.permutation(70)])
    assert (one.inside[order] == other.inside).all()
    assert one.values == pytest.approx(other.values)


def test_equal_sets_and_sets_far_apart() -> None:
    x = np.random.default_rng(2).normal(size=(60, 5))
    assert manifolds(x, x).values == pytest.approx({**dict.fromkeys(NAMES, 1.0), "density": 1.2})  # its own ball too
    assert manifolds(x, x + 1000).values == dict.fromkeys(NAMES, 0.0)


def test_points_at_a_radius_are_inside() -> None:
    """Integers: five neighbours reach to distance 3, so 7 balls hold an integer and 6 a half-integer."""
    reference = np.arange(100.0)[:, None]
    np.testing.assert_allclose(manifolds(np.arange(10.0, 90)[:, None], reference).held_by, 7 / 5)
    np.testing.assert_allclose(manifolds(np.arange(10.5, 90)[:, None], reference).held_by, 6 / 5)
    # The same in float32 along a slanted line in 2,048 dimensions, where distances are rounded.
    slanted = np.random.default_rng(8).normal(size=(1, 2048))
    line = (np.arange(200.0)[:, None] * slanted).astype(np.float32)
    assert 200 * 200 * 2048 > 1 << 26
    np.testing.assert_allclose(manifolds(line[10:190], line).held_by, 7 / 5)


def test_one_image_again_and_again() -> None:
    y = np.random.default_rng(3).normal(size=(100, 6))
    collapsed = manifolds(np.repeat(y[:1], 50, axis=0), y)
    assert collapsed.values["precision"] == 1
    assert collapsed.values["recall"] == 0.01  # only the copied image, at distance 0 from balls of radius 0
    assert 0 < collapsed.values["coverage"] < 0.5
    constant = np.ones((50, 6), np.float32)
    assert manifolds(constant, constant).values == {**dict.fromkeys(NAMES, 1.0), "density": 10.0}


def test_coverage_of_equal_distributions() -> None:
    rng = np.random.default_rng(4)
    found = [manifolds(rng.normal(size=(60, 2)), rng.normal(size=(90, 2))).values["coverage"] for _ in range(150)]
    error = np.std(found) / np.sqrt(150)
    assert abs(np.mean(found) - coverage_of_equals(60, 90)) < 4 * error


def test_intervals_cover_the_expected_values() -> None:
    """Truth: the mean over all repeats. Intervals of shares by independent draws would cover 80 to 88 % here."""
    rng, repeats, n, m = np.random.default_rng(5), 120, 400, 300
    values: dict[str, list[float]] = {name: [] for name in NAMES}
    intervals: dict[str, list[tuple[float, float]]] = {name: [] for name in NAMES}
    for _ in range(repeats):
        x, y = rng.normal(size=(n, 4)) * 0.9 + 0.3, rng.normal(size=(m, 4))
        found = manifolds(x, y)
        variances, freedom = group_variances(x, y, found)
        for name in NAMES:
            value, variance = found.values[name], variances[name]
            half = scipy.stats.t.ppf(0.975, freedom) * np.sqrt(variance)
            values[name].append(value)
            shares = share_interval(value, variance, m if name in ("recall", "coverage") else n, freedom)
            intervals[name].append((value - half, value + half) if name == "density" else shares)
    for name in NAMES:
        low, high = np.array(intervals[name]).T
        truth = np.mean(values[name])
        assert 0.90 <= np.mean((low <= truth) & (truth <= high)) <= (1 if name == "density" else 0.99), name


def test_estimates() -> None:
    rng = np.random.default_rng(6)
    x, y = (rng.normal(size=(n, 8)).astype(np.float32) for n in (150, 120))
    about = Provenance("net/1", "none", "data", 120)
    found = estimate(Measured(Features(x, None), Features(y, None), about, warnings=("careful",)))
    expected = by_definition(x, y)
    means = [expected[key].mean() for key in ("inside", "reached", "held_by", "covered")]
    assert [one.name for one in found] == list(NAMES)
    assert [one.value for one in found] == pytest.approx(means)
    assert all(one.low < one.value < one.high and one.warnings == ("careful",) for one in found)
    assert [one.details["k"] for one in found] == [3, 3, 5, 5]
    assert found[3].details["of_equal_distributions"] == coverage_of_equals(150, 120)
    assert estimate(Measured(Features(x[:5], None), Features(y, None), about)) == []
    few = estimate(Measured(Features(x[:50], None), Features(y[:50], None), about))
    assert "too few for groups" in few[0].interval
    assert few[0].high - few[0].low > found[0].high - found[0].low


def test_refuses_bad_input() -> None:
    x = np.random.default_rng(7).normal(size=(20, 3))
    with pytest.raises(MetricError, match="more than 5 images"):
        manifolds(x[:5], x)
    with pytest.raises(MetricError, match="dimensions"):
        manifolds(x, x[:, :2])
    broken = x.copy()
    broken[4, 1] = np.inf
    with pytest.raises(MetricError, match="image 4"):
        manifolds(x, broken)
