"""A set at its training size, and the groups of its images: what `pack.py` makes and `images.py` trains on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ganwright.config import DataSettings
from ganwright.data.group_names import named_groups
from ganwright.data.groups import Grouping, Groups, by_image, join_copies, joined
from ganwright.data.labels import Labels
from ganwright.data.perceptual_hash import Looks, first_appearance, near_duplicate_groups
from ganwright.data.sources import ImageSource
from ganwright.errors import DataError
from ganwright.files import hash_bytes
from ganwright.samples import Uint8Array

PREPROCESSING = "central square, Pillow bicubic, v1"
"""Part of the cache's key: a change of the preprocessing makes old packs unused."""
MOST_COMPARED = 200_000
"""Near-duplicates are looked for among at most so many images: the time grows with their square."""

Hashes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class KnownGroups:
    """What the source knew of patients and volumes: see `sources.Belonging`. Keys have become numbers (N,)."""

    by: Literal["patient", "volume"]
    groups: Groups
    how: str


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
        positions: int64 (N,): where each stood in the source.
        values: uint16 (N, H, W, C), the images with 16 bits, or None.
        looks: uint8 (N, 32): perceptual hash of each image at native size, or None where none was wanted.
        known: Patients or volumes, or None.
        grouping: Which images the split keeps together; None: only exact copies.
        extra: What the source tells of itself for `DataSpec.extra`.
    """

    images: Uint8Array
    hashes: Hashes
    labels: Labels | None
    class_names: tuple[str, ...]
    skipped: list[tuple[str, str]]
    notes: list[str]
    positions: npt.NDArray[np.int64]
    values: npt.NDArray[np.uint16] | None = None
    looks: Looks | None = None
    known: KnownGroups | None = None
    grouping: Grouping | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Hash of content, labels and preprocessing; where the files lay does not count."""
        labels = b"" if self.labels is None else self.labels.tobytes()
        names = "\0".join(self.class_names).encode("utf-8", "surrogateescape")
        bits = "" if self.values is None else " 16 bits"
        shape = f"{PREPROCESSING} {self.images.shape}{bits}".encode()
        return hash_bytes(shape, hash_bytes(self.hashes.tobytes(), labels, names).encode())


def looks_wanted(source: ImageSource, settings: DataSettings) -> bool:
    """Whether the groups will need perceptual hashes."""
    if settings.groups:
        return False
    return settings.split_by == "group" or (settings.split_by == "auto" and source.bits > 8)


def known_groups(source: ImageSource, positions: Sequence[int]) -> KnownGroups | None:
    """What the source knows of patients and volumes, for the images at these positions."""
    found = source.belonging()
    if found is None:
        return None
    numbers = first_appearance(np.array([found.keys[i] for i in positions], dtype=object).astype(str))
    return KnownGroups(found.by, numbers, found.how)


def with_groups(prepared: Prepared, source: ImageSource, settings: DataSettings) -> Prepared:
    """The set with the groups that `settings.split_by` and `settings.groups` ask for.

    Raises:
        SettingsError: `groups` cannot be understood.
        DataError: Images are without a group, or there are too many to compare.
    """
    grouping, notes = _find_groups(prepared, source, settings)
    if grouping.by != "image":
        groups, count = join_copies(grouping.groups, prepared.hashes, _blank(prepared))
        if count and grouping.by == "patient":
            notes.append(f"{count} patients share an identical image with another and are kept with it")
        grouping = replace(grouping, groups=groups)
    found = replace(prepared, grouping=grouping, notes=[*prepared.notes, *notes])
    return _without_patient_labels(found, source) if grouping.by == "patient" else found


def _find_groups(prepared: Prepared, source: ImageSource, settings: DataSettings) -> tuple[Grouping, list[str]]:
    by, known = settings.split_by, prepared.known
    named: Literal["group", "patient"] = "patient" if by == "patient" else "group"
    if settings.groups and by != "image":
        return Grouping(named, *_named(prepared, source, settings)), []
    if by == "image" or (by == "auto" and known is None and source.bits == 8):
        parted = "slices of one patient may stand on both sides of the split"
        return by_image(prepared.hashes), [parted] if known is not None else []
    if by in ("auto", "patient") and known is not None and known.by == "patient":
        return Grouping("patient", known.groups, known.how), []
    if by == "patient" and known is not None:
        told = "each volume is taken for a patient: where one patient has several, say so with --groups"
        return Grouping("patient", known.groups, known.how), [told]
    if by == "patient":
        return Grouping("patient", *_named(prepared, source, settings)), []
    return _by_looks(prepared, source), []


def _named(prepared: Prepared, source: ImageSource, settings: DataSettings) -> tuple[Groups, str]:
    files = [source.files[i] for i in prepared.positions]
    found = named_groups(files, settings)
    assert found is not None
    return first_appearance(np.array(found[0])), found[1]


def _by_looks(prepared: Prepared, source: ImageSource) -> Grouping:
    if prepared.looks is None or len(prepared.looks) > MOST_COMPARED:
        raise DataError(
            f"{len(prepared.hashes)} images are too many to look for near-duplicates among all of them.",
            where=source.location,
            fix="name the groups with --groups, or choose --split-by image",
        )
    groups, how = near_duplicate_groups(prepared.looks), "images that look alike (perceptual hash) are one group"
    if prepared.known is not None:
        groups = joined(groups, prepared.known.groups)
        how = "slices of one volume, and volumes with slices that look alike, are one group"
    return Grouping("group", groups, how)


def _blank(prepared: Prepared) -> npt.NDArray[np.bool_]:
    """Which of the images that have copies are uniform."""
    blank = np.zeros(len(prepared.hashes), bool)
    keys = first_appearance(np.ascontiguousarray(prepared.hashes).view("V16").ravel())
    for i in np.flatnonzero(np.bincount(keys, minlength=1)[keys] > 1):
        blank[i] = prepared.images[i].min() == prepared.images[i].max()
    return blank


def _without_patient_labels(prepared: Prepared, source: ImageSource) -> Prepared:
    """Folders that hold one patient each are no classes: there would be nothing to learn but who it is."""
    if prepared.labels is None or prepared.grouping is None or not source.labels_from_files:
        return prepared
    pairs = np.unique(np.stack([prepared.labels, prepared.grouping.groups]), axis=1)
    if len(np.unique(pairs[0])) < pairs.shape[1]:
        return prepared
    told = "no labels: each folder holds a single patient, so folders are taken for patients and not for classes"
    return replace(prepared, labels=None, class_names=(), notes=[*prepared.notes, told])
