"""Masks from whatever paint tools write, and errors that say which file and which pixel."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from ganwright.errors import DataError
from ganwright.segmenting import SegmentClasses, open_pairs, read_mask, write_mask
from ganwright.segmenting.pairs import fit_mask, overlay

CLASSES = SegmentClasses(("sky", "wall", "window"), ((0, 0, 0), (230, 25, 75), (0, 130, 200)))
MASK = np.array([[0, 1, 2], [2, 255, 1]], np.uint8)
COLOURS = np.array([[0, 0, 0], [230, 25, 75], [0, 130, 200]], np.uint8)


def in_colours(mask: np.ndarray) -> np.ndarray:
    rgb = np.full((*mask.shape, 3), 255, np.uint8)
    rgb[mask != 255] = COLOURS[mask[mask != 255]]
    return rgb


def save(path: Path, array: np.ndarray, mode: str | None = None) -> Path:
    picture = Image.fromarray(array)
    (picture if mode is None else picture.convert(mode)).save(path)
    return path


def test_colours_and_transparency(tmp_path: Path) -> None:
    assert (read_mask(save(tmp_path / "a.png", in_colours(MASK)), CLASSES) == MASK).all()
    assert (read_mask(save(tmp_path / "a.bmp", in_colours(MASK)), CLASSES) == MASK).all()
    alpha = np.array([[255, 200, 0], [255, 255, 40]], np.uint8)
    rgba = np.concatenate([in_colours(MASK), alpha[..., None]], -1)
    assert (read_mask(save(tmp_path / "b.png", rgba), CLASSES) == [[0, 1, 255], [2, 255, 255]]).all()


def test_grey_indices(tmp_path: Path) -> None:
    assert (read_mask(save(tmp_path / "a.png", MASK), CLASSES) == MASK).all()
    assert (read_mask(save(tmp_path / "b.png", MASK.astype(np.uint16)), CLASSES) == MASK).all()


def test_grey_class_colours_win_over_indices(tmp_path: Path) -> None:
    binary = SegmentClasses(("ground", "thing"), ((0, 0, 0), (255, 255, 255)), None)
    path = save(tmp_path / "a.png", np.array([[0, 255], [255, 0]], np.uint8))
    assert (read_mask(path, binary) == [[0, 1], [1, 0]]).all()
    one_bit = save(tmp_path / "b.png", np.array([[0, 255], [255, 0]], np.uint8), "1")
    assert (read_mask(one_bit, binary) == [[0, 1], [1, 0]]).all()


masks = hnp.arrays(
    np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=st.sampled_from([0, 1, 2, 255])
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mask=masks, order=st.permutations(range(256)))
def test_a_palette_is_read_by_colour_whatever_its_order(tmp_path: Path, mask: np.ndarray, order: list[int]) -> None:
    """Paint tools sort palettes as they like."""
    palette = np.zeros((256, 3), np.uint8)
    place = {c: order[i] for i, c in enumerate((0, 1, 2, 255))}
    for c, at in place.items():
        palette[at] = (255, 255, 255) if c == 255 else COLOURS[c]
    picture = Image.fromarray(np.vectorize(place.get)(mask).astype(np.uint8))
    picture.putpalette(palette.tobytes())
    picture.save(tmp_path / "p.png")
    assert (read_mask(tmp_path / "p.png", CLASSES) == mask).all()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mask=masks)
def test_a_palette_of_other_colours_is_read_by_index(tmp_path: Path, mask: np.ndarray) -> None:
    picture = Image.fromarray(mask)
    picture.putpalette(np.arange(768).astype(np.uint8)[::-1].tobytes())
    picture.save(tmp_path / "p.png")
    assert (read_mask(tmp_path / "p.png", CLASSES) == mask).all()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mask=masks)
def test_what_is_written_is_read(tmp_path: Path, mask: np.ndarray) -> None:
    path = tmp_path / "w.png"
    write_mask(path, mask, CLASSES)
    assert (read_mask(path, CLASSES) == mask).all()
    with Image.open(path) as picture:
        assert picture.mode == "P"
        assert (np.asarray(picture) == mask).all()
        assert (np.asarray(picture.convert("RGB")) == in_colours(mask)).all()


def test_unknown_colour_names_file_and_pixel(tmp_path: Path) -> None:
    rgb = in_colours(MASK)
    rgb[1, 2] = (229, 25, 75)
    path = save(tmp_path / "000003.mask.png", rgb)
    with pytest.raises(DataError, match=r"#e5194b is no class.*wall #e6194b") as caught:
        read_mask(path, CLASSES)
    assert re.search(r"000003\.mask\.png, pixel x=2, y=1 .*; 1 of 6 pixels", str(caught.value.where))
    assert "--snap" in str(caught.value.fix)
    assert (read_mask(path, CLASSES, snap=True) == MASK).all()


def test_unknown_grey_value(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.array([[0, 1], [7, 2]], np.uint8))
    with pytest.raises(DataError, match="Grey value 7 is no class: there are 0 to 2") as caught:
        read_mask(path, CLASSES)
    assert "x=0, y=1" in str(caught.value.where)


def test_snap_reads_jpeg(tmp_path: Path) -> None:
    mask = np.repeat(np.repeat(np.array([[0, 1], [2, 1]], np.uint8), 16, 0), 16, 1)
    Image.fromarray(in_colours(mask)).save(tmp_path / "m.jpg", quality=60)
    inner = (read_mask(tmp_path / "m.jpg", CLASSES, snap=True) == mask).mean()
    assert inner > 0.97


def test_wrong_size(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="3x2 pixels and its picture 8x4"):
        read_mask(save(tmp_path / "m.png", MASK), CLASSES, (4, 8))


def test_broken_file(tmp_path: Path) -> None:
    (tmp_path / "m.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(DataError, match="cannot be read"):
        read_mask(tmp_path / "m.png", CLASSES)


def picture(path: Path, mask: np.ndarray | None = None) -> None:
    save(path, np.zeros((2, 3, 3), np.uint8))
    if mask is not None:
        write_mask(path.with_name(path.stem + ".mask.png"), mask, CLASSES)


def test_pairs_of_both_layouts(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", MASK)
    picture(tmp_path / "b.png")
    found = open_pairs(tmp_path, CLASSES)
    assert found.names == ("a",) and (found.masks[0] == MASK).all()
    assert "1 pictures without a mask are left out: b" in found.notes[0]
    for part in ("images", "masks"):
        (tmp_path / "split" / part).mkdir(parents=True)
    picture(tmp_path / "split" / "images" / "x.png")
    write_mask(tmp_path / "split" / "masks" / "x.png", MASK, CLASSES)
    assert open_pairs(tmp_path / "split", CLASSES).names == ("x",)
    found = open_pairs(tmp_path / "split", CLASSES, channels=1, resolution=2)
    assert found.images.shape == (1, 2, 2, 1) and found.masks.shape == (1, 2, 2)


def test_errors_of_pairs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        open_pairs(tmp_path / "nowhere", CLASSES)
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    with pytest.raises(DataError, match="None of the 2 pictures has a mask"):
        open_pairs(tmp_path, CLASSES)
    write_mask(tmp_path / "a.mask.png", np.ones((2, 3), np.uint8), CLASSES)
    with pytest.raises(DataError, match="Only one class is painted: wall"):
        open_pairs(tmp_path, CLASSES)
    write_mask(tmp_path / "a.mask.png", np.full((2, 3), 255, np.uint8), CLASSES)
    with pytest.raises(DataError, match="ignored"):
        open_pairs(tmp_path, CLASSES)
    Image.fromarray(in_colours(MASK)).save(tmp_path / "a.mask.bmp")
    with pytest.raises(DataError, match="share one name"):
        open_pairs(tmp_path, CLASSES)


def test_masks_keep_their_place_when_they_are_fitted() -> None:
    """As images are: the central square, and each pixel that of its centre."""
    mask = np.zeros((8, 12), np.uint8)
    mask[:, 6:] = 1
    assert (fit_mask(mask, 4) == [[0, 0, 1, 1]] * 4).all()
    assert fit_mask(mask, 0) is mask


def test_overlay_leaves_ignored_pixels() -> None:
    images = np.full((1, 2, 3, 1), 100, np.uint8)
    shown = overlay(images, MASK[None], CLASSES)
    assert shown.shape == (1, 2, 3, 3)
    assert shown[0, 1, 1].tolist() == [100] * 3 and shown[0, 0, 1].tolist() == [165, 62, 88]


def test_classes_file(tmp_path: Path) -> None:
    CLASSES.save(tmp_path)
    assert SegmentClasses.load(tmp_path) == CLASSES
    (tmp_path / "classes.yaml").write_text("classes: {sky: [0, 0, 0], Fenster: '#FFFFFF'}")
    loaded = SegmentClasses.load(tmp_path)
    assert loaded.names == ("sky", "Fenster") and loaded.colours[1] == (255, 255, 255) and loaded.ignore is None
    assert len(SegmentClasses.numbered(40)) == 40


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("classes: {a: '#000000'}", "2 to 255 classes, not 1"),
        ("classes: {a: '#000000', b: '#000000'}", "have one colour"),
        ("classes: {a: '#ffffff', b: '#000000'}\nignore: '#ffffff'", "have one colour"),
        ("classes: {a: '#000000', b: #ff0000}", "not valid YAML|is not a colour"),
        ("classes: {a: '#000000', b: [1, 2, 300]}", "is not a colour"),
        ("classes: [a, b]", "no mapping `classes`"),
        ("classes: {", "not valid YAML"),
        ("", "no mapping `classes`"),
    ],
)
def test_errors_of_classes(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "classes.yaml").write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        SegmentClasses.load(tmp_path)
    assert "classes.yaml" in str(caught.value.where) or "#" in str(caught.value.where)


def test_no_classes_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no classes\.yaml"):
        SegmentClasses.load(tmp_path)
