"""The feature distance against cosines computed otherwise, and over a tiny extractor."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.spatial.distance
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ganwright.errors import MetricError
from ganwright.metrics.extractor_base import Extractor
from ganwright.metrics.feature_distance import feature_distances, unit_distance, unrelated_distance


class Pixels(Extractor):
    """Mean colour as features; all pixels as spatial features."""

    name, version, feature_dim, has_logits, has_spatial = "pixels", "1", 3, False, True
    preprocessing, size = "none", 4

    def forward(self, images: Tensor) -> tuple[Tensor | None, ...]:
        return images.mean((2, 3)), None, images.flatten(1)


class Broken(Pixels):
    def forward(self, images: Tensor) -> tuple[Tensor | None, ...]:
        return torch.full((len(images), 3), torch.nan), None


def pictures(seed: int, n: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 4, 4, 3), dtype=np.uint8)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 9999), st.integers(1, 40), st.sampled_from([np.float32, np.float64]))
def test_is_one_minus_the_cosine(seed: int, d: int, kind: type) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(5, d)).astype(kind), rng.normal(size=(5, d)).astype(kind)
    expected = [scipy.spatial.distance.cosine(a, b) for a, b in zip(x.astype(float), y.astype(float), strict=True)]
    np.testing.assert_allclose(unit_distance(x, y), expected, atol=1e-12)
    np.testing.assert_allclose(unit_distance(y, 3 * x), unit_distance(x, y), atol=1e-6 if kind == np.float32 else 1e-12)


def test_small_angles_keep_their_digits() -> None:
    angle = 1e-6
    x, y = np.array([[1.0, 0.0]]), np.array([[np.cos(angle), np.sin(angle)]])
    assert unit_distance(x, y)[0] == pytest.approx(2 * np.sin(angle / 2) ** 2, rel=1e-6)
    assert unit_distance(x, x)[0] == 0


def test_zeros_have_no_direction() -> None:
    x = np.array([[0.0, 0], [0, 0], [2, 0], [1, 0]])
    y = np.array([[0.0, 0], [3, 4], [0, 0], [-1, 0]])
    assert unit_distance(x, y).tolist() == [0, 1, 1, 2]


def test_over_an_extractor_pooled_and_place_by_place() -> None:
    a, b = pictures(0, 6), pictures(1, 6)
    found = feature_distances(Pixels(), list(a), list(b))
    cosine = scipy.spatial.distance.cosine
    colours = [cosine(x.mean((0, 1)), y.mean((0, 1))) for x, y in zip(a.astype(float), b.astype(float), strict=True)]
    places = [cosine(x.ravel(), y.ravel()) for x, y in zip(a.astype(float), b.astype(float), strict=True)]
    np.testing.assert_allclose(found.pooled, colours, atol=1e-6)
    np.testing.assert_allclose(found.spatial, places, atol=1e-6)
    mirrored = feature_distances(Pixels(), list(a), list(a[:, :, ::-1]))
    assert mirrored.pooled.max() < 1e-9 < mirrored.spatial.min()


def test_strangers_are_the_yardstick() -> None:
    features = np.random.default_rng(2).normal(size=(400, 50))
    pairs = scipy.spatial.distance.pdist(features, "cosine")
    assert unrelated_distance(features) == pytest.approx(pairs.mean(), abs=4 * pairs.std() / np.sqrt(400))


def test_refuses_what_are_no_pairs() -> None:
    with pytest.raises(MetricError, match="no pairs"):
        feature_distances(Pixels(), list(pictures(0, 2)), list(pictures(0, 3)))
    with pytest.raises(MetricError, match="one shape"):
        unit_distance(np.zeros((2, 3)), np.zeros((2, 4)))
    with pytest.raises(MetricError, match="NaN"):
        feature_distances(Broken(), list(pictures(0, 2)), list(pictures(0, 2)))
