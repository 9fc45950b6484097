"""Random crops: at native size, from training pictures alone, the same again, and in bounded memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from picture_sets import encode, write_folder

from ganwright.config import DataSettings
from ganwright.data import patches
from ganwright.data.opening import open_dataset
from ganwright.data.patches import PatchDataset
from ganwright.errors import DataError
from ganwright.samples import to_uint8

SIZES = [(20, 30), (33, 17), (16, 16), (64, 48), (25, 40), (18, 22), (40, 40), (31, 31)]


def coded(i: int, height: int, width: int) -> np.ndarray:
    """A picture whose every pixel tells its picture, row and column."""
    y, x = np.mgrid[:height, :width]
    return np.stack([np.full_like(y, i), y, x], -1).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {f"{i:02d}.png": encode(coded(i, *size)) for i, size in enumerate(SIZES)}
    return write_folder(tmp_path / "pictures", files)


def opened(folder: Path, **changes: object) -> PatchDataset:
    settings = DataSettings(**{"crop": "random", "resolution": 12, "held_out": 0.3, **changes})  # type: ignore[arg-type]
    dataset = open_dataset(folder, settings)
    assert isinstance(dataset, PatchDataset)
    return dataset


def where(crop: np.ndarray) -> tuple[int, int, int]:
    """Picture, top and left of a crop; asserts that it is whole and at native size."""
    i, top, left = (int(n) for n in crop[0, 0])
    assert np.array_equal(crop, coded(i, *SIZES[i])[top : top + 12, left : left + 12])
    return i, top, left


def test_crops_are_pieces_of_training_pictures(folder: Path) -> None:
    data = opened(folder)
    assert (data.spec.resolution, data.spec.channels, data.spec.count) == (12, 3, len(data.train_index))
    assert 0 < len(data.held_out_index) < 8
    seen = []
    for index in range(30):
        images = data.batch(index, 8, seed=0)["images"]
        assert images.shape == (8, 3, 12, 12) and images.dtype == torch.float32
        seen += [where(crop) for crop in to_uint8(images)]
    assert {i for i, _, _ in seen} == set(data.train_index.tolist())
    for i in data.train_index:  # all places are reached, about equally
        tops = [top for picture, top, _ in seen if picture == i]
        assert min(tops) >= 0 and max(tops) <= SIZES[i][0] - 12
        if SIZES[i][0] > 30:
            assert max(tops) - min(tops) > (SIZES[i][0] - 12) / 2
    counts = np.bincount([i for i, _, _ in seen], minlength=8)[data.train_index]
    assert counts.max() - counts.min() <= 1  # every picture once an epoch


def test_batches_are_functions_of_seed_and_index(folder: Path) -> None:
    one, two = opened(folder), opened(folder)
    two.batch(7, 4, seed=1)
    assert torch.equal(one.batch(3, 4, seed=1)["images"], two.batch(3, 4, seed=1)["images"])
    assert not torch.equal(one.batch(3, 4, seed=1)["images"], one.batch(3, 4, seed=2)["images"])
    assert one.spec.fingerprint == two.spec.fingerprint != opened(folder, resolution=10).spec.fingerprint


def test_half_are_mirrored(folder: Path) -> None:
    data = opened(folder, flip=True)
    rows = np.concatenate([to_uint8(data.batch(i, 16, seed=0)["images"]) for i in range(25)])
    mirrored = [row[0, 0, 2] > row[0, 1, 2] for row in rows]
    assert 0.4 < np.mean(mirrored) < 0.6
    for row, turned in zip(rows, mirrored, strict=True):
        where(row[:, ::-1] if turned else row)


def test_held_out_crops_come_from_held_out_pictures(folder: Path) -> None:
    data = opened(folder)
    batch = data.held_out_batch(50, seed=4)
    assert batch is not None and not data.nothing_held_out
    places = [where(crop) for crop in to_uint8(batch["images"])]
    assert {i for i, _, _ in places} == set(data.held_out_index.tolist()) and len(places) == len(data.held_out_index)
    first = data.held_out_batch(1, seed=4)
    assert first is not None and torch.equal(first["images"], batch["images"][:1])
    shown = data.real_samples(3, seed=0)
    assert shown is not None and {where(crop)[0] for crop in shown.images} <= set(data.train_index.tolist())
    everything = opened(folder, held_out=0.0)
    assert everything.nothing_held_out and everything.real_samples(3, seed=0, held_out=True) is None


def test_the_cache_gives_the_same_crops(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_memory = opened(folder)
    monkeypatch.setattr(patches, "MANY_BYTES", 0)
    packed = opened(folder)
    kept = patches.cache_folder() / "native"
    assert len(list(kept.iterdir())) == 1
    assert isinstance(packed.pictures.pixels.base, np.memmap)
    monkeypatch.setattr(patches, "_decoded", None)  # the second time nothing is decoded
    for data in (packed, opened(folder)):
        assert torch.equal(data.batch(2, 8, seed=0)["images"], in_memory.batch(2, 8, seed=0)["images"])
    assert packed.spec == in_memory.spec
    (damaged,) = kept.iterdir()
    (damaged / "pixels.raw").write_bytes(b"short")
    with pytest.raises(DataError, match="damaged"):
        opened(folder)


def test_small_and_broken_pictures_are_named(folder: Path) -> None:
    write_folder(folder, {"small.png": encode(coded(9, 11, 40)), "broken.png": b"no picture"})
    data = opened(folder)
    assert dict(data.skipped)["small.png"] == "40x11 pixels are smaller than the crop of 12"
    assert "broken.png" in dict(data.skipped)
    assert len(data.train_index) + len(data.held_out_index) == 8
    with pytest.raises(DataError, match="No picture is as large as the crop"):
        opened(folder, resolution=100)


def test_arrays_and_16_bits(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (5, 20, 24), dtype=np.uint16)
    data = open_dataset(values, DataSettings(crop="random", resolution=16, held_out=0.0))
    assert isinstance(data, PatchDataset) and data.spec.channels == 1
    assert data.batch(0, 4, seed=0)["images"].shape == (4, 1, 16, 16)
