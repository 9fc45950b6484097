"""One picture as training data: the batch is that picture again and again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ganwright.config import DataSettings
from ganwright.data.arrays import ArraySource, to_numpy
from ganwright.data.decode import EXTENSIONS, fit, pixel_hash
from ganwright.data.sources import ImageSource, open_images
from ganwright.data.spec import Batch, DataKind, Dataset, DataSpec
from ganwright.errors import DataError
from ganwright.files import hash_bytes
from ganwright.samples import ImageSamples, Uint8Array


def recognises(source: object) -> bool:
    """Whether `source` is one picture: a picture file, or an array (H, W) or (H, W, C)."""
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        return path.suffix.lower() in EXTENSIONS and not path.is_dir()
    return isinstance(source, np.ndarray | torch.Tensor) and _is_one(tuple(source.shape))


def _is_one(shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 or (len(shape) == 3 and (shape[2] in (1, 3, 4) or shape[0] in (1, 3, 4)))


class SingleImageDataset(Dataset):
    """One picture. There is nothing to hold out, and it is never mirrored.

    Attributes:
        image: uint8 (H, W, C).
        spec: `resolution` is the shorter side; `extra` has `height` and `width`.
    """

    def __init__(self, image: Uint8Array, name: str) -> None:
        self.image = image
        self.skipped: list[tuple[str, str]] = []
        self.notes: list[str] = []
        self.duplicates = 0
        h, w, c = image.shape
        self.spec = DataSpec(
            kind=DataKind.SINGLE_IMAGE,
            name=name,
            count=1,
            fingerprint=hash_bytes(b"single", pixel_hash(image)),
            resolution=min(h, w),
            channels=c,
            extra={"height": h, "width": w},
        )
        # (H, W, C) uint8 -> (1, C, H, W) float32, channels-last
        self._tensor = torch.from_numpy(image[None].copy()).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)

    def batch(self, index: int, size: int, *, seed: int) -> Batch:
        """`images` float32 (B, C, H, W) in [-1, 1]: the picture `size` times."""
        repeated = self._tensor.repeat(size, 1, 1, 1)
        return {"images": repeated.contiguous(memory_format=torch.channels_last)}

    def real_samples(self, n: int, *, seed: int, held_out: bool = False) -> ImageSamples | None:
        """The picture; None for held-out samples."""
        return None if held_out or n < 1 else ImageSamples(self.image[None])


def open_single(source: Any, settings: DataSettings, *, seed: int) -> SingleImageDataset:
    """Open one picture file or array, at native size unless `settings.resolution` asks for another.

    Raises:
        DataError: It is several pictures, or none that can be read.
    """
    if isinstance(source, str | os.PathLike):
        opened: ImageSource = open_images(source)
    else:
        array = to_numpy(source)
        opened = ArraySource(array[None] if _is_one(array.shape) else array, name="picture")
    if len(opened) != 1:
        raise DataError(
            f"One picture is wanted, but there are {len(opened)}.",
            where=opened.location,
            fix="give the path of one picture file",
        )
    pixels = opened.decode(0)
    channels = pixels.shape[-1] if settings.channels == "auto" else int(settings.channels)
    return SingleImageDataset(fit(pixels, settings.resolution, channels), Path(opened.location).stem)
