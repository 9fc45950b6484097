"""Features of many images: streamed through an extractor, and cached by what they were computed from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ganwright.console import progress
from ganwright.data.decode import BrokenImageError
from ganwright.data.sources import open_images, printable
from ganwright.errors import MetricError
from ganwright.files import atomic_path, cache_folder, hash_bytes, write_atomic
from ganwright.metrics.extractors import Extractor, Features
from ganwright.metrics.pixels import pick

Images = npt.NDArray[np.uint8]
_CHUNK = 64
_CHUNK_PIXELS = 1 << 22
"""Pixels handed to the extractor at a time, at most (one image may have more): bounds memory for photographs."""


def extract(extractor: Extractor, images: Iterable[Images], total: int, *, note: str, quiet: bool = False) -> Features:
    """Features of images (H, W, C) of any and mixed sizes, one after another; pixels are not kept.

    Raises:
        MetricError: A feature is NaN or infinite.
    """
    parts: list[Features] = []
    with progress(note, total, quiet=quiet) as advance:
        for chunk in _same_sized_chunks(images):
            parts.append(extractor(chunk))
            advance(len(chunk))
    if not parts:
        raise MetricError("There are no readable images to measure.", where=note)
    features = np.concatenate([part.features for part in parts])
    logits = [part.logits for part in parts if part.logits is not None]
    if not np.isfinite(features).all():
        bad = int((~np.isfinite(features).all(axis=1)).sum())
        raise MetricError(
            f"The extractor {extractor.name} gave NaN or infinite features for {bad} of {len(features)} images.",
            fix="look at those images, or use another --extractor",
        )
    return Features(features, np.concatenate(logits) if logits else None)


def _same_sized_chunks(images: Iterable[Images]) -> Iterator[Images]:
    chunk: list[Images] = []
    for image in images:
        height, width = image.shape[:2]
        full = len(chunk) == _CHUNK or (len(chunk) + 1) * height * width > _CHUNK_PIXELS
        if chunk and (full or image.shape != chunk[0].shape):
            yield np.stack(chunk)
            chunk = []
        chunk.append(image)
    if chunk:
        yield np.stack(chunk)


def cached_features(key_parts: Sequence[str], extractor: Extractor, compute: Any) -> Features:
    """Features from the cache, or computed and put there.

    Args:
        key_parts: Names what they are of; the extractor's version and preprocessing are added.
        extractor: Whose features.
        compute: Called without arguments where they are not cached.
    """
    parts = (*key_parts, extractor.name, extractor.version, extractor.preprocessing)
    path = cache_folder() / "features" / f"{hash_bytes(*(p.encode() + b'/' for p in parts))}.npz"
    found = _read(path)
    if found is None:
        found = compute()
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            logits = {} if found.logits is None else {"logits": found.logits}
            np.savez(file, features=found.features, **logits)
    return found


def _read(path: Path) -> Features | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            return Features(file["features"], file.get("logits"))
    except (OSError, ValueError, KeyError, EOFError):
        return None
    except Exception:  # a damaged zip raises zipfile.BadZipFile or zlib.error: computed anew
        return None


def source_features(
    source: Any, extractor: Extractor, n: int | None, *, quiet: bool = False
) -> tuple[Features, str, tuple[str, ...]]:
    """Features of a folder, archive, array or named set; at most `n` images, always the same ones.

    Returns:
        (features, name of the source with a hash of its content, warnings about images left out).

    Raises:
        MetricError: Fewer than two images could be used.
        DataError: The source cannot be read.
    """
    images = open_images(source)
    index = pick(np.arange(len(images)), n or len(images), 0)
    index.sort()
    broken: list[str] = []

    def decode() -> Iterator[Images]:
        for i in index:
            try:
                yield images.decode(int(i))
            except BrokenImageError:
                broken.append(printable(images.names[int(i)]))

    signature = images.signature()
    key = ["source", signature or "", str(len(index)), hash_bytes(index.tobytes())]
    note_of_broken = cache_folder() / "features" / f"{hash_bytes(*(k.encode() for k in key))}.broken.json"

    def compute() -> Features:
        computed = extract(extractor, decode(), len(index), note=f"features of {images.name}", quiet=quiet)
        if broken and signature is not None:
            write_atomic(note_of_broken, json.dumps(broken))
        return computed

    if signature is None:
        found = compute()
        signature = hash_bytes(found.features.tobytes())
    else:
        found = cached_features(key, extractor, compute)
    images.close()
    if len(found.features) < 2:
        raise MetricError(f"{len(found.features)} usable image is too few to measure.", where=images.location)
    left_out = len(index) - len(found.features)
    warnings: tuple[str, ...] = ()
    if left_out:
        broken = broken or _read_names(note_of_broken)
        named = f" ({', '.join(broken[:3])})" if broken else ""
        warnings = (f"{left_out} unreadable images of {images.name} were left out{named}",)
    return found, f"{images.name}/{signature[:12]}", warnings


def _read_names(path: Path) -> list[str]:
    try:
        return [str(name) for name in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError):
        return []
