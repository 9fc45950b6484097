"""Where pairs come from: side by side in one picture, in two folders matched by name, or in two arrays.

Each side of the pairs becomes an `ImageSource` of its own, in one order, so that it is decoded, resized and cached as
any set of images is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np

from ganwright.config import DataSettings
from ganwright.data.arrays import ArraySource, read_arrays, to_numpy
from ganwright.data.decode import BrokenImageError, Header, Picture, Pixels, as_uint8, decode_with_alpha, on_white
from ganwright.data.filesets import FileSource
from ganwright.data.labels import common_folder
from ganwright.data.probe import sampled_headers
from ganwright.data.sources import Belonging, ImageSource, open_images, printable
from ganwright.errors import DataError
from ganwright.files import hash_bytes

Half = Literal["", "left", "right"]

SIDE_NAMES = {
    **dict.fromkeys(("A", "a", "domainA", "input", "inputs", "source"), "a"),
    **dict.fromkeys(("B", "b", "domainB", "target", "targets", "output", "outputs"), "b"),
}
"""Names of folders with one side of the pairs."""
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Names of folders that say what their pairs are for."""
_SPLIT_AND_SIDE = re.compile(r"(train|val|test)_?([AB])")
_NAMED = 5
ARRAY_KEYS = (("inputs", "targets"), ("input", "target"), ("a", "b"), ("A", "B"))
"""Names of the two arrays in an `.npz` file, in order of preference."""


class Side(ImageSource):
    """One side of the pairs: chosen pictures of a set, whole or one half of each.

    Args:
        base: The set.
        chosen: Positions in it, one a pair.
        half: Which half of each picture, "" for the whole.
        bands: Channels it should have; 0: as they are decoded, alpha being laid on white.
    """

    def __init__(self, base: ImageSource, chosen: Sequence[int], half: Half = "", bands: int = 0) -> None:
        self.base, self.chosen, self.half, self.bands = base, list(chosen), half, bands
        self.name, self.location = base.name, base.location
        self.encoded, self.bits, self.private = base.encoded, base.bits, base.private

    @property
    def names(self) -> Sequence[str]:
        """Names of the pictures."""
        return [self.base.names[i] for i in self.chosen]

    @property
    def files(self) -> Sequence[str]:
        """The file each comes from."""
        return [self.base.files[i] for i in self.chosen]

    def read(self, i: int) -> bytes:
        """The stored bytes of the whole picture."""
        return self.base.read(self.chosen[i])

    def picture_of(self, raw: bytes, i: int) -> Picture:
        """Decode what `read(i)` gave, and take this side of it.

        Raises:
            BrokenImageError: It cannot be decoded, or does not divide into halves.
        """
        if self.bands in (2, 4) and isinstance(self.base, FileSource):
            picture = decode_with_alpha(raw, self.names[i])
        else:
            picture = self.base.picture_of(raw, self.chosen[i])
        pixels = _half(picture.pixels, self.half, printable(self.names[i]))
        if self.bands:
            pixels = with_bands(pixels, self.bands)
        return Picture(np.ascontiguousarray(pixels), picture.mode, picture.format)

    def header(self, i: int) -> Header:
        """Size, mode and format of this side of picture `i`."""
        found = self.base.header(self.chosen[i])
        width = found.width // 2 if self.half else found.width
        return Header(width, found.height, found.mode, found.format)

    def belonging(self) -> Belonging | None:
        """Which pairs belong to one patient or volume, where the set knows."""
        found = self.base.belonging()
        return None if found is None else Belonging(found.by, [found.keys[i] for i in self.chosen], found.how)

    @property
    def extra(self) -> dict[str, Any]:
        """What the set tells of itself."""
        return self.base.extra

    def _quick_signature(self) -> str | None:
        found = self.base.signature()
        if found is None:
            return None
        chosen = np.array(self.chosen, np.int64).tobytes()
        return hash_bytes(found.encode(), f"{self.half} {self.bands}".encode(), chosen)

    @property
    def stored_bytes(self) -> int:
        """Size of the chosen files, about."""
        return self.base.stored_bytes * len(self.chosen) // max(1, len(self.base))

    @property
    def key_names(self) -> list[str]:
        """Names for the cache's key: sides of one set differ in them."""
        side = f"{self.half} {self.bands}".strip()
        return [f"{name} {side}" for name in super().key_names]


def _half(pixels: Pixels, half: Half, name: str) -> Pixels:
    if not half:
        return pixels
    width = pixels.shape[1]
    if width % 2:
        raise BrokenImageError(
            f"It is {width} pixels wide, which is odd, so it is no two pictures of one size.", where=name
        )
    return pixels[:, : width // 2] if half == "left" else pixels[:, width // 2 :]


def with_bands(pixels: Pixels, bands: int) -> Pixels:
    """Pixels (H, W, 1 to 4) with so many bands: alpha is laid on white or added as opaque, grey is repeated.

    Colour stays colour where grey is wanted: `decode.fit` makes it grey.
    """
    have = pixels.shape[-1]
    if have == bands:
        return pixels
    if have in (2, 4):
        pixels = on_white(as_uint8(pixels))
    if bands in (2, 4):
        if bands == 4 and pixels.shape[-1] == 1:
            pixels = np.repeat(pixels, 3, axis=-1)
        if bands == 2 and pixels.shape[-1] == 3:
            raise DataError("Colour pictures cannot have 2 channels.", where="channels", fix="choose 1, 3 or 4")
        opaque = np.full_like(pixels[..., :1], np.iinfo(pixels.dtype).max)
        pixels = np.concatenate([pixels, opaque], axis=-1)
    return pixels


# Finding them. ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pairs:
    """The pairs that were found.

    Attributes:
        name: A short name.
        location: Where they are.
        a: The set with the first side, and the position of each pair's picture in it.
        b: The same for the second side.
        halves: Which half of a picture each side is.
        splits: Of each pair "train", "val" or "test".
        notes: How they were found.
    """

    name: str
    location: str
    a: tuple[ImageSource, list[int]]
    b: tuple[ImageSource, list[int]]
    halves: tuple[Half, Half]
    splits: list[str]
    notes: list[str]


def find_pairs(source: Any, settings: DataSettings | None = None) -> Pairs:
    """The pairs in a source.

    Args:
        source: A folder, archive or set of side-by-side pictures; a folder or archive with A and B (or input and
            target, trainA and trainB) in it; an `.npz` file with `inputs` and `targets`; a tuple of two of anything
            that `open_images` opens; a mapping with `inputs` and `targets`. Sub-folders train, val and test say what
            pairs are for.
        settings: How medical files are read.

    Raises:
        DataError: There are no pairs, or pictures without a partner; names them.
    """
    if isinstance(source, Mapping):
        keys = next((keys for keys in ARRAY_KEYS if set(keys) <= source.keys()), None)
        if keys is None:
            raise DataError("A mapping of pairs needs the keys 'inputs' and 'targets'.", where=", ".join(source))
        source = (source[keys[0]], source[keys[1]])
    if isinstance(source, str | os.PathLike) and Path(source).suffix.lower() == ".npz":
        source = _of_npz(Path(source))
    if isinstance(source, tuple):
        if len(source) != 2:
            raise DataError(f"Pairs have two sides, not {len(source)}.", fix="give a tuple (inputs, targets)")
        return _of_two([_open(part, settings) for part in source])
    base = open_images(source, settings=settings)
    found = [parse_name(name) for name in base.names]
    if any(side for _, side, _ in found):
        return _of_sides(base, found)
    _require_wide(base)
    splits = _splits([split for split, _, _ in found])
    everything = list(range(len(base)))
    note = "side by side: the left half is A, the right half is B"
    return Pairs(base.name, base.location, (base, everything), (base, everything), ("left", "right"), splits, [note])


def _require_wide(base: ImageSource) -> None:
    """Refuse single pictures, which are seldom wider than 1.2 times their height where halves are pictures."""
    headers = [header for _, header in sampled_headers(base)]
    if headers and all(header.width <= 1.2 * header.height for header in headers):
        raise DataError(
            "These are no pairs: no picture is wide enough to be two side by side, and there are no folders A and B.",
            where=base.location,
            fix="put inputs in a folder A and targets in a folder B beside it, with the same names",
        )


def _open(part: Any, settings: DataSettings | None) -> ImageSource:
    if isinstance(part, str | os.PathLike | ImageSource):
        return open_images(part, settings=settings)
    return ArraySource(to_numpy(part), bands=True)


def _of_npz(path: Path) -> tuple[ArraySource, ArraySource]:
    for keys in ARRAY_KEYS:
        arrays = read_arrays(path, keys)
        if set(keys) <= arrays.keys():
            a, b = (ArraySource(arrays[key], name=path.stem, location=f"{path}: {key}", bands=True) for key in keys)
            return a, b
    raise DataError(
        "This file holds no pairs.", where=path, fix="save two arrays in it: np.savez(path, inputs=…, targets=…)"
    )


def parse_name(name: str) -> tuple[str, str, str]:
    """What a file's folders say: split, side ("a", "b" or ""), and the name that its partner shares."""
    path = PurePosixPath(name)
    split, side, rest = "", "", []
    for folder in path.parts[:-1]:
        both = _SPLIT_AND_SIDE.fullmatch(folder)
        if both:
            split, side = both[1], both[2].lower()
        elif folder in SIDE_NAMES and not side:
            side = SIDE_NAMES[folder]
        elif folder.lower() in SPLIT_NAMES and not split:
            split = SPLIT_NAMES[folder.lower()]
        else:
            rest.append(folder)
    return split, side, "/".join([*rest, path.stem])


def _of_sides(base: ImageSource, found: list[tuple[str, str, str]]) -> Pairs:
    """Two folders in one place."""
    sides: dict[str, dict[tuple[str, str], int]] = {"a": {}, "b": {}}
    for i, (split, side, key) in enumerate(found):
        if side:
            _add(sides[side], (split, key), i, base)
    keys = _matched(sides["a"], sides["b"], base, base)
    others = sum(not side for _, side, _ in found)
    notes = ["two folders, matched by name"] + ([f"{others} pictures outside them passed over"] if others else [])
    a, b = ([sides[side][key] for key in keys] for side in "ab")
    splits = _splits([split for split, _ in keys])
    return Pairs(base.name, base.location, (base, a), (base, b), ("", ""), splits, notes)


def _of_two(sources: list[ImageSource]) -> Pairs:
    """Two sets: files are matched by name, arrays by order."""
    a, b = sources
    where = f"{a.location}, {b.location}"
    if not (isinstance(a, FileSource) and isinstance(b, FileSource)):
        if len(a) != len(b):
            raise DataError(
                f"There are {len(a)} inputs and {len(b)} targets.",
                where=where,
                fix="give as many of each, in one order",
            )
        order = list(range(len(a)))
        return Pairs("pairs", where, (a, order), (b, order), ("", ""), ["train"] * len(a), ["matched by order"])
    known: list[dict[tuple[str, str], int]] = []
    for source in sources:
        shared = len(common_folder(source.names))
        sides: dict[tuple[str, str], int] = {}
        for i, name in enumerate(source.names):
            split, _, key = parse_name(name[shared:])
            _add(sides, (split, key), i, source)
        known.append(sides)
    keys = _matched(known[0], known[1], a, b)
    chosen_a, chosen_b = ([sides[key] for key in keys] for sides in known)
    splits = _splits([split for split, _ in keys])
    name = a.name if a.name == b.name else f"{a.name}-{b.name}"
    return Pairs(name, where, (a, chosen_a), (b, chosen_b), ("", ""), splits, ["two folders, matched by name"])


def _add(side: dict[tuple[str, str], int], key: tuple[str, str], i: int, source: ImageSource) -> None:
    if key in side:
        first, second = (printable(source.names[k]) for k in (side[key], i))
        raise DataError(
            f"Two pictures of one side have the same name: {first} and {second}.",
            where=source.location,
            fix="rename or remove one of them",
        )
    side[key] = i


def _matched(
    a: Mapping[tuple[str, str], int], b: Mapping[tuple[str, str], int], source_a: ImageSource, source_b: ImageSource
) -> list[tuple[str, str]]:
    """The keys of both sides, sorted.

    Raises:
        DataError: Some are of one side only; names them.
    """
    told = []
    for letter, mine, other, source in (("A", a, b, source_a), ("B", b, a, source_b)):
        alone = sorted(mine.keys() - other.keys())
        if alone:
            names = ", ".join(printable(source.names[mine[key]]) for key in alone[:_NAMED])
            told.append(f"{len(alone)} of {len(mine)} in {letter} ({names}{', …' if len(alone) > _NAMED else ''})")
    if told or not a:
        raise DataError(
            f"Pictures have no partner: {'; '.join(told)}." if told else "There are no pairs here.",
            where=source_a.location if source_a is source_b else f"{source_a.location}, {source_b.location}",
            fix="partners have one name in both folders, but for the ending: rename or remove these",
        )
    return sorted(a)


def _splits(found: list[str]) -> list[str]:
    """Splits as the folders say; pairs outside such folders are for training, and so are all where there is but one."""
    return ["train"] * len(found) if len(set(found)) == 1 else [split or "train" for split in found]
