"""Photos there and back: depth, transparency, EXIF, profiles and rotation; masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps

from ganwright.data.photo import Photo, photo_files, read_mask, read_photo, write_photo
from ganwright.errors import DataError

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
DESCRIPTION, ORIENTATION = 0x010E, 0x0112


def pixels(shape: tuple[int, ...], kind: str = "uint8", seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(kind).max, shape, kind, endpoint=True)


def exif(orientation: int = 1) -> Image.Exif:
    block = Image.Exif()
    block[DESCRIPTION], block[ORIENTATION] = "a cat", orientation
    return block


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(1, 20),
    st.integers(1, 20),
    st.sampled_from([1, 3]),
    st.booleans(),
    st.sampled_from(["uint8", "uint16"]),
    st.booleans(),
)
def test_png_holds_everything(
    tmp_path: Path, height: int, width: int, channels: int, transparent: bool, kind: str, profiled: bool
) -> None:
    alpha = pixels((height, width), kind, 1) if transparent else None
    photo = Photo(pixels((height, width, channels), kind), alpha, ICC if profiled else None, exif().tobytes())
    again = read_photo(write_photo(tmp_path / "p.png", photo))
    deep_grey_alpha = kind == "uint16" and channels == 1 and transparent
    if not deep_grey_alpha:  # Pillow reads 16-bit grey with alpha as 8 bits
        assert again.colour.dtype == photo.colour.dtype
        np.testing.assert_array_equal(again.colour, photo.colour)
        if transparent:
            np.testing.assert_array_equal(again.alpha, alpha)
    assert again.icc == photo.icc
    block = Image.Exif()
    block.load(again.exif)
    assert block[DESCRIPTION] == "a cat"


def test_sixteen_bit_png_is_what_other_readers_see(tmp_path: Path) -> None:
    import tifffile

    deep = pixels((9, 7, 3), "uint16")
    write_photo(tmp_path / "p.png", Photo(deep))
    with Image.open(tmp_path / "p.png") as image:
        image.load()
        np.testing.assert_array_equal(np.asarray(image), deep >> 8)
    for compression in (None, "deflate"):
        tifffile.imwrite(tmp_path / "p.tif", deep, photometric="rgb", compression=compression)
        np.testing.assert_array_equal(read_photo(tmp_path / "p.tif").colour, deep)
    tifffile.imwrite(tmp_path / "p.tif", deep, photometric="rgb", byteorder=">")
    np.testing.assert_array_equal(read_photo(tmp_path / "p.tif").colour, deep)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_rotation_is_done_and_forgotten(tmp_path: Path, orientation: int) -> None:
    picture = Image.fromarray(pixels((6, 9, 3)))
    picture.save(tmp_path / "p.png", exif=exif(orientation))
    with Image.open(tmp_path / "p.png") as image:
        wanted = np.asarray(ImageOps.exif_transpose(image))
    photo = read_photo(tmp_path / "p.png")
    np.testing.assert_array_equal(photo.colour, wanted)
    again = write_photo(tmp_path / "q.png", photo)
    with Image.open(again) as image:
        assert image.getexif().get(ORIENTATION, 1) == 1 and image.getexif()[DESCRIPTION] == "a cat"
        np.testing.assert_array_equal(np.asarray(image), wanted)


@pytest.mark.parametrize("ending", [".jpg", ".webp", ".tif", ".png"])
def test_formats_keep_exif_and_profile(tmp_path: Path, ending: str) -> None:
    photo = Photo(np.full((16, 16, 3), 90, np.uint8), None, ICC, exif().tobytes())
    again = read_photo(write_photo(tmp_path / f"p{ending}", photo))
    assert again.icc == ICC and np.abs(again.colour.astype(int) - 90).max() <= 2
    block = Image.Exif()
    block.load(again.exif)
    assert block[DESCRIPTION] == "a cat"


def test_formats_without_transparency_or_depth_do_what_they_can(tmp_path: Path) -> None:
    clear = Photo(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8))
    assert (read_photo(write_photo(tmp_path / "p.bmp", clear)).colour == 255).all()
    deep = Photo(np.full((8, 8, 3), 65535 // 2, np.uint16))
    assert (read_photo(write_photo(tmp_path / "p.tif", deep)).colour == 127).all()
    with pytest.raises(DataError, match=r"cannot be written as '\.gif'"):
        write_photo(tmp_path / "p.gif", clear)


def test_palettes_cmyk_and_broken_files(tmp_path: Path) -> None:
    colours = pixels((5, 5, 3))
    Image.fromarray(colours).quantize(16).save(tmp_path / "palette.png")
    assert read_photo(tmp_path / "palette.png").colour.shape == (5, 5, 3)
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "c.tif", icc_profile=ICC)
    cmyk = read_photo(tmp_path / "c.tif")
    assert cmyk.icc is None and tuple(cmyk.colour[0, 0]) == (255, 0, 0)
    (tmp_path / "b.png").write_bytes((tmp_path / "palette.png").read_bytes()[:60])
    with pytest.raises(DataError, match=r"broken|truncated"):
        read_photo(tmp_path / "b.png")
    with pytest.raises(DataError, match="cannot be read"):
        read_photo(tmp_path / "none.png")


def test_repainting_keeps_depth_and_drops_profiles_that_no_longer_fit() -> None:
    photo = Photo(pixels((4, 4, 3), "uint16"), None, ICC, b"")
    np.testing.assert_array_equal(photo.repainted(photo.floats().astype(np.float64)).colour, photo.colour)
    assert photo.repainted(np.full((4, 4, 3), 2.0)).colour.max() == 65535
    grey = photo.repainted(np.zeros((4, 4, 1)))
    assert grey.icc is None and photo.repainted(np.zeros((8, 8, 3))).icc == ICC


def test_folders_are_walked_in_order_without_hidden_files(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg", "sub/c.webp", ".hidden/d.png", "e.txt", ".f.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [str(p.relative_to(tmp_path)) for p in photo_files(tmp_path)] == ["a.jpg", "b.png", "sub/c.webp"]
    assert list(photo_files(tmp_path / "b.png")) == [tmp_path / "b.png"]


def test_masks(tmp_path: Path) -> None:
    known = np.ones((6, 8), bool)
    known[2:4] = False
    levels = np.where(known, 255, 0).astype(np.uint8)
    Image.fromarray(levels).save(tmp_path / "grey.png")
    Image.fromarray(np.dstack([levels] * 3)).save(tmp_path / "rgb.png")
    Image.fromarray(known).save(tmp_path / "bits.png")
    Image.fromarray(np.dstack([pixels((6, 8, 3)), levels])).save(tmp_path / "alpha.png")
    Image.fromarray(np.where(known, 255, 200).astype(np.uint8)).save(tmp_path / "pale.png")
    for name in ("grey", "rgb", "bits", "alpha", "pale"):
        np.testing.assert_array_equal(read_mask(tmp_path / f"{name}.png", (6, 8)), known)
    with pytest.raises(DataError, match="The mask is 8x6 pixels and the picture 6x8"):
        read_mask(tmp_path / "grey.png", (8, 6))
    Image.new("L", (8, 6), 0).save(tmp_path / "black.png")
    with pytest.raises(DataError, match="every pixel is missing"):
        read_mask(tmp_path / "black.png", (6, 8))
