"""Bringing images to an extractor's input size, as each evaluation tool does it.

That is most of why two tools give different FIDs for the same pictures, so each way has a name, and the name is part of
a number's provenance.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ganwright.errors import SettingsError, nearest

Resize = Callable[[Tensor, int], Tensor]
"""Float images (N, C, H, W) in 0..255 to (N, C, size, size)."""


def clean(images: Tensor, size: int) -> Tensor:
    """Antialiased bicubic, clipped to 0..255 and not rounded: clean-fid's definition (Parmar et al. 2022).

    In float64, where the device has it: as Pillow computes it, to the last bit of the float32 result or the one before.
    In float32, filter positions are rounded too, which moves pixels of photographs by up to 0.006.
    """
    if images.shape[-2:] == (size, size):
        return images
    wide = images if images.device.type == "mps" else images.double()
    return F.interpolate(wide, (size, size), mode="bicubic", antialias=True, align_corners=False).clamp(0, 255).float()


def bilinear(images: Tensor, size: int) -> Tensor:
    """Bilinear without antialiasing, pixel centres aligned: pytorch-fid's, inside its network."""
    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(images, (size, size), mode="bilinear", align_corners=False)


def tf1_bilinear(images: Tensor, size: int) -> Tensor:
    """Bilinear without antialiasing, top-left corners aligned: TensorFlow 1's, torch-fidelity's and NVIDIA's.

    Output pixel i is read at input coordinate i * H / size, the last row and column repeated beyond the border.
    """
    if images.shape[-2:] == (size, size):
        return images
    for axis in (-1, -2):  # in the tools' order, so that rounding is the same
        images = _interpolate_axis(images, size, axis)
    return images


def _interpolate_axis(images: Tensor, size: int, axis: int) -> Tensor:
    n = images.shape[axis]
    # In float32, as the tools compute it: their rounding is part of the definition.
    at = torch.arange(size, dtype=torch.float32, device=images.device) * (n / size)
    low = at.floor().long().clamp(max=n - 1)
    high = (low + 1).clamp(max=n - 1)
    shape = [1] * images.ndim
    shape[axis] = size
    weight = (at - low).view(shape)
    below, above = images.index_select(axis, low), images.index_select(axis, high)
    return below + (above - below) * weight


RESIZES: dict[str, tuple[Resize, str]] = {
    "clean": (clean, "bicubic antialiased float resize"),
    "bilinear": (bilinear, "bilinear resize, not antialiased"),
    "tf1-bilinear": (tf1_bilinear, "TensorFlow-1 bilinear resize, not antialiased"),
}
"""Ways of resizing by name, each with its description in a provenance."""


def resize_name(name: str, size: int) -> str:
    """How a way of resizing is named in `Extractor.preprocessing`.

    Raises:
        SettingsError: There is none of that name.
    """
    if name not in RESIZES:
        raise SettingsError(
            f"There is no way of resizing '{name}'.{nearest(name, RESIZES)}",
            where="resize",
            fix="choose from " + ", ".join(RESIZES),
        )
    return f"{RESIZES[name][1]} to {size}x{size}"


def to_input(images: npt.NDArray[np.uint8], size: int, device: torch.device, how: str = "clean") -> Tensor:
    """uint8 images (N, H, W, 1 or 3) to float RGB (N, 3, size, size) in 0..255, channels-last; grey is repeated."""
    x = torch.from_numpy(np.array(images)).to(device).permute(0, 3, 1, 2).float()
    x = RESIZES[how][0](x, size)
    return x.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
