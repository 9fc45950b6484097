"""Features of large sets on disk: extracted in shards, resumable, by one process or several, then mapped.

A shard is a fixed range of a set's positions, so that what several processes or an interrupted call have done fits
together exactly. Memory is bounded by a shard; a finished set is memory-mapped.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ganwright.console import progress, track
from ganwright.data.decode import BrokenImageError, Picture, pixel_hash
from ganwright.data.sources import ImageSource, printable
from ganwright.errors import MetricError
from ganwright.files import atomic_path, cache_folder, hash_bytes, write_atomic, write_folder_atomic
from ganwright.metrics.extractor_base import Extractor, Features
from ganwright.metrics.features import chunks, join, require_finite

Index = npt.NDArray[np.int64]
SHARD = 512
"""Images in a shard."""
_DECODERS = 4
_MANY = 20_000
"""From so many files on, reading them to know their content shows progress."""


@dataclass(frozen=True)
class Extracted:
    """Features of a set of images.

    Attributes:
        features: Of those that could be read.
        digests: uint8 (N, 16): hash of each one's pixels.
        positions: int64 (N,): its place in the set.
        broken: Names of those that could not be read.
    """

    features: Features
    digests: npt.NDArray[np.uint8]
    positions: Index
    broken: tuple[str, ...] = ()

    @property
    def content(self) -> str:
        """Hash of all pixels in order: equal wherever and however the images are stored."""
        return hash_bytes(np.ascontiguousarray(self.digests).tobytes())


@dataclass(frozen=True)
class FeatureStore:
    """The place of one set's features over one extractor.

    Attributes:
        folder: Where they are, or will be.
        index: Positions in the set that are wanted.
    """

    folder: Path
    index: Index

    @classmethod
    def of(cls, content: str, extractor: Extractor, index: Index) -> FeatureStore:
        """The store of a set whose stored content has this hash."""
        key = (content, extractor.name, extractor.version, extractor.preprocessing)
        name = hash_bytes(*(part.encode() + b"/" for part in key), index.tobytes())
        return cls(cache_folder() / "features" / name, index)

    @property
    def partial(self) -> Path:
        """Where shards lie until all are there."""
        return self.folder.with_name(self.folder.name + ".partial")

    @property
    def shards(self) -> int:
        """How many shards there are."""
        return -(-len(self.index) // SHARD)

    def missing(self) -> list[int]:
        """Shards that are not there yet, or cannot be read."""
        return [number for number in range(self.shards) if _read_shard(self._shard(number)) is None]

    def extract(
        self, extractor: Extractor, images: ImageSource, shards: Sequence[int], *, note: str, quiet: bool = False
    ) -> None:
        """Fill these shards.

        Raises:
            MetricError: A feature is NaN or infinite.
        """
        self.partial.mkdir(parents=True, exist_ok=True)
        parts = [self.index[number * SHARD : (number + 1) * SHARD] for number in shards]
        done = len(self.index) - sum(map(len, parts))
        with progress(note, len(self.index), done=done, quiet=quiet) as advance:
            for number, positions in zip(shards, parts, strict=True):
                arrays = _extract_shard(extractor, images, positions, advance)
                with atomic_path(self._shard(number)) as temporary, temporary.open("wb") as file:
                    np.savez(file, **arrays)  # type: ignore[arg-type]

    def read(self) -> Extracted | None:
        """What is stored, memory-mapped; None where it is not there or damaged."""
        try:
            about = json.loads((self.folder / "about.json").read_text())
            arrays: dict[str, Any] = {
                path.stem: np.load(path, mmap_mode="r" if path.stat().st_size > 1 << 20 else None, allow_pickle=False)
                for path in self.folder.glob("*.npy")
            }
            features = Features(arrays["features"], arrays.get("logits"), arrays.get("spatial"))
            found = Extracted(features, arrays["digests"], arrays["positions"], tuple(about["broken"]))
            if about["kinds"] != sorted(arrays) or {len(a) for a in arrays.values()} != {about["n"]}:
                return None
            return found
        except Exception:  # not there, or damaged (json, numpy and the system have errors of their own)
            return None

    def assemble(self) -> Extracted:
        """Join the shards, all of which must be there, and map the result."""

        def fill(folder: Path) -> None:
            paths = [self._shard(number) for number in range(self.shards)]
            shapes: dict[str, tuple[Any, tuple[int, ...]]] = {}
            counts, broken = [], []
            for path in paths:
                with np.load(path, allow_pickle=False) as shard:
                    counts.append(len(shard["positions"]))
                    broken += [str(name) for name in shard["broken"]]
                    for kind in set(shard.files) - {"broken"} if counts[-1] else ():
                        shapes.setdefault(kind, (shard[kind].dtype, shard[kind].shape[1:]))
            for kind, (dtype, shape) in shapes.items():  # one shard in memory at a time
                joined = np.lib.format.open_memmap(
                    folder / f"{kind}.npy", mode="w+", dtype=dtype, shape=(sum(counts), *shape)
                )
                at = 0
                for path, count in zip(paths, counts, strict=True):
                    if count:
                        with np.load(path, allow_pickle=False) as shard:
                            joined[at : at + count] = shard[kind]
                    at += count
                joined.flush()
            about = {"n": sum(counts), "kinds": sorted(shapes), "broken": broken}
            (folder / "about.json").write_text(json.dumps(about))

        with contextlib.suppress(FileNotFoundError):  # another process joined them first
            write_folder_atomic(self.folder, fill)
        found = self.read()
        if found is None:
            raise MetricError("No image could be read, or stored features were removed meanwhile.", where=self.folder)
        shutil.rmtree(self.partial, ignore_errors=True)
        return found

    def _shard(self, number: int) -> Path:
        return self.partial / f"shard-{number:05d}.npz"


def content_hash(images: ImageSource, index: Index, *, quiet: bool = False) -> str:
    """Hash of what is stored of these images, in order; remembered by the set's quick signature."""
    signature = images.signature()
    memo = None
    if signature is not None:
        memo = cache_folder() / "contents" / hash_bytes(signature.encode(), index.tobytes())
        with contextlib.suppress(OSError, UnicodeDecodeError):
            found = memo.read_text()
            if len(found) == 32:
                return found
    parts = []
    for i in track(index, f"reading {images.name}", quiet=quiet or len(index) < _MANY):
        try:
            raw = images.read(int(i)) if images.encoded else images.decode(int(i)).tobytes()
        except BrokenImageError:
            raw = b"broken"
        header = b"" if images.encoded else str(images.header(int(i))).encode()
        parts.append(hash_bytes(header, raw))
    content = hash_bytes("".join(parts).encode())
    if memo is not None:
        write_atomic(memo, content)
    return content


def decoded(images: ImageSource, positions: Index) -> Iterator[tuple[int, Picture | None]]:
    """(position, picture) in order, None where it cannot be read; a few are decoded ahead in threads."""
    waiting: deque[tuple[int, Future[Picture] | None]] = deque()

    def take() -> tuple[int, Picture | None]:
        position, future = waiting.popleft()
        try:
            return position, None if future is None else future.result()
        except BrokenImageError:
            return position, None

    with ThreadPoolExecutor(_DECODERS) as pool:
        for position in map(int, positions):
            try:  # read here: not every source may be read from several threads
                raw = images.read(position)
                waiting.append((position, pool.submit(images.picture_of, raw, position)))
            except BrokenImageError:
                waiting.append((position, None))
            if len(waiting) > 2 * _DECODERS:
                yield take()
        while waiting:
            yield take()


def _extract_shard(
    extractor: Extractor, images: ImageSource, positions: Index, advance: Any
) -> dict[str, npt.NDArray[Any]]:
    kept: list[int] = []
    digests: list[bytes] = []
    broken: list[str] = []

    def readable() -> Iterator[npt.NDArray[np.uint8]]:
        for position, picture in decoded(images, positions):
            if picture is None:
                broken.append(printable(images.names[position]))
                advance(1)
                continue
            kept.append(position)
            digests.append(pixel_hash(picture.pixels))
            yield picture.pixels

    parts = []
    for chunk in chunks(readable()):
        parts.append(extractor(chunk))
        advance(len(chunk))
    arrays: dict[str, npt.NDArray[Any]] = {
        "positions": np.asarray(kept, np.int64),
        "digests": np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 16),
        "broken": np.asarray(broken, np.str_),
    }
    if parts:
        found = join(parts)
        require_finite(found, extractor)
        pairs = (("features", found.features), ("logits", found.logits), ("spatial", found.spatial))
        arrays.update({kind: array for kind, array in pairs if array is not None})
    else:
        arrays["features"] = np.zeros((0, extractor.feature_dim), np.float32)
    return arrays


def _read_shard(path: Path) -> dict[str, npt.NDArray[Any]] | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception:  # not there, or cut off by a kill: it is made again
        return None
