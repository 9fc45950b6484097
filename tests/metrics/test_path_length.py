"""Path length of generators whose images and features are so simple that the answer is a formula."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ganwright.errors import MetricError, SettingsError
from ganwright.metrics.extractor_base import Extractor
from ganwright.metrics.path_length import Paths, path_distances, path_length, slerp, trimmed_mean


class Pixels(Extractor):
    """The pixels themselves in [-1, 1], so that images are features."""

    name, version, has_logits, preprocessing, size = "pixels", "1", False, "none", 2
    feature_dim = 12

    def forward(self, images: Tensor) -> tuple[Tensor | None, ...]:
        return (images / 127.5 - 1).double().flatten(1), None


class Placed(Pixels):
    """Features that tell nothing, and spatial ones that tell all."""

    has_spatial = True

    def forward(self, images: Tensor) -> tuple[Tensor | None, ...]:
        return torch.ones(len(images), 1), None, (images / 127.5 - 1).flatten(1)


def embed(z: Tensor) -> Tensor:
    """A linear generator that keeps angles: latents (N, 12) scaled into an image (N, 3, 2, 2) within [-1, 1]."""
    return (z / 8).reshape(-1, 3, 2, 2)


def linear(latents: Tensor, labels: Tensor | None) -> Tensor:
    z = torch.zeros(len(latents), 12, dtype=latents.dtype)
    z[:, : latents.shape[1]] = latents
    return embed(z)


def drawn(paths: Paths, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The two ends of each path, as `path_distances` draws them."""
    ends = torch.randn(n, 2, paths.latent_dim, generator=torch.Generator().manual_seed(paths.seed)).double().numpy()
    return ends[:, 0], ends[:, 1]


def angles(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.arccos(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).clip(-1, 1))


@pytest.mark.parametrize("sampling", ["full", "end"])
def test_in_z_a_linear_generator_moves_at_the_angle_between_the_ends(sampling: str) -> None:
    paths = Paths(5, sampling=sampling, seed=3)
    found = path_distances(linear, paths, Pixels(), n=60, quiet=True)
    np.testing.assert_allclose(found, angles(*drawn(paths, 60)) ** 2 / 2, rtol=0.02)


def test_in_two_dimensions_the_length_is_pi_squared_over_six() -> None:
    """The angle of two random directions in a plane is uniform on (0, pi), and E[angle²] / 2 is pi²/6."""
    found = path_length(linear, Paths(2), Pixels(), n=4000, batch_size=500, quiet=True)
    assert found.details["untrimmed_mean"] == pytest.approx((angles(*drawn(Paths(2), 4000)) ** 2).mean() / 2, rel=1e-3)
    error = math.sqrt((math.pi**4 / 20 - (math.pi**2 / 6) ** 2) / 4000)
    assert found.details["untrimmed_mean"] == pytest.approx(math.pi**2 / 6, abs=4 * error)
    trimmed = math.pi**2 / 6 * (0.99**3 - 0.01**3) / 0.98
    assert found.value == pytest.approx(trimmed, abs=4 * error)
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.15)
    assert found.name == "path-length" and found.label == "path length (pixels; z, full)"
    assert "PPL" not in found.label and "VGG" in found.warnings[0]


def test_in_w_paths_are_straight() -> None:
    """Half the squared angular speed of a straight line, at its start: |b|² sin²(angle) / |a|² / 2."""
    paths = Paths(6, mapping=lambda z, _: 0.3 * z.flip(1), sampling="end", seed=1)
    found = path_distances(linear, paths, Pixels(), n=50, quiet=True)
    a, b = drawn(paths, 50)
    speed = np.linalg.norm(b, axis=1) * np.sin(angles(a, b)) / np.linalg.norm(a, axis=1)
    np.testing.assert_allclose(
        found, speed**2 / 2, rtol=0.06
    )  # float32 pixels carry steps this small to a few per cent
    assert found.mean() == pytest.approx((speed**2 / 2).mean(), rel=0.01)
    assert path_length(linear, paths, Pixels(), n=5, quiet=True).label == "path length (pixels; w, end)"


def test_a_generator_twice_as_fast_is_four_times_as_long() -> None:
    def turning(speed: float) -> object:
        def generate(latents: Tensor, labels: Tensor | None) -> Tensor:
            turn = speed * torch.atan2(latents[:, 1].double(), latents[:, 0].double())
            z = torch.zeros(len(latents), 12, dtype=torch.float64)
            z[:, 0], z[:, 1] = 4 * torch.cos(turn), 4 * torch.sin(turn)
            return embed(z)

        return generate

    slow, fast = (path_length(turning(s), Paths(2), Pixels(), n=200, quiet=True).value for s in (1.0, 2.0))
    assert fast == pytest.approx(4 * slow, rel=0.02)


def test_steps_far_below_a_grey_level_are_seen() -> None:
    """A generator whose images differ by a thousandth of a grey level along the step."""
    paths = Paths(2, epsilon=1e-4)
    moved = linear(torch.tensor([[1.0, 1.0]]), None) - linear(torch.tensor([[1.0 + 1e-4, 1.0]]), None)
    assert 0 < moved.abs().max() * 127.5 < 0.01
    assert path_distances(linear, paths, Pixels(), n=20, quiet=True).min() > 0


def test_a_constant_generator_has_length_zero() -> None:
    found = path_length(lambda z, _: torch.full((len(z), 1, 4, 4), 0.3), Paths(3), Pixels(), n=20, quiet=True)
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_spatial_features_are_used_where_there_are_any() -> None:
    found = path_length(linear, Paths(4), Placed(), n=30, quiet=True)
    assert found.value > 0 and "place by place" in found.label


def test_both_images_of_a_pair_have_one_class() -> None:
    seen = []

    def generate(latents: Tensor, labels: Tensor | None) -> Tensor:
        assert labels is not None
        seen.append(labels)
        return linear(latents, None) + labels[:, None, None, None] / 1000

    found = path_distances(generate, Paths(4, num_classes=7), Pixels(), n=40, batch_size=20, quiet=True)
    assert all(torch.equal(*labels.chunk(2)) for labels in seen)
    assert len(torch.cat(seen).unique()) == 7
    assert found.max() < 100  # a change of class would be 1e8 times a change of colour


def test_batches_and_repeats_change_nothing() -> None:
    paths = Paths(5, seed=4)
    whole = path_distances(linear, paths, Pixels(), n=23, batch_size=23, quiet=True)
    np.testing.assert_allclose(
        path_distances(linear, paths, Pixels(), n=23, batch_size=5, quiet=True), whole, rtol=1e-6
    )
    other = path_distances(linear, Paths(5, seed=5), Pixels(), n=23, quiet=True)
    assert not np.allclose(other, whole)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 9999), st.integers(2, 20), st.floats(0, 1))
def test_slerp_keeps_its_ends_and_its_angular_speed(seed: int, d: int, t: float) -> None:
    a, b = torch.randn(2, 1, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    assert torch.allclose(slerp(a, b, torch.zeros(1, 1)), a) and torch.allclose(slerp(a, b, torch.ones(1, 1)), b)
    point = slerp(a, b, torch.full((1, 1), t, dtype=torch.float64))
    whole = angles(a.numpy(), b.numpy())[0]
    assert angles(a.numpy(), point.numpy())[0] == pytest.approx(t * whole, abs=1e-6)
    assert point.norm() == pytest.approx(float((1 - t) * a.norm() + t * b.norm()))


def test_slerp_of_one_direction_with_itself() -> None:
    a = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    assert torch.allclose(slerp(a, 2 * a, torch.full((1, 1), 0.5)), 1.5 * a)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 500), st.integers(0, 99))
def test_trimming_is_that_of_percentiles(n: int, seed: int) -> None:
    values = np.random.default_rng(seed).exponential(size=n)
    low, high = np.percentile(values, 1, method="lower"), np.percentile(values, 99, method="higher")
    expected = values[(values >= low) & (values <= high)].mean()
    assert trimmed_mean(values)[0] == pytest.approx(expected)


def test_its_interval_covers() -> None:
    random = np.random.default_rng(0)
    low, high = math.log(1 / 0.99), math.log(1 / 0.01)  # percentiles of the exponential distribution
    truth = ((low + 1) * math.exp(-low) - (high + 1) * math.exp(-high)) / 0.98
    hits = 0
    for _ in range(200):
        _, bottom, top = trimmed_mean(random.exponential(size=300))
        hits += bottom <= truth <= top
    assert 0.90 < hits / 200 < 0.98


def test_refuses_what_is_no_path() -> None:
    for arguments in ({"sampling": "middle"}, {"epsilon": 0.0}, {"latent_dim": 1}, {"num_classes": -1}):
        with pytest.raises(SettingsError):
            Paths(**{"latent_dim": 4, **arguments})
    with pytest.raises(SettingsError, match="too few"):
        path_length(linear, Paths(4), Pixels(), n=1, quiet=True)
    with pytest.raises(MetricError, match="not finite"):
        path_length(lambda z, _: torch.full((len(z), 3, 2, 2), torch.nan), Paths(4), Pixels(), n=4, quiet=True)
    with pytest.raises(MetricError, match="NaN"):
        trimmed_mean(np.array([1.0, np.nan]))
