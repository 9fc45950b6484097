"""Sheets: rows and columns of images with captions, drawn with the font that Pillow carries (so, in plain letters)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ganwright.samples import ImageSamples, Uint8Array, save_png

SMALLEST_CELL = 96
"""Smaller images are enlarged to at least so many pixels, by a whole factor, each pixel a square."""
_GAP, _MARGIN = 4, 10
_TEXT, _FAINT, _PAPER = (30, 30, 30), (110, 110, 110), (255, 255, 255)


@dataclass(frozen=True)
class Sheet:
    """Images in rows and columns.

    Attributes:
        images: uint8 (rows, columns, H, W, C), C = 1 or 3.
        rows: A caption for each row; "" leaves it out.
        columns: A caption for each column.
        title: Above all.
        notes: Below all, a line each.
        blank: Cells (row, column) that stay empty.
        spaced_rows: A wider gap above every so many rows; 0: none.
    """

    images: Uint8Array
    rows: Sequence[str]
    columns: Sequence[str]
    title: str = ""
    notes: Sequence[str] = ()
    blank: frozenset[tuple[int, int]] = field(default_factory=frozenset)
    spaced_rows: int = 0

    def __post_init__(self) -> None:
        if self.images.ndim != 5 or self.images.shape[:2] != (len(self.rows), len(self.columns)):
            raise ValueError(
                f"images {self.images.shape} do not fit {len(self.rows)} rows, {len(self.columns)} columns"
            )

    def samples(self) -> ImageSamples:
        """The images alone, row by row."""
        return ImageSamples(self.images.reshape(-1, *self.images.shape[2:]), columns=len(self.columns))

    def picture(self) -> Uint8Array:
        """The sheet as one RGB image (H', W', 3)."""
        factor = enlargement(self.images.shape[2:4], SMALLEST_CELL)
        height, width = self.images.shape[2] * factor, self.images.shape[3] * factor
        size = min(22, max(13, width // 8))
        font, heading = ImageFont.load_default(size), ImageFont.load_default(round(size * 1.25))
        line = round(size * 1.3)
        columns = [wrapped(text, font, width) for text in self.columns]
        left = _MARGIN + max(_width(text, font) for row in self.rows for text in row.split("\n")) + _GAP * 2
        left = left if any(self.rows) else _MARGIN
        head = _MARGIN + (round(size * 1.9) if self.title else 0)
        top = head + line * max(map(len, columns)) + _GAP
        tops = self._tops(top, height)
        right = left + len(self.columns) * (width + _GAP) - _GAP + _MARGIN
        right = max(right, *(2 * _MARGIN + _width(text, font) for text in ("", *self.notes)))
        right = max(right, 2 * _MARGIN + _width(self.title, heading))
        bottom = tops[-1] + height + _MARGIN + len(self.notes) * line
        sheet = Image.new("RGB", (right, bottom), _PAPER)
        draw = ImageDraw.Draw(sheet)
        draw.text((_MARGIN, _MARGIN), self.title, _TEXT, heading)
        for j, lines in enumerate(columns):
            x = left + j * (width + _GAP) + width // 2
            for k, text in enumerate(lines):
                draw.text((x, top - _GAP - line * (len(lines) - k)), text, _TEXT, font, anchor="ma")
        for i, y in enumerate(tops):
            draw.multiline_text(
                (left - _GAP * 2, y + height // 2), self.rows[i], _TEXT, font, anchor="rm", align="right"
            )
            for j in range(len(self.columns)):
                if (i, j) not in self.blank:
                    sheet.paste(as_picture(self.images[i, j], factor), (left + j * (width + _GAP), y))
        for k, note in enumerate(self.notes):
            draw.text((_MARGIN, tops[-1] + height + _MARGIN // 2 + k * line), note, _FAINT, font)
        return np.asarray(sheet)

    def save(self, path: str | Path) -> Path:
        """Write the sheet as a PNG, whole or not at all."""
        save_png(Path(path), self.picture())
        return Path(path)

    def _tops(self, top: int, height: int) -> list[int]:
        """The upper edge of each row."""
        tops = []
        for i in range(len(self.rows)):
            if i and self.spaced_rows and i % self.spaced_rows == 0:
                top += 3 * _GAP
            tops.append(top)
            top += height + _GAP
        return tops


def enlargement(size: Sequence[int], smallest: int) -> int:
    """The smallest whole factor that makes the longer side at least `smallest` pixels."""
    return max(1, -(-smallest // max(size)))


def as_picture(image: Uint8Array, factor: int) -> Image.Image:
    """uint8 (H, W, 1 or 3) as an RGB picture, each pixel a square of `factor` pixels."""
    large = image.repeat(factor, axis=0).repeat(factor, axis=1)
    return Image.fromarray(large if large.shape[-1] == 3 else large.repeat(3, axis=-1))


def wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """Text in lines of at most `width` pixels, broken at spaces and line breaks; a longer word is cut with dots."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        lines.append("")
        for word in paragraph.split(" "):
            joined = f"{lines[-1]} {word}".strip()
            if lines[-1] and _width(joined, font) > width:
                lines.append(_cut(word, font, width))
            else:
                lines[-1] = joined if lines[-1] else _cut(word, font, width)
    return lines


def _cut(word: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    if _width(word, font) <= width:
        return word
    while len(word) > 1 and _width(word + "...", font) > width:
        word = word[:-1]
    return word + "..."


def _width(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> int:
    return round(font.getlength(text))
