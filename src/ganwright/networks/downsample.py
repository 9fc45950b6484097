"""Shrinking by a whole factor with the classical filters, as a differentiable operator: what a small picture is said to
be of the large one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _lanczos(a: int) -> Callable[[float], float]:
    def kernel(x: float) -> float:
        if abs(x) >= a:
            return 0.0
        if x == 0:
            return 1.0
        return a * math.sin(math.pi * x) * math.sin(math.pi * x / a) / (math.pi * x) ** 2

    return kernel


def _bicubic(x: float) -> float:
    """Keys' cubic convolution with a = -1/2, as in Pillow and MATLAB's `imresize`."""
    x = abs(x)
    if x < 1:
        return (1.5 * x - 2.5) * x * x + 1
    return ((-0.5 * x + 2.5) * x - 4) * x + 2 if x < 2 else 0.0


FILTERS: Mapping[str, tuple[Callable[[float], float], int]] = {
    "lanczos2": (_lanczos(2), 2),
    "lanczos3": (_lanczos(3), 3),
    "bicubic": (_bicubic, 2),
}
"""Filter by name: the kernel and its support to each side, in pixels of the small picture."""


class Downsample(nn.Module):
    """(N, C, f·H, f·W) -> (N, C, H, W): antialiased, aligned like Pillow's `resize`; edges are repeated outwards.

    Args:
        factor: f, a whole number.
        filter_: One of `FILTERS`; "lanczos2" is that of Deep Image Prior.
    """

    weights: Tensor

    def __init__(self, factor: int, filter_: str = "lanczos2") -> None:
        super().__init__()
        kernel, support = FILTERS[filter_]
        self.factor = factor
        self.margin = (2 * support - 1) * factor // 2 if factor > 1 else 0
        # Centres of large pixels, in small pixels from the centre of the small one.
        taps = 2 * self.margin + factor
        values = [kernel((k - (taps - 1) / 2) / factor) for k in range(taps)] if factor > 1 else [1.0]
        total = math.fsum(values)
        self.register_buffer("weights", torch.tensor([v / total for v in values]), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """The small images, in float32."""
        n, c, h, w = images.shape
        flat = images.float().reshape(n * c, 1, h, w)
        flat = F.pad(flat, (self.margin,) * 4, mode="replicate")
        flat = F.conv2d(flat, self.weights.view(1, 1, -1, 1), stride=(self.factor, 1))
        flat = F.conv2d(flat, self.weights.view(1, 1, 1, -1), stride=(1, self.factor))
        return flat.reshape(n, c, flat.shape[-2], flat.shape[-1])
