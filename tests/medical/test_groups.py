"""Near-duplicates found whatever was done to them, and groups that no split parts."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from scipy.ndimage import gaussian_filter

from ganwright.config import DataSettings
from ganwright.data.groups import Grouping, join_copies, joined, split_groups, split_hash
from ganwright.data.inspection import inspect_data
from ganwright.data.opening import open_dataset
from ganwright.data.perceptual_hash import THRESHOLD, differing_bits, near_duplicate_groups, perceptual_hash
from ganwright.errors import DataError, SettingsError


def picture(seed: int, side: int = 96) -> np.ndarray:
    """A smooth random picture, uint8 (side, side): no two seeds look alike."""
    noise = np.random.default_rng(seed).standard_normal((side, side))
    smooth = gaussian_filter(noise, side / 24)
    low, high = np.percentile(smooth, (1, 99))
    return np.round(((smooth - low) / (high - low)).clip(0, 1) * 200 + 20).astype(np.uint8)


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue()))


CHANGES = {
    "re-encoded": lambda image: _jpeg(image, 30),
    "halved": lambda image: image.resize((48, 48), Image.Resampling.BICUBIC),
    "stretched": lambda image: image.resize((200, 150), Image.Resampling.BILINEAR),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.6),
    "flatter": lambda image: ImageEnhance.Contrast(image).enhance(0.6),
    "gamma": lambda image: image.point(lambda v: round(255 * (v / 255) ** 0.7)),
    "colour": lambda image: image.convert("RGB"),
    "16 bits": lambda image: Image.fromarray(np.asarray(image).astype(np.uint16) * 257),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


def looks_of(images: list[Image.Image]) -> np.ndarray:
    arrays = [np.asarray(image) for image in images]
    hashes = [perceptual_hash(a[..., None] if a.ndim == 2 else a) for a in arrays]
    return np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 32)


@pytest.mark.parametrize("change", CHANGES)
def test_near_duplicates_are_one_group(change: str) -> None:
    originals = [Image.fromarray(picture(seed)) for seed in range(8)]
    groups = near_duplicate_groups(looks_of([*originals, *map(CHANGES[change], originals)]))
    np.testing.assert_array_equal(groups, [*range(8), *range(8)])


def test_an_added_border_changes_nothing() -> None:
    inside = picture(0)
    framed = np.pad(inside, ((10, 30), (25, 5)))
    a, b = looks_of([Image.fromarray(inside), Image.fromarray(framed)])
    assert differing_bits(a.tobytes(), b.tobytes()) <= THRESHOLD // 2


def test_different_pictures_differ_in_about_half_of_the_bits() -> None:
    looks = looks_of([Image.fromarray(picture(seed)) for seed in range(40)])
    bits = [differing_bits(a.tobytes(), b.tobytes()) for n, a in enumerate(looks) for b in looks[:n]]
    assert min(bits) > THRESHOLD + 20 and 115 < np.mean(bits) < 140
    assert near_duplicate_groups(looks).max() == 39


def test_groups_are_transitive_and_match_a_naive_search() -> None:
    rng = np.random.default_rng(0)
    looks = rng.integers(0, 256, (60, 32), dtype=np.uint8)
    for k in range(1, 12):  # a chain: each 40 bits from the one before, so the ends are far apart
        looks[k] = looks[k - 1]
        for bit in rng.choice(250, 40, replace=False):
            looks[k, bit // 8] ^= 1 << (7 - bit % 8)
    looks[:, -1] &= 0xFE
    groups = near_duplicate_groups(looks)
    parent = list(range(60))

    def root(i: int) -> int:
        return i if parent[i] == i else root(parent[i])

    for i in range(60):
        for j in range(i):
            if differing_bits(looks[i].tobytes(), looks[j].tobytes()) <= THRESHOLD:
                parent[root(i)] = root(j)
    expected = np.array([root(i) for i in range(60)])
    assert (groups[:12] == 0).all()
    np.testing.assert_array_equal(groups[:, None] == groups, expected[:, None] == expected)


def test_uniform_pictures_have_no_look() -> None:
    assert perceptual_hash(np.full((9, 9, 1), 7, np.uint8)) == bytes(32)


# Splits. -------------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    groups=st.lists(st.integers(0, 12), min_size=1, max_size=60),
    share=st.floats(0.0, 0.9),
    seed=st.integers(0, 1000),
    copies=st.booleans(),
)
def test_a_split_never_parts_a_group(groups: list[int], share: float, seed: int, copies: bool) -> None:
    _, numbers = np.unique(groups, return_inverse=True)
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 256, (len(groups), 16), dtype=np.uint8)
    if copies:
        hashes[:] = hashes[rng.integers(0, len(groups), len(groups))]
        numbers, _ = join_copies(numbers, hashes, np.zeros(len(groups), bool))
    split = split_groups(Grouping("group", numbers, "here"), hashes, share, seed)
    for group in np.unique(numbers):
        assert len(set(split.held_out[numbers == group].tolist())) == 1
    for row in np.unique(hashes, axis=0):
        assert len(set(split.held_out[(hashes == row).all(axis=1)].tolist())) == 1
    if share > 0 and len(np.unique(numbers)) > 1:
        assert 0 < split.held_out.sum() < len(groups)
    if share == 0 or len(np.unique(numbers)) == 1:
        assert not split.held_out.any()
    order = rng.permutation(len(groups))
    _, again = np.unique(numbers[order], return_inverse=True)
    shuffled = split_groups(Grouping("group", again, ""), hashes[order], share, seed)
    np.testing.assert_array_equal(shuffled.held_out, split.held_out[order])
    assert shuffled.record["hash"] == split.record["hash"]


def test_a_group_keeps_its_side_when_others_come() -> None:
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 256, (300, 16), dtype=np.uint8)
    groups = np.repeat(np.arange(100), 3)
    some = split_groups(Grouping("group", groups[:150], ""), hashes[:150], 0.3, 5).held_out
    more = split_groups(Grouping("group", groups, ""), hashes, 0.3, 5).held_out
    np.testing.assert_array_equal(more[:150], some)
    assert 0.15 < more.mean() < 0.45


def test_joining() -> None:
    np.testing.assert_array_equal(joined(np.array([0, 0, 1, 2, 3]), np.array([0, 1, 1, 2, 3])), [0, 0, 0, 1, 2])
    hashes = np.zeros((4, 16), np.uint8)
    hashes[:, 0] = [1, 2, 2, 3]
    groups, count = join_copies(np.array([0, 0, 1, 1]), hashes, np.array([False] * 4))
    assert count == 1 and (groups == 0).all()
    groups, count = join_copies(np.array([0, 0, 1, 1]), hashes, np.array([False, True, True, False]))
    assert count == 0 and groups.tolist() == [0, 0, 1, 1]  # blank pictures tie no patients together


def test_the_hash_of_a_split_tells_splits_apart() -> None:
    hashes = np.arange(64, dtype=np.uint8).reshape(4, 16)
    masks = [[True, False, False, False], [False, True, False, False], [False] * 4, [True] * 4]
    assert len({split_hash(hashes, np.array(mask)) for mask in masks}) == 4


# Image folders. ------------------------------------------------------------------------------------------------------


def write(folder: Path, names: dict[str, int]) -> Path:
    for name, seed in names.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(seed)).save(folder / name)
    return folder


def sides(dataset: object) -> np.ndarray:
    held_out = np.zeros(len(dataset.images), bool)  # type: ignore[attr-defined]
    held_out[dataset.held_out_index] = True  # type: ignore[attr-defined]
    return held_out


def test_split_by_group_of_an_image_folder(tmp_path: Path) -> None:
    for seed in range(20):
        image = Image.fromarray(picture(seed))
        image.save(tmp_path / f"{seed:02d}.png")
        image.resize((80, 80)).save(tmp_path / f"{seed:02d}-small.jpg", quality=60)
    plain = open_dataset(tmp_path, DataSettings(resolution=32, held_out=0.4))
    assert plain.grouping.by == "image" and plain.spec.extra["split"]["groups"] == 40
    grouped = open_dataset(tmp_path, DataSettings(resolution=32, held_out=0.4, split_by="group"))
    held_out = sides(grouped)
    np.testing.assert_array_equal(held_out[0::2], held_out[1::2])
    assert grouped.spec.extra["split"]["groups"] == 20
    assert grouped.spec.fingerprint == plain.spec.fingerprint
    assert (sides(plain)[0::2] != sides(plain)[1::2]).any()
    report = inspect_data(tmp_path, DataSettings(resolution=32))
    assert report.facts["near-duplicates"].startswith("20 groups of 40")
    assert any("--split-by group" in line for line in report.advice)


def test_groups_from_a_table_a_folder_or_a_pattern(tmp_path: Path) -> None:
    names = {f"{'yes' if k % 2 else 'no'}/p{k // 4}/s{k}.png": k for k in range(24)}
    write(tmp_path / "set", names)
    table = tmp_path / "groups.csv"
    table.write_text("Path;Patient\n" + "".join(f"{name};{name.split('/')[1]}\n" for name in names))
    found = []
    for rule in (str(table), "folder:2", r"name:/p(\d+)/"):
        dataset = open_dataset(tmp_path / "set", DataSettings(resolution=16, held_out=0.4, groups=rule))
        assert dataset.spec.extra["split"]["groups"] == 6 and dataset.spec.num_classes == 2
        order = sorted(names)
        for patient in range(6):
            rows = [n for n, name in enumerate(order) if f"/p{patient}/" in name]
            assert len(set(sides(dataset)[rows].tolist())) == 1
        found.append(dataset.spec.extra["split"]["hash"])
    assert len(set(found)) == 1
    with pytest.raises(DataError, match="several levels") as error:
        open_dataset(tmp_path / "set", DataSettings(resolution=16, split_by="patient"))
    assert "folder:1 makes 2 groups, folder:2 makes 6 groups" in str(error.value)


def test_folders_of_patients(tmp_path: Path) -> None:
    write(tmp_path, {f"patient{k // 4}/{k}.png": k for k in range(16)})
    assert open_dataset(tmp_path, DataSettings(resolution=16)).spec.num_classes == 4
    dataset = open_dataset(tmp_path, DataSettings(resolution=16, split_by="patient", held_out=0.3))
    assert dataset.spec.num_classes == 0 and dataset.grouping.count == 4
    assert any("folders are taken for patients" in note for note in dataset.notes)
    for rows in sides(dataset).reshape(4, 4):
        assert len(set(rows.tolist())) == 1


@pytest.mark.parametrize(
    ("rule", "error"),
    [
        ("folder:0", SettingsError),
        ("folder:9", DataError),
        ("name:(", SettingsError),
        ("name:p", SettingsError),
        (r"name:zz(\d)", DataError),
        ("missing.csv", DataError),
    ],
)
def test_impossible_rules(tmp_path: Path, rule: str, error: type[Exception]) -> None:
    write(tmp_path, {"a/1.png": 1, "b/2.png": 2})
    with pytest.raises(error, match=r"group|level|pattern|deep|table"):
        open_dataset(tmp_path, DataSettings(resolution=16, groups=rule))


def test_a_table_must_name_every_file(tmp_path: Path) -> None:
    write(tmp_path / "set", {"1.png": 1, "2.png": 2})
    (tmp_path / "g.csv").write_text("1.png,a\n")
    with pytest.raises(DataError, match=r"1 of 2 files"):
        open_dataset(tmp_path / "set", DataSettings(resolution=16, groups=str(tmp_path / "g.csv")))
    (tmp_path / "g.csv").write_text("1.png\n2.png\n")
    with pytest.raises(DataError, match="two columns"):
        open_dataset(tmp_path / "set", DataSettings(resolution=16, groups=str(tmp_path / "g.csv")))


def test_groups_of_a_packed_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {f"{k}.png": k // 2 for k in range(30)})
    wanted = DataSettings(resolution=16, held_out=0.4, split_by="group")
    first = open_dataset(tmp_path, wanted)
    monkeypatch.setattr("ganwright.data.pack.MANY_IMAGES", 5)
    for _ in range(2):
        packed = open_dataset(tmp_path, wanted)
        np.testing.assert_array_equal(sides(packed), sides(first))
        assert packed.spec == first.spec


def test_resuming_after_the_groups_changed_is_refused(tmp_path: Path) -> None:
    import ganwright as gw

    write(tmp_path / "set", {f"{k}.png": k for k in range(24)})
    table = tmp_path / "g.csv"
    table.write_text("".join(f"{k}.png,{k // 4}\n" for k in range(24)))
    small = {"resolution": 16, "batch_size": 4, "steps": 2, "evaluate_every": -1, "held_out": 0.4}
    run = gw.train("dcgan", str(tmp_path / "set"), out=tmp_path / "run", groups=str(table), write_html=False, **small)
    table.write_text("".join(f"{k}.png,{k % 5}\n" for k in range(24)))
    with pytest.raises(DataError, match="held out"):
        gw.resume(run, steps=4, write_html=False)


def test_brain_slices(real_data) -> None:
    """253 files, 228 distinct; near-duplicates measured by eye: every pair below the threshold is the same slice."""
    from ganwright.data.sources import open_images

    source = open_images(real_data("brain-mri-253.zip"))
    looks = np.frombuffer(b"".join(perceptual_hash(source.decode(i)) for i in range(len(source))), np.uint8)
    looks = looks.reshape(-1, 32)
    assert near_duplicate_groups(looks).max() + 1 == 201
    bits = np.unpackbits(looks, axis=1).astype(int)
    distance = (bits[:, None] != bits).sum(-1)[np.triu_indices(len(bits), 1)]
    assert distance[distance <= THRESHOLD].max() <= 46 and distance[distance > THRESHOLD].min() >= 56
