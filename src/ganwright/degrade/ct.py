"""Low-dose CT, by noise inserted in projection space.

The model, in the order of the physics: parallel beam, one energy, no scatter. A pixel v in [0, 1] is the window from
-1000 to 1000 HU, so its attenuation is μ = 2 v μ_water; the image is `WIDTH_CM` wide. Line integrals p over `views`
angles in 180° are measured with I₀ photons in each detector bin and electronic noise of σ_e photons, so that the
measured p has, to first order, the variance e^p / I₀ + σ_e² e^2p / I₀² (Macovski 1983; Zeng et al. 2015, "A simple
low-dose x-ray CT simulation from high-dose scan"). Gaussian noise of that variance is reconstructed by filtered
backprojection (Ram-Lak, linear interpolation) and added to the image.

Reconstruction is linear, so only the noise is reconstructed: the anatomy stays as sharp as it was. The noise is streaky
and correlated, and stronger behind dense tissue, as that of a scanner. It is not a model of any one scanner.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ganwright.degrade.draws import Draws
from ganwright.degrade.noise import per_image, unit

WIDTH_CM = 35.0
"""Width of the image: an adult's abdomen."""
MU_WATER = 0.2
"""Attenuation of water at about 70 keV, in 1/cm."""
ELECTRONIC_PHOTONS = 10.0
"""σ_e: standard deviation of the electronic noise, in photons."""
FEWEST_VIEWS = 48


def low_dose_ct(images: Tensor, photons: Tensor, draws: Draws, *, views: int = 0) -> Tensor:
    """Add the noise of a low-dose scan.

    Args:
        images: (N, C, H, W) in [-1, 1], H = W; channels are scanned one by one.
        photons: (N,): I₀, photons in a detector bin where nothing is in the beam; 1e5 is a low dose, 1e4 very low.
        draws: Randomness.
        views: Angles; 0: as many as the image has rows, at least 48. Noise falls with their root.
    """
    n, c, side = len(images), images.shape[1], images.shape[-1]
    views = views or max(FEWEST_VIEWS, side)
    angles = [math.pi * k / views for k in range(views)]
    spacing = WIDTH_CM / side  # of pixels and of detector bins, in cm
    mu = 2 * MU_WATER * unit(images)
    p = project(mu.flatten(0, 1), angles) * spacing  # (N·C, views, bins)
    i0 = per_image(photons, images).expand(n, c, 1, 1).reshape(-1, 1, 1)
    variance = p.exp() / i0 + (ELECTRONIC_PHOTONS * p.exp() / i0).square()
    noise = variance.sqrt() * draws.normal(n, c, *p.shape[1:]).to(p.dtype).flatten(0, 1)
    mu_noise = backproject(ramp_filter(noise, spacing), angles, side)
    return images + mu_noise.view_as(images) / MU_WATER  # v = μ / 2 μ_water, and x = 2v - 1


def bins_of(side: int) -> int:
    """Detector bins that see the whole square from every angle."""
    return math.ceil(side * math.sqrt(2)) // 2 * 2 + 3


def project(images: Tensor, angles: list[float]) -> Tensor:
    """Line sums (N, views, bins), in pixels, of images (N, side, side): each is rotated and summed along the beam."""
    side, bins = images.shape[-1], bins_of(images.shape[-1])
    before = (bins - side) // 2
    padded = F.pad(images, [before, bins - side - before] * 2)[:, None]
    # the square's centre is half a pixel off the padded one's where the margins differ
    off = (before + (side - 1) / 2 - (bins - 1) / 2) * 2 / bins
    sums = []
    for angle in angles:
        cos, sin = math.cos(angle), math.sin(angle)
        turn = images.new_tensor([[cos, -sin, off], [sin, cos, off]])
        grid = F.affine_grid(turn[None], [1, 1, bins, bins], align_corners=False)
        turned = F.grid_sample(padded, grid.expand(len(images), -1, -1, -1), align_corners=False)
        sums.append(turned[:, 0].sum(1))
    return torch.stack(sums, 1)


def ramp_filter(projections: Tensor, spacing: float) -> Tensor:
    """Convolve each row with the band-limited ramp (Kak & Slaney 1988, eq. 61), times the bin's width."""
    bins = projections.shape[-1]
    length = 1 << (2 * bins - 1).bit_length()
    k = torch.arange(length, device=projections.device)
    k = torch.minimum(k, length - k).to(projections.dtype)
    odd = (k % 2 == 1).to(k)
    kernel = -odd / (math.pi * k.clamp_min(1) * spacing).square()
    kernel[0] = 1 / (4 * spacing**2)
    spectrum = torch.fft.rfft(projections, length) * torch.fft.rfft(kernel) * spacing
    filtered: Tensor = torch.fft.irfft(spectrum, length)[..., :bins]
    return filtered


def backproject(filtered: Tensor, angles: list[float], side: int) -> Tensor:
    """(π / views) Σ of filtered rows (N, views, bins), smeared back: (N, side, side)."""
    bins = filtered.shape[-1]
    at = torch.arange(side, device=filtered.device, dtype=filtered.dtype) - (side - 1) / 2
    total = filtered.new_zeros(len(filtered), side, side)
    for i, angle in enumerate(angles):
        t = at[None, :] * math.cos(angle) + at[:, None] * math.sin(angle) + (bins - 1) / 2
        low = t.floor().long().clamp(0, bins - 2)
        share = t - low
        row = filtered[:, i]
        total += row[:, low] * (1 - share) + row[:, low + 1] * share
    return total * (math.pi / len(angles))
