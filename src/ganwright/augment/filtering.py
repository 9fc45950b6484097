"""Image-space filtering of ADA (Karras et al. 2020, appendix B): four frequency bands, each made stronger or weaker."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ganwright.augment.draws import BANDS, Draws
from ganwright.augment.matrices import matched, reflected

SYM2 = (-0.12940952255092145, 0.22414386804185735, 0.836516303737469, 0.48296291314469025)
"""Low-pass filter of the symlet with two vanishing moments (Daubechies 1992)."""
IMGFILTER_STD = 1.0
EXPECTED_POWER = tuple(power / 13 for power in (10, 1, 1, 1))
"""Share of an image's power in each band, [0, π/8], [π/8, π/4], [π/4, π/2], [π/2, π], for a spectrum of 1/f."""


def band_gains(draws: Draws) -> Tensor:
    """Amplification g of each image's bands, float64 (N, 4); the expected power of the image stays what it was."""
    power = torch.tensor(EXPECTED_POWER, dtype=torch.float64)
    g = torch.ones(draws.rows, len(BANDS), dtype=torch.float64)
    for i, band in enumerate(BANDS):
        t_i = draws.if_happens(band, (draws.normal(band) * IMGFILTER_STD).exp2(), 1)
        t = torch.ones_like(g)
        t[:, i] = t_i
        norm = (power * t.square()).sum(1, keepdim=True).sqrt()
        g = g * torch.where(t_i[:, None] == 1, t, t / norm)
    return g


def filter_bands(images: Tensor, gains: Tensor) -> Tensor:
    """Amplify bands of images (N, C, H, W) by gains (N, 4), on the CPU, with reflection at the edges."""
    gains = matched(gains, images)
    rows, columns = (
        torch.einsum("nb,bij->nij", gains, _band_matrices(size, images.dtype, images.device))[:, None]
        for size in images.shape[2:]
    )
    return rows @ images @ columns.mT


def filter_bank() -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Taps (4, 43) of the four band-pass filters; they are symmetric, and their sum passes everything unchanged.

    With L(z) = H(z)·H(1/z)/2 and its mirror image L(-z), which add up to 1, band 4 is L(-z), and the rest is split in
    the same way at half the frequency: L(z)·L(-z²), L(z)·L(z²)·L(-z⁴), L(z)·L(z²)·L(z⁴).
    """
    h = np.array(SYM2)
    low = np.convolve(h, h[::-1]) / 2
    high = low * (-1.0) ** (np.arange(len(low)) - len(low) // 2)
    bands, rest = [], np.ones(1)
    for level in range(3):
        bands.append(np.convolve(rest, _stretched(high, 2**level)))
        rest = np.convolve(rest, _stretched(low, 2**level))
    bands.append(rest)
    length = len(rest)
    return np.stack([np.pad(band, (length - len(band)) // 2) for band in reversed(bands)])


def _stretched(
    taps: np.ndarray[tuple[int, ...], np.dtype[np.float64]], factor: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """F(z) -> F(z^factor)."""
    out = np.zeros((len(taps) - 1) * factor + 1)
    out[::factor] = taps
    return out


@lru_cache(maxsize=8)
def _band_matrices(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The four filters with reflection at the edges, as matrices (4, size, size) on a row of pixels."""
    bank = torch.from_numpy(filter_bank())
    reach = bank.shape[1] // 2
    matrices = torch.zeros(len(bank), size, size, dtype=torch.float64)
    out = torch.arange(size)
    for k in range(bank.shape[1]):
        source = reflected(out + k - reach, size)
        matrices[:, out, source] += bank[:, k, None]  # each output once, so nothing is lost
    return matrices.to(dtype).to(device)
