"""PSNR, error and luma against scikit-image and the definitions, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from ganwright.errors import MetricError
from ganwright.metrics import paired
from ganwright.metrics.paired import luma_of, mae, ms_ssim, psnr, ssim


def pictures(seed: int, n: int = 4, h: int = 20, w: int = 24, c: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, h, w, c), dtype=np.uint8)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 9999), st.sampled_from([1, 3]), st.integers(0, 4))
def test_psnr_and_mae_are_those_of_the_border_free_image(seed: int, c: int, shave: int) -> None:
    a, b = pictures(seed, c=c), pictures(seed + 1, c=c)
    inner = (slice(None), slice(shave, 20 - shave), slice(shave, 24 - shave))
    theirs = [peak_signal_noise_ratio(x, y, data_range=255) for x, y in zip(a[inner], b[inner], strict=True)]
    np.testing.assert_allclose(psnr(a, b, shave=shave), theirs, rtol=1e-12)
    absolute = np.abs(a[inner].astype(int) - b[inner].astype(int)).mean((1, 2, 3))
    np.testing.assert_allclose(mae(a, b, shave=shave), absolute, rtol=1e-12)


def test_identical_images_have_infinite_psnr_and_no_error() -> None:
    a = pictures(0)
    assert psnr(a, a).tolist() == [math.inf] * 4
    assert mae(a, a).tolist() == [0] * 4
    np.testing.assert_allclose(ssim(a, a), 1, atol=1e-12)


def test_one_grey_level_everywhere_is_48_decibels() -> None:
    a = pictures(1) // 2
    assert psnr(a, a + 1) == pytest.approx([20 * math.log10(255)] * 4)
    assert psnr(a / 255, (a + 1) / 255, data_range=1.0) == pytest.approx([20 * math.log10(255)] * 4)


def test_luma_is_scikit_images_bt601_and_is_used() -> None:
    a, b = pictures(2), pictures(3)
    y_a, y_b = (rgb2ycbcr(x)[..., 0] for x in (a, b))
    ours = luma_of(torch.from_numpy(a).permute(0, 3, 1, 2).double(), data_range=255)
    np.testing.assert_allclose(ours[:, 0].numpy(), y_a, atol=1e-9)
    inner = (slice(None), slice(2, -2), slice(2, -2))
    expected = 10 * np.log10(255**2 / ((y_a - y_b)[inner] ** 2).mean((1, 2)))
    np.testing.assert_allclose(psnr(a, b, luma=True, shave=2), expected, rtol=1e-9)
    structure = [
        structural_similarity(x, y, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
        for x, y in zip(y_a[inner], y_b[inner], strict=True)
    ]
    np.testing.assert_allclose(ssim(a, b, luma=True, shave=2), structure, atol=1e-6)


def test_luma_of_float_images_scales_with_their_range() -> None:
    a, b = pictures(4), pictures(5)
    for name in ("psnr", "ssim"):
        ours = paired.scores(name, a / 255, b / 255, data_range=1.0, luma=True)
        np.testing.assert_allclose(ours, paired.scores(name, a, b, luma=True), rtol=1e-9)


def test_two_grey_images_are_their_own_luma() -> None:
    a, b = pictures(14, c=1), pictures(15, c=1)
    for name in ("psnr", "ssim"):
        np.testing.assert_array_equal(paired.scores(name, a, b, luma=True), paired.scores(name, a, b))


def test_grey_beside_colour_is_rgb_of_equal_channels() -> None:
    grey, colour = pictures(6, c=1), pictures(7)
    repeated = np.repeat(grey, 3, axis=-1)
    for name, options in (("psnr", {}), ("psnr", {"luma": True}), ("ssim", {"luma": True})):
        np.testing.assert_allclose(
            paired.scores(name, grey, colour, **options), paired.scores(name, repeated, colour, **options)
        )


@pytest.mark.parametrize("name", ["psnr", "mae", "ssim"])
def test_chunks_and_tensors_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = pictures(8, n=7), pictures(9, n=7)
    whole = paired.scores(name, a, b)
    monkeypatch.setattr(paired, "_CHUNK_VALUES", 2 * 20 * 24 * 3)
    np.testing.assert_array_equal(paired.scores(name, torch.from_numpy(a), torch.from_numpy(b)), whole)
    np.testing.assert_array_equal(paired.scores(name, a[0], b[0]), whole[:1])


def test_inputs_are_not_changed_and_may_be_read_only() -> None:
    a, b = pictures(10), pictures(11)
    copies = a.copy(), b.copy()
    a.flags.writeable = b.flags.writeable = False
    for name in ("psnr", "mae", "ssim"):
        paired.scores(name, a, b, luma=True)
    np.testing.assert_array_equal(a, copies[0])
    np.testing.assert_array_equal(b, copies[1])


def test_ms_ssim_takes_large_images_only() -> None:
    a = pictures(12, n=1, h=176, w=176)
    assert ms_ssim(a, a) == pytest.approx([1])
    with pytest.raises(MetricError, match="at least 161"):
        ms_ssim(a, a, shave=8)


def test_refuses_what_it_cannot_compare() -> None:
    a = pictures(13)
    for arguments, match in (
        ((a, a[:2]), "differ in shape"),
        ((a, a[:, :-1]), "differ in shape"),
        ((a[..., :2], a[..., :2]), "N, H, W"),
        ((a / 255, a / 255), "range of images of type float64 is not known"),
        ((a.astype(np.int64), a.astype(np.int64)), "not known"),
    ):
        with pytest.raises(MetricError, match=match):
            psnr(*arguments)
    for options, match in (({"shave": 10}, "shaved"), ({"shave": -1}, "shaved"), ({"data_range": 1.0}, "is 255")):
        with pytest.raises(MetricError, match=match):
            psnr(a, a, **options)
    broken = a / 255
    broken[0, 0, 0, 0] = np.nan
    for wrong in (broken, a / 127.5 - 1, a / 250):
        with pytest.raises(MetricError, match="must lie in"):
            psnr(wrong, a / 255, data_range=1.0)
    with pytest.raises(MetricError, match="impossible"):
        psnr(a / 255, a / 255, data_range=0.0)
