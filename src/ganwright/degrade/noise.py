"""Noise with closed-form moments: Gaussian, Poisson and Rician.

Images are floats in [-1, 1]; v = (x + 1) / 2 below is the same in [0, 1]. Results may leave [-1, 1].
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.special
import torch
from torch import Tensor

from ganwright.degrade.draws import Draws

_SEEDS = 1 << 62


def gaussian(images: Tensor, sigma: Tensor, draws: Draws) -> Tensor:
    """Additive white noise, v + σε.

    Args:
        images: (N, C, H, W) in [-1, 1].
        sigma: (N,): standard deviation as a share of the full range (25/255 is the papers' σ = 25).
        draws: Randomness.
    """
    return images + 2 * per_image(sigma, images) * _normal_like(images, draws)


def poisson(images: Tensor, peak: Tensor, draws: Draws) -> Tensor:
    """Poisson(peak · v) / peak: photon counting. Mean v, variance v / peak.

    Args:
        images: (N, C, H, W) in [-1, 1].
        peak: (N,): expected photons of a white pixel.
        draws: Randomness.
    """
    rate = per_image(peak, images) * unit(images)
    # torch draws Poisson numbers from a generator, not from given ones: so each image has a generator of its own,
    # seeded from the draws. float32 keeps whole numbers exactly up to 16 million photons.
    place = torch.device("cpu") if rate.device.type == "mps" else rate.device
    seeds = draws.integers(_SEEDS, len(images)).tolist()
    counts = [
        torch.poisson(row, generator=torch.Generator(place).manual_seed(seed))
        for row, seed in zip(rate.float().to(place), seeds, strict=True)
    ]
    return from_unit(torch.stack(counts).to(images) / per_image(peak, images)) if counts else images


def rician(images: Tensor, sigma: Tensor, draws: Draws) -> Tensor:
    """√((v + σε₁)² + (σε₂)²): the magnitude of a signal with complex Gaussian noise, as in MRI (Gudbjartsson 1995).

    Dark regions become brighter: where v = 0 the mean is σ√(π/2). See `rician_mean`.

    Args:
        images: (N, C, H, W) in [-1, 1].
        sigma: (N,): standard deviation of each of the two components, as a share of the full range.
        draws: Randomness.
    """
    spread = per_image(sigma, images)
    real = unit(images) + spread * _normal_like(images, draws)
    imaginary = spread * _normal_like(images, draws)
    return from_unit(torch.hypot(real, imaginary))


def rician_mean(signal: npt.ArrayLike, sigma: float) -> npt.NDArray[np.float64]:
    """E[M] of Rician noise: σ√(π/2) L½(-A² / 2σ²), for signals A ≥ 0 (Gudbjartsson & Patz 1995).

    Its variance is A² + 2σ² - E[M]².
    """
    z = (np.asarray(signal, np.float64) / sigma) ** 2 / 4
    # L½(-2z) = (1 + 2z) e⁻ᶻ I₀(z) + 2z e⁻ᶻ I₁(z)
    half = (1 + 2 * z) * scipy.special.i0e(z) + 2 * z * scipy.special.i1e(z)
    return np.asarray(sigma * np.sqrt(np.pi / 2) * half)


def invert_rician_mean(mean: npt.ArrayLike, sigma: float) -> npt.NDArray[np.float64]:
    """The signal A whose `rician_mean` is `mean`; 0 where `mean` is below σ√(π/2), the mean without signal.

    What a denoiser that averages has found is E[M]; this takes the bias out of it.
    """
    signal = np.linspace(0, 40, 40_001)
    known = rician_mean(signal, 1.0)
    ratio = np.asarray(mean, np.float64) / sigma
    # far above the noise, E[M] = √(A² + σ²) to 1e-6
    far = np.sqrt(np.maximum(ratio**2 - 1, 0))
    return np.asarray(sigma * np.where(ratio > 39, far, np.interp(ratio, known, signal)))


def unit(images: Tensor) -> Tensor:
    """[-1, 1] to [0, 1]; below stays at 0, since neither a count nor a magnitude is negative."""
    return ((images + 1) / 2).clamp_min(0)


def from_unit(values: Tensor) -> Tensor:
    """[0, 1] to [-1, 1]."""
    return values * 2 - 1


def per_image(levels: Tensor, images: Tensor) -> Tensor:
    """(N,) as (N, 1, 1, 1), of the images' type."""
    return levels.to(images).view(-1, 1, 1, 1)


def _normal_like(images: Tensor, draws: Draws) -> Tensor:
    return draws.normal(*images.shape).to(images.dtype)
