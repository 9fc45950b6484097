"""The two sides of a comparison: images, a generator, extracted features or statistics, brought to one form."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ganwright.console import progress
from ganwright.data.arrays import as_images, to_numpy
from ganwright.data.decode import pixel_hash
from ganwright.data.sources import ImageSource, open_images
from ganwright.errors import MetricError, ProvenanceError
from ganwright.files import hash_bytes
from ganwright.metrics.extractor_base import Extractor, Features
from ganwright.metrics.features import join, require_finite
from ganwright.metrics.moments import Moments
from ganwright.metrics.pixels import pick
from ganwright.metrics.processes import ExtractorSpec, fill_store
from ganwright.metrics.statistics_file import is_statistics, read_statistics
from ganwright.metrics.store import FeatureStore, content_hash
from ganwright.samples import ImageSamples

_AT_ONCE = 64


@dataclass(frozen=True)
class Side:
    """One of the two sets.

    Attributes:
        name: What people call it.
        features: Features of each image, or None where only moments are known.
        moments: Mean and covariance where only those are known, else None.
        n: Images; 0 where unknown.
        content: Hash of the pixels, or "".
        digests: uint8 (n, 16): hash of each image's pixels; None where unknown.
        classes: int64 (n,): class of each image, or None.
        class_names: Their names.
        warnings: What a reader must know.
        names: Name of each image, for reports.
        pictures: Decodes the images at these places of the set again, for reports; None where that is impossible.
    """

    name: str
    features: Features | None
    moments: Moments | None = None
    n: int = 0
    content: str = ""
    digests: npt.NDArray[np.uint8] | None = None
    classes: npt.NDArray[np.int64] | None = None
    class_names: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    names: Sequence[str] = field(default=(), repr=False)
    pictures: Callable[[Sequence[int]], list[npt.NDArray[np.uint8]]] | None = None


@dataclass(frozen=True)
class SideOpener:
    """Opens sides for one extractor.

    Attributes:
        extractor: Open.
        spec: How other processes open it.
        devices: Processes that extract.
        quiet: Show no progress.
    """

    extractor: Extractor
    spec: ExtractorSpec
    devices: int = 1
    quiet: bool = False

    def open(self, source: Any, n: int | None = None) -> Side:
        """A side.

        Args:
            source: What `open_images` takes; a path to statistics or features (`.npz`, `.npy`); `ImageSamples`; a
                sequence of (image) items with a length, such as a torch `Dataset`; or a generator: a callable that is
                given a number k and returns k images (uint8 (k, H, W, C), or float in [-1, 1] or [0, 1]).
            n: At most so many images, always the same ones; a generator must be told.

        Raises:
            MetricError: Fewer than two images could be used, or a generator was not told how many.
            DataError: The source cannot be read.
            ProvenanceError: A file says that it was measured with another extractor.
        """
        if is_statistics(source):
            return self._statistics(Path(source), n)
        if isinstance(source, ImageSamples):
            return self._samples(source, n)
        if callable(source) and not isinstance(source, ImageSource):
            return self._generated(source, n)
        if _is_item_dataset(source):
            return self._streamed(_items(source, n), min(len(source), n or len(source)), type(source).__name__)
        with contextlib.closing(open_images(source)) as images:
            return self._images(images, source, n)

    def _images(self, images: ImageSource, source: Any, n: int | None) -> Side:
        index = pick(np.arange(len(images)), n or len(images), 0)
        index.sort()
        store = FeatureStore.of(content_hash(images, index, quiet=self.quiet), self.extractor, index)
        note = f"features of {images.name}"
        found = fill_store(
            store, source, images, self.spec, self.extractor, devices=self.devices, note=note, quiet=self.quiet
        )
        count = len(found.features)
        if count < 2:
            raise MetricError(f"{count} usable image is too few to measure.", where=images.location)
        warnings: tuple[str, ...] = ()
        if found.broken:
            named = ", ".join(found.broken[:3])
            warnings = (f"{len(found.broken)} unreadable images of {images.name} were left out ({named})",)
        labels = images.labels
        names = images.names

        def pictures(places: Sequence[int]) -> list[npt.NDArray[np.uint8]]:
            again = images if isinstance(source, ImageSource) else open_images(source)
            try:
                return [again.decode(int(found.positions[place])) for place in places]
            finally:
                if again is not images:
                    again.close()

        return Side(
            images.name,
            found.features,
            n=count,
            content=found.content,
            digests=found.digests,
            classes=None if labels is None else labels[found.positions],
            class_names=images.class_names,
            warnings=warnings,
            names=[names[int(i)] for i in found.positions],
            pictures=pictures,
        )

    def _samples(self, samples: ImageSamples, n: int | None) -> Side:
        images = samples.images[:n]
        batches = (images[start : start + _AT_ONCE] for start in range(0, len(images), _AT_ONCE))
        found = self._streamed(batches, len(images), "samples")
        return replace(
            found,
            classes=None if samples.labels is None else samples.labels[: len(images)],
            names=[f"{i:06d}" for i in range(len(images))],
            pictures=lambda places: [images[place] for place in places],
        )

    def _generated(self, generate: Callable[[int], Any], n: int | None) -> Side:
        if n is None:
            raise MetricError(
                "A generator does not say how many images to measure.", where="n", fix="say so: n=10_000, for example"
            )
        wanted, to_uint8 = n, _BatchReader()

        def batches() -> Iterator[npt.NDArray[np.uint8]]:
            made = 0
            while made < wanted:
                count = min(_AT_ONCE, wanted - made)
                batch = generate(count)
                images = batch.images if isinstance(batch, ImageSamples) else to_uint8(batch)
                made += len(images)
                yield images[: len(images) - max(0, made - wanted)]

        return self._streamed(batches(), wanted, getattr(generate, "__name__", type(generate).__name__))

    def _streamed(self, batches: Iterator[npt.NDArray[np.uint8]], total: int, name: str) -> Side:
        parts, digests = [], []
        with progress(f"features of {name}", total, quiet=self.quiet) as advance:
            for batch in batches:
                parts.append(self.extractor(batch))
                require_finite(parts[-1], self.extractor)
                digests += [pixel_hash(image) for image in batch]
                advance(len(batch))
        if sum(map(len, parts)) < 2:
            raise MetricError("Fewer than two images are too few to measure.", where=name)
        hashes = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 16)
        return Side(name, join(parts), n=len(hashes), content=hash_bytes(hashes.tobytes()), digests=hashes)

    def _statistics(self, path: Path, n: int | None) -> Side:
        found = read_statistics(path)
        mine = {
            "extractor": f"{self.extractor.name}/{self.extractor.version}",
            "preprocessing": self.extractor.preprocessing,
        }
        different = [f"{key}: {found.about[key]!r} and {mine[key]!r}" for key in mine if key in found.about]
        if any(found.about.get(key, value) != value for key, value in mine.items()):
            raise ProvenanceError(
                "The file's statistics were measured with another extractor or another way of resizing.",
                where=f"{path}: {'; '.join(different)}",
                fix="name the file's own --protocol, or make the file again: ganwright statistics DATA --out FILE",
            )
        width = len(found.moments.mean)
        if width != self.extractor.feature_dim:
            raise MetricError(
                f"The file holds features of {width} dimensions, and {self.extractor.name} has "
                f"{self.extractor.feature_dim}.",
                where=path,
                fix="name the --extractor that it was made with",
            )
        warnings: tuple[str, ...] = ()
        if "extractor" not in found.about:
            protocol = self.spec.protocol.name
            warnings = (f"{path.name} does not say what it was measured with; it is taken for {protocol}'s",)
        features = found.features
        if features is not None and n is not None and n < len(features):
            rows = pick(np.arange(len(features)), n, 0)
            rows.sort()
            features = Features(
                features.features[rows],
                None if features.logits is None else features.logits[rows],
                None if features.spatial is None else features.spatial[rows],
            )
        content = str(found.about.get("content", "")) or hash_bytes(found.moments.mean.tobytes())
        count = len(features) if features is not None else int(found.about.get("n", 0) or 0)
        moments = None if features is not None else found.moments
        return Side(path.name, features, moments, count, content, warnings=warnings)


class _BatchReader:
    """Batches of arrays to uint8 (k, H, W, C). The range of float values is that of the first batch, for all."""

    def __init__(self) -> None:
        self._zero: float | None = None

    def __call__(self, batch: Any) -> npt.NDArray[np.uint8]:
        array = to_numpy(batch)
        rows = as_images(array, "what the generator or data set returned")
        if array.dtype.kind == "f":
            if self._zero is None:
                self._zero = rows.shift
            if self._zero == 1.0:  # [-1, 1]: a batch of bright images may lie in [0, 1] by chance
                rows = replace(rows, scale=127.5, shift=1.0)
            elif rows.shift != self._zero:
                raise MetricError(
                    "The first images lay in [0, 1], and now there are values below 0: their range is unclear.",
                    where="generator",
                    fix="return uint8 images, or the same range always",
                )
        return np.stack([rows.decode(rows.row(i).tobytes()) for i in range(len(array))])


def _is_item_dataset(source: Any) -> bool:
    """Whether it is a torch-style data set: a length and items by number, and no array, list or path."""
    if isinstance(source, str | Path | np.ndarray | list | tuple | ImageSource | dict):
        return False
    from ganwright.data import huggingface

    known = hasattr(source, "dtype") or huggingface.is_dataset(source)
    return hasattr(source, "__len__") and hasattr(source, "__getitem__") and not known


def _items(source: Any, n: int | None) -> Iterator[npt.NDArray[np.uint8]]:
    """Images of a torch-style data set, whose items are images or (image, …); pictures and arrays alike."""
    from PIL import Image

    index = pick(np.arange(len(source)), n or len(source), 0)
    index.sort()
    to_uint8 = _BatchReader()
    for i in index:
        item = source[int(i)]
        image = item[0] if isinstance(item, tuple | list) else item
        if isinstance(image, dict):
            image = image.get("image", image.get("images"))
        if isinstance(image, Image.Image):
            image = np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))
            yield image[None] if image.ndim == 3 else image[None, ..., None]
        else:
            yield to_uint8(to_numpy(image)[None])
