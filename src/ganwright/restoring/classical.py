"""What can be done without learning: total variation, non-local means and wavelets, biharmonic filling, bicubic.

Smoothers are scikit-image's (extra `restore`). How strongly they smooth is set by pixels that are hidden from them, so
that nobody guesses a parameter and none is fitted to the truth.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ganwright.degrade.classical import available, estimated_sigma, non_local_means, total_variation
from ganwright.restoring.measuring import Floats, Mask, Method, blind_errors, centre, random_pixels

__all__ = ["Smoother", "available", "best_smoother", "bicubic", "biharmonic", "jpeg_sigma"]
STRENGTHS = (0.5, 0.75, 1.0, 1.4)
"""Multiples of the estimated noise level that are tried."""
_CALIBRATION_SIDE, _CALIBRATION_SHARE = 256, 0.05
_CALIBRATION_SEED = 71
_MOST_MISSING = 60_000
"""Missing pixels above which biharmonic filling (a linear system of that size) takes too long."""


@dataclass(frozen=True)
class Smoother:
    """A classical denoiser with its strength set.

    Attributes:
        name: For people.
        short: For file names.
        method: It.
    """

    name: str
    short: str
    method: Method


def _wavelet(picture: Floats, sigma: float) -> Floats:
    restoration: Any = importlib.import_module("skimage.restoration")
    found: Floats = restoration.denoise_wavelet(
        picture, sigma=sigma, method="BayesShrink", channel_axis=-1, rescale_sigma=True
    )
    return found


_SMOOTHERS: Mapping[str, tuple[str, Callable[[Any, float], Any]]] = {
    "tv": ("total variation", total_variation),
    "nlm": ("non-local means", non_local_means),
    "wavelet": ("wavelets", _wavelet),
}


def best_smoother(picture: Floats, sigma: float | None = None, *, calibrate: bool = True) -> Smoother | None:
    """The classical denoiser, and its strength, that best predicts hidden pixels of the picture's centre.

    The pixels are others than those by which it is compared with anything else afterwards.

    Args:
        picture: (H, W, C) in [0, 1].
        sigma: Standard deviation of the noise where it is known; None: estimated.
        calibrate: Try all smoothers and strengths; otherwise total variation at `sigma`.

    Returns:
        None where scikit-image is missing.
    """
    if not available():
        return None
    level = max(estimated_sigma(np.asarray(picture, np.float64)) if sigma is None else sigma, 1e-3)
    if not calibrate:
        return _smoother("tv", level)
    rows, columns = centre((picture.shape[0], picture.shape[1]), _CALIBRATION_SIDE)
    part = np.asarray(picture[rows, columns], np.float64)
    held_out = random_pixels((part.shape[0], part.shape[1]), _CALIBRATION_SHARE, _CALIBRATION_SEED)
    found = {}
    for short in _usable():
        for strength in STRENGTHS:
            smoother = _smoother(short, strength * level)
            found[short, strength] = float(blind_errors(smoother.method, part, held_out).mean())
    short, strength = min(found, key=lambda key: found[key])
    return _smoother(short, strength * level)


def _usable() -> list[str]:
    # scikit-image's wavelets are a package of their own
    return [s for s in _SMOOTHERS if s != "wavelet" or importlib.util.find_spec("pywt") is not None]


def _smoother(short: str, sigma: float) -> Smoother:
    name, smooth = _SMOOTHERS[short]

    def method(picture: Floats) -> Floats:
        made: Floats = np.clip(smooth(np.asarray(picture, np.float64), sigma).reshape(picture.shape), 0, 1)
        return made

    return Smoother(name, short, method)


def biharmonic(picture: Floats, missing: Mask) -> Floats | None:
    """Fill holes so that the biharmonic equation holds in them (Damelin & Hoang 2018).

    Args:
        picture: (H, W, C) in [0, 1].
        missing: (H, W).

    Returns:
        None where scikit-image is missing, or the holes are too large for it.
    """
    if not available() or int(missing.sum()) > _MOST_MISSING:
        return None
    restoration: Any = importlib.import_module("skimage.restoration")
    seen = np.where(missing[..., None], 0.0, picture)
    made = restoration.inpaint_biharmonic(seen, missing, channel_axis=-1, split_into_regions=True)
    found: Floats = np.clip(np.asarray(made).reshape(picture.shape), 0, 1)
    return found


def resized(picture: Floats, size: tuple[int, int], filter_: Image.Resampling = Image.Resampling.BICUBIC) -> Floats:
    """A picture (H, W, C) in [0, 1] at another height and width, in floats, antialiased when it shrinks."""
    planes = [
        np.asarray(Image.fromarray(np.ascontiguousarray(plane, np.float32)).resize((size[1], size[0]), filter_))
        for plane in np.moveaxis(picture, -1, 0)
    ]
    found: Floats = np.clip(np.stack(planes, axis=-1), 0, 1)
    return found


def bicubic(picture: Floats, factor: int) -> Floats:
    """The picture `factor` times as large."""
    return resized(picture, (picture.shape[0] * factor, picture.shape[1] * factor))


def jpeg_sigma(path: Path) -> float | None:
    """About what a JPEG file's rounding adds, as a standard deviation in [0, 1]; None for other files.

    A coefficient rounded to steps of q errs by q²/12 in the mean; coefficients are orthonormal, so their errors'
    mean is that of the pixels. Those beyond the lowest 4x4 are mostly rounded to 0, and err by less.
    """
    with Image.open(path) as image:
        tables = getattr(image, "quantization", None)
    if not tables:
        return None
    # Pillow gives the table row by row
    steps = np.asarray(tables[0], np.float64).reshape(8, 8)[:4, :4]
    return float(np.sqrt((steps**2 / 12).mean()) / 255)
