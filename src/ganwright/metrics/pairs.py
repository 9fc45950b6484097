"""Sets of image pairs, such as restorations and their originals: matched by name, read once, measured together.

The measures themselves are in `paired.py` and `feature_distance.py`.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ganwright.console import progress
from ganwright.data.decode import BrokenImageError
from ganwright.data.filesets import FileSource
from ganwright.data.sources import ImageSource, open_images, printable
from ganwright.errors import MetricError, SettingsError, nearest
from ganwright.metrics import paired
from ganwright.metrics.estimate import Evaluation
from ganwright.metrics.extractor_base import Extractor
from ganwright.metrics.extractors import open_extractor
from ganwright.metrics.feature_distance import feature_distances, unrelated_distance
from ganwright.metrics.paired import FEATURE_DISTANCE, PAIRED, SPATIAL, PairScores
from ganwright.metrics.pixels import pick
from ganwright.samples import Uint8Array

DEFAULT_EXTRACTOR = "efficientnet-lite0"
_NAMED = 5
"""Names told in a message, at most."""
_BATCH, _BATCH_PIXELS = 16, 1 << 22
"""Pairs and pixels of one side measured at a time, at most (one image may have more pixels)."""
_YARDSTICK = 1000
"""Targets whose distances from each other are told beside the feature distance, at most."""

Pair = tuple[str, Uint8Array, Uint8Array]


def evaluate_pairs(
    images: Any,
    targets: Any,
    *,
    metrics: Sequence[str] | None = None,
    extractor: str | Extractor | None = None,
    luma: bool = False,
    shave: int = 0,
    crop: bool = False,
    n: int | None = None,
    device: torch.device | str = "cpu",
    quiet: bool = False,
) -> Evaluation:
    """Measure images against the images they should be; see `score_pairs` for the arguments and errors."""
    return score_pairs(
        images,
        targets,
        metrics=metrics,
        extractor=extractor,
        luma=luma,
        shave=shave,
        crop=crop,
        n=n,
        device=device,
        quiet=quiet,
    ).evaluation()


def score_pairs(
    images: Any,
    targets: Any,
    *,
    metrics: Sequence[str] | None = None,
    extractor: str | Extractor | None = None,
    luma: bool = False,
    shave: int = 0,
    crop: bool = False,
    n: int | None = None,
    device: torch.device | str = "cpu",
    quiet: bool = False,
) -> PairScores:
    """Measure each image against the image it should be, in one pass.

    Files are matched by their names without endings (below the folder that all files of a side share); where a side is
    an array, or both sides are single files, by order.

    Args:
        images: What is measured: anything `open_images` opens.
        targets: What it should be.
        metrics: Of "psnr", "ssim", "ms-ssim", "mae", "feature-distance". None: the first four, without those that
            the images are too small for, and the last where `extractor` is given.
        extractor: Of the feature distance; by default "efficientnet-lite0".
        luma: Compare pixels in luma only, as super-resolution papers do (`paired.luma_of`).
        shave: Pixels left out at each border; those papers leave out as many as the scale.
        crop: Cut images of different sizes to their common top left part, as papers do whose originals are no multiple
            of the scale; otherwise they are an error.
        n: At most so many pairs, always the same ones.
        device: Where to compute.
        quiet: Show no progress.

    Raises:
        MetricError: No pair can be read, files have no partner, sizes differ, or images are too small for a metric
            that was asked for; names the files.
        SettingsError: An unknown metric or extractor, or an impossible number.
        DataError: A source cannot be read.
    """
    asked = _choose(metrics, extractor)
    if shave < 0 or (n is not None and n < 1):
        raise SettingsError("`shave` must be at least 0 and `n` at least 1.", where=f"shave={shave}, n={n}")
    with _opened(images) as left, _opened(targets) as right:
        matched = match(left, right)
        matched = [matched[i] for i in np.sort(pick(np.arange(len(matched)), n or len(matched), 0))]
        network = None
        if FEATURE_DISTANCE in asked:
            named = extractor or DEFAULT_EXTRACTOR
            network = named if isinstance(named, Extractor) else open_extractor(named, device=device)
        work = _Work(asked, network, luma, torch.device(device), optional=metrics is None)
        reader = _Reader(left, right, shave, crop)
        with progress("measuring pairs", len(matched), quiet=quiet) as advance:
            for i, j in matched:
                pair = reader.read(i, j)
                if pair is not None:
                    work.add(pair)
                advance()
            work.flush()
        if not work.names:
            raise MetricError("No pair could be read.", where=f"{left.location} and {right.location}")
        warnings = (*reader.warnings(), *work.warnings)
    pixels = "luma Y (BT.601, 16 to 235)" if luma else "8-bit pixels"
    pixels += (f", {shave} pixels shaved off each border" if shave else "") + (", cut to the smaller" if crop else "")
    unrelated = math.nan
    if work.yardstick and len(features := np.concatenate(work.yardstick)) > 1:
        unrelated = unrelated_distance(features)
    joined = {name: np.concatenate(parts) for name, parts in work.parts.items()}
    return PairScores(tuple(work.names), joined, pixels, reader.digest(), network, unrelated, warnings)


def match(images: ImageSource, targets: ImageSource) -> list[tuple[int, int]]:
    """Positions of the images and of their targets, in the order of the images.

    Raises:
        MetricError: A file has no partner or two, or sets matched by order differ in number.
    """
    if len(images) == len(targets) == 1:
        return [(0, 0)]
    if not (isinstance(images, FileSource) and isinstance(targets, FileSource)):
        if len(images) != len(targets):
            raise MetricError(
                f"{len(images)} images and {len(targets)} targets are no pairs.",
                where=f"{images.location} and {targets.location}",
                fix="arrays are matched by order: give as many targets as images, in the same order",
            )
        return [(i, i) for i in range(len(images))]
    ours, theirs = _by_stem(images), _by_stem(targets)
    lonely = [(images, sorted(ours.keys() - theirs.keys())), (targets, sorted(theirs.keys() - ours.keys()))]
    if lonely[0][1] or lonely[1][1]:
        told = [f"{len(names)} in {side.location} ({_some(names)})" for side, names in lonely if names]
        raise MetricError(
            "Some files have no partner of the same name (endings aside) on the other side.",
            where="; ".join(told),
            fix="give both sides the same file names, remove what has no partner, or give arrays, matched by order",
        )
    return [(i, theirs[stem]) for stem, i in ours.items()]


@contextlib.contextmanager
def _opened(source: Any) -> Iterator[ImageSource]:
    opened = open_images(source)
    try:
        yield opened
    finally:
        if opened is not source:
            opened.close()


def _by_stem(source: ImageSource) -> dict[str, int]:
    found: dict[str, int] = {}
    for i, name in enumerate(source.key_names):
        folder, slash, file = name.rpartition("/")
        stem = folder + slash + (file.rpartition(".")[0] or file)
        if stem in found:
            raise MetricError(
                "Two files have the same name but for their endings, so their partner is not clear.",
                where=f"{source.location}: {printable(source.names[found[stem]])}, {printable(source.names[i])}",
                fix="remove or rename one of them",
            )
        found[stem] = i
    return found


class _Reader:
    """Decodes pairs, brings them to one size, and remembers what could not be used."""

    def __init__(self, images: ImageSource, targets: ImageSource, shave: int, crop: bool) -> None:
        self._sides, self._shave, self._crop = (images, targets), shave, crop
        self._broken: list[str] = []
        self._hash = hashlib.blake2b(digest_size=16)

    def read(self, i: int, j: int) -> Pair | None:
        """The pair, without its border; or None where one of the two is unreadable."""
        images, targets = self._sides
        decoded = []
        for source, k in ((images, i), (targets, j)):
            try:
                decoded.append(source.decode(k))
            except BrokenImageError:
                self._broken.append(f"{source.name}: {printable(source.names[k])}")
                return None
        a, b = decoded
        name = printable(images.names[i])
        if a.shape[:2] != b.shape[:2]:
            if not self._crop:
                raise MetricError(
                    f"The two images of a pair differ in size: {_size(a)} and its target {_size(b)}.",
                    where=f"{name} in {images.location}",
                    fix="make them one size; crop=True cuts both to their common top left part",
                )
            h, w = min(a.shape[0], b.shape[0]), min(a.shape[1], b.shape[1])
            a, b = a[:h, :w], b[:h, :w]
        if min(a.shape[:2]) <= 2 * self._shave:
            raise MetricError(f"{self._shave} pixels cannot be shaved off a {_size(a)} image.", where=name)
        inner = slice(self._shave, a.shape[0] - self._shave), slice(self._shave, a.shape[1] - self._shave)
        self._hash.update(str(b.shape).encode() + np.ascontiguousarray(b).tobytes())
        return name, a[inner], b[inner]

    def warnings(self) -> tuple[str, ...]:
        """What was left out."""
        if not self._broken:
            return ()
        return (f"{len(self._broken)} pairs were left out because a file is unreadable ({_some(self._broken)})",)

    def digest(self) -> str:
        """Hash of the targets that were read, in order."""
        return self._hash.hexdigest()


class _Work:
    """Measures pairs in batches of one shape."""

    def __init__(
        self, asked: Sequence[str], network: Extractor | None, luma: bool, device: torch.device, *, optional: bool
    ) -> None:
        self._network, self._luma, self._device, self._optional = network, luma, device, optional
        self._batch: list[Pair] = []
        self.names: list[str] = []
        self.parts: dict[str, list[npt.NDArray[np.float64]]] = {name: [] for name in asked}
        self.yardstick: list[npt.NDArray[np.float32]] = []
        self.warnings: list[str] = []

    def add(self, pair: Pair) -> None:
        """One more pair; measured when a batch is full or another shape comes."""
        if self._batch:
            _, a, b = self._batch[0]
            pixels = a.shape[0] * a.shape[1] * (len(self._batch) + 1)
            other = (a.shape, b.shape) != (pair[1].shape, pair[2].shape)
            if other or len(self._batch) == _BATCH or pixels > _BATCH_PIXELS:
                self.flush()
        self._batch.append(pair)

    def flush(self) -> None:
        """Measure what is waiting."""
        if not self._batch:
            return
        names, ours, theirs = (list(part) for part in zip(*self._batch, strict=True))
        self._batch = []
        self._drop_unfit(names[0], ours[0])
        a, b = np.stack(ours), np.stack(theirs)
        for name in self.parts.keys() & PAIRED.keys():
            self.parts[name].append(paired.scores(name, a, b, luma=self._luma, device=self._device))
        if self._network is not None:
            found = feature_distances(self._network, ours, theirs)
            self.parts[FEATURE_DISTANCE].append(found.pooled)
            if found.spatial is not None:
                self.parts.setdefault(SPATIAL, []).append(found.spatial)
            if sum(map(len, self.yardstick)) < _YARDSTICK:
                self.yardstick.append(found.target_features)
        self.names += names

    def _drop_unfit(self, name: str, image: Uint8Array) -> None:
        for metric in [m for m in self.parts if m in PAIRED and min(image.shape[:2]) < PAIRED[m].smallest]:
            needs = f"{PAIRED[metric].label} needs images of at least {PAIRED[metric].smallest} pixels a side"
            if not self._optional:
                raise MetricError(f"{needs}, not {_size(image)}.", where=name, fix="leave that metric out")
            self.warnings.append(f"{needs} and was left out ({name}: {_size(image)})")
            del self.parts[metric]


def _choose(metrics: Sequence[str] | None, extractor: str | Extractor | None) -> list[str]:
    known = [*PAIRED, FEATURE_DISTANCE]
    if metrics is None:
        return known if extractor else list(PAIRED)
    for name in metrics:
        if name not in known:
            raise SettingsError(
                f"There is no metric of pairs '{name}'.{nearest(name, known)}",
                where="metrics",
                fix="choose from " + ", ".join(known),
            )
    if not metrics:
        raise SettingsError("No metric was named.", where="metrics", fix="choose from " + ", ".join(known))
    return list(metrics)


def _size(image: Uint8Array) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"


def _some(names: Sequence[str]) -> str:
    told = ", ".join(printable(name) for name in names[:_NAMED])
    return told + (", …" if len(names) > _NAMED else "")
