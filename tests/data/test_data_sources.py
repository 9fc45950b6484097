"""Folders and archives: what is found, what is the same, and what is refused."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from picture_sets import Files, encode, noise, write_folder, write_tar, write_zip

from ganwright.config import DataSettings
from ganwright.data.decode import BrokenImageError
from ganwright.data.opening import open_dataset
from ganwright.data.sources import open_images
from ganwright.errors import DataError


def test_what_counts_as_an_image(tmp_path: Path) -> None:
    picture, lossy = encode(noise(0)), encode(noise(0), "JPEG")
    taken = ["a.JPG", "b/c.jpeg", "b/d/e.PNG", "f.webp", "g.tif", "h.TIFF", "i.bmp"]
    passed = [".hidden.png", "__MACOSX/a.png", "b/._d.png", ".git/x.png", "notes.txt", "LICENSE"]
    files = {name: lossy if "jp" in name.lower() else picture for name in taken} | dict.fromkeys(passed, picture)
    for source in (write_folder(tmp_path / "s", files), write_zip(tmp_path / "s.zip", files)):
        opened = open_images(source)
        assert list(opened.names) == sorted(taken)
        assert any("2 other files" in note for note in opened.notes)
        assert opened.decode(1).shape == (32, 32, 3)


def test_folder_and_archives_are_the_same_data(tmp_path: Path, cache: Path, two_classes: Files) -> None:
    inner = {name.removeprefix("set/"): content for name, content in two_classes.items()}
    shuffled = dict(reversed(list(two_classes.items())))
    sources = [
        write_folder(tmp_path / "one", two_classes),
        write_folder(tmp_path / "two", inner),
        write_zip(tmp_path / "three.zip", shuffled),
        write_tar(tmp_path / "four.tar", shuffled),
        write_tar(tmp_path / "five.tar.gz", {f"./{name}": content for name, content in two_classes.items()}),
        write_tar(tmp_path / "six.tgz", inner),
    ]
    opened = [open_dataset(source, seed=3) for source in sources]
    for dataset in opened:
        assert dataset.spec.fingerprint == opened[0].spec.fingerprint
        assert dataset.spec.class_names == ("cat", "dog")
        np.testing.assert_array_equal(dataset.images, opened[0].images)
        np.testing.assert_array_equal(dataset.labels, opened[0].labels)
        np.testing.assert_array_equal(dataset.held_out_index, opened[0].held_out_index)
    assert [dataset.spec.name for dataset in opened] == ["one", "two", "three", "four", "five", "six"]
    # The pixels of an array in the same order with the same labels are the same data too.
    arrays = open_dataset((opened[0].images.copy(), np.array(["cat", "dog"])[opened[0].labels]), seed=3)
    assert arrays.spec.fingerprint == opened[0].spec.fingerprint


def test_fingerprint_follows_content_labels_and_preprocessing(tmp_path: Path, two_classes: Files) -> None:
    base = open_dataset(write_folder(tmp_path / "a", two_classes)).spec.fingerprint
    changed = {**two_classes, "set/cat/01.png": encode(noise(999))}
    moved = {name.replace("dog/38", "cat/98"): content for name, content in two_classes.items()}
    others = [
        open_dataset(write_folder(tmp_path / "b", changed)),
        open_dataset(write_folder(tmp_path / "c", moved)),
        open_dataset(tmp_path / "a", DataSettings(resolution=16)),
        open_dataset(tmp_path / "a", DataSettings(channels="1")),
    ]
    assert len({base, *(dataset.spec.fingerprint for dataset in others)}) == 5
    assert open_dataset(tmp_path / "a", DataSettings(held_out=0.5, flip=True), seed=9).spec.fingerprint == base


def test_dataset_json_is_honoured(tmp_path: Path) -> None:
    files = {f"0000{i % 2}/{i}.png": encode(noise(i)) for i in range(6)}
    files["dataset.json"] = b'{"labels": [%s]}' % b", ".join(
        b'["0000%d/%d.png", %d]' % (i % 2, i, i // 3) for i in range(6)
    )
    for source in (write_folder(tmp_path / "s", files), write_zip(tmp_path / "s.zip", files)):
        opened = open_images(source)
        assert opened.class_names == ("0", "1")
        assert [opened.labels[i] for i in range(6)] == [int(name[6]) // 3 for name in opened.names]


UNSAFE = ["../evil.png", "a/../../evil.png", "/etc/evil.png", "..\\evil.png", "C:\\evil.png", "a/b/.."]


@pytest.mark.parametrize("name", UNSAFE)
def test_members_that_climb_out_are_refused(tmp_path: Path, name: str) -> None:
    files = {"good.png": encode(noise(0)), name: encode(noise(1))}
    for source in (write_zip(tmp_path / "s.zip", files), write_tar(tmp_path / "s.tar.gz", files)):
        with pytest.raises(DataError, match="path outside the archive") as caught:
            open_dataset(source)
        assert not isinstance(caught.value, BrokenImageError)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.tar.gz", "s.zip"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_tar_are_refused(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "s.tar", "w") as archive:
        member = tarfile.TarInfo("a.png")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(DataError, match="link, a device"):
        open_dataset(tmp_path / "s.tar")


def test_links_in_zip_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        member = zipfile.ZipInfo("a.png")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(member, "/etc/passwd")
    with pytest.raises(DataError, match="link or a device"):
        open_dataset(tmp_path / "s.zip")


def test_archives_that_expand_absurdly_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ganwright.data.archives.EXPANSION_FLOOR", 1 << 20)
    zeros = {"a.bmp": bytes(8 << 20)}
    for source in (write_zip(tmp_path / "s.zip", zeros), write_tar(tmp_path / "s.tgz", zeros)):
        with pytest.raises(DataError, match="decompression bomb"):
            open_dataset(source)
    many = {f"{i}.bmp": bytes(100_000) for i in range(40)}  # each below the floor, together above
    with pytest.raises(DataError, match="decompression bomb"):
        open_dataset(write_zip(tmp_path / "m.zip", many))


def test_broken_archives_are_one_clear_error(tmp_path: Path, two_classes: Files) -> None:
    for path in (write_zip(tmp_path / "s.zip", two_classes), write_tar(tmp_path / "s.tar.gz", two_classes)):
        cut = tmp_path / f"cut-{path.name}"
        cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(DataError, match="archive cannot be read"):
            open_dataset(cut)
    (tmp_path / "x.dat").write_bytes(b"hello")
    with pytest.raises(DataError, match="no set of images"):
        open_dataset(tmp_path / "x.dat")


def test_damaged_zip_member_is_skipped_and_named(tmp_path: Path, two_classes: Files) -> None:
    path = tmp_path / "s.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in two_classes.items():
            archive.writestr(name, content)
    raw = bytearray(path.read_bytes())
    where = raw.index(two_classes["set/cat/05.png"])
    raw[where + 100] ^= 0xFF
    path.write_bytes(raw)
    dataset = open_dataset(path)
    assert [name for name, _ in dataset.skipped] == ["set/cat/05.png"]
    assert len(dataset.images) == 39


def test_broken_files_are_named_counted_and_skipped(
    tmp_path: Path, two_classes: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = two_classes["set/dog/02.png"]
    files = {**two_classes, "set/cat/bad.png": b"no picture", "set/dog/02.png": whole[: len(whole) // 2]}
    dataset = open_dataset(write_folder(tmp_path / "s", files))
    assert [name for name, _ in dataset.skipped] == ["set/cat/bad.png", "set/dog/02.png"]
    assert len(dataset.images) == len(dataset.labels) == 39
    assert dataset.labels.tolist() == [0] * 20 + [1] * 19
    shown = capsys.readouterr().err
    assert "set/cat/bad.png" in shown and "set/dog/02.png" in shown and "2 samples could not be used" in shown


def test_none_usable_and_none_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"None of the 2 images can be used\. a\.png: It is no picture"):
        open_dataset(write_folder(tmp_path / "s", {"a.png": b"x", "b.png": b"y"}))
    with pytest.raises(DataError, match="no images here"):
        open_dataset(write_folder(tmp_path / "t", {"a.txt": b"x"}))


def test_mixture_of_grey_and_colour(tmp_path: Path) -> None:
    files = {"a.png": encode(noise(0)), "b.png": encode(noise(1, channels=1)), "c.png": encode(noise(2))}
    source = write_folder(tmp_path / "s", files)
    with pytest.raises(DataError, match=r"(?s)mixes grey and colour.*b\.png is grey, a\.png is colour.*--channels 3"):
        open_dataset(source)
    assert open_dataset(source, DataSettings(channels="3")).images.shape == (3, 32, 32, 3)
    assert open_dataset(source, DataSettings(channels="1")).images.shape == (3, 32, 32, 1)


def test_mixture_outside_the_sampled_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ganwright.data.probe.SAMPLED_HEADERS", 2)
    files = {f"{i}.png": encode(noise(i, channels=1 if i == 4 else 3)) for i in range(9)}
    with pytest.raises(DataError, match=r"4\.png is grey, 0\.png is colour"):
        open_dataset(write_folder(tmp_path / "s", files))


@pytest.mark.parametrize(("sides", "wanted"), [((20, 28, 30), 32), ((33, 63, 200), 32), ((10, 64, 500), 64)])
def test_automatic_resolution(tmp_path: Path, sides: tuple[int, ...], wanted: int) -> None:
    files = {f"{side}.png": encode(noise(side, side, side + 40)) for side in sides}
    assert open_dataset(write_folder(tmp_path / "s", files)).spec.resolution == wanted


def test_names_cannot_control_the_terminal(tmp_path: Path) -> None:
    evil = "\x1b[2Jevil[red].png"
    files = {evil: b"broken", "a.png": encode(noise(0))}
    dataset = open_dataset(write_zip(tmp_path / "s.zip", files), DataSettings(held_out=0))
    assert dataset.skipped[0][0] == "\\x1b[2Jevil[red].png"


def test_loops_of_links_end(tmp_path: Path) -> None:
    write_folder(tmp_path / "s", {"a/1.png": encode(noise(0))})
    (tmp_path / "s" / "a" / "loop").symlink_to(tmp_path / "s")
    (tmp_path / "s" / "gone.png").symlink_to(tmp_path / "nothing")
    assert list(open_images(tmp_path / "s").names) == ["a/1.png"]


def test_real_sets(real_data: Callable[[str], Path]) -> None:
    brain = open_dataset(real_data("brain-mri-253.zip"), DataSettings(channels="1"))
    assert brain.spec.class_names == ("no", "yes")
    assert np.bincount(brain.labels).tolist() == [98, 155]
    assert brain.duplicates == 253 - 228  # counted before this was written: 228 distinct pictures
    with pytest.raises(DataError, match="mixes grey and colour"):
        open_dataset(real_data("brain-mri-253.zip"))
    facades = open_dataset(real_data("facades-pairs.zip"))
    assert len(facades.images) == 606 and facades.labels is None


def test_tar_member_past_the_end_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("a.png")
        member.size = len(encode(noise(0)))
        archive.addfile(member, io.BytesIO(encode(noise(0))))
    (tmp_path / "s.tar").write_bytes(buffer.getvalue()[:600])
    with pytest.raises(DataError):
        open_dataset(tmp_path / "s.tar")
