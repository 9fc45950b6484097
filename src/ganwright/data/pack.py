"""A source decoded to the training size: in memory for small sets, packed once into a mapped cache for large.

    packed/index/<signature>.json   quick signature (names, sizes, times) -> content key and automatic choices
    packed/<key>/                   images.npy, values.npy, labels.npy, hashes.npy, …; key = content + preprocessing

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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ganwright.config import DataSettings
from ganwright.data.decode import BrokenImageError, Pixels, as_uint8, fit, pixel_hash
from ganwright.data.perceptual_hash import BYTES, perceptual_hash
from ganwright.data.prepared import PREPROCESSING, KnownGroups, Prepared, known_groups, looks_wanted, with_groups
from ganwright.data.probe import choose_channels, choose_resolution, mixture_error, usable
from ganwright.data.sources import ImageSource, combined_digest, printable
from ganwright.data.stream import over
from ganwright.errors import DataError
from ganwright.files import cache_folder, hash_bytes, is_temporary, write_atomic, write_folder_atomic

MANY_IMAGES, MANY_BYTES = 2000, 256 << 20
"""More files than this, or more bytes stored or decoded, are packed."""
_FORMAT = 2
_CHECKED_ROWS = 64
_ABANDONED_SECONDS = 3600


def prepare(source: ImageSource, settings: DataSettings) -> Prepared:
    """Decode all images of a source to the training size, or find them in the cache.

    Raises:
        DataError: No image is usable, grey and colour are mixed under `channels="auto"`, data is unsafe, images
            are without a group, or the cache cannot be written.
    """
    try:
        return with_groups(_prepare(source, settings), source, settings)
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
        decoded_bytes = len(source) * resolution * resolution * channels * (1 if source.bits == 8 else 3)
        many_files = source.encoded and len(source) > MANY_IMAGES
        if index is None or not (many_files or max(decoded_bytes, source.stored_bytes) > MANY_BYTES):
            return _in_memory(source, Choices(resolution, channels, settings))
        entry = {"content": _content_key(source), "notes": source.notes, "extra": source.extra}
        _write_index(index, entry)
    # Automatic choices are kept with the signature, so that a second start opens no file.
    resolution = settings.resolution or entry.get("resolution") or choose_resolution(source, settings)
    automatic = settings.channels == "auto"
    channels = int(entry.get("channels") or choose_channels(source, settings)) if automatic else int(settings.channels)
    chosen = {"resolution": resolution} if not settings.resolution else {}
    chosen |= {"channels": channels} if automatic else {}
    looks = " looks" if looks_wanted(source, settings) else ""
    how = f"{resolution} {channels} {automatic} {PREPROCESSING}{looks}"
    key = hash_bytes(entry["content"].encode(), how.encode())
    folder = cache_folder() / "packed" / key
    packed = _open_pack(folder)
    if packed is None:
        choices = Choices(resolution, channels, settings)
        with _one_at_a_time(folder):
            packed = _open_pack(folder)
            if packed is None:
                _remove_abandoned(folder.parent)
                write_folder_atomic(folder, lambda into: _pack(source, into, choices, entry))
                packed = _open_pack(folder)
    if packed is None:
        raise DataError("The packed set cannot be read back.", where=folder, fix="is the disk full or failing?")
    if any(entry.get(name) != value for name, value in chosen.items()):
        _write_index(index, {**entry, **chosen})
    skipped = [(printable(source.names[int(i)]), reason) for i, reason in packed.skipped]
    return replace(packed, skipped=skipped, notes=list(entry["notes"]), extra=dict(entry.get("extra", {})))


# One pass over a source. --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Choices:
    """How a source is decoded."""

    resolution: int
    channels: int
    settings: DataSettings


@dataclass(frozen=True)
class _Row:
    image: Pixels | None
    hash: bytes
    stored: bytes
    """Digest of the stored bytes."""
    reason: str = ""
    channels: int = 0
    looks: bytes = b""


def _stored_digest(source: ImageSource, i: int) -> tuple[bytes | None, bytes, str]:
    try:
        raw = source.read(i)
    except BrokenImageError as error:
        return None, bytes(16), error.what
    return raw, bytes.fromhex(hash_bytes(raw)), ""


def _rows(source: ImageSource, choices: Choices) -> Iterator[_Row]:
    """Each image decoded and fitted; with automatic channels a mixture of grey and colour is an error."""
    example: tuple[int, int] | None = None
    strict, wanted = choices.settings.channels == "auto", looks_wanted(source, choices.settings)

    def work(i: int) -> _Row:
        raw, stored, reason = _stored_digest(source, i)
        if raw is None:
            return _Row(None, b"", stored, reason)
        try:
            pixels = source.picture_of(raw, i).pixels
        except BrokenImageError as error:
            return _Row(None, b"", stored, error.what)
        looks = perceptual_hash(pixels) if wanted else b""
        fitted = fit(pixels, choices.resolution, choices.channels)
        return _Row(fitted, pixel_hash(pixels), stored, channels=pixels.shape[-1], looks=looks)

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


def _in_memory(source: ImageSource, choices: Choices) -> Prepared:
    shape = (len(source), choices.resolution, choices.resolution, choices.channels)
    stored = np.empty(shape, np.uint8 if source.bits == 8 else np.uint16)
    kept: list[int] = []
    hashes, looks, skipped = [], [], []
    for i, row in enumerate(_rows(source, choices)):
        if row.image is None:
            skipped.append((printable(source.names[i]), row.reason))
        else:
            stored[len(kept)] = row.image
            kept.append(i)
            hashes.append(row.hash)
            looks.append(row.looks)
    usable(source, len(kept), skipped)
    labels = None if source.labels is None else source.labels[kept]
    stored = stored[: len(kept)]
    return Prepared(
        as_uint8(stored),
        np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 16),
        labels,
        source.class_names,
        skipped,
        source.notes,
        np.array(kept, np.int64),
        values=stored if source.bits > 8 else None,
        looks=np.frombuffer(b"".join(looks), np.uint8).reshape(-1, BYTES) if any(looks) else None,
        known=known_groups(source, kept),
        extra=source.extra,
    )


# The cache. --------------------------------------------------------------------------------------------


def _pack(source: ImageSource, into: Path, choices: Choices, entry: dict[str, Any]) -> None:
    kept: list[int] = []
    skipped: list[tuple[int, str]] = []
    hashes, looks, stored, checks = [], [], [], []
    shape = (choices.resolution, choices.resolution, choices.channels)
    with contextlib.ExitStack() as stack:
        files = {"images.npy": "|u1"} | ({"values.npy": "<u2"} if source.bits > 8 else {})
        opened = {name: stack.enter_context((into / name).open("wb")) for name in files}
        for name, kind in files.items():
            _write_header(opened[name], kind, (0, *shape))
        for i, row in enumerate(_rows(source, choices)):
            stored.append(row.stored)
            if row.image is None:
                skipped.append((i, row.reason))
                continue
            content = as_uint8(row.image).tobytes()
            opened["images.npy"].write(content)
            if source.bits > 8:
                opened["values.npy"].write(row.image.astype("<u2").tobytes())
            kept.append(i)
            hashes.append(row.hash)
            looks.append(row.looks)
            checks.append(zlib.crc32(content))
        usable(source, len(kept), [(printable(source.names[i]), reason) for i, reason in skipped])
        for name, kind in files.items():
            _write_header(opened[name], kind, (len(kept), *shape))
    if _combine(source, stored) != entry["content"]:
        raise DataError("The images changed while they were read.", where=source.location, fix="start again")
    known = known_groups(source, kept)
    small: dict[str, Any] = {
        "hashes.npy": np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 16),
        "checks.npy": np.array(checks, np.uint32),
        "positions.npy": np.array(kept, np.int64),
    }
    if source.labels is not None:
        small["labels.npy"] = source.labels[kept]
    if any(looks):
        small["looks.npy"] = np.frombuffer(b"".join(looks), np.uint8).reshape(-1, BYTES)
    if known is not None:
        small["groups.npy"] = known.groups
    for name, array in small.items():
        np.save(into / name, array)
    meta = {
        "format": _FORMAT,
        "count": len(kept),
        "files": sorted([*files, *small]),
        "class_names": source.class_names,
        "skipped": skipped,  # positions and not names: names may identify patients
        "known": None if known is None else [known.by, known.how],
        "made_from": "" if source.private else source.location,
        "small_files": _small_files_digest(into),
    }
    (into / "meta.json").write_text(json.dumps(meta), encoding="utf-8")


def _write_header(file: BinaryIO, kind: str, shape: tuple[int, ...]) -> None:
    """An `.npy` 1.0 header of 128 bytes, so that the count can be put in when it is known."""
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
    file.seek(0)
    file.write(b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + text.ljust(117).encode() + b"\n")
    file.seek(0, 2)


def _small_files_digest(folder: Path) -> str:
    large = ("images.npy", "values.npy", "meta.json")
    return hash_bytes(*(file.read_bytes() for file in sorted(folder.iterdir()) if file.name not in large))


def _open_pack(folder: Path) -> Prepared | None:
    """Open a packed set; None where there is none, or where it is damaged. `skipped` has positions for names."""
    if not folder.is_dir():
        return None
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        if meta["format"] != _FORMAT or meta["small_files"] != _small_files_digest(folder):
            raise ValueError("meta.json and the other files do not belong together")
        arrays: dict[str, Any] = {}
        for name in meta["files"]:
            mapped: Any = "r" if name in ("images.npy", "values.npy") else None
            arrays[name] = np.load(folder / name, mmap_mode=mapped, allow_pickle=False).view(np.ndarray)
            if len(arrays[name]) != meta["count"]:
                raise ValueError("counts differ")
        images, checks = arrays["images.npy"], arrays["checks.npy"]
        for i in np.linspace(0, len(images) - 1, _CHECKED_ROWS).astype(int):
            if zlib.crc32(images[i].tobytes()) != checks[i]:
                raise ValueError(f"image {i} is damaged")
            if "values.npy" in arrays and not (as_uint8(arrays["values.npy"][i]) == images[i]).all():
                raise ValueError(f"the values of image {i} are damaged")
        known = None if meta["known"] is None else KnownGroups(meta["known"][0], arrays["groups.npy"], meta["known"][1])
        return Prepared(
            images,
            arrays["hashes.npy"],
            arrays.get("labels.npy"),
            tuple(meta["class_names"]),
            [(str(position), reason) for position, reason in meta["skipped"]],
            [],
            arrays["positions.npy"],
            values=arrays.get("values.npy"),
            looks=arrays.get("looks.npy"),
            known=known,
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None  # it is made again


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
