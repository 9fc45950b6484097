"""Each way of resizing against an independent computation: Pillow for the antialiased one, loops for the others."""

from __future__ import annotations

import math

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.fixtures.pictures import scene

from ganwright.errors import SettingsError
from ganwright.metrics.resizing import RESIZES, resize_name, to_input

CPU = torch.device("cpu")
LAST_BIT = 2.0**-15
"""Two steps of float32 just below 255."""
SIZES = [(1, 1), (1, 5), (7, 3), (28, 28), (32, 32), (48, 64), (299, 120), (400, 300), (512, 512)]


def resize(image: np.ndarray, size: int, how: str) -> np.ndarray:
    """(H, W, C) to (size, size, 3)."""
    return to_input(image[None], size, CPU, how)[0].permute(1, 2, 0).numpy()


def by_pillow(image: np.ndarray, size: int) -> np.ndarray:
    """Bicubic of each channel as a float image, clipped."""
    channels = [Image.fromarray(image[..., c].astype(np.float32)) for c in range(image.shape[-1])]
    return np.stack([np.asarray(c.resize((size, size), Image.Resampling.BICUBIC)) for c in channels], -1).clip(0, 255)


def by_loop(image: np.ndarray, size: int, *, offset: float) -> np.ndarray:
    """Bilinear from the definition: output i reads input (i + offset) * n / size - offset, edges repeated."""
    height, width, channels = image.shape
    pixels = image.astype(np.float64)
    out = np.empty((size, size, channels))
    for i in range(size):
        y = max(0.0, (i + offset) * height / size - offset)
        top = min(math.floor(y), height - 1)
        for j in range(size):
            x = max(0.0, (j + offset) * width / size - offset)
            left = min(math.floor(x), width - 1)
            below, right = min(top + 1, height - 1), min(left + 1, width - 1)
            v, u = y - top, x - left
            upper = (1 - u) * pixels[top, left] + u * pixels[top, right]
            lower = (1 - u) * pixels[below, left] + u * pixels[below, right]
            out[i, j] = (1 - v) * upper + v * lower
    return out


@pytest.mark.parametrize("height, width", SIZES)
def test_clean_is_pillows_bicubic_of_floats(height: int, width: int) -> None:
    image = scene(max(height, 16), max(width, 16), 5)[:height, :width]
    assert np.abs(resize(image, 299, "clean") - by_pillow(image, 299)).max() <= LAST_BIT


def test_clean_clips_what_overshoots() -> None:
    image = np.zeros((20, 20, 3), np.uint8)
    image[8:12, 8:12] = 255
    pillow = by_pillow(image, 64)
    unclipped = np.asarray(Image.fromarray(image[..., 0].astype(np.float32)).resize((64, 64), Image.Resampling.BICUBIC))
    assert unclipped.min() < -1  # or the test shows nothing
    found = resize(image, 64, "clean")
    assert found.min() == 0
    assert np.abs(found - pillow).max() <= LAST_BIT


@pytest.mark.parametrize("how, offset", [("tf1-bilinear", 0.0), ("bilinear", 0.5)])
@pytest.mark.parametrize("height, width", [(1, 1), (1, 5), (7, 3), (28, 28), (48, 64), (80, 90)])
def test_bilinear_is_its_definition(height: int, width: int, how: str, offset: float) -> None:
    image = scene(max(height, 16), max(width, 16), 6)[:height, :width]
    difference = np.abs(resize(image, 37, how) - by_loop(image, 37, offset=offset)).max()
    assert difference < 1e-3  # positions are float32: 80 * 2^-24 pixels, times up to 255 a pixel


def test_the_three_ways_differ() -> None:
    image = scene(48, 64, 7)
    clean, bilinear, tf1 = (resize(image, 37, how) for how in ("clean", "bilinear", "tf1-bilinear"))
    assert min(np.abs(a - b).max() for a, b in ((clean, bilinear), (bilinear, tf1), (clean, tf1))) > 20


@pytest.mark.parametrize("how", list(RESIZES))
def test_images_of_the_right_size_stay(how: str) -> None:
    image = scene(37, 37, 8)
    assert np.array_equal(resize(image, 37, how), image)


@pytest.mark.parametrize("how", list(RESIZES))
def test_grey_is_repeated_and_a_batch_is_its_images(how: str) -> None:
    images = np.stack([scene(24, 30, seed) for seed in range(3)])
    batch = to_input(images, 37, CPU, how)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(batch, torch.cat([to_input(image[None], 37, CPU, how) for image in images]))
    grey = to_input(images[..., :1], 37, CPU, how)
    assert torch.equal(grey, batch[:, :1].expand(-1, 3, -1, -1))


shapes = st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(1))


@pytest.mark.parametrize("how", list(RESIZES))
@given(shape=shapes, value=st.integers(0, 255), size=st.integers(1, 40))
@settings(deadline=None, max_examples=30)
def test_constant_images_stay_constant(how: str, shape: tuple[int, int, int], value: int, size: int) -> None:
    found = resize(np.full(shape, value, np.uint8), size, how)
    assert found.shape == (size, size, 3)
    assert np.abs(found - value).max() <= 2 * LAST_BIT


@pytest.mark.parametrize("how", list(RESIZES))
@given(image=arrays.arrays(np.uint8, shapes), size=st.integers(1, 40))
@settings(deadline=None, max_examples=30)
def test_range_is_kept(how: str, image: np.ndarray, size: int) -> None:
    found = resize(image, size, how)
    low, high = (0, 255) if how == "clean" else (int(image.min()), int(image.max()))
    assert found.min() >= low - LAST_BIT
    assert found.max() <= high + LAST_BIT


@pytest.mark.parametrize("how", ["clean", "bilinear"])
@given(image=arrays.arrays(np.uint8, shapes), size=st.integers(1, 40))
@settings(deadline=None, max_examples=30)
def test_mirroring_and_turning_commute_with_resizing(how: str, image: np.ndarray, size: int) -> None:
    found = resize(image, size, how)
    assert np.allclose(resize(image[:, ::-1], size, how), found[:, ::-1], atol=0.01)
    assert np.allclose(resize(image.transpose(1, 0, 2), size, how), found.transpose(1, 0, 2), atol=0.01)


def test_an_unknown_way_is_refused() -> None:
    with pytest.raises(SettingsError, match="clean"):
        resize_name("cleen", 299)
    assert "299x299" in resize_name("clean", 299)
