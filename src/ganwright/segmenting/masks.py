"""Masks as files: read from whatever a paint tool wrote, written as palette PNGs whose index is the class.

A mask in memory is uint8 (H, W): class indices, and `IGNORE` (255).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from ganwright.data.decode import FORMATS
from ganwright.errors import DataError
from ganwright.files import atomic_path
from ganwright.segmenting.classes import IGNORE, SegmentClasses, hex_of

Mask = npt.NDArray[np.uint8]
_OPAQUE = 128
"""Alpha from which a pixel counts as painted."""
_NO_CLASS = -1
_INDEX_MODES = ("P", "L", "1", "LA", "I;16")


@dataclass(frozen=True)
class _Painted:
    """A decoded mask file: 24-bit colours (H, W), which pixels are painted, and its plain indices if it has some."""

    colours: npt.NDArray[np.int64]
    painted: npt.NDArray[np.bool_]
    indices: npt.NDArray[np.int64] | None


def read_mask(path: Path, classes: SegmentClasses, size: tuple[int, int] | None = None, *, snap: bool = False) -> Mask:
    """Read a mask.

    By colours, if every painted pixel has the colour of a class or of ignored pixels; else, for palette and grey files,
    by indices, if each is a class or 255. Transparent pixels are ignored ones.

    Args:
        path: The file.
        classes: Names and colours.
        size: (height, width) it must have; None: any.
        snap: Take the nearest class colour of each pixel (for JPEG and soft brushes) instead of refusing others.

    Returns:
        uint8 (H, W).

    Raises:
        DataError: It cannot be read, is of another size, or holds what is no class; says at which pixel.
    """
    painted = _decode(path)
    found_size = painted.colours.shape
    if size is not None and found_size != size:
        raise DataError(
            f"The mask has {found_size[1]}x{found_size[0]} pixels and its picture {size[1]}x{size[0]}.",
            where=path,
            fix="paint on a layer over the picture and export without scaling",
        )
    by_colour = _by_colour(painted, classes)
    if not (by_colour == _NO_CLASS).any():
        return by_colour.astype(np.uint8)
    by_index = _by_index(painted, classes)
    if by_index is not None and not (by_index == _NO_CLASS).any():
        return by_index.astype(np.uint8)
    if snap:
        return _nearest(painted, classes)
    raise _unknown(path, painted, by_colour, by_index, classes)


def write_mask(path: Path, mask: Mask, classes: SegmentClasses) -> None:
    """Write a mask uint8 (H, W) as a palette PNG: index = class, 255 = ignore; whole or not at all."""
    picture = Image.fromarray(np.ascontiguousarray(mask))
    picture.putpalette(classes.palette().tobytes())  # turns "L" into "P"
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG")


def colourise(masks: Mask, classes: SegmentClasses) -> npt.NDArray[np.uint8]:
    """Masks (..., H, W) in the classes' colours, uint8 (..., H, W, 3)."""
    colours: npt.NDArray[np.uint8] = classes.palette()[masks]
    return colours


def _decode(path: Path) -> _Painted:
    try:
        with Image.open(path, formats=(*FORMATS, "GIF")) as image:
            image.load()
            indices = None
            if image.mode in _INDEX_MODES:
                plain = np.asarray(image.getchannel(0) if image.mode == "LA" else image)
                indices = plain.astype(np.int64)
            if image.mode == "I;16":  # grey of 16 bits: indices only
                grey = np.minimum(np.asarray(image), 255).astype(np.int64)
                return _Painted(grey * 0x010101, np.ones(grey.shape, bool), indices)
            rgba = np.asarray(image.convert("RGBA")).astype(np.int64)
    except DataError:
        raise
    except Exception as error:  # Pillow's readers raise many types on broken files
        raise DataError(
            f"The mask cannot be read ({str(error).strip() or type(error).__name__}).",
            where=path,
            fix="save it as PNG",
        ) from error
    colours = (rgba[..., 0] << 16) | (rgba[..., 1] << 8) | rgba[..., 2]
    return _Painted(colours, rgba[..., 3] >= _OPAQUE, indices)


def _by_colour(painted: _Painted, classes: SegmentClasses) -> npt.NDArray[np.int64]:
    """Class of each pixel by its colour; `_NO_CLASS` where it is none's."""
    found = np.full(painted.colours.shape, _NO_CLASS, np.int64)
    for k, (r, g, b) in enumerate(classes.colours):
        found[painted.colours == (r << 16 | g << 8 | b)] = k
    if classes.ignore is not None:
        r, g, b = classes.ignore
        found[painted.colours == (r << 16 | g << 8 | b)] = IGNORE
    found[~painted.painted] = IGNORE
    return found


def _by_index(painted: _Painted, classes: SegmentClasses) -> npt.NDArray[np.int64] | None:
    if painted.indices is None:
        return None
    known = (painted.indices < len(classes)) | (painted.indices == IGNORE)
    found = np.where(known, painted.indices, _NO_CLASS)
    found[~painted.painted] = IGNORE
    return found


def _nearest(painted: _Painted, classes: SegmentClasses) -> Mask:
    """Nearest class colour of each pixel, in RGB; of equally near ones the first."""
    colours, inverse = np.unique(painted.colours, return_inverse=True)
    rgb = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], 1)
    known = [*classes.colours, *([] if classes.ignore is None else [classes.ignore])]
    distance = np.square(rgb[:, None] - np.asarray(known)[None]).sum(-1)
    nearest = distance.argmin(1)
    nearest[nearest == len(classes)] = IGNORE
    found: Mask = nearest.astype(np.uint8)[inverse.reshape(painted.colours.shape)]
    found[~painted.painted] = IGNORE
    return found


def _unknown(
    path: Path,
    painted: _Painted,
    by_colour: npt.NDArray[np.int64],
    by_index: npt.NDArray[np.int64] | None,
    classes: SegmentClasses,
) -> DataError:
    """The error that names the first pixel which is no class."""
    grey = bool(painted.indices is not None and (painted.colours % 0x010101 == 0).all())
    wrong = by_index if grey and by_index is not None else by_colour
    y, x = (int(v) for v in np.argwhere(wrong == _NO_CLASS)[0])
    n = int((wrong == _NO_CLASS).sum())
    if grey and painted.indices is not None:
        what = f"Grey value {painted.indices[y, x]} is no class: there are 0 to {len(classes) - 1}, and 255 to ignore."
    else:
        packed = int(painted.colours[y, x])
        colour = hex_of((packed >> 16, packed >> 8 & 255, packed & 255))
        known = ", ".join(f"{name} {hex_of(c)}" for name, c in zip(classes.names, classes.colours, strict=True))
        what = f"The colour {colour} is no class: there are {known}."
    return DataError(
        what,
        where=f"{path}, pixel x={x}, y={y} (from the top left, from 0); {n} of {wrong.size} pixels are unknown",
        fix="paint with a hard brush in the colours of classes.yaml, or --snap to take the nearest class colour",
    )
