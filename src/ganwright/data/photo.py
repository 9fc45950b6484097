"""A picture file with all that comes with it, there and back: full depth (8 or 16 bits), transparency, EXIF and ICC.

Training sets are read by `decode.py`, which wants pixels only. Here a picture is to be given back to its owner.
"""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

from ganwright.data.decode import EXTENSIONS, FORMATS, BrokenImageError, _named_errors, on_white
from ganwright.errors import DataError
from ganwright.files import atomic_path

Pixels = npt.NDArray[Any]
"""uint8 or uint16."""
Floats = npt.NDArray[np.float32]
_ORIENTATION = 0x0112
_TURNS: dict[int, tuple[int, bool]] = {2: (0, True), 3: (2, False), 4: (2, True)}
_TURNS |= {5: (3, True), 6: (3, False), 7: (1, True), 8: (1, False)}
"""EXIF orientation: quarter turns to the left and whether it is mirrored left to right afterwards."""


@dataclass(frozen=True)
class Photo:
    """A picture as its owner knows it, upright.

    Attributes:
        colour: uint8 or uint16 (H, W, 1 or 3), 16 bits over the full range.
        alpha: The same type (H, W), straight (not multiplied into the colour), or None.
        icc: Colour profile.
        exif: EXIF block without orientation.
        format: Pillow's name of the file's format.
    """

    colour: Pixels
    alpha: Pixels | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    format: str = "PNG"

    @property
    def top(self) -> int:
        """The largest value: 255 or 65535."""
        return 255 if self.colour.dtype == np.uint8 else 65535

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.colour.shape[0], self.colour.shape[1]

    def floats(self) -> Floats:
        """The colours, float32 (H, W, C) in [0, 1]."""
        scaled: Floats = np.divide(self.colour, self.top, dtype=np.float32)
        return scaled

    def repainted(self, colours: npt.NDArray[Any], alpha: Pixels | None = None) -> Photo:
        """The same picture with other colours.

        Args:
            colours: Float (H', W', 1 or 3) in [0, 1], rounded to this picture's depth; or its own type, kept as it is.
            alpha: Its transparency (H', W'), or None for none.
        """
        if colours.dtype != self.colour.dtype:
            colours = np.rint(np.clip(colours, 0, 1) * self.top).astype(self.colour.dtype)
        fits = colours.shape[-1] == self.colour.shape[-1]
        return replace(self, colour=colours, alpha=alpha, icc=self.icc if fits else None)


def read_photo(path: Path) -> Photo:
    """Read a picture file; of several frames the first.

    Palettes and CMYK become RGB (CMYK's profile is dropped, since it no longer fits); 16 bits are kept.

    Raises:
        BrokenImageError: It cannot be read, or its values have no agreed range.
        DataError: It is a decompression bomb.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"The picture cannot be read: {error.strerror}.", where=path) from error
    with _named_errors(str(path)), Image.open(BytesIO(raw), formats=FORMATS) as image:
        kind, depth = image.format or "", _deep(image)
        icc = None if image.mode == "CMYK" else image.info.get("icc_profile")
        orientation, exif = _exif(image)
        values = _deep_values(raw) if depth else _values(image)
        turns, mirrored = _TURNS.get(orientation, (0, False))
        values = np.rot90(values, turns)
        values = np.ascontiguousarray(values[:, ::-1] if mirrored else values)
        transparent = values.shape[-1] in (2, 4)
        return Photo(
            np.ascontiguousarray(values[..., :-1]) if transparent else values,
            np.ascontiguousarray(values[..., -1]) if transparent else None,
            icc,
            exif,
            kind,
        )


def _values(image: Image.Image) -> Pixels:
    """Pixels (H, W, 1 to 4) of a picture of 8 bits or of grey of 16."""
    image.load()
    mode = image.mode
    if mode.startswith("I;16") or (mode == "I" and image.format == "PNG"):
        values = np.asarray(image)
        if image.format == "TIFF" and (tags := image.tag_v2):  # type: ignore[attr-defined]
            bits = int(tags.get(258, (16,))[0])
            values = np.asarray(values, np.int64) * 65535 // ((1 << bits) - 1)
            values = 65535 - values if tags.get(262) == 0 else values
        return np.asarray(values, np.uint16)[..., None]
    if mode in ("I", "F", "LAB"):
        raise BrokenImageError("Its values have no agreed range; save it as 8- or 16-bit.")
    grey = mode in ("1", "L", "LA", "La")
    wanted = ("LA" if grey else "RGBA") if image.has_transparency_data else "L" if grey else "RGB"
    values = np.asarray(image if mode == wanted else image.convert(wanted))
    return values[..., None] if values.ndim == 2 else values


def _raw_mode(tile: Any) -> str:
    return tile.args if isinstance(tile.args, str) else str(tile.args[0]) if tile.args else ""


def _deep(image: Image.Image) -> bool:
    """Whether the file holds colours of 16 bits, of which Pillow by itself keeps the upper 8."""
    tiles = getattr(image, "tile", [])
    return bool(tiles) and all(_raw_mode(tile).startswith(("RGB;16", "RGBA;16")) for tile in tiles)


def _deep_values(raw: bytes) -> npt.NDArray[np.uint16]:
    """Colours of 16 bits (H, W, 3 or 4).

    Pillow unpacks one byte of each value, the upper one; asked for the other byte order, it unpacks the lower one.
    """
    other = {"B": "L", "L": "B", "N": "B" if struct.pack("=H", 1)[0] else "L"}
    with Image.open(BytesIO(raw), formats=FORMATS) as upper, Image.open(BytesIO(raw), formats=FORMATS) as lower:
        assert isinstance(lower, ImageFile.ImageFile)
        tiles = []
        for tile in lower.tile:
            mode, rest = _raw_mode(tile), () if isinstance(tile.args, str) else tuple(tile.args or ())[1:]
            swapped = mode[:-1] + other[mode[-1]]
            tiles.append(tile._replace(args=(swapped, *rest) if rest else swapped))
        lower.tile = tiles
        deep = np.array(upper, np.uint16)
        deep <<= 8
        deep |= np.asarray(lower)
        return deep


def _exif(image: Image.Image) -> tuple[int, bytes | None]:
    """Orientation, and the rest of the block; a broken block is no reason to lose a good picture."""
    with contextlib.suppress(Exception):
        found = image.getexif()
        orientation = int(found.pop(_ORIENTATION, 1))
        if not found:
            return orientation, None
        block = found.tobytes()
        return orientation, block if block else None
    return 1, None


ENDINGS: dict[str, str] = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF"}
ENDINGS |= {".tiff": "TIFF", ".bmp": "BMP"}
"""Formats a photo can be written in, by file ending."""


def write_photo(path: Path, photo: Photo, *, quality: int = 95) -> Path:
    """Write a picture file whole or not at all, in the format its name says, with EXIF and ICC where it has them.

    16 bits need PNG or, in grey, TIFF; other formats get the upper 8. Formats without transparency show it on white.
    WebP is written without loss.

    Args:
        path: Where to.
        photo: What.
        quality: Of JPEG.

    Raises:
        DataError: The ending names no format that can be written.
    """
    kind = ENDINGS.get(path.suffix.lower())
    if kind is None:
        raise DataError(f"Pictures cannot be written as '{path.suffix}'.", where=path, fix="use " + ", ".join(ENDINGS))
    parts = [photo.colour] if photo.alpha is None else [photo.colour, photo.alpha[..., None]]
    values = np.concatenate(parts, axis=-1)
    if values.dtype == np.uint16 and kind == "PNG" and values.shape[-1] > 1:
        with atomic_path(path) as temporary:
            temporary.write_bytes(_png16(values, photo.icc, photo.exif))
        return path
    if values.dtype == np.uint16 and (kind not in ("PNG", "TIFF") or values.shape[-1] > 1):
        values = ((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    if kind in ("JPEG", "BMP") and photo.alpha is not None:
        values = on_white(values)
    of_kind: dict[str, dict[str, Any]] = {"JPEG": {"quality": quality, "subsampling": 0}, "WEBP": {"lossless": True}}
    options = of_kind.get(kind, {})
    if photo.icc:
        options["icc_profile"] = photo.icc
    if photo.exif and kind != "BMP":
        options["exif"] = photo.exif
    with atomic_path(path) as temporary:
        Image.fromarray(values[..., 0] if values.shape[-1] == 1 else values).save(temporary, format=kind, **options)
    return path


def _png16(values: npt.NDArray[np.uint16], icc: bytes | None, exif: bytes | None) -> bytes:
    """A PNG of 16 bits with several channels, which Pillow cannot write (PNG specification, 3rd edition)."""
    height, width, channels = values.shape
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = np.frombuffer(values.astype(">u2").tobytes(), np.uint8).reshape(height, -1)
    filtered = np.empty((height, rows.shape[1] + 1), np.uint8)
    filtered[:, 0] = 1  # filter "Sub": the difference to the pixel on the left
    filtered[:, 1:] = rows
    filtered[:, 1 + 2 * channels :] -= rows[:, : -2 * channels]
    out = [b"\x89PNG\r\n\x1a\n", _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))]
    if icc:
        out.append(_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(icc)))
    if exif:
        out.append(_chunk(b"eXIf", exif.removeprefix(b"Exif\0\0")))
    out += [_chunk(b"IDAT", zlib.compress(filtered.tobytes(), 6)), _chunk(b"IEND", b"")]
    return b"".join(out)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def photo_files(path: Path) -> Iterator[Path]:
    """The picture itself, or all pictures of a folder and its sub-folders, sorted; hidden ones are passed over."""
    if path.is_file():
        yield path
        return
    for file in sorted(path.rglob("*")):
        parts = file.relative_to(path).parts
        if file.suffix.lower() in EXTENSIONS and file.is_file() and not any(p.startswith(".") for p in parts):
            yield file


def read_mask(path: Path, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Which pixels are known, bool (H, W): white in the mask picture; black ones are missing, greys count as missing.

    Args:
        path: A picture. If it has transparency, what is transparent is missing and its colours do not matter.
        size: Height and width it must have.

    Raises:
        DataError: It cannot be read, has another size, or says that nothing is known or nothing is missing.
    """
    photo = read_photo(path)
    if photo.size != size:
        raise DataError(
            f"The mask is {photo.size[1]}x{photo.size[0]} pixels and the picture {size[1]}x{size[0]}.",
            where=path,
            fix="save the mask at the picture's size",
        )
    levels = photo.colour.min(-1)
    if photo.alpha is not None and bool((photo.alpha < photo.top).any()):
        levels = photo.alpha
    return checked_mask(levels >= 0.9 * photo.top, path)


def checked_mask(known: npt.NDArray[np.bool_], where: object) -> npt.NDArray[np.bool_]:
    """The mask, if both known and missing pixels are in it.

    Raises:
        DataError: It says that nothing is known or nothing is missing.
    """
    if known.all() or not known.any():
        everything: Literal["known", "missing"] = "known" if known.all() else "missing"
        raise DataError(
            f"The mask says that every pixel is {everything}.",
            where=where,
            fix="white is what is known, black what is to be filled in",
        )
    return known
