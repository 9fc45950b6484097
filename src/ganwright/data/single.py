"""One picture as training data: the batch is that picture again and again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ganwright.config import DataSettings
from ganwright.data.arrays import ArraySource, to_numpy
from ganwright.data.decode import EXTENSIONS, Pixels, as_uint8, fit, pixel_hash
from ganwright.data.photo import checked_mask, read_mask, read_photo
from ganwright.data.sources import ImageSource, open_images
from ganwright.data.spec import Batch, DataKind, Dataset, DataSpec
from ganwright.errors import DataError, SettingsError
from ganwright.files import hash_bytes
from ganwright.samples import ImageSamples

ALPHA = "alpha"
"""The mask that is the picture's own transparency."""


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
        image: uint8 (H, W, C), to look at.
        known: bool (H, W): pixels that are known, where others are to be filled in; None where all are.
        spec: `resolution` is the shorter side; `extra` has `height`, `width`, and `masked` if some pixels are unknown.

    Args:
        pixels: uint8 or uint16 (H, W, C); trained on at full depth.
        name: For people.
        known: See above.
    """

    def __init__(self, pixels: Pixels, name: str, known: npt.NDArray[np.bool_] | None = None) -> None:
        self.image, self.known = as_uint8(pixels), known
        self.skipped: list[tuple[str, str]] = []
        self.notes: list[str] = []
        self.duplicates = 0
        h, w, c = pixels.shape
        parts = [pixel_hash(pixels)] if known is None else [pixel_hash(pixels), np.packbits(known).tobytes()]
        self.spec = DataSpec(
            kind=DataKind.SINGLE_IMAGE,
            name=name,
            count=1,
            fingerprint=hash_bytes(b"single", *parts),
            resolution=min(h, w),
            channels=c,
            extra={"height": h, "width": w} | ({} if known is None else {"masked": True}),
        )
        # (H, W, C) integers -> (1, C, H, W) float32, channels-last
        half = 127.5 if pixels.dtype == np.uint8 else 32767.5
        self._tensor = torch.from_numpy(pixels.astype(np.float32)[None]).permute(0, 3, 1, 2).div_(half).sub_(1.0)
        self._known = None if known is None else torch.from_numpy(known.astype(np.float32)[None, None])

    def batch(self, index: int, size: int, *, seed: int) -> Batch:
        """`images` float32 (B, C, H, W) in [-1, 1]: the picture; `known` (B, 1, H, W), 0 or 1, if masked."""
        repeated = self._tensor.repeat(size, 1, 1, 1)
        batch = {"images": repeated.contiguous(memory_format=torch.channels_last)}
        if self._known is not None:
            batch["known"] = self._known.repeat(size, 1, 1, 1)
        return batch

    def real_samples(self, n: int, *, seed: int, held_out: bool = False) -> ImageSamples | None:
        """The picture; None for held-out samples."""
        return None if held_out or n < 1 else ImageSamples(self.image[None])


def open_single(source: Any, settings: DataSettings, *, seed: int) -> SingleImageDataset:
    """Open one picture file or array, at native size and depth unless `settings.resolution` asks for another size.

    Of a file with transparency the colours are taken as they are stored.

    Raises:
        DataError: It is several pictures, none that can be read, or its mask does not fit.
        SettingsError: Size and mask are both asked for.
    """
    if settings.mask and settings.resolution:
        raise SettingsError(
            "A masked picture is taken at its own size.", where="resolution", fix="resize picture and mask before"
        )
    if isinstance(source, str | os.PathLike) and Path(source).is_file() and recognises(source):
        path = Path(source)
        photo = read_photo(path)
        known = None
        if settings.mask == ALPHA:
            if photo.alpha is None:
                raise DataError(
                    "The picture has no transparency that could say what is missing.",
                    where=path,
                    fix="give a mask: a picture of the same size, white where it is known",
                )
            known = checked_mask(photo.alpha >= 0.9 * photo.top, path)
        elif settings.mask:
            known = read_mask(Path(settings.mask), photo.size)
        return SingleImageDataset(_fitted(photo.colour, settings), path.stem, known)
    if isinstance(source, str | os.PathLike):
        opened: ImageSource = open_images(source, settings=settings)
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
    known = read_mask(Path(settings.mask), pixels.shape[:2]) if settings.mask else None
    return SingleImageDataset(_fitted(pixels, settings), Path(opened.location).stem, known)


def _fitted(pixels: Pixels, settings: DataSettings) -> Pixels:
    return fit(pixels, settings.resolution, pixels.shape[-1] if settings.channels == "auto" else int(settings.channels))
