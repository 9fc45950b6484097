"""Classical restorers with which learned ones are compared: total variation and non-local means.

Both are scikit-image's (extra `restore`). They are told the noise level where the recipe knows it, and else estimate it
from the picture, so that they know as much as the network does. For Poisson noise the variance is stabilised first; for
Rician noise the bias is taken out afterwards: without that, a network that has learnt the bias would win several
decibels that say nothing about noise.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ganwright.degrade.draws import SeededDraws
from ganwright.degrade.noise import invert_rician_mean
from ganwright.degrade.settings import Degradation
from ganwright.errors import MissingExtraError

Array = npt.NDArray[Any]
Smoother = Callable[[Array, float], Array]
"""A picture (H, W, C) with white noise of a standard deviation -> the picture without."""

TV_WEIGHT = 0.6
"""Chambolle's weight as a multiple of σ; see `docs/restoration.md` for how it was chosen."""
NLM_H = 0.7
"""Filtering strength h as a multiple of σ."""
_TV_ITERATIONS = 200
_SIMULATED = 7  # seed of the noise by which a scan's noise level is measured


def available() -> bool:
    """Whether scikit-image is installed."""
    return importlib.util.find_spec("skimage") is not None


def _restoration() -> Any:
    try:
        from skimage import restoration
    except ImportError as error:
        raise MissingExtraError("scikit-image", "restore", "A classical denoiser") from error
    return restoration


def total_variation(picture: Array, sigma: float) -> Array:
    """Rudin, Osher & Fatemi 1992 by Chambolle's algorithm (2004), weight `TV_WEIGHT` · σ.

    Raises:
        MissingExtraError: scikit-image is not installed.
    """
    smoothed: Array = _restoration().denoise_tv_chambolle(
        picture, weight=TV_WEIGHT * sigma, max_num_iter=_TV_ITERATIONS, channel_axis=-1
    )
    return smoothed


def non_local_means(picture: Array, sigma: float) -> Array:
    """Buades, Coll & Morel 2005: patches of 5x5, within 6 pixels, h = `NLM_H` · σ, noise variance subtracted.

    Raises:
        MissingExtraError: scikit-image is not installed.
    """
    smoothed: Array = _restoration().denoise_nl_means(
        picture, patch_size=5, patch_distance=6, h=NLM_H * sigma, sigma=sigma, fast_mode=True, channel_axis=-1
    )
    return smoothed


CLASSICAL: dict[str, Smoother] = {"tv": total_variation, "nlm": non_local_means}
"""Classical denoisers by name."""


def classical(name: str, inputs: Tensor, degradation: Degradation) -> Tensor:
    """What a classical denoiser makes of damaged pictures.

    Args:
        name: A key of `CLASSICAL`.
        inputs: Float (N, C, H, W) in about [-1, 1].
        degradation: What was done to them; a level that is known is used, one that is not is estimated from each.

    Returns:
        Float (N, C, H, W) in [-1, 1].

    Raises:
        MissingExtraError: scikit-image is not installed.
    """
    smooth = CLASSICAL[name]
    pictures = ((inputs.float().cpu() + 1) / 2).permute(0, 2, 3, 1).numpy()
    # scikit-image may drop the axis of a single channel
    restored = [_one(smooth, picture, degradation).reshape(picture.shape) for picture in pictures]
    values = torch.from_numpy(np.stack(restored)).to(inputs) if restored else inputs
    return (values.permute(0, 3, 1, 2) * 2 - 1).clamp(-1, 1)


def _one(smooth: Smoother, picture: Array, degradation: Degradation) -> Array:
    level = degradation.low if degradation.known else None
    picture = picture.astype(np.float64)
    if degradation.name == "poisson":
        # an estimate of the variance at the mean brightness stands for the peak: var = v / peak
        peak = level or max(float(picture.mean()) / max(estimated_sigma(picture) ** 2, 1e-8), 0.1)
        return unstabilised(smooth(stabilised(picture, peak), 1.0), peak)
    if degradation.name == "low-dose-ct" and level is not None:
        sigma = _scan_sigma(picture, degradation)
    elif degradation.name in ("gaussian", "rician") and level is not None:
        sigma = level
    else:
        sigma = estimated_sigma(picture)
    if sigma <= 0:
        return picture
    smoothed = smooth(picture, sigma)
    return invert_rician_mean(smoothed, sigma) if degradation.name == "rician" else smoothed


def estimated_sigma(picture: Array) -> float:
    """Standard deviation of white noise in a picture, from its finest wavelets (Donoho & Johnstone 1994).

    Haar wavelets, whose diagonal band is (a - b - c + d) / 2 of each 2x2 pixels, have the noise's own deviation.
    """
    height, width = (side // 2 * 2 for side in picture.shape[:2])
    p = picture[:height, :width]
    diagonal = (p[::2, ::2] - p[::2, 1::2] - p[1::2, ::2] + p[1::2, 1::2]) / 2
    return float(np.median(np.abs(diagonal)) / 0.6744897501960817)


def stabilised(picture: Array, peak: float) -> Array:
    """Anscombe's transform 2√(k + 3/8) of counts k = peak · v: noise of about unit variance."""
    return np.asarray(2 * np.sqrt(np.maximum(peak * picture, 0) + 3 / 8))


def unstabilised(values: Array, peak: float) -> Array:
    """The unbiased inverse in closed form (Mäkitalo & Foi 2011, eq. 10), as v = k / peak."""
    d = np.maximum(values, 2 * np.sqrt(3 / 8))
    root = np.sqrt(1.5)
    counts = d**2 / 4 + root / (4 * d) - 11 / (8 * d**2) + 5 * root / (8 * d**3) - 1 / 8
    return np.asarray(np.maximum(counts, 0) / peak)


def _scan_sigma(picture: Array, degradation: Degradation) -> float:
    """The noise level of a scan of known dose: that of a second scan, simulated of the same picture."""
    images = torch.from_numpy(picture).permute(2, 0, 1)[None].float() * 2 - 1
    level = torch.full((1,), degradation.low)
    again = degradation.kind.apply(images, level, SeededDraws(_SIMULATED))
    return float((again - images).std() / 2)
