"""Bilinear sampling of images that can be differentiated any number of times.

Torch's `grid_sample` has a first derivative only, and penalties on gradients need the second. Sampling is linear in the
image, so its derivative is the transposed map, whose derivative is sampling again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def warp(images: Tensor, grid: Tensor) -> Tensor:
    """Sample images at the places of a grid, zero outside of them; as `grid_sample`, differentiable at will.

    Args:
        images: Float (N, C, H, W).
        grid: (N, H', W', 2), x and y of each output pixel, ±1 being the image's outer edges; not differentiated.

    Returns:
        (N, C, H', W').
    """
    if images.device.type in ("cpu", "cuda"):
        sampled: Tensor = _sample(images, grid)
        return sampled
    return warp_by_gathering(images, grid)  # grid_sample's transpose is missing on some devices


def warp_by_gathering(images: Tensor, grid: Tensor) -> Tensor:
    """The same by four gathers, which torch differentiates by itself: slower, for devices without the other."""
    n, c, h, w = images.shape
    x, y = ((grid[..., i] + 1) * size / 2 - 0.5 for i, size in ((0, w), (1, h)))
    left, top = x.floor(), y.floor()
    flat = images.reshape(n, c, h * w)
    total = images.new_zeros(n, c, grid.shape[1] * grid.shape[2])
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
        column, row = left + dx, top + dy
        weight = (1 - (x - column).abs()) * (1 - (y - row).abs())
        weight = weight * ((column >= 0) & (column < w) & (row >= 0) & (row < h))
        at = (row.clamp(0, h - 1) * w + column.clamp(0, w - 1)).long().reshape(n, 1, -1).expand(-1, c, -1)
        total = total + flat.gather(2, at) * weight.reshape(n, 1, -1)
    return total.reshape(n, c, *grid.shape[1:3])


class _Sample(torch.autograd.Function):
    """y = S x."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.size = images.shape
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (grid,) = ctx.saved_tensors
        return _spread(gradients[0], grid, ctx.size), None


class _Spread(torch.autograd.Function):
    """x = Sᵀ y: what was sampled goes back to the pixels it came from."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, grid: Tensor, size: Sequence[int]) -> Tensor:
        ctx.save_for_backward(grid)
        zeros = y.new_zeros(1).expand(size)  # only its size matters
        with torch.autocast(y.device.type, enabled=False):
            spread, _ = torch.ops.aten.grid_sampler_2d_backward(y, zeros, grid.to(y.dtype), 0, 0, False, [True, False])
        found: Tensor = spread
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (grid,) = ctx.saved_tensors
        return _sample(gradients[0], grid.to(gradients[0].dtype)), None, None


_sample: Any = _Sample.apply
_spread: Any = _Spread.apply
