"""The cache of packed sets: used when nothing changed, never when something did or when it is damaged."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from picture_sets import Files, encode, noise, write_folder, write_tar, write_zip

from ganwright.config import DataSettings
from ganwright.data import pack
from ganwright.data.decode import Header, Picture
from ganwright.data.filesets import FileSource
from ganwright.data.opening import open_dataset
from ganwright.data.sources import ImageSource
from ganwright.errors import DataError


def packs(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if (path / "meta.json").exists())


def no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: FileSource, i: int) -> bytes:
        raise AssertionError("a file was read")

    monkeypatch.setattr(FileSource, "read", fail)
    monkeypatch.setattr(FileSource, "header", fail)


@pytest.mark.parametrize("writer", [write_folder, write_zip, write_tar])
def test_packed_equals_in_memory_and_is_not_read_again(
    tmp_path: Path,
    packs_small_sets: Path,
    two_classes: Files,
    monkeypatch: pytest.MonkeyPatch,
    writer: object,
) -> None:
    files = {**two_classes, "set/cat/bad.png": b"broken"}
    source = writer(tmp_path / ("s.zip" if writer is write_zip else "s.tgz" if writer is write_tar else "s"), files)
    with monkeypatch.context() as large:
        large.setattr(pack, "MANY_IMAGES", 10**9)
        memory = open_dataset(source, seed=1)
    assert not packs_small_sets.exists()
    cold = open_dataset(source, seed=1)
    assert len(packs(packs_small_sets)) == 1
    no_reading(monkeypatch)
    warm = open_dataset(source, seed=1)
    assert isinstance(warm.images.base, np.memmap) and not warm.images.flags.writeable
    for dataset in (cold, warm):
        np.testing.assert_array_equal(dataset.images, memory.images)
        np.testing.assert_array_equal(dataset.labels, memory.labels)
        np.testing.assert_array_equal(dataset.hashes, memory.hashes)
        assert dataset.spec == memory.spec
        assert dataset.skipped == memory.skipped and dataset.skipped[0][0].endswith("cat/bad.png")
        assert dataset.notes == memory.notes
        np.testing.assert_array_equal(
            dataset.batch(3, 7, seed=5)["images"].numpy(), memory.batch(3, 7, seed=5)["images"].numpy()
        )


def test_changes_are_noticed(tmp_path: Path, packs_small_sets: Path, two_classes: Files) -> None:
    folder = write_folder(tmp_path / "s", two_classes)
    first = open_dataset(folder)
    file = folder / "set/cat/05.png"
    file.write_bytes(encode(noise(777)))
    second_status = file.stat()
    second = open_dataset(folder)
    assert second.spec.fingerprint != first.spec.fingerprint
    np.testing.assert_array_equal(second.images[2], noise(777))
    # The same size and the modification time put back: still noticed.
    file.write_bytes(encode(255 - noise(777)))
    assert file.stat().st_size == second_status.st_size
    os.utime(file, ns=(second_status.st_atime_ns, second_status.st_mtime_ns))
    assert open_dataset(folder).spec.fingerprint not in (first.spec.fingerprint, second.spec.fingerprint)
    (folder / "set/cat/05.png").unlink()
    assert len(open_dataset(folder).images) == 39
    assert len(packs(packs_small_sets)) == 4


def test_touching_a_file_packs_nothing_anew(tmp_path: Path, packs_small_sets: Path, two_classes: Files) -> None:
    folder = write_folder(tmp_path / "s", two_classes)
    open_dataset(folder)
    before = [(path, (path / "images.npy").stat().st_mtime_ns) for path in packs(packs_small_sets)]
    os.utime(folder / "set/cat/05.png")
    open_dataset(folder)
    elsewhere = {name.removeprefix("set/"): content for name, content in two_classes.items()}
    open_dataset(write_tar(tmp_path / "t.tar.gz", elsewhere))  # the same content in another place
    assert before == [(path, (path / "images.npy").stat().st_mtime_ns) for path in packs(packs_small_sets)]


def test_preprocessing_and_labels_have_packs_of_their_own(
    tmp_path: Path, packs_small_sets: Path, two_classes: Files
) -> None:
    folder = write_folder(tmp_path / "s", two_classes)
    assert open_dataset(folder).images.shape == (40, 32, 32, 3)
    assert open_dataset(folder, DataSettings(resolution=16)).images.shape == (40, 16, 16, 3)
    assert open_dataset(folder, DataSettings(channels="1")).images.shape == (40, 32, 32, 1)
    given = open_dataset(folder, labels=np.arange(40) % 4)
    assert given.spec.num_classes == 4 and given.labels.tolist() == (np.arange(40) % 4).tolist()
    assert open_dataset(folder).spec.num_classes == 2
    assert len(packs(packs_small_sets)) == 4


def flip_bytes(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-2000:] = bytes(255 - b for b in content[-2000:])
    path.write_bytes(content)


DAMAGE = {
    "images cut": lambda f: os.truncate(f / "images.npy", 5000),
    "images altered": lambda f: flip_bytes(f / "images.npy"),
    "images gone": lambda f: (f / "images.npy").unlink(),
    "labels altered": lambda f: flip_bytes(f / "labels.npy"),
    "hashes cut": lambda f: os.truncate(f / "hashes.npy", 100),
    "meta empty": lambda f: (f / "meta.json").write_bytes(b""),
    "meta of another form": lambda f: (f / "meta.json").write_text("[]"),
    "meta gone": lambda f: (f / "meta.json").unlink(),
    "header replaced": lambda f: (f / "images.npy").write_bytes(b"\x93NUMPY\x01\x00v\x00garbage"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_packs_are_made_again(tmp_path: Path, packs_small_sets: Path, two_classes: Files, damage: str) -> None:
    folder = write_folder(tmp_path / "s", two_classes)
    images = np.array(open_dataset(folder).images)
    DAMAGE[damage](packs(packs_small_sets)[0])
    np.testing.assert_array_equal(open_dataset(folder).images, images)
    (made,) = packs(packs_small_sets)
    np.testing.assert_array_equal(np.load(made / "images.npy"), images)


def test_damaged_index_is_made_again(tmp_path: Path, packs_small_sets: Path, two_classes: Files) -> None:
    folder = write_folder(tmp_path / "s", two_classes)
    fingerprint = open_dataset(folder).spec.fingerprint
    for content in ("", "[]", "{}", json.dumps({"content": "wrong"})):
        for index in (packs_small_sets / "index").iterdir():
            index.write_text(content)
        assert open_dataset(folder).spec.fingerprint == fingerprint


KILLED = """
import os, signal, sys
from ganwright.data import pack
from ganwright.data.opening import open_dataset
pack.MANY_IMAGES = 10
real, calls = pack.fit, [0]
def fit(*args):
    calls[0] += 1
    if calls[0] == 25:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args)
pack.fit = fit
open_dataset(sys.argv[1])
"""


def test_killed_packing_is_never_taken_for_finished(tmp_path: Path, packs_small_sets: Path, two_classes: Files) -> None:
    folder = write_folder(tmp_path / "s", two_classes)
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder)], env={**os.environ}, check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = [path for path in packs_small_sets.iterdir() if path.name.startswith(".")]
    assert packs(packs_small_sets) == [left] or packs(packs_small_sets) == []
    dataset = open_dataset(folder)
    assert len(dataset.images) == 40
    np.testing.assert_array_equal(dataset.images[0], noise(1))
    # What it left goes when it has not been written to for an hour.
    old = time.time() - 4000
    for path in (left, *left.iterdir()):
        os.utime(path, (old, old))
    open_dataset(folder, DataSettings(resolution=8))
    assert not left.exists()


def test_change_while_packing_is_noticed(
    tmp_path: Path, packs_small_sets: Path, two_classes: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder(tmp_path / "s", two_classes)
    real = pack._pack

    def change_first(*args: object) -> None:
        (folder / "set/cat/05.png").write_bytes(encode(noise(777)))
        real(*args)

    monkeypatch.setattr(pack, "_pack", change_first)
    with pytest.raises(DataError, match="changed while they were read"):
        open_dataset(folder)
    assert packs(packs_small_sets) == []


def test_two_at_once_pack_once(
    tmp_path: Path, packs_small_sets: Path, two_classes: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder(tmp_path / "s", two_classes)
    calls, real = [], pack._pack

    def slow(*args: object) -> None:
        calls.append(1)
        time.sleep(0.3)
        real(*args)

    monkeypatch.setattr(pack, "_pack", slow)
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(open_dataset(folder).spec.fingerprint)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1 and len(found) == 3 and len(set(found)) == 1


def test_cache_that_cannot_be_written(tmp_path: Path, two_classes: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("GANWRIGHT_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(pack, "MANY_IMAGES", 10)
    with pytest.raises(DataError, match=r"(?s)cannot be written.*GANWRIGHT_CACHE"):
        open_dataset(write_folder(tmp_path / "s", two_classes))


class Endless(ImageSource):
    """3,000 pictures of 64x64 that exist nowhere: 37 MB decoded."""

    name = location = "endless"

    @property
    def names(self) -> Sequence[str]:
        return [f"{i:05d}" for i in range(3000)]

    def __len__(self) -> int:
        return 3000

    def read(self, i: int) -> bytes:
        return i.to_bytes(8, "little")

    def picture_of(self, raw: bytes, i: int) -> Picture:
        return Picture(np.full((64, 64, 3), i % 251, np.uint8), "RGB", "none")

    def header(self, i: int) -> Header:
        return Header(64, 64, "RGB", "none")

    def _quick_signature(self) -> str:
        return "endless"


def test_packing_needs_little_memory(packs_small_sets: Path) -> None:
    tracemalloc.start()
    prepared = pack.prepare(Endless(), DataSettings())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert prepared.images.nbytes == 3000 * 64 * 64 * 3
    assert peak < prepared.images.nbytes / 6
    assert prepared.images[2999, 0, 0, 0] == 2999 % 251
