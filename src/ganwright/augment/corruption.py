"""Image-space corruptions of ADA (Karras et al. 2020, appendix B): noise and cutout."""

from __future__ import annotations

import torch
from torch import Tensor

from ganwright.augment.draws import Draws
from ganwright.augment.matrices import matched

NOISE_STD = 0.1
CUTOUT_SIZE = 0.5


def add_noise(images: Tensor, noise: Tensor, draws: Draws) -> Tensor:
    """Images + σε, σ = |N(0, 0.1²)| for each image; `noise` ε is standard normal, of the images' shape."""
    sigma = draws.if_happens("noise", draws.normal("noise").abs() * NOISE_STD, 0)
    return images + matched(sigma, images)[:, None, None, None] * noise.to(images.dtype)


def cut_out(images: Tensor, draws: Draws) -> Tensor:
    """Zero a rectangle of half the width and height, its centre anywhere in the image."""
    size = draws.if_happens("cutout", torch.full((draws.rows,), CUTOUT_SIZE, dtype=torch.float64), 0)
    inside = [
        ((torch.arange(n) + 0.5) / n - draws.uniform(f"cutout_{axis}")[:, None]).abs() < size[:, None] / 2
        for axis, n in (("y", images.shape[2]), ("x", images.shape[3]))
    ]
    rows, columns = (side.to(images.device) for side in inside)
    return images * ~(rows[:, None, :, None] & columns[:, None, None, :])
