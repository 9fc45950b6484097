"""Pairs: side by side, in two folders, in arrays; what belongs together stays together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from picture_sets import encode, noise, write_folder, write_zip
from PIL import Image

from ganwright.config import DataSettings
from ganwright.data import pack
from ganwright.data.domains import DomainsDataset
from ganwright.data.inspection import inspect_data
from ganwright.data.jitter import Jitter
from ganwright.data.opening import open_dataset
from ganwright.data.pairs import PairsDataset, open_pairs
from ganwright.data.spec import DataKind
from ganwright.errors import DataError
from ganwright.samples import to_uint8

PAIRS, DOMAINS = frozenset({DataKind.PAIRS}), frozenset({DataKind.DOMAINS})


def opened(source: Any, **changes: Any) -> PairsDataset:
    settings = DataSettings(**{"resolution": 16, "held_out": 0.0, **changes})
    found = open_dataset(source, settings, accepts=PAIRS)
    assert isinstance(found, PairsDataset)
    return found


def side_by_side(i: int) -> bytes:
    """A dark half and a light one, both saying which pair they are of."""
    a, b = np.full((16, 16, 3), i, np.uint8), np.full((16, 16, 3), 255 - i, np.uint8)
    return encode(np.concatenate([a, b], axis=1))


def levels(images: torch.Tensor) -> list[int]:
    return to_uint8(images)[:, 8, 8, 0].tolist()


def all_pairs(data: PairsDataset) -> dict[int, int]:
    """Level of each input to that of its target, over one epoch."""
    batch = data.batch(0, data.spec.count, seed=0)
    return dict(zip(levels(batch["inputs"]), levels(batch["targets"]), strict=True))


@pytest.mark.parametrize("write", [write_folder, write_zip])
def test_side_by_side(tmp_path: Path, write: Any) -> None:
    source = write(tmp_path / "s.zip", {f"{i}.png": side_by_side(i) for i in range(8)})
    data = opened(source)
    assert (data.spec.kind, data.spec.count, data.spec.channels, data.spec.channels_out) == (DataKind.PAIRS, 8, 3, 3)
    assert all_pairs(data) == {i: 255 - i for i in range(8)}
    assert all_pairs(opened(source, pair_direction="b2a")) == {255 - i: i for i in range(8)}
    assert (
        opened(source).spec.fingerprint
        == data.spec.fingerprint
        != opened(source, pair_direction="b2a").spec.fingerprint
    )


def test_splits_by_folder(tmp_path: Path) -> None:
    parts = {"train": range(5), "val": range(5, 8), "test": range(8, 12)}
    files = {f"s/{part}/{i}.png": side_by_side(i) for part, numbers in parts.items() for i in numbers}
    source = write_zip(tmp_path / "s.zip", files)
    data = opened(source, held_out=0.5)  # a folder is stronger than a share
    assert sorted(all_pairs(data)) == list(parts["train"])
    assert sorted(levels(data.held_out_batch(9, seed=0)["inputs"])) == list(parts["val"])
    assert any("4 pairs of the folder test are not used" in note for note in data.notes)
    test = open_pairs(source, DataSettings(resolution=16), seed=0, part="test")
    assert sorted(levels(test.held_out_batch(9, seed=0)["inputs"])) == list(parts["test"])
    without = open_pairs(write_folder(tmp_path / "w", {"1.png": side_by_side(1)}), DataSettings(resolution=16), seed=0)
    assert levels(without.held_out_batch(9, seed=0)["inputs"]) == [1]


@pytest.mark.parametrize("names", [("A", "B"), ("trainA", "trainB"), ("input", "target")])
def test_two_folders_matched_by_name(tmp_path: Path, names: tuple[str, str]) -> None:
    files = {f"{names[0]}/x{i}.png": encode(np.full((16, 16), i, np.uint8)) for i in range(11)}
    files |= {f"{names[1]}/x{i}.bmp": encode(np.full((32, 32, 3), 100 + i, np.uint8), "BMP") for i in range(11)}
    data = opened(write_folder(tmp_path / "s", files))
    assert (data.spec.channels, data.spec.channels_out) == (1, 3)
    assert all_pairs(data) == {i: 100 + i for i in range(11)}  # x10 is not taken for x1's neighbour
    apart = (tmp_path / "s" / names[0], tmp_path / "s" / names[1])
    assert all_pairs(opened(apart)) == {i: 100 + i for i in range(11)}


def test_pictures_without_partner_are_named(tmp_path: Path) -> None:
    files = {f"A/{name}.png": encode(noise(0)) for name in "abcd"} | {
        f"B/{name}.png": encode(noise(1)) for name in "aef"
    }
    with pytest.raises(DataError, match=r"3 of 4 in A \(A/b.png, A/c.png, A/d.png\); 2 of 3 in B \(B/e.png, B/f.png\)"):
        opened(write_folder(tmp_path / "s", files))
    twice = {"A/a.png": encode(noise(0)), "A/a.jpg": encode(noise(0), "JPEG"), "B/a.png": encode(noise(0))}
    with pytest.raises(DataError, match=r"same name: A/a\.jpg and A/a\.png"):
        opened(write_folder(tmp_path / "t", twice))
    with pytest.raises(DataError, match="3 inputs and 2 targets"):
        opened((np.zeros((3, 16, 16, 3), np.uint8), np.zeros((2, 16, 16, 3), np.uint8)))


def test_a_broken_file_takes_its_partner_with_it(tmp_path: Path) -> None:
    files = {f"A/{i}.png": encode(np.full((16, 16, 3), i, np.uint8)) for i in range(6)}
    files |= {f"B/{i}.png": encode(np.full((16, 16, 3), 50 + i, np.uint8)) for i in range(6)}
    files |= {"A/1.png": b"broken", "B/4.png": b"broken too"}
    data = opened(write_folder(tmp_path / "s", files))
    assert all_pairs(data) == {i: 50 + i for i in (0, 2, 3, 5)}
    assert sorted(name for name, _ in data.skipped) == ["A/1.png", "B/4.png"]
    odd = opened(write_folder(tmp_path / "o", {"1.png": encode(noise(0, 16, 33)), "2.png": side_by_side(2)}))
    assert all_pairs(odd) == {2: 253} and "33 pixels wide, which is odd" in odd.skipped[0][1]


@pytest.mark.parametrize(("bands_in", "bands_out"), [(1, 3), (4, 2), (3, 4)])
def test_arrays_of_one_to_four_channels(tmp_path: Path, bands_in: int, bands_out: int) -> None:
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, (7, 16, 16, bands_in), np.uint8)
    y = generator.integers(0, 256, (7, 16, 16, bands_out), np.uint8)
    np.savez(tmp_path / "p.npz", inputs=x, targets=y)
    for source in ((x, y), {"inputs": x, "targets": y}, tmp_path / "p.npz"):
        data = opened(source)
        assert (data.spec.channels, data.spec.channels_out) == (bands_in, bands_out)
        batch = {name: to_uint8(images) for name, images in data.batch(0, 7, seed=0).items()}
        known = {row.tobytes(): target.tobytes() for row, target in zip(x, y, strict=True)}
        assert {a.tobytes(): b.tobytes() for a, b in zip(batch["inputs"], batch["targets"], strict=True)} == known


def test_alpha_is_kept_where_four_channels_are_asked_for(tmp_path: Path) -> None:
    rgba = np.random.default_rng(1).integers(0, 256, (16, 16, 4), np.uint8)
    plain = noise(2, 16, 16)
    source = write_folder(tmp_path / "s", {"A/1.png": encode(rgba), "B/1.png": encode(plain)})
    data = opened(source, channels_in="4", channels_out="4")
    batch = data.batch(0, 1, seed=0)
    assert np.array_equal(to_uint8(batch["inputs"])[0], rgba)
    assert np.array_equal(to_uint8(batch["targets"])[0], np.dstack([plain, np.full((16, 16), 255, np.uint8)]))
    assert opened(source).spec.channels == 3  # by itself it is laid on white
    assert opened(source, channels_in="1").batch(0, 1, seed=0)["inputs"].shape == (1, 1, 16, 16)


def test_bands_are_resized_one_by_one(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 4), np.uint8)
    found = to_uint8(opened((x, x[..., :1])).batch(0, 1, seed=0)["inputs"])[0]
    for band in range(4):
        expected = Image.fromarray(x[0, ..., band]).resize((16, 16), Image.Resampling.BICUBIC)
        assert np.array_equal(found[..., band], np.asarray(expected))


def test_both_images_of_a_pair_are_jittered_alike() -> None:
    ramp = np.arange(16 * 16 * 3, dtype=np.int64).reshape(1, 16, 16, 3) * 7 % 256
    x = np.concatenate([(ramp + 3 * i) % 256 for i in range(6)]).astype(np.uint8)
    data = opened((x, x[..., :1]), flip=True, jitter=1.25)
    batch = data.batch(3, 64, seed=5)
    assert torch.equal(batch["inputs"][:, :1], batch["targets"])
    assert len({row.numpy().tobytes() for row in batch["targets"]}) > 30
    again = data.batch(3, 64, seed=5)
    assert torch.equal(batch["inputs"], again["inputs"])
    assert not torch.equal(batch["inputs"], data.batch(4, 64, seed=5)["inputs"])
    shown = {row.tobytes() for row in to_uint8(data.held_out_batch(6, seed=0)["inputs"])}
    assert shown == {row.tobytes() for row in x}, "what is shown is never jittered"


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_crop_is_that_of_the_enlarged_image(kind: Any) -> None:
    jitter = Jitter(286 / 256, flip=True)
    x = np.random.default_rng(0).integers(0, np.iinfo(kind).max, (12, 32, 32, 3)).astype(kind)
    draws = jitter.draw(12, 32, 1, 2)
    assert draws.corners.min() == 0 and draws.corners.max() == 36 - 32 and 0 < draws.mirrored.sum() < 12
    found = jitter.apply(x.copy(), draws)
    for image, (top, left), mirrored, crop in zip(x, draws.corners, draws.mirrored, found, strict=True):
        planes = [Image.fromarray(p.astype(np.float32) if kind is np.uint16 else p) for p in np.moveaxis(image, -1, 0)]
        whole = np.stack([np.asarray(p.resize((36, 36), Image.Resampling.BICUBIC)) for p in planes], axis=-1)
        if kind is np.uint16:
            whole = np.round(whole.clip(0, 65535)).astype(kind)
        expected = whole[top : top + 32, left : left + 32]
        difference = (crop[:, ::-1] if mirrored else crop).astype(int) - expected
        assert abs(difference).max() <= (2 if kind is np.uint8 else 3)  # the box's corners are rounded to float32


def test_the_split_goes_by_the_content_of_both(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    x, y = (generator.integers(0, 256, (60, 16, 16, 3), np.uint8) for _ in range(2))
    x[30:], y[30:] = x[:30], y[:30]  # copies of pairs
    data = opened((x, y), held_out=0.4)
    assert 5 < len(data.held_out_index) < 50 and data.duplicates == 30
    assert set(data.held_out_index % 30).isdisjoint(data.train_index % 30), "copies stay on one side"
    larger = opened((x, y), held_out=0.4, resolution=32)
    assert np.array_equal(larger.held_out_index, data.held_out_index)
    others = opened((x, y[::-1].copy()), held_out=0.4)
    assert not np.array_equal(others.held_out_index, data.held_out_index)


def test_large_sets_are_packed_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_zip(tmp_path / "s.zip", {f"{i}.png": side_by_side(i) for i in range(12)})
    small = opened(source, held_out=0.3)
    monkeypatch.setattr(pack, "MANY_IMAGES", 5)
    packed = opened(source, held_out=0.3)
    again = opened(source, held_out=0.3)
    for data in (packed, again):
        assert isinstance(data.inputs.prepared.images.base, np.memmap | np.ndarray)
        assert data.spec.fingerprint == small.spec.fingerprint
        assert all_pairs(data) == all_pairs(small)


def test_pairs_as_two_domains(tmp_path: Path) -> None:
    files = {f"train/{i}.png": side_by_side(i) for i in range(20)} | {"test/99.png": side_by_side(99)}
    data = open_dataset(
        write_zip(tmp_path / "s.zip", files), DataSettings(resolution=16, held_out=0.0, jitter=1.2), accepts=DOMAINS
    )
    assert isinstance(data, DomainsDataset) and (data.spec.extra["count_a"], data.spec.extra["count_b"]) == (20, 20)
    batch = data.batch(0, 20, seed=0)
    a, b = levels(batch["images_a"]), levels(batch["images_b"])
    assert sorted(a) == list(range(20)) and sorted(b) == [255 - i for i in reversed(range(20))]
    assert [255 - level for level in b] != a, "they are shuffled apart"
    assert data.nothing_held_out and len(data.held_out_batch(7, seed=0)["images_b"]) == 7


def test_domains_in_an_archive_with_their_own_channels(tmp_path: Path) -> None:
    files = {f"d/trainA/{i}.png": encode(np.full((16, 16), i, np.uint8)) for i in range(4)}
    files |= {f"d/trainB/x{i}.png": encode(noise(i, 16, 16)) for i in range(6)} | {"d/testA/1.png": encode(noise(9))}
    source = write_zip(tmp_path / "d.zip", files)
    with pytest.raises(DataError, match="Domain A has 1"):
        open_dataset(source, DataSettings(resolution=16), accepts=DOMAINS)
    how = DataSettings(resolution=16, channels_in="1", channels_out="3", held_out=0.0)
    data = open_dataset(source, how, accepts=DOMAINS)
    assert (data.spec.channels, data.spec.channels_out, data.spec.count) == (1, 3, 6)
    assert data.batch(0, 2, seed=0)["images_a"].shape == (2, 1, 16, 16)


def test_pairs_are_described(tmp_path: Path) -> None:
    files = {f"{part}/{i}.png": side_by_side(i) for part, n in (("train", 6), ("val", 3)) for i in range(n)}
    files["train/broken.png"] = b"no picture"
    source = write_folder(tmp_path / "s", files)
    report = inspect_data(source, DataSettings(pair_direction="b2a"), kind="pairs")
    assert (report.kind, report.count) == (DataKind.PAIRS, 9)
    assert report.facts["folders"] == {"train": 7, "val": 3} and report.facts["A"] == "16x16 pixels"
    assert report.facts["for training"] == "B → A, 32x32, 3 to 3 channels, 6 pairs, 3 held out"
    assert [name for name, _ in report.broken] == ["train/broken.png"] and len(report.duplicates) == 3
    by_itself = inspect_data(source)
    assert by_itself.kind != DataKind.PAIRS and any("--kind pairs" in line for line in by_itself.advice)
    matched = {f"{side}/{i}.png": encode(noise(i)) for side in ("A", "B") for i in range(3)}
    assert inspect_data(write_folder(tmp_path / "m", matched)).kind == DataKind.PAIRS
