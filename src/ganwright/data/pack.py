"""A source decoded to the training size: in memory for small sets, packed once into a mapped cache for large.

    packed/index/<signature>.json   quick signature (names, sizes, times) -> content key and automatic choices
    packed/<key>/                   images.npy, labels.npy, hashes.npy, …; key = content + preprocessing

A packed set is written under a temporary name and renamed when whole, and checked when opened.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ganwright.config import DataSettings
from ganwright.data.decode import BrokenImageError, fit, pixel_hash
from ganwright.data.labels import Labels
from ganwright.data.probe import choose_channels, choose_resolution, mixture_error, usable
from ganwright.data.sources import ImageSource, combined_digest, printable
from ganwright.data.stream import over
from ganwright.errors import DataError
from ganwright.files import cache_folder, hash_bytes, is_temporary, write_atomic, write_folder_atomic
from ganwright.samples import Uint8Array

MANY_IMAGES, MANY_BYTES = 2000, 256 << 20
"""More files than this, or more bytes stored or decoded, are packed."""
PREPROCESSING = "central square, Pillow bicubic, v1"
"""Part of the key: a change of the preprocessing makes old packs unused."""
_FORMAT = 1
_CHECKED_ROWS = 64
_ABANDONED_SECONDS = 3600

Hashes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Prepared:
    """A set at its training size.

    Attributes:
        images: uint8 (N, H, W, C), in memory or memory-mapped, of the N usable images.
        hashes: uint8 (N, 16): hash of each image's decoded pixels at native size.
        labels: int64 (N,), or None.
        class_names: Names of the classes.
        skipped: (name, reason) of each image that could not be used.
        notes: How the source was read.
    """

    images: Uint8Array
    hashes: Hashes
    labels: Labels | None
    class_names: tuple[str, ...]
    skipped: list[tuple[str, str]]
    notes: list[str]

    @property
    def fingerprint(self) -> str:
        """Hash of content, labels and preprocessing; where the files lay does not count."""
        labels = b"" if self.labels is None else self.labels.tobytes()
        names = "\0".join(self.class_names).encode("utf-8", "surrogateescape")
        shape = f"{PREPROCESSING} {self.images.shape}".encode()
        return hash_bytes(shape, hash_bytes(self.hashes.tobytes(), labels, names).encode())


def prepare(source: ImageSource, settings: DataSettings) -> Prepared:
    """Decode all images of a source to the training size, or find them in the cache.

    Raises:
        DataError: No image is usable, grey and colour are mixed under `channels="auto"`, data is unsafe, or
            the cache cannot be written.
    """
    try:
        return _prepare(source, settings)
    except OSError as error:
        raise DataError(
            f"The cache of packed sets cannot be written: {error.strerror or error}.",
            where=error.filename or os.environ.get("GANWRIGHT_CACHE") or "~/.cache/ganwright",
            fix="make room on the disk, or name another folder in the environment variable GANWRIGHT_CACHE",
        ) from error


def _prepare(source: ImageSource, settings: DataSettings) -> Prepared:
    signature = source.signature()
    index = None if signature is None else _index_path(signature)
    entry = None if index is None else _read_json(index)
    if index is None or entry is None:
        if len(source) == 0:
            raise DataError(
                "There are no images here.",
                where=source.location,
                fix="JPEG, PNG, WebP, TIFF and BMP files are looked for, in all sub-folders",
            )
        resolution, channels = choose_resolution(source, settings), choose_channels(source, settings)
        decoded_bytes = len(source) * resolution * resolution * channels
        many_files = source.encoded and len(source) > MANY_IMAGES
        if index is None or not (many_files or max(decoded_bytes, source.stored_bytes) > MANY_BYTES):
            return _in_memory(source, resolution, channels, settings.channels == "auto")
        entry = {"content": _content_key(source), "notes": source.notes}
        _write_index(index, entry)
    # Automatic choices are kept with the signature, so that a second start opens no file.
    resolution = settings.resolution or entry.get("resolution") or choose_resolution(source, settings)
    automatic = settings.channels == "auto"
    channels = int(entry.get("channels") or choose_channels(source, settings)) if automatic else int(settings.channels)
    chosen = {"resolution": resolution} if not settings.resolution else {}
    chosen |= {"channels": channels} if automatic else {}
    key = hash_bytes(entry["content"].encode(), f"{resolution} {channels} {automatic} {PREPROCESSING}".encode())
    folder = cache_folder() / "packed" / key
    packed = _open_pack(folder)
    if packed is None:
        with _one_at_a_time(folder):
            packed = _open_pack(folder)
            if packed is None:
                _remove_abandoned(folder.parent)
                write_folder_atomic(folder, lambda into: _pack(source, into, resolution, channels, automatic, entry))
                packed = _open_pack(folder)
    if packed is None:
        raise DataError("The packed set cannot be read back.", where=folder, fix="is the disk full or failing?")
    if any(entry.get(name) != value for name, value in chosen.items()):
        _write_index(index, {**entry, **chosen})
    return Prepared(packed.images, packed.hashes, packed.labels, packed.class_names, packed.skipped, entry["notes"])


# One pass over a source. --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Row:
    image: Uint8Array | None
    hash: bytes
    stored: bytes
    """Digest of the stored bytes."""
    reason: str = ""
    channels: int = 0


def _stored_digest(source: ImageSource, i: int) -> tuple[bytes | None, bytes, str]:
    try:
        raw = source.read(i)
    except BrokenImageError as error:
        return None, bytes(16), error.what
    return raw, bytes.fromhex(hash_bytes(raw)), ""


def _rows(source: ImageSource, resolution: int, channels: int, strict: bool) -> Iterator[_Row]:
    """Each image decoded and fitted; `strict`: a mixture of grey and colour is an error."""
    example: tuple[int, int] | None = None

    def work(i: int) -> _Row:
        raw, stored, reason = _stored_digest(source, i)
        if raw is None:
            return _Row(None, b"", stored, reason)
        try:
            pixels = source.picture_of(raw, i).pixels
        except BrokenImageError as error:
            return _Row(None, b"", stored, error.what)
        return _Row(fit(pixels, resolution, channels), pixel_hash(pixels), stored, channels=pixels.shape[-1])

    for i, row in enumerate(over(source, work, f"reading {source.name}")):
        if strict and row.image is not None:
            if example is None:
                example = (i, row.channels)
            elif row.channels != example[1]:
                raise mixture_error(source, example[0], i)
        yield row


def _content_key(source: ImageSource) -> str:
    digests = [digest for _, digest, _ in over(source, lambda i: _without_raw(source, i), f"hashing {source.name}")]
    return _combine(source, digests)


def _without_raw(source: ImageSource, i: int) -> tuple[None, bytes, str]:
    _, digest, reason = _stored_digest(source, i)
    return None, digest, reason


def _combine(source: ImageSource, digests: list[bytes]) -> str:
    array = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 16)
    return combined_digest(source.key_names, array, source.labels_digest())


def _in_memory(source: ImageSource, resolution: int, channels: int, strict: bool) -> Prepared:
    images = np.empty((len(source), resolution, resolution, channels), np.uint8)
    kept: list[int] = []
    hashes, skipped = [], []
    for i, row in enumerate(_rows(source, resolution, channels, strict)):
        if row.image is None:
            skipped.append((printable(source.names[i]), row.reason))
        else:
            images[len(kept)] = row.image
            kept.append(i)
            hashes.append(row.hash)
    usable(source, len(kept), skipped)
    labels = None if source.labels is None else source.labels[kept]
    array = np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 16)
    return Prepared(images[: len(kept)], array, labels, source.class_names, skipped, source.notes)


# The cache. --------------------------------------------------------------------------------------------


def _pack(source: ImageSource, into: Path, resolution: int, channels: int, strict: bool, entry: dict[str, Any]) -> None:
    kept: list[int] = []
    skipped: list[tuple[str, str]] = []
    hashes, stored, checks = [], [], []
    with (into / "images.npy").open("wb") as file:
        _write_header(file, (0, resolution, resolution, channels))
        for i, row in enumerate(_rows(source, resolution, channels, strict)):
            stored.append(row.stored)
            if row.image is None:
                skipped.append((printable(source.names[i]), row.reason))
                continue
            content = row.image.tobytes()
            file.write(content)
            kept.append(i)
            hashes.append(row.hash)
            checks.append(zlib.crc32(content))
        usable(source, len(kept), skipped)
        _write_header(file, (len(kept), resolution, resolution, channels))
    if _combine(source, stored) != entry["content"]:
        raise DataError("The images changed while they were read.", where=source.location, fix="start again")
    np.save(into / "hashes.npy", np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 16))
    np.save(into / "checks.npy", np.array(checks, np.uint32))
    if source.labels is not None:
        np.save(into / "labels.npy", source.labels[kept])
    meta = {
        "format": _FORMAT,
        "count": len(kept),
        "labelled": source.labels is not None,
        "class_names": source.class_names,
        "skipped": skipped,
        "made_from": source.location,
        "small_files": _small_files_digest(into),
    }
    (into / "meta.json").write_text(json.dumps(meta), encoding="utf-8")


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    """An `.npy` 1.0 header of 128 bytes, so that the count can be put in when it is known."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"
    file.seek(0)
    file.write(b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + text.ljust(117).encode() + b"\n")
    file.seek(0, 2)


def _small_files_digest(folder: Path) -> str:
    names = ("hashes.npy", "checks.npy", "labels.npy")
    return hash_bytes(*((folder / name).read_bytes() for name in names if (folder / name).exists()))


def _open_pack(folder: Path) -> Prepared | None:
    """Open a packed set; None where there is none, or where it is damaged."""
    if not folder.is_dir():
        return None
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        if meta["format"] != _FORMAT or meta["small_files"] != _small_files_digest(folder):
            raise ValueError("meta.json and the other files do not belong together")
        images = np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False).view(np.ndarray)
        hashes = np.load(folder / "hashes.npy", allow_pickle=False)
        checks = np.load(folder / "checks.npy", allow_pickle=False)
        labels = np.load(folder / "labels.npy", allow_pickle=False) if meta["labelled"] else None
        if not (len(images) == len(hashes) == len(checks) == meta["count"]):
            raise ValueError("counts differ")
        for i in np.linspace(0, len(images) - 1, _CHECKED_ROWS).astype(int):
            if zlib.crc32(images[i].tobytes()) != checks[i]:
                raise ValueError(f"image {i} is damaged")
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None  # it is made again
    skipped = [(name, reason) for name, reason in meta["skipped"]]
    return Prepared(images, hashes, labels, tuple(meta["class_names"]), skipped, [])


def _index_path(signature: str) -> Path:
    return cache_folder() / "packed" / "index" / f"{signature}.json"


def _write_index(path: Path, entry: dict[str, Any]) -> None:
    with _one_at_a_time(cache_folder() / "packed" / "index"):
        write_atomic(path, json.dumps(entry))


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and {"content", "notes"} <= found.keys() else None


def _remove_abandoned(folder: Path) -> None:
    """Remove what killed processes left, an hour after they last wrote to it."""
    for entry in folder.iterdir() if folder.is_dir() else ():
        if is_temporary(entry):
            written = [file.stat().st_mtime for file in (entry, *entry.glob("*"))]
            if time.time() - max(written) > _ABANDONED_SECONDS:
                shutil.rmtree(entry, ignore_errors=True)


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Let one process pack while the others wait (several processes of one run start together)."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("w") as file:
        with contextlib.suppress(ImportError, OSError):  # no such locks on Windows and on some network disks
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield
