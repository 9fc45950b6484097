"""Arrays: layouts, ranges, files, and files that lie."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_sets import noise

from ganwright.config import DataSettings
from ganwright.data import catalog
from ganwright.data.arrays import ArraySource
from ganwright.data.opening import open_dataset
from ganwright.data.sources import open_images
from ganwright.errors import DataError

IMAGES = np.stack([noise(i, 6, 5) for i in range(4)])


def decoded(source: object) -> np.ndarray:
    opened = open_images(source)
    return np.stack([opened.decode(i) for i in range(len(opened))])


def test_layouts_and_ranges() -> None:
    unit = IMAGES.astype(np.float64) / 255
    first = unit.transpose(0, 3, 1, 2)
    assert (decoded(IMAGES) == IMAGES).all()
    assert (decoded(list(IMAGES)) == IMAGES).all()
    assert (decoded(IMAGES[..., 0]) == IMAGES[..., :1]).all()
    assert (decoded(IMAGES.transpose(0, 3, 1, 2)) == IMAGES).all()
    assert (decoded(unit) == IMAGES).all()
    assert (decoded(first.astype(np.float32)) == IMAGES).all()
    assert (decoded(torch.from_numpy(first * 2 - 1).float()) == IMAGES).all()
    assert (decoded(torch.from_numpy(IMAGES)) == IMAGES).all()
    assert (decoded(IMAGES.astype(np.uint16) * 257) == IMAGES).all()
    assert (decoded(IMAGES[..., 0] > 128) == np.where(IMAGES[..., :1] > 128, 255, 0)).all()
    alpha = np.concatenate([IMAGES, np.full_like(IMAGES[..., :1], 255)], -1)
    assert (decoded(alpha) == IMAGES).all()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 5)), "holds no images"),
        (np.zeros((0, 5, 5), np.uint8), "holds no images"),
        (np.zeros((2, 5, 6, 7), np.uint8), "no channel axis"),
        (np.zeros((2, 5, 5), np.int64), "no agreed range"),
        (np.full((2, 5, 5), 255.0), r"must lie in \[-1, 1\] or \[0, 1\], not 255 … 255"),
        (np.full((2, 5, 5), np.nan), "NaN"),
    ],
)
def test_arrays_that_are_no_images(array: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ArraySource(array)


@settings(deadline=None)
@given(st.integers(0, 255))
def test_float_images_are_rounded_to_the_nearest(value: int) -> None:
    image = np.zeros((1, 3, 2, 2), np.float32)
    image[0, 0, 0, 0], image[0, 1, 1, 1] = value / 127.5 - 1, -1
    assert decoded(image)[0, 0, 0, 0] == value


def test_files(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", IMAGES)
    assert (decoded(tmp_path / "a.npy") == IMAGES).all()
    for keys in (("images", "labels"), ("x_train", "y_train"), ("X", "y"), ("train_images", "train_labels")):
        np.savez_compressed(tmp_path / "b.npz", **{keys[0]: IMAGES, keys[1]: [[1], [0], [1], [0]]})
        opened = open_images(tmp_path / "b.npz")
        assert (decoded(opened) == IMAGES).all() and opened.labels.tolist() == [1, 0, 1, 0]
    np.savez(tmp_path / "c.npz", weights=IMAGES, bias=IMAGES)
    with pytest.raises(DataError, match="it holds 'weights', 'bias'"):
        open_images(tmp_path / "c.npz")
    np.savez(tmp_path / "d.npz", images=IMAGES, labels=[0, 1])
    with pytest.raises(DataError, match=r"4 images \('images'\) but 2 labels"):
        open_images(tmp_path / "d.npz")


def test_large_npz_arrays_are_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ganwright.data.arrays.IN_MEMORY_BYTES", 10)
    np.savez_compressed(tmp_path / "b.npz", images=IMAGES)
    opened = open_images(tmp_path / "b.npz")
    assert isinstance(opened._rows.array, np.memmap) and (decoded(opened) == IMAGES).all()


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return exec, (f"open({str(tmp_path / 'pwned')!r}, 'w')",)

    np.save(tmp_path / "a.npy", np.array([Evil()], object), allow_pickle=True)
    np.savez(tmp_path / "b.npz", images=np.array([Evil()], object))
    for name in ("a.npy", "b.npz"):
        with pytest.raises(DataError, match="never unpickled"):
            open_dataset(tmp_path / name)
    assert not (tmp_path / "pwned").exists()


def lying_npy(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return buffer.getvalue() + bytes(100)


@pytest.mark.parametrize("shape", [(10**9, 1000, 1000), (1, 10, 11), (-1, 10, 10), (10, 10, -1)])
def test_headers_that_promise_too_much(tmp_path: Path, shape: tuple[int, ...]) -> None:
    (tmp_path / "a.npy").write_bytes(lying_npy(shape))
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("images.npy", lying_npy(shape))
    for name in ("a.npy", "b.npz"):
        with pytest.raises(DataError, match=r"promises|cannot be read"):
            open_dataset(tmp_path / name)


def test_broken_array_files(tmp_path: Path) -> None:
    for name, content in (
        ("a.npy", b""),
        ("b.npz", b"PK"),
        ("c.npy", b"\x93NUMPY\x09\x00"),
        ("d.npz", b"x" * 99),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError):
            open_dataset(tmp_path / name)


def test_bundled_digits() -> None:
    dataset = open_dataset("mnist", DataSettings(resolution=28, held_out=0))
    assert dataset.images.shape == (10_000, 28, 28, 1)
    assert dataset.spec.class_names == tuple("0123456789")
    # Ones have the least ink and zeros the most, in MNIST as elsewhere.
    ink = [dataset.images[dataset.labels == k].mean() for k in range(10)]
    assert np.argmin(ink) == 1 and np.argmax(ink) == 0
    assert open_dataset("digits", DataSettings(resolution=28)).spec.fingerprint == dataset.spec.fingerprint


def test_unknown_names_suggest_the_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="Did you mean 'mnist'"):
        open_dataset("mnsit")
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError, match=r"Did you mean '.*photos'"):
        open_dataset(str(tmp_path / "photo"))
    monkeypatch.chdir(tmp_path)  # what exists as a path comes first
    (tmp_path / "mnist").mkdir()
    assert catalog.find("mnist") == (Path("mnist"), "")


def test_real_npz_with_splits(real_data: Callable[[str], Path]) -> None:
    dataset = open_dataset(real_data("pneumoniamnist-imbalanced.npz"), DataSettings(resolution=28))
    assert np.bincount(dataset.labels).tolist() == [388, 3494]
    assert any("val_images" in note for note in dataset.notes)
    with pytest.raises(DataError, match="'embedding'"):
        open_dataset(real_data("seqgan-oracle-lstm.npz"))
