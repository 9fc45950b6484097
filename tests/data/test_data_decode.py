"""Decoding against pixels that are known: closed forms, the EXIF table, hand-built files."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from picture_sets import encode, noise
from PIL import Image

from ganwright.data.decode import BrokenImageError, decode_picture, fit, on_white, scale_uint16
from ganwright.errors import DataError


def pixels(raw: bytes) -> np.ndarray:
    return decode_picture(raw, "picture").pixels


def test_lossless_formats_give_back_their_pixels() -> None:
    colour, grey = noise(0, 5, 7), noise(1, 5, 7, channels=1)
    for format in ("PNG", "BMP", "TIFF"):
        np.testing.assert_array_equal(pixels(encode(colour, format)), colour)
        np.testing.assert_array_equal(pixels(encode(grey, format)), grey[..., None])
    np.testing.assert_array_equal(pixels(encode(colour, "WEBP", lossless=True)), colour)


# What the EXIF standard says is to be done to the stored rows and columns to show them upright.
EXIF = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", EXIF)
@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("channels", [1, 3])
def test_exif_rotation(orientation: int, format: str, channels: int) -> None:
    stored = noise(2, 4, 6, channels)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if format == "WEBP" else {}
    found = pixels(encode(stored, format, exif=exif, **options))
    wanted = EXIF[orientation](stored)
    if found.shape[-1] == 3 and wanted.ndim == 2:  # WebP knows no grey
        found = found[..., 0]
    np.testing.assert_array_equal(found.squeeze(), wanted)


def test_broken_exif_loses_no_picture() -> None:
    stored = noise(3, 4, 6)
    raw = encode(stored, "PNG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
    np.testing.assert_array_equal(pixels(raw), stored)


def test_palette_and_its_transparency() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 0])
    image.putdata([0, 1])
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    assert pixels(buffer.getvalue()).tolist() == [[[10, 20, 30], [200, 100, 0]]]
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=1)
    assert pixels(buffer.getvalue()).tolist() == [[[10, 20, 30], [255, 255, 255]]]


@given(st.integers(0, 255), st.integers(0, 255))
def test_alpha_is_laid_on_white(value: int, alpha: int) -> None:
    wanted = value * alpha / 255 + 255 * (1 - alpha / 255)
    found = int(on_white(np.array([value, alpha], np.uint8))[0])
    assert abs(found - wanted) <= 0.5 + 1e-9


def test_alpha_files() -> None:
    rgba = np.array([[[255, 0, 0, 255], [255, 0, 0, 0], [0, 0, 0, 51]]], np.uint8)
    assert pixels(encode(rgba)).tolist() == [[[255, 0, 0], [255, 255, 255], [204, 204, 204]]]
    buffer = io.BytesIO()
    Image.fromarray(np.array([[[0, 255], [0, 0], [0, 51]]], np.uint8), "LA").save(buffer, "PNG")
    assert pixels(buffer.getvalue()).tolist() == [[[255 - 255], [255], [204]]]


def test_cmyk() -> None:
    buffer = io.BytesIO()
    cmyk = np.array([[[255, 0, 0, 0], [0, 255, 0, 0], [0, 0, 255, 0], [0, 0, 0, 255], [0, 0, 0, 0]]], np.uint8)
    Image.frombytes("CMYK", (5, 1), cmyk.tobytes()).save(buffer, "TIFF")
    cyan, magenta, yellow, black, white = [0, 255, 255], [255, 0, 255], [255, 255, 0], [0] * 3, [255] * 3
    assert pixels(buffer.getvalue()).tolist() == [[cyan, magenta, yellow, black, white]]


def test_one_bit() -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.array([[True, False]])).save(buffer, "PNG")
    assert pixels(buffer.getvalue()).tolist() == [[[255], [0]]]


def test_every_16_bit_value_is_scaled_over_the_full_range() -> None:
    values = np.arange(65536, dtype=np.uint16)
    wanted = np.floor(values.astype(np.float64) / 257 + 0.5)
    np.testing.assert_array_equal(scale_uint16(values), wanted)
    for format in ("PNG", "TIFF"):
        found = pixels(encode(values.reshape(256, 256), format))
        np.testing.assert_array_equal(found[..., 0], wanted.reshape(256, 256))


def tiff(width: int, bits: int, photometric: int, data: bytes) -> bytes:
    """A minimal one-row little-endian TIFF."""
    entries = [(256, 4, width), (257, 4, 1), (258, 3, bits), (259, 3, 1), (262, 3, photometric)]
    entries += [(273, 4, 8), (277, 3, 1), (278, 4, 1), (279, 4, len(data))]
    padded = data + b"\0" * (-len(data) % 2)
    directory = struct.pack("<H", len(entries))
    for tag, kind, value in entries:
        directory += struct.pack("<HHII", tag, kind, 1, value)
    return b"II*\0" + struct.pack("<I", 8 + len(padded)) + padded + directory + b"\0\0\0\0"


def test_hand_built_tiffs() -> None:
    assert pixels(tiff(2, 16, 1, struct.pack("<HH", 65535, 257))).ravel().tolist() == [255, 1]
    assert pixels(tiff(2, 16, 0, struct.pack("<HH", 65535, 257))).ravel().tolist() == [
        0,
        254,
    ]  # white is zero
    assert pixels(tiff(2, 12, 1, bytes([0xFF, 0xF8, 0x00]))).ravel().tolist() == [255, 128]  # 4095, 2048


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_values_without_an_agreed_range_are_refused(dtype: type) -> None:
    with pytest.raises(BrokenImageError, match="range is not agreed"):
        pixels(encode(np.zeros((4, 4), dtype), "TIFF"))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "BMP", "WEBP"])
def test_truncated_files_are_broken(format: str) -> None:
    raw = encode(noise(4, 64, 64), format)
    with pytest.raises(BrokenImageError, match=r"truncated or broken|no picture"):
        pixels(raw[: len(raw) // 2])


def test_other_files_are_broken_whatever_their_name() -> None:
    with pytest.raises(BrokenImageError, match="empty"):
        pixels(b"")
    for raw in (b"hello", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", b"GIF89a" + bytes(40)):
        with pytest.raises(BrokenImageError, match="no picture"):
            pixels(raw)


def bomb(width: int = 60_000, height: int = 60_000) -> bytes:
    """A PNG whose header claims 3.6 billion pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def test_decompression_bomb_is_no_ordinary_broken_file() -> None:
    with pytest.raises(DataError, match="decompression bomb") as caught:
        pixels(bomb())
    assert not isinstance(caught.value, BrokenImageError)
    assert "picture" in str(caught.value)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(["PNG", "JPEG", "TIFF", "BMP", "WEBP"]), st.data())
def test_damaged_files_give_pixels_or_a_data_error(format: str, data: st.DataObject) -> None:
    raw = bytearray(encode(noise(5, 8, 8), format))
    for _ in range(data.draw(st.integers(1, 8))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = pixels(bytes(raw))
    except DataError:
        return
    assert found.dtype == np.uint8 and found.ndim == 3 and found.shape[-1] in (1, 3)


def test_resizing_is_antialiased() -> None:
    # A one-pixel checkerboard lies above the Nyquist frequency: it must become even grey, not a pattern.
    board = (np.indices((256, 256)).sum(0) % 2 * 255).astype(np.uint8)[..., None]
    assert np.abs(fit(board, 32, 1).astype(float) - 127.5).max() < 3


def test_resizing_agrees_with_torch_and_crops_the_centre() -> None:
    y, x = np.mgrid[0:96, 0:160] / 20.0
    smooth = np.stack([np.sin(x) + np.cos(y), np.cos(x + y), np.sin(x - y)], -1)
    image = np.round(smooth / 2 * 100 + 128).astype(np.uint8)
    square = torch.from_numpy(image[:, 32:128].copy()).permute(2, 0, 1)[None].float()
    wanted = torch.nn.functional.interpolate(square, size=(32, 32), mode="bicubic", antialias=True)
    found = fit(image, 32, 3).transpose(2, 0, 1)
    assert np.abs(found - wanted[0].numpy()).max() < 2.5
    assert np.abs(fit(image.swapaxes(0, 1), 32, 3).swapaxes(0, 1).transpose(2, 0, 1) - wanted[0].numpy()).max() < 2.5


def test_channels_are_converted() -> None:
    colour = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], np.uint8)
    luma = [round(255 * weight) for weight in (0.299, 0.587, 0.114, 1.0)]  # ITU-R 601
    assert np.abs(fit(colour, 0, 1).ravel().astype(int) - luma).max() <= 1
    grey = noise(6, 4, 4, channels=1)[..., None]
    np.testing.assert_array_equal(fit(grey, 4, 3), np.repeat(grey, 3, -1))
