"""What a feature extractor is, and how images of any size are brought to its input.

The extractors themselves are in files of their own, listed in `extractors.py`; how features are compared lives
elsewhere.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ganwright.errors import SettingsError


@dataclass(frozen=True)
class Features:
    """What an extractor found: `features` float32 (N, D) and `logits` float32 (N, K) or None."""

    features: npt.NDArray[np.float32]
    logits: npt.NDArray[np.float32] | None


class Extractor(ABC):
    """Maps images of any size to features.

    Attributes:
        name: What reports call it.
        version: Changes whenever its numbers may.
        feature_dim: D.
        has_logits: Whether it classifies, as the Inception score needs.
        preprocessing: What is done to an image before the network, in words.
        size: Side of the network's input, in pixels.
        cpu_batch: Images at a time on a CPU. Few: activations that outgrow the allocator's largest pooled block
            (32 MB) are mapped anew by every layer, which made EfficientNet-Lite0 four times slower (measured).
        gpu_batch: Images at a time elsewhere.
    """

    name: str
    version: str
    feature_dim: int
    has_logits: bool
    preprocessing: str
    size: int
    cpu_batch = 4
    gpu_batch = 64

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = _usable(device)
        self.batch_size = self.cpu_batch if self.device.type == "cpu" else self.gpu_batch

    @abstractmethod
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Float images (N, 3, size, size) in 0..255 to features and logits."""

    @torch.no_grad()
    def __call__(self, images: Sequence[npt.NDArray[np.uint8]] | npt.NDArray[np.uint8]) -> Features:
        """Features of uint8 images, C = 1 or 3; grey is repeated to RGB.

        Args:
            images: (N, H, W, C), or N images (H, W, C) of any and mixed sizes.
        """
        features, logits = [], []
        for start in range(0, len(images), self.batch_size):
            chunk = _resize_each(images[start : start + self.batch_size], self.size, self.device)
            with _full_precision(self.device):
                found, classes = self.forward(chunk)
            features.append(found.float().cpu().numpy())
            if classes is not None:
                logits.append(classes.float().cpu().numpy())
        if not features:
            return Features(np.zeros((0, self.feature_dim), np.float32), None)
        return Features(np.concatenate(features), np.concatenate(logits) if logits else None)


def resize(images: npt.NDArray[np.uint8], size: int, device: torch.device) -> Tensor:
    """Images (N, H, W, C) to float RGB (N, 3, size, size) in 0..255, bicubic with antialiasing, not rounded.

    This is clean-fid's definition of resizing (Parmar et al. 2022), computed in float.
    """
    x = torch.from_numpy(np.array(images)).to(device).permute(0, 3, 1, 2).float()
    if x.shape[-2:] != (size, size):
        x = F.interpolate(x, (size, size), mode="bicubic", antialias=True, align_corners=False).clamp(0, 255)
    return x.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


def _resize_each(
    images: Sequence[npt.NDArray[np.uint8]] | npt.NDArray[np.uint8], size: int, device: torch.device
) -> Tensor:
    if isinstance(images, np.ndarray):
        return resize(images, size, device)
    resized = torch.cat([resize(image[None], size, device) for image in images])
    return resized.contiguous(memory_format=torch.channels_last)


def _usable(device: torch.device | str) -> torch.device:
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        raise SettingsError(
            f"The device '{device}' cannot be used here: {str(error).splitlines()[0]}",
            where="device",
            fix="choose cpu, or cuda or mps where there is such a GPU",
        ) from error
    return found


@contextlib.contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """Plain float32, whatever the training around it uses: no autocast, no TF32 convolutions."""
    with torch.autocast(device.type, enabled=False):
        if device.type != "cuda":
            yield
            return
        flags = torch.backends.cudnn.flags
        with flags(enabled=True, benchmark=False, deterministic=False, allow_tf32=False):
            yield


def resized_text(size: int) -> str:
    """How `resize` is named in `Extractor.preprocessing`."""
    return f"bicubic antialiased float resize to {size}x{size}"
