"""What files do to pictures: rounding to so many bits, and JPEG."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def stored(images: Tensor, bits: int) -> Tensor:
    """Clip to [-1, 1] and round to 2^bits levels, as a file of so many bits would; 0 bits: unchanged."""
    if bits == 0:
        return images
    top = (1 << bits) - 1
    return ((images.clamp(-1, 1) + 1) * (top / 2)).round() * (2 / top) - 1


def jpeg(images: Tensor, quality: Tensor) -> Tensor:
    """Written as JPEG and read again, by libjpeg itself on the CPU; colour is subsampled 4:2:0, as it mostly is.

    Args:
        images: (N, 1 or 3, H, W) in [-1, 1]; JPEG has 8 bits.
        quality: (N,), rounded, 1 to 100.
    """
    pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    rows = []
    for picture, q in zip(pixels, quality.tolist(), strict=True):
        held = io.BytesIO()
        image = Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)
        image.save(held, format="JPEG", quality=round(q), subsampling="4:2:0")
        rows.append(np.asarray(Image.open(held, formats=("JPEG",))).reshape(picture.shape))
    read = torch.from_numpy(np.stack(rows) if rows else pixels).permute(0, 3, 1, 2)
    return (read.to(images) / 127.5 - 1).contiguous(memory_format=torch.channels_last)
