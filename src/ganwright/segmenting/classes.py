"""The classes of a segmentation: names and colours, kept in a `classes.yaml` that people edit."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from ganwright.errors import DataError
from ganwright.files import write_atomic

IGNORE = 255
"""Class index of pixels that teach nothing and are not counted."""
MOST_CLASSES = 255
FILE_NAME = "classes.yaml"

Colour = tuple[int, int, int]

_DISTINCT: tuple[Colour, ...] = (
    (0, 0, 0),
    (230, 25, 75),
    (60, 180, 75),
    (255, 225, 25),
    (0, 130, 200),
    (245, 130, 48),
    (145, 30, 180),
    (70, 240, 240),
)
_HEAD = """\
# The classes to paint, in order: the first is class 0. Change names, colours and number as you like, before painting.
# Mask of 000000.png: 000000.mask.png, of the same size, in these colours (or grey class indices; 255 = ignore).
"""


@dataclass(frozen=True)
class SegmentClasses:
    """Names and colours of the classes, in order of their index.

    Attributes:
        names: One a class, 2 to 255 of them.
        colours: Red, green and blue in 0..255, all different.
        ignore: The colour of ignored pixels.

    Raises:
        DataError: Fewer than two classes, or two of one name or colour.
    """

    names: tuple[str, ...]
    colours: tuple[Colour, ...]
    ignore: Colour | None = (255, 255, 255)

    def __post_init__(self) -> None:
        if not 2 <= len(self.names) <= MOST_CLASSES:
            raise DataError(
                f"A segmentation has 2 to {MOST_CLASSES} classes, not {len(self.names)}.",
                fix="what is not a thing of interest is a class too: call it background",
            )
        if len(self.colours) != len(self.names):
            raise DataError(f"There are {len(self.names)} classes and {len(self.colours)} colours.")
        shown = [*self.colours, *([] if self.ignore is None else [self.ignore])]
        for what, values in (("name", list(self.names)), ("colour", [hex_of(c) for c in shown])):
            twice = sorted({str(value) for value in values if values.count(value) > 1})
            if twice:
                raise DataError(
                    f"Two classes (or a class and the ignored pixels) have one {what}.",
                    where=", ".join(twice),
                    fix="give each its own",
                )

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def numbered(cls, n: int = 4) -> SegmentClasses:
        """`background`, `part-1`, … with colours that are easy to tell apart."""
        names = ("background", *(f"part-{i}" for i in range(1, n)))
        further = tuple((37 * i % 256, 91 * i % 256, 151 * i % 256) for i in range(1, n))
        return cls(names, (_DISTINCT + further)[:n])

    def palette(self) -> npt.NDArray[np.uint8]:
        """Colour of each index, uint8 (256, 3): those of the classes, black, and that of ignored pixels at 255."""
        table = np.zeros((256, 3), np.uint8)
        table[: len(self)] = self.colours
        table[IGNORE] = self.ignore or (255, 255, 255)
        return table

    def save(self, folder: Path) -> Path:
        """Write `classes.yaml` into a folder."""
        content: dict[str, Any] = {
            "classes": {name: hex_of(colour) for name, colour in zip(self.names, self.colours, strict=True)},
            "ignore": None if self.ignore is None else hex_of(self.ignore),
        }
        path = folder / FILE_NAME
        write_atomic(path, _HEAD + yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
        return path

    @classmethod
    def load(cls, folder: Path) -> SegmentClasses:
        """Read `classes.yaml` of a folder.

        Raises:
            DataError: It is missing or not understood; says where.
        """
        path = folder / FILE_NAME
        if not path.is_file():
            raise DataError(
                "The classes are not known: there is no classes.yaml.",
                where=folder,
                fix="write one: \"classes: {background: '#000000', window: '#e6194b'}\"",
            )
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise DataError("classes.yaml is not valid YAML.", where=f"{path}: {error}") from error
        classes = content.get("classes") if isinstance(content, dict) else None
        if not isinstance(classes, dict):
            raise DataError("classes.yaml has no mapping `classes` from names to colours.", where=path)
        try:
            colours = tuple(parse_colour(colour, f"{path}: {name}") for name, colour in classes.items())
            ignore = content.get("ignore", "#ffffff")
            if "ignore" not in content and (255, 255, 255) in colours:
                ignore = None
            parsed = None if ignore is None else parse_colour(ignore, f"{path}: ignore")
            return cls(tuple(map(str, classes)), colours, parsed)
        except DataError as error:
            raise DataError(error.what, where=error.where or path, fix=error.fix) from error


def parse_colour(value: Any, where: str) -> Colour:
    """`"#rrggbb"` or a list of three numbers in 0..255.

    Raises:
        DataError: It is neither.
    """
    if isinstance(value, str) and re.fullmatch(r"#[0-9a-fA-F]{6}", value.strip()):
        digits = value.strip()[1:]
        return int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16)
    if (
        isinstance(value, list | tuple)
        and len(value) == 3
        and all(isinstance(v, int) and not isinstance(v, bool) and 0 <= v <= 255 for v in value)
    ):
        return value[0], value[1], value[2]
    raise DataError(
        f"{value!r} is not a colour.", where=where, fix='write "#e6194b" (with the quotes) or [230, 25, 75]'
    )


def hex_of(colour: Colour) -> str:
    """`#rrggbb`."""
    return "#{:02x}{:02x}{:02x}".format(*colour)
