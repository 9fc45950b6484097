"""Which images belong together (one patient, one picture saved twice) and must never be parted by a split.

A group is known by its content alone, as the smallest content hash of its members, so nothing derived from a
patient's name or number is ever stored, and the same data splits alike on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ganwright.data.perceptual_hash import first_appearance
from ganwright.data.split import draws, held_out_mask
from ganwright.files import hash_bytes

Groups = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Grouping:
    """How images are kept together.

    Attributes:
        by: "image" (only exact copies stay together), "group" (near-duplicates) or "patient".
        groups: int64 (N,): each image's group, numbered from 0.
        how: One sentence on how the groups were found; it names no file and no patient.
    """

    by: Literal["image", "group", "patient"]
    groups: Groups
    how: str = ""

    @property
    def count(self) -> int:
        """Number of groups."""
        return int(self.groups.max()) + 1 if len(self.groups) else 0


@dataclass(frozen=True)
class Split:
    """A grouped split.

    Attributes:
        held_out: bool (N,).
        record: What `run.yaml` keeps: `by`, `groups`, `held_out_groups`, `held_out` and the split's `hash`.
        notes: What a person should know about it.
    """

    held_out: npt.NDArray[np.bool_]
    record: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def by_image(hashes: Hashes) -> Grouping:
    """Every image by itself, exact copies together."""
    return Grouping("image", first_appearance(_as_keys(hashes)))


def join_copies(groups: Groups, hashes: Hashes, blank: npt.NDArray[np.bool_]) -> tuple[Groups, int]:
    """Groups joined where they share an identical image that is not blank.

    Args:
        groups: int64 (N,).
        hashes: uint8 (N, 16), the content hash of each image.
        blank: bool (N,): uniform images, which say nothing about where they come from.

    Returns:
        The groups, and how many were joined to another.
    """
    contents = first_appearance(_as_keys(hashes))
    contents[blank] = len(contents) + np.arange(int(blank.sum()))  # each a content of its own
    found = joined(groups, contents)
    return found, len(np.unique(groups)) - len(np.unique(found))


def joined(a: Groups, b: Groups) -> Groups:
    """Groups (N,) of everything that is together in `a` or in `b`, or by way of others."""
    a, b = first_appearance(a), first_appearance(b)
    size = int(a.max(initial=-1)) + int(b.max(initial=-1)) + 2
    # A graph whose nodes are the groups of both; each image is an edge between its two.
    links = coo_array((np.ones(len(a), np.int8), (a, int(a.max(initial=-1)) + 1 + b)), shape=(size, size))
    return first_appearance(connected_components(links, directed=False)[1][a])


def split_groups(grouping: Grouping, hashes: Hashes, share: float, seed: int) -> Split:
    """Hold out whole groups.

    Each group draws by its smallest content hash, so it keeps its side when other groups are added or removed. Of two
    or more groups at least one is on each side.

    Args:
        grouping: The groups of the N images.
        hashes: uint8 (N, 16): the content hash of each.
        share: Expected share that is held out, in [0, 0.9].
        seed: Another seed gives another split.

    Raises:
        SettingsError: The share is out of range.
    """
    tokens = _tokens(grouping.groups, hashes)  # (G, 16)
    held_out_groups = held_out_mask(tokens, share, seed)
    if grouping.by != "image" and share > 0 and len(tokens):
        drawn = draws(tokens, seed)
        held_out_groups[drawn.argmin()] = True
        held_out_groups[drawn.argmax()] = False  # last: of a single group nothing is held out
    held_out = held_out_groups[grouping.groups]
    record = {
        "by": grouping.by,
        "groups": grouping.count,
        "held_out_groups": int(held_out_groups.sum()),
        "held_out": int(held_out.sum()),
        "hash": split_hash(hashes, held_out),
    }
    notes = []
    if grouping.by != "image":
        plural = "s" if grouping.count != 1 else ""
        notes.append(f"{len(held_out)} images in {grouping.count} group{plural}: {grouping.how}")
        notes.append(f"{record['held_out_groups']} groups ({record['held_out']} images) are held out, none is parted")
        if share > 0 and len(tokens) < 2:
            notes.append("nothing is held out: all images belong to one group")
    return Split(held_out, record, notes)


def split_hash(hashes: Hashes, held_out: npt.NDArray[np.bool_]) -> str:
    """A hash of which contents are held out and which are not, whatever their order."""
    sides = [hashes[side] for side in (held_out, ~held_out)]
    return hash_bytes(*(b"".join(sorted(row.tobytes() for row in side)) + b"|" for side in sides))


def _tokens(groups: Groups, hashes: Hashes) -> Hashes:
    """The smallest hash of each group, uint8 (G, 16)."""
    order = np.lexsort((*hashes.T[::-1], groups))
    first = np.searchsorted(groups[order], np.arange(int(groups.max()) + 1 if len(groups) else 0))
    return np.ascontiguousarray(hashes[order[first]])


def _as_keys(hashes: Hashes) -> npt.NDArray[Any]:
    return np.ascontiguousarray(hashes).view(f"V{hashes.shape[1]}").ravel()
