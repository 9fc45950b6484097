"""Random crops and mirroring of training images, drawn as a function of seed and batch; pairs share their draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from ganwright.data.decode import Pixels

_FLIP, _CROP = 2, 4
"""Streams of random numbers: mirroring, places of crops."""


@dataclass(frozen=True)
class Draws:
    """What is done to each image of a batch.

    Attributes:
        mirrored: bool (B,).
        corners: int64 (B, 2): top and left of the crop, in pixels of the enlarged image.
    """

    mirrored: npt.NDArray[np.bool_]
    corners: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Jitter:
    """Enlarges images, cuts a random square of their old size out, and mirrors half of them.

    "Random jitter was applied by resizing the 256 × 256 input images to 286 × 286 and then randomly cropping back to
    size 256 × 256" (Isola et al. 2017, appendix 6.2).

    Attributes:
        factor: Images are enlarged by this, at least 1.
        flip: Mirror half of them left to right.
    """

    factor: float
    flip: bool

    def draw(self, size: int, resolution: int, *key: int) -> Draws:
        """The draws for a batch of `size` images, a function of `key` alone."""
        spare = round(resolution * self.factor) - resolution
        words = [abs(k) for k in key]
        bits = np.random.Philox(np.random.SeedSequence([*words, _FLIP])).random_raw(size)
        mirrored = (bits >> np.uint64(63)).astype(bool) if self.flip else np.zeros(size, bool)
        places = np.random.Philox(np.random.SeedSequence([*words, _CROP])).random_raw(2 * size)
        corners = (places % np.uint64(spare + 1)).astype(np.int64).reshape(size, 2)
        return Draws(mirrored, corners)

    def apply(self, rows: Pixels, draws: Draws) -> Pixels:
        """Images (B, R, R, C), uint8 or uint16, cropped and mirrored, perhaps in place."""
        resolution = rows.shape[1]
        enlarged = round(resolution * self.factor)
        if enlarged > resolution:
            found = np.stack(
                [
                    _crop(row, int(top), int(left), enlarged)
                    for row, (top, left) in zip(rows, draws.corners, strict=True)
                ]
            )
        else:
            found = rows
        found[draws.mirrored] = found[draws.mirrored, :, ::-1]
        return found


def _crop(image: Pixels, top: int, left: int, enlarged: int) -> Pixels:
    """The square at (top, left), of the image's own size, of the image enlarged by Pillow's bicubic filter."""
    size = image.shape[0]
    step = size / enlarged  # resizing the box gives what resizing the whole and then cutting gives
    box = (left * step, top * step, (left + size) * step, (top + size) * step)
    bicubic = Image.Resampling.BICUBIC
    if image.shape[-1] == 3 and image.dtype == np.uint8:
        return np.asarray(Image.fromarray(image).resize((size, size), bicubic, box=box))
    wide = image.dtype == np.uint16  # Pillow resizes 16 bits in float only
    planes = [Image.fromarray(plane.astype(np.float32) if wide else plane) for plane in np.moveaxis(image, -1, 0)]
    found = np.stack([np.asarray(plane.resize((size, size), bicubic, box=box)) for plane in planes], axis=-1)
    return np.round(found.clip(0, 65535)).astype(np.uint16) if wide else found
