"""What a feature extractor is.

The extractors themselves are in files of their own, listed in `extractors.py`; how images are brought to their input is
in `resizing.py`, and how features are compared elsewhere.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ganwright.errors import SettingsError
from ganwright.metrics.resizing import to_input


@dataclass(frozen=True)
class Features:
    """What an extractor found, perhaps memory-mapped.

    Attributes:
        features: float32 (N, D).
        logits: float32 (N, K), or None.
        spatial: float32 (N, S): features that keep their place in the image, flattened, or None.
    """

    features: npt.NDArray[np.float32]
    logits: npt.NDArray[np.float32] | None
    spatial: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.features)


class Extractor(ABC):
    """Maps images of any size to features.

    Attributes:
        name: What reports call it.
        version: Changes whenever its numbers may.
        feature_dim: D.
        has_logits: Whether it classifies, as the Inception score needs.
        has_spatial: Whether it gives features that keep their place, as sFID needs.
        preprocessing: What is done to an image before the network, in words.
        size: Side of the network's input, in pixels.
        resize: How images are brought to that size, a key of `resizing.RESIZES`.
        cpu_batch: Images at a time on a CPU. Few: activations that outgrow the allocator's largest pooled block
            (32 MB) are mapped anew by every layer, which made EfficientNet-Lite0 four times slower (measured).
        gpu_batch: Images at a time elsewhere.
    """

    name: str
    version: str
    feature_dim: int
    has_logits: bool
    has_spatial = False
    preprocessing: str
    size: int
    resize = "clean"
    cpu_batch = 4
    gpu_batch = 64

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = usable_device(device)
        self.batch_size = self.cpu_batch if self.device.type == "cpu" else self.gpu_batch

    @abstractmethod
    def forward(self, images: Tensor) -> tuple[Tensor | None, ...]:
        """Float images (N, 3, size, size) in 0..255 to features, logits and spatial features; the last two may lack."""

    @torch.no_grad()
    def __call__(self, images: Sequence[npt.NDArray[np.uint8]] | npt.NDArray[np.uint8]) -> Features:
        """Features of uint8 images, C = 1 or 3; grey is repeated to RGB.

        Args:
            images: (N, H, W, C), or N images (H, W, C) of any and mixed sizes.
        """
        parts: list[list[npt.NDArray[np.float32]]] = [[], [], []]
        for start in range(0, len(images), self.batch_size):
            chunk = self._to_input(images[start : start + self.batch_size])
            with full_precision(self.device):
                found = self.forward(chunk)
            for part, tensor in zip(parts, found, strict=False):
                if tensor is not None:
                    part.append(tensor.float().cpu().numpy())
        features, logits, spatial = (np.concatenate(part) if part else None for part in parts)
        return Features(np.zeros((0, self.feature_dim), np.float32) if features is None else features, logits, spatial)

    def _to_input(self, images: Sequence[npt.NDArray[np.uint8]] | npt.NDArray[np.uint8]) -> Tensor:
        if isinstance(images, np.ndarray):
            return to_input(images, self.size, self.device, self.resize)
        resized = [to_input(image[None], self.size, self.device, self.resize) for image in images]
        return torch.cat(resized).contiguous(memory_format=torch.channels_last)


def usable_device(device: torch.device | str) -> torch.device:
    """The device.

    Raises:
        SettingsError: It cannot be used here.
    """
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
def full_precision(device: torch.device) -> Iterator[None]:
    """Plain float32, whatever the training around it uses: no autocast, no TF32 convolutions."""
    with torch.autocast(device.type, enabled=False):
        if device.type != "cuda":
            yield
            return
        flags = torch.backends.cudnn.flags
        with flags(enabled=True, benchmark=False, deterministic=False, allow_tf32=False):
            yield
