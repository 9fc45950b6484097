"""Aligned pairs of images as training data: batches of `inputs` and `targets`, as pix2pix trains on.

Where pairs come from is in `pair_sources.py`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ganwright.config import DataSettings
from ganwright.data.arrays import ArraySource
from ganwright.data.decode import Pixels
from ganwright.data.groups import by_image, split_groups
from ganwright.data.images import as_images
from ganwright.data.jitter import Jitter
from ganwright.data.pack import prepare
from ganwright.data.pair_sources import Pairs, Side, find_pairs
from ganwright.data.prepared import Prepared
from ganwright.data.probe import choose_resolution
from ganwright.data.spec import Batch, DataKind, Dataset, DataSpec
from ganwright.data.split import SHOW, EpochOrder, duplicates, shuffled
from ganwright.errors import DataError
from ganwright.files import hash_bytes
from ganwright.samples import PairSamples, Uint8Array

"""Streams of random numbers: data order, pairs to look at."""


@dataclass(frozen=True)
class _Half:
    """One side of the pairs at its training size; pair k's image is row `rows[k]` of what was prepared."""

    prepared: Prepared
    rows: npt.NDArray[np.int64]

    @property
    def stored(self) -> Pixels:
        return self.prepared.images if self.prepared.values is None else self.prepared.values

    def take(self, pairs: npt.NDArray[np.int64]) -> Pixels:
        """Images of these pairs (n, R, R, C), as training sees them."""
        return self.stored[self.rows[pairs]]

    def look(self, pairs: npt.NDArray[np.int64]) -> Uint8Array:
        """The same as uint8."""
        return self.prepared.images[self.rows[pairs]]

    @property
    def hashes(self) -> npt.NDArray[np.uint8]:
        return self.prepared.hashes[self.rows]


class PairsDataset(Dataset):
    """Pairs of one size, jittered and mirrored together.

    Attributes:
        train_index: int64: numbers of the pairs that are trained on.
        held_out_index: int64: those of the `val` folder where there is one, else a share chosen by content.
        hashes: uint8 (N, 16): hash of each pair's content.
        skipped: (name, reason) of each file that could not be used; its partner is left out too.
        notes: What a person should know about how the pairs were read.
        duplicates: How many pairs are exact copies of an earlier one.
        spec: `channels` are the inputs', `channels_out` the targets'.
    """

    def __init__(self, inputs: Prepared, targets: Prepared, found: Pairs, settings: DataSettings, *, seed: int) -> None:
        common, rows_in, rows_out = np.intersect1d(
            inputs.positions, targets.positions, assume_unique=True, return_indices=True
        )
        self.inputs, self.targets = _Half(inputs, rows_in), _Half(targets, rows_out)
        both = zip(self.inputs.hashes, self.targets.hashes, strict=True)
        joined = b"".join(bytes.fromhex(hash_bytes(a.tobytes(), b.tobytes())) for a, b in both)
        self.hashes = np.frombuffer(joined, np.uint8).reshape(-1, 16)
        self.skipped = list(dict.fromkeys([*inputs.skipped, *targets.skipped]))
        self.duplicates = duplicates(self.hashes)
        self.notes = [*found.notes, *dict.fromkeys([*inputs.notes, *targets.notes])]
        record = self._split(np.array(found.splits)[common] == "val", settings, seed)
        if self.duplicates:
            self.notes.append(f"{self.duplicates} pairs are exact copies of others")
        if not len(common):
            raise DataError("None of the pairs can be used.", where=found.location, fix="`ganwright data` names each")
        self._jitter = Jitter(settings.jitter, settings.flip)
        self._order = EpochOrder(self.train_index)
        size, channels, channels_out = (
            int(n) for n in (inputs.images.shape[1], inputs.images.shape[-1], targets.images.shape[-1])
        )
        self.spec = DataSpec(
            kind=DataKind.PAIRS,
            name=found.name,
            count=len(self.train_index),
            fingerprint=hash_bytes(
                f"pairs {size} {channels} {channels_out}".encode(), joined, self.held_out_index.tobytes()
            ),
            resolution=size,
            channels=channels,
            bits=8 if inputs.values is None and targets.values is None else 16,
            extra={**inputs.extra, "channels_out": channels_out, "split": record},
        )

    def _split(self, val: npt.NDArray[np.bool_], settings: DataSettings, seed: int) -> dict[str, Any]:
        """Set the two indices; returns what `DataSpec.extra` tells of the split."""
        if val.any():
            record: dict[str, Any] = {"by": "folder", "how": "the pairs in the folder val are held out"}
            self.notes.append(f"{val.sum()} pairs of the folder val are held out")
            held_out = val
            seen = {row.tobytes() for row in self.hashes[~val]}
            copies = sum(row.tobytes() in seen for row in self.hashes[val])
            if copies:
                self.notes.append(f"{copies} of the held-out pairs are exact copies of training pairs")
        else:
            grouping = self.inputs.prepared.grouping
            if grouping is None or grouping.by == "image":
                grouping = by_image(self.hashes)
            else:
                grouping = replace(grouping, groups=grouping.groups[self.inputs.rows])
            split = split_groups(grouping, self.hashes, settings.held_out, seed)
            held_out, record = split.held_out, split.record
            self.notes += split.notes
        self.train_index: npt.NDArray[np.int64] = np.flatnonzero(~held_out)
        self.held_out_index: npt.NDArray[np.int64] = np.flatnonzero(held_out)
        return record

    def batch(self, index: int, size: int, *, seed: int) -> Batch:
        """Batch `index`: `inputs` (B, C, R, R) and `targets` (B, C', R, R), float32 in [-1, 1], channels-last."""
        picked = self._order.batch(index, size, seed)
        draws = self._jitter.draw(size, self.spec.resolution, seed, index)
        sides = {"inputs": self.inputs, "targets": self.targets}
        return {name: as_images(self._jitter.apply(side.take(picked), draws)) for name, side in sides.items()}

    @property
    def nothing_held_out(self) -> bool:
        """Whether all pairs are trained on."""
        return len(self.held_out_index) == 0

    def held_out_batch(self, n: int, *, seed: int) -> Batch:
        """Up to `n` held-out pairs (training pairs, where nothing is held out), as `batch` has them, not jittered."""
        picked = self._shown(n, seed, held_out=not self.nothing_held_out)
        return {"inputs": as_images(self.inputs.take(picked)), "targets": as_images(self.targets.take(picked))}

    def real_samples(self, n: int, *, seed: int, held_out: bool = False) -> PairSamples | None:
        """Up to `n` pairs without replacement, the targets standing for outputs; None where there are none."""
        picked = self._shown(n, seed, held_out=held_out)
        return PairSamples(self.inputs.look(picked), self.targets.look(picked)) if len(picked) else None

    def _shown(self, n: int, seed: int, *, held_out: bool) -> npt.NDArray[np.int64]:
        pool = self.held_out_index if held_out else self.train_index
        return pool[shuffled(len(pool), seed, SHOW)[:n]]


def recognises(source: object) -> bool:
    """Whether `source` is plainly pairs: a mapping of two sets, or a tuple of two."""
    return isinstance(source, Mapping) or (isinstance(source, tuple) and len(source) == 2)


def open_pairs(source: Any, settings: DataSettings, *, seed: int, part: str = "train") -> PairsDataset:
    """Open pairs; see `find_pairs` for what they may be.

    Args:
        source: Where they are.
        settings: Size, channels, direction, jitter and held-out share.
        seed: Seed of the held-out split.
        part: "train": what is not in a folder `test` (pairs of a folder `val` are held out). "test": only what is, all
            of it held out; everything, where there is no such folder.

    Raises:
        DataError: There are no pairs, pictures have no partner, or none can be read.
    """
    found = find_pairs(source, settings)
    if part == "test":
        found = _only(found, "test" if "test" in found.splits else "", as_split="val")
    elif "test" in found.splits and set(found.splits) != {"test"}:
        left_out = found.splits.count("test")
        found = _only(found, "test", others=True)
        found.notes.append(f"{left_out} pairs of the folder test are not used for training")
    a, b = _sides(found, settings)
    flipped = settings.pair_direction == "b2a"
    inputs, targets = (b, a) if flipped else (a, b)
    if not settings.resolution:
        settings = replace(settings, resolution=min(choose_resolution(side, settings) for side in (inputs, targets)))
    if flipped:
        found.notes.append("B is turned into A")
    prepared = [prepare(side, replace(settings, channels=_channels(side))) for side in (inputs, targets)]
    return PairsDataset(prepared[0], prepared[1], found, settings, seed=seed)


def _only(found: Pairs, split: str, *, others: bool = False, as_split: str = "") -> Pairs:
    """The pairs of one split ("": all), or all others."""
    kept = [k for k, own in enumerate(found.splits) if not split or (own == split) != others]
    (a, chosen_a), (b, chosen_b) = found.a, found.b
    return replace(
        found,
        a=(a, [chosen_a[k] for k in kept]),
        b=(b, [chosen_b[k] for k in kept]),
        splits=[as_split or found.splits[k] for k in kept],
        notes=list(found.notes),
    )


def _sides(found: Pairs, settings: DataSettings) -> tuple[Side, Side]:
    """A and B, each with the channels that are asked for, or that an array has."""
    wanted = (settings.channels_in, settings.channels_out)
    if settings.pair_direction == "b2a":
        wanted = (wanted[1], wanted[0])
    sides = []
    for (base, chosen), half, channels in zip((found.a, found.b), found.halves, wanted, strict=True):
        bands = 0 if channels == "auto" else int(channels)
        if not bands and isinstance(base, ArraySource):
            bands = base.bands
        if not bands and settings.channels != "auto":
            bands = int(settings.channels)
        sides.append(Side(base, chosen, half, bands))
    return sides[0], sides[1]


def _channels(side: Side) -> Any:
    """What `DataSettings.channels` should be for this side: a number of 1 to 4, or "auto"."""
    return str(side.bands) if side.bands else "auto"


def is_matched(source: object) -> bool:
    """Whether `source` is a folder, zip or npz with A and B in it whose names all match: pairs, if one wishes so."""
    if not isinstance(source, str | os.PathLike) or not Path(source).exists():
        return False
    if not Path(source).is_dir() and Path(source).suffix.lower() not in (".zip", ".npz"):
        return False  # a tar has to be read through to be listed
    try:
        return find_pairs(source).halves == ("", "")
    except DataError:
        return False
