"""SSIM against scikit-image, MS-SSIM against its definition written out and against pytorch-msssim's figures."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import structural_similarity

from ganwright.errors import MetricError
from ganwright.metrics.structural import SCALE_WEIGHTS, ms_ssim, ssim


def planes(images: np.ndarray) -> torch.Tensor:
    """uint8 or float (N, H, W, C) to (N, C, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def pair(seed: int, h: int, w: int, c: int = 3, noise: float = 20.0) -> tuple[np.ndarray, np.ndarray]:
    """A smooth image and a noisy copy of it, (1, H, W, C)."""
    rng = np.random.default_rng(seed)
    smooth = scipy.ndimage.gaussian_filter(rng.normal(size=(h, w, c)), (3, 3, 0)) * 500 + 128
    noisy = smooth + rng.normal(scale=noise, size=smooth.shape)
    return tuple(np.clip(x, 0, 255).round().astype(np.uint8)[None] for x in (smooth, noisy))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.integers(11, 40), st.integers(11, 40), st.sampled_from([1, 3]), st.floats(0, 80))
def test_ssim_is_scikit_images(seed: int, h: int, w: int, c: int, noise: float) -> None:
    a, b = pair(seed, h, w, c, noise)
    theirs = structural_similarity(
        a[0], b[0], channel_axis=-1, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim(planes(a), planes(b), data_range=255).item() == pytest.approx(theirs, abs=1e-6)


def test_ssim_of_float_images_in_their_own_range() -> None:
    a, b = (x / 255 for x in pair(3, 31, 50))
    theirs = structural_similarity(
        a[0], b[0], channel_axis=-1, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim(planes(a), planes(b), data_range=1.0).item() == pytest.approx(theirs, abs=1e-6)


def test_ssim_of_flat_images_is_the_luminance_term() -> None:
    a, b = torch.full((1, 1, 20, 20), 100.0), torch.full((1, 1, 20, 20), 150.0)
    c1 = (0.01 * 255) ** 2
    expected = (2 * 100 * 150 + c1) / (100**2 + 150**2 + c1)
    assert ssim(a, b, data_range=255).item() == pytest.approx(expected, abs=1e-9)


def ms_ssim_by_definition(x: np.ndarray, y: np.ndarray) -> float:
    """Wang et al. 2003, eq. 7, for (H, W) images whose sides are multiples of 16."""
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    value = 1.0
    for scale, weight in enumerate(SCALE_WEIGHTS):
        patches_x = np.lib.stride_tricks.sliding_window_view(x, (11, 11))
        patches_y = np.lib.stride_tricks.sliding_window_view(y, (11, 11))
        mu_x, mu_y = (patches_x * window).sum((2, 3)), (patches_y * window).sum((2, 3))
        dx, dy = patches_x - mu_x[..., None, None], patches_y - mu_y[..., None, None]
        var_x, var_y, cov = ((p * window).sum((2, 3)) for p in (dx * dx, dy * dy, dx * dy))
        contrast = (2 * cov + (0.03 * 255) ** 2) / (var_x + var_y + (0.03 * 255) ** 2)
        if scale == 4:
            contrast *= (2 * mu_x * mu_y + (0.01 * 255) ** 2) / (mu_x**2 + mu_y**2 + (0.01 * 255) ** 2)
        value *= contrast.mean() ** weight
        x, y = (z.reshape(z.shape[0] // 2, 2, -1, 2).mean((1, 3)) if scale < 4 else z for z in (x, y))
    return value


def test_ms_ssim_is_its_definition() -> None:
    a, b = pair(5, 176, 192)
    expected = np.mean(
        [ms_ssim_by_definition(a[0, ..., c].astype(float), b[0, ..., c].astype(float)) for c in (0, 1, 2)]
    )
    assert ms_ssim(planes(a), planes(b), data_range=255).item() == pytest.approx(expected, abs=1e-9)


def waves(h: int, w: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two images that are formulas, so that figures can be quoted for them."""
    i, j = torch.meshgrid(torch.arange(h, dtype=torch.float64), torch.arange(w, dtype=torch.float64), indexing="ij")
    x = torch.stack([127.5 + 100 * torch.sin(i / (7 + c)) * torch.cos(j / (11 - c)) for c in range(3)])
    y = torch.stack([x[c] + 25 * torch.sin(0.9 * i + 1.3 * j + c) for c in range(3)])
    return x.clamp(0, 255)[None], y.clamp(0, 255)[None]


# pytorch-msssim 1.0.0: ms_ssim(x, y, data_range=255, size_average=True) in float64
PYTORCH_MSSSIM = {(176, 176): 0.9246646, (161, 161): 0.9249079, (203, 250): 0.9247198, (167, 300): 0.9249897}


@pytest.mark.parametrize("size", PYTORCH_MSSSIM)
def test_ms_ssim_is_pytorch_msssims(size: tuple[int, int]) -> None:
    x, y = waves(*size)
    assert ms_ssim(x, y, data_range=255).item() == pytest.approx(PYTORCH_MSSSIM[size], abs=1e-5)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 999), st.floats(1, 60))
def test_bounds_symmetry_and_identity(seed: int, noise: float) -> None:
    a, b = (planes(x) for x in pair(seed, 40, 44, noise=noise))
    for measure in (lambda x, y: ssim(x, y, data_range=255), lambda x, y: ms_ssim(x, y, data_range=255, scales=2)):
        value = measure(a, b).item()
        assert -1 <= value < 1
        assert value == pytest.approx(measure(b, a).item(), abs=1e-12)
        assert measure(a, a).item() == pytest.approx(1, abs=1e-12)


def test_fewer_scales_renormalise_the_weights() -> None:
    a, b = (planes(x) for x in pair(1, 32, 32))
    assert ms_ssim(a, b, data_range=255, scales=1).item() == pytest.approx(ssim(a, b, data_range=255).item(), abs=1e-12)


def test_a_batch_is_its_images() -> None:
    pairs = [pair(seed, 24, 30) for seed in range(3)]
    batch = ssim(*(planes(np.concatenate(side)) for side in zip(*pairs, strict=True)), data_range=255)
    single = [ssim(planes(a), planes(b), data_range=255).item() for a, b in pairs]
    assert batch.tolist() == pytest.approx(single, abs=1e-12)


def test_refuses_what_it_cannot_measure() -> None:
    x = torch.zeros(1, 3, 160, 300)
    with pytest.raises(MetricError, match="at least 161 pixels"):
        ms_ssim(x, x, data_range=255)
    assert math.isclose(ms_ssim(x, x, data_range=255, scales=4).item(), 1.0)
    with pytest.raises(MetricError, match="at least 11 pixels"):
        ssim(x[..., :10], x[..., :10], data_range=255)
    with pytest.raises(MetricError, match="of one shape"):
        ssim(x, x[..., 1:], data_range=255)
    with pytest.raises(MetricError, match="data range"):
        ssim(x, x, data_range=0)
