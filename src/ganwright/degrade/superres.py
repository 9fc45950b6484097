"""Bicubic reduction and enlargement, by the one definition that super-resolution papers use.

Keys' kernel with a = -0.5, widened when reducing (antialiased): what MATLAB's `imresize` and Pillow compute, in float.
torch has a = -0.75 where `antialias` is off, so it is on when enlarging too, where it changes nothing else.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ganwright.degrade.stored import stored


def downsample(images: Tensor, scale: int, *, bits: int = 8) -> Tensor:
    """Images (N, C, H, W) in [-1, 1] to (N, C, H // scale, W // scale), as a file of `bits` bits; 0: not rounded.

    Rows and columns beyond a multiple of the scale are left out first, as in the papers; `whole` does it to the target.
    """
    images = whole(images, scale)
    size = (images.shape[-2] // scale, images.shape[-1] // scale)
    return stored(_bicubic(images, size), bits)


def upsample(images: Tensor, scale: int) -> Tensor:
    """Images (N, C, H, W) in [-1, 1] to (N, C, scale · H, scale · W), clipped to [-1, 1]: the bicubic baseline."""
    return _bicubic(images, (images.shape[-2] * scale, images.shape[-1] * scale)).clamp(-1, 1)


def whole(images: Tensor, scale: int) -> Tensor:
    """The images without the last rows and columns beyond a multiple of the scale."""
    height, width = images.shape[-2:]
    return images[..., : height // scale * scale, : width // scale * scale]


def _bicubic(images: Tensor, size: tuple[int, int]) -> Tensor:
    resized = F.interpolate(images, size, mode="bicubic", antialias=True, align_corners=False)
    return resized.contiguous(memory_format=torch.channels_last)
