"""From the bytes of one picture file to uint8 pixels, and from pixels to the training size.

Every rule on modes, transparency, rotation and resizing lives here. Where the bytes come from does not.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from ganwright.errors import DataError
from ganwright.samples import Uint8Array

EXTENSIONS = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp"})
"""File endings taken for pictures, in lower case."""
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP")
"""The only Pillow readers a file is offered to, whatever its name says (others start external programs)."""
_ORIENTATION = 0x0112
_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262


Pixels = npt.NDArray[Any]
"""uint8, or uint16 over its full range for sources of 16 bits: (H, W, 1 or 3)."""


class BrokenImageError(DataError):
    """One picture cannot be used; sets skip it and name it."""


@dataclass(frozen=True)
class Header:
    """What a picture's header says: size in pixels (before EXIF rotation), Pillow mode and format."""

    width: int
    height: int
    mode: str
    format: str

    @property
    def channels(self) -> int:
        """Channels after decoding: 1 (grey) or 3 (RGB)."""
        return 1 if self.mode in ("1", "L", "LA", "La", "I", "F") or self.mode.startswith("I;16") else 3


@dataclass(frozen=True)
class Picture:
    """A decoded picture: pixels (H, W, 1 or 3) at native size, upright; and its mode and format.

    Pixels are uint8, or uint16 over its full range for sources of 16 bits.
    """

    pixels: Pixels
    mode: str
    format: str


def read_header(file: BinaryIO, name: str) -> Header:
    """Read a picture's header only.

    Raises:
        BrokenImageError: It is no picture of a known format.
        DataError: It is a decompression bomb.
    """
    with _named_errors(name), Image.open(file, formats=FORMATS) as image:
        return Header(image.width, image.height, image.mode, image.format or "")


def decode_picture(raw: bytes, name: str) -> Picture:
    """Decode one picture file.

    EXIF rotation is applied; palettes and CMYK become RGB; transparency is laid on white; 16-bit grey is
    scaled so that 65535 becomes 255; 1-bit becomes 0 and 255. Of several frames the first is used. Colour
    profiles are ignored.

    Args:
        raw: The file's content.
        name: Its name, for errors.

    Raises:
        BrokenImageError: It is truncated, broken, of no known format, or its values have no agreed range
            (float, 32-bit integers, Lab).
        DataError: It is a decompression bomb: more pixels than Pillow's limit.
    """
    if not raw:
        raise BrokenImageError("The file is empty.", where=name)
    with _named_errors(name), Image.open(BytesIO(raw), formats=FORMATS) as image:
        image.load()
        mode, kind = image.mode, image.format or ""
        pixels = _to_uint8(image, kind)
        # A broken EXIF block is no reason to lose a good picture.
        orientation = 1
        with contextlib.suppress(Exception):
            orientation = int(image.getexif().get(_ORIENTATION, 1))
        if orientation in range(2, 9):
            pixels = _upright(pixels, orientation)
        return Picture(np.ascontiguousarray(pixels), mode, kind)


def decode_with_alpha(raw: bytes, name: str) -> Picture:
    """Decode one picture file with its transparency: uint8 (H, W, 2 or 4), opaque where it has none.

    Raises:
        BrokenImageError: See `decode_picture`.
        DataError: See `decode_picture`.
    """
    plain = decode_picture(raw, name)
    with _named_errors(name), Image.open(BytesIO(raw), formats=FORMATS) as image:
        if not image.has_transparency_data:
            opaque = np.full_like(plain.pixels[..., :1], 255)
            return Picture(np.concatenate([plain.pixels, opaque], axis=-1), plain.mode, plain.format)
        bands = np.asarray(image.convert("LA" if plain.pixels.shape[-1] == 1 else "RGBA"))
        orientation = int(image.getexif().get(_ORIENTATION, 1))
    if orientation in range(2, 9):
        bands = np.concatenate([_upright(bands[..., :-1], orientation), _upright(bands[..., -1:], orientation)], -1)
    return Picture(np.ascontiguousarray(bands), plain.mode, plain.format)


@contextlib.contextmanager
def _named_errors(name: str) -> Iterator[None]:
    try:
        yield
    except Image.DecompressionBombError as error:
        raise DataError(
            f"A picture claims an absurd size (decompression bomb): {error}",
            where=name,
            fix="remove the file, or raise PIL.Image.MAX_IMAGE_PIXELS from Python if it is genuine",
        ) from error
    except (DataError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise BrokenImageError(f"It is no picture in {', '.join(FORMATS)} format.", where=name) from error
    except Exception as error:  # Pillow's readers raise some fifteen different types on broken files
        text = str(error).strip() or type(error).__name__
        raise BrokenImageError(f"It is truncated or broken ({text}).", where=name) from error


def _to_uint8(image: Image.Image, kind: str) -> Uint8Array:
    """Pixels (H, W, 1 or 3) of a loaded picture."""
    mode = image.mode
    if mode.startswith("I;16") or (mode == "I" and kind == "PNG"):
        bits, inverted = 16, False
        if kind == "TIFF":
            tags = image.tag_v2  # type: ignore[attr-defined]  # TiffImageFile only
            bits, inverted = int(tags.get(_BITS_PER_SAMPLE, (16,))[0]), tags.get(_PHOTOMETRIC) == 0
        grey = _scale(np.asarray(image), (1 << bits) - 1)
        return (255 - grey if inverted else grey)[..., None]
    if mode in ("I", "F", "LAB"):
        what = {"I": "32-bit integers", "F": "floating-point numbers", "LAB": "Lab colours"}[mode]
        raise BrokenImageError(f"It holds {what}, whose range is not agreed; save it as 8- or 16-bit.")
    if image.has_transparency_data:
        grey_alpha = mode in ("1", "L", "LA", "La")
        return on_white(np.asarray(image.convert("LA" if grey_alpha else "RGBA")))
    wanted = "L" if mode in ("1", "L") else "RGB"
    pixels = np.asarray(image if mode == wanted else image.convert(wanted))
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _scale(values: npt.NDArray[np.generic], top: int) -> Uint8Array:
    """0..top to 0..255, rounded to the nearest."""
    wide = np.clip(values.astype(np.int64), 0, top)
    return ((wide * 255 + top // 2) // top).astype(np.uint8)


def scale_uint16(values: npt.NDArray[np.uint16]) -> Uint8Array:
    """16-bit values to 8 bits over the full range: 0 to 0, 65535 to 255."""
    return _scale(values, 65535)


def as_uint8(pixels: Pixels) -> Uint8Array:
    """Pixels of 8 or 16 bits as 8 bits, to look at."""
    return pixels if pixels.dtype == np.uint8 else scale_uint16(pixels)


def on_white(pixels: Uint8Array) -> Uint8Array:
    """Lay pixels with straight alpha, (..., 2 or 4), on white; returns (..., 1 or 3)."""
    colour, alpha = pixels[..., :-1].astype(np.uint32), pixels[..., -1:].astype(np.uint32)
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _upright(pixels: Uint8Array, orientation: int) -> Uint8Array:
    """Undo an EXIF orientation, 2 to 8."""
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    picture.getexif()[_ORIENTATION] = orientation
    upright = np.asarray(ImageOps.exif_transpose(picture))
    return upright[..., None] if upright.ndim == 2 else upright


def fit(pixels: Pixels, resolution: int, channels: int) -> Pixels:
    """Bring a picture to the training size: the central square, by Pillow's antialiased bicubic filter.

    Args:
        pixels: uint8 or uint16 (H, W, 1 to 4).
        resolution: Height and width wanted; 0: the native size is kept.
        channels: 1 or 3. Colour becomes grey by ITU-R 601 luma, grey becomes colour by repetition. Two and four bands
            are kept as they are.

    Returns:
        (resolution, resolution, channels), of the same type.
    """
    if pixels.dtype == np.uint16:
        return _fit_uint16(pixels, resolution, channels)
    h, w, c = pixels.shape
    if c in (2, 4):  # by bands: Pillow would take the last for alpha, and weigh the others by it
        return np.concatenate([fit(pixels[..., k : k + 1], resolution, 1) for k in range(c)], axis=-1)
    if c == 3 and channels == 1:
        pixels = np.asarray(Image.fromarray(pixels).convert("L"))[..., None]
    if resolution and (h, w) != (resolution, resolution):
        # Scaling the box gives what "shorter side to resolution, then centre crop" gives, in one exact step.
        side = min(h, w)
        box = ((w - side) / 2, (h - side) / 2, (w + side) / 2, (h + side) / 2)
        picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        resized = picture.resize((resolution, resolution), Image.Resampling.BICUBIC, box=box)
        pixels = np.asarray(resized)
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.shape[-1] == 1 and channels == 3:
        pixels = np.repeat(pixels, 3, axis=-1)
    return pixels


def _fit_uint16(pixels: npt.NDArray[np.uint16], resolution: int, channels: int) -> npt.NDArray[np.uint16]:
    """`fit` in float32, a channel at a time, so that no level is lost."""
    h, w, c = pixels.shape
    if c == 3 and channels == 1:
        luma = pixels.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
        pixels = np.round(luma).astype(np.uint16)[..., None]
    if resolution and (h, w) != (resolution, resolution):
        side = min(h, w)
        box = ((w - side) / 2, (h - side) / 2, (w + side) / 2, (h + side) / 2)
        size, bicubic = (resolution, resolution), Image.Resampling.BICUBIC
        planes = [Image.fromarray(plane.astype(np.float32)) for plane in np.moveaxis(pixels, -1, 0)]
        resized = np.stack([np.asarray(plane.resize(size, bicubic, box=box)) for plane in planes], axis=-1)
        pixels = np.round(resized.clip(0, 65535)).astype(np.uint16)
    return np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 and channels == 3 else pixels


def pixel_hash(pixels: Pixels) -> bytes:
    """BLAKE2b-128 of a picture's shape and pixels: equal pictures have equal hashes, whatever their files."""
    digest = hashlib.blake2b("x".join(map(str, pixels.shape)).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()
