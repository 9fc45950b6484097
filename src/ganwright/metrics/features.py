"""Features of many images: streamed through an extractor, and cached by what they were computed from."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ganwright.console import progress
from ganwright.data.decode import BrokenImageError
from ganwright.data.sources import open_images, printable
from ganwright.errors import MetricError
from ganwright.files import atomic_path, cache_folder, hash_bytes
from ganwright.metrics.extractor_base import Extractor, Features
from ganwright.metrics.pixels import pick

Images = npt.NDArray[np.uint8]
_CHUNK = 64
_CHUNK_PIXELS = 1 << 24
"""Pixels handed to the extractor at a time, at most (one image may have more): bounds memory for photographs."""


@dataclass(frozen=True)
class Extracted:
    """Features of a set of images.

    Attributes:
        features: Of those that could be read.
        content: Hash of their pixels: equal wherever and however the images are stored; "" where not computed.
        broken: Names of those that could not be read.
    """

    features: Features
    content: str = ""
    broken: tuple[str, ...] = ()


def extract(extractor: Extractor, images: Iterable[Images], total: int, *, note: str, quiet: bool = False) -> Features:
    """Features of images (H, W, C) of any and mixed sizes, one after another; pixels are not kept.

    Raises:
        MetricError: There are none, or a feature is NaN or infinite.
    """
    parts: list[Features] = []
    with progress(note, total, quiet=quiet) as advance:
        for chunk in _chunks(images):
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


def _chunks(images: Iterable[Images]) -> Iterator[list[Images]]:
    chunk: list[Images] = []
    pixels = 0
    for image in images:
        size = image.shape[0] * image.shape[1]
        if chunk and (len(chunk) == _CHUNK or pixels + size > _CHUNK_PIXELS):
            yield chunk
            chunk, pixels = [], 0
        chunk.append(image)
        pixels += size
    if chunk:
        yield chunk


def cached_features(key_parts: Sequence[str], extractor: Extractor, compute: Callable[[], Extracted]) -> Extracted:
    """Features from the cache, or computed and put there.

    Args:
        key_parts: Names what they are of; the extractor's version and preprocessing are added.
        extractor: Whose features.
        compute: Called where they are not cached.
    """
    parts = (*key_parts, extractor.name, extractor.version, extractor.preprocessing)
    path = cache_folder() / "features" / f"{hash_bytes(*(p.encode() + b'/' for p in parts))}.npz"
    found = _read(path)
    if found is None:
        found = compute()
        about = json.dumps({"content": found.content, "broken": found.broken}).encode()
        arrays = {"features": found.features.features, "about": np.frombuffer(about, np.uint8)}
        if found.features.logits is not None:
            arrays["logits"] = found.features.logits
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
    return found


def _read(path: Path) -> Extracted | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(file["about"].tobytes())
            features = Features(file["features"], file.get("logits"))
            return Extracted(features, str(about["content"]), tuple(about["broken"]))
    except Exception:  # not there, or damaged (zipfile, zlib and json have errors of their own): computed anew
        return None


def source_features(
    source: Any, extractor: Extractor, n: int | None, *, quiet: bool = False
) -> tuple[Features, str, tuple[str, ...]]:
    """Features of a folder, archive, array or named set; at most `n` images, always the same ones.

    Returns:
        (features, hash of the pixels they are of, warnings about images left out).

    Raises:
        MetricError: Fewer than two images could be used.
        DataError: The source cannot be read.
    """
    with contextlib.closing(open_images(source)) as images:
        index = pick(np.arange(len(images)), n or len(images), 0)
        index.sort()
        broken: list[str] = []
        digest = hashlib.blake2b(digest_size=16)

        def decode() -> Iterator[Images]:
            for i in index:
                try:
                    image = images.decode(int(i))
                except BrokenImageError:
                    broken.append(printable(images.names[int(i)]))
                    continue
                digest.update(str(image.shape).encode() + np.ascontiguousarray(image).tobytes())
                yield image

        def compute() -> Extracted:
            found = extract(extractor, decode(), len(index), note=f"features of {images.name}", quiet=quiet)
            return Extracted(found, digest.hexdigest(), tuple(broken))

        signature = images.signature()
        key = ["source", signature or "", str(len(index)), hash_bytes(index.tobytes())]
        found = compute() if signature is None else cached_features(key, extractor, compute)
        if len(found.features.features) < 2:
            count = len(found.features.features)
            raise MetricError(f"{count} usable image is too few to measure.", where=images.location)
        warnings: tuple[str, ...] = ()
        if found.broken:
            named = ", ".join(found.broken[:3])
            warnings = (f"{len(found.broken)} unreadable images of {images.name} were left out ({named})",)
        return found.features, found.content, warnings
