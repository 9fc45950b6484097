"""Which pictures are worked on, where results go, and the picture that shows before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from ganwright.data.photo import ENDINGS, Photo, photo_files
from ganwright.errors import DataError, SettingsError
from ganwright.files import atomic_path

Format = Literal["auto", "png", "jpg", "tiff", "webp"]
_KEPT = {".png": ".png", ".tif": ".tif", ".tiff": ".tiff", ".webp": ".webp", ".bmp": ".png"}
"""Endings that hold a result without loss; whatever else comes in goes out as PNG."""
_SHEET_HEIGHT = 1024
_BAND = 22


@dataclass(frozen=True)
class Task:
    """One picture to be worked on.

    Attributes:
        source: Where it is.
        target: Where the result goes.
        sheet: Where the before/after picture goes, or None.
    """

    source: Path
    target: Path
    sheet: Path | None = None

    def beside(self, suffix: str) -> Path:
        """The target's name with a suffix before its ending."""
        return self.target.with_name(f"{self.target.stem}-{suffix}{self.target.suffix}")


def plan(
    source: Path, out: Path | None, suffix: str, *, format_: Format = "auto", force: bool = False, sheets: bool = True
) -> list[Task]:
    """The pictures to be worked on, with their targets; nothing is written yet.

    Args:
        source: A picture or a folder, whose sub-folders are kept.
        out: A file or a folder for one picture, a folder for a folder; None: beside the picture, or beside the folder.
        suffix: What the result is called after ("denoised").
        format_: "auto": the source's where that is lossless, else PNG.
        force: Write over what is there.
        sheets: Also plan before/after pictures.

    Raises:
        DataError: There is no picture, two would get the same name, or a target is there already.
    """
    if not source.exists():
        raise DataError("There is no such picture or folder.", where=source)
    files = list(photo_files(source))
    if not files:
        raise DataError("There are no pictures in this folder.", where=source)
    if source.is_dir():
        folder = out or source.with_name(f"{source.resolve().name}-{suffix}")
        if folder.is_file():
            raise DataError("Results of a folder need a folder.", where=folder, fix="give --out another name")
        targets = [folder / f.relative_to(source).with_suffix(_ending(f, format_)) for f in files]
    else:
        name = f"{source.stem}-{suffix}{_ending(source, format_)}"
        named = out is not None and (out.suffix.lower() in ENDINGS and not out.is_dir())
        targets = [source.with_name(name) if out is None else out if named else out / name]
    tasks = [
        Task(file, target, target.with_name(f"{target.stem}-before-after.png") if sheets else None)
        for file, target in zip(files, targets, strict=True)
    ]
    _check(tasks, force)
    return tasks


def _ending(file: Path, format_: Format) -> str:
    return _KEPT.get(file.suffix.lower(), ".png") if format_ == "auto" else f".{format_}"


def _check(tasks: Sequence[Task], force: bool) -> None:
    sources = {task.source.resolve() for task in tasks}
    seen: set[Path] = set()
    for task in tasks:
        if task.target.resolve() in sources:
            raise DataError("A result would replace the picture it is made of.", where=task.target, fix="use --out")
        if task.target in seen:
            raise DataError(
                "Two pictures differ in their ending only, so their results would have the same name.",
                where=task.target,
                fix="rename one of them",
            )
        seen.add(task.target)
        there = [path for path in (task.target, task.sheet) if path is not None and path.exists()]
        if there and not force:
            raise DataError(
                "A result is there already, and is not written over.",
                where=there[0],
                fix="use --force, or another --out",
            )


def save_sheet(path: Path, columns: Sequence[tuple[str, Photo]]) -> Path:
    """Write pictures of one subject side by side as a PNG, named, at the height of the largest (1,024 at most).

    Raises:
        SettingsError: There are none.
    """
    from PIL import Image, ImageDraw  # Pillow's drawing part takes its time to load

    if not columns:
        raise SettingsError("There is nothing to show.", where=path)
    height = min(_SHEET_HEIGHT, max(photo.size[0] for _, photo in columns))
    pictures = []
    for _, photo in columns:
        width = max(1, round(photo.size[1] * height / photo.size[0]))
        kind = Image.Resampling.NEAREST if photo.size[0] < height else Image.Resampling.LANCZOS
        pictures.append(Image.fromarray(_rgb(photo)).resize((width, height), kind))
    sheet = Image.new("RGB", (sum(p.width for p in pictures) + 4 * (len(pictures) - 1), height + _BAND), "white")
    draw, left = ImageDraw.Draw(sheet), 0
    for (name, _), picture in zip(columns, pictures, strict=True):
        sheet.paste(picture, (left, _BAND))
        draw.text((left + 2, 5), name, fill="black")
        left += picture.width + 4
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="PNG")
    return path


def _rgb(photo: Photo) -> npt.NDArray[np.uint8]:
    """To look at: 8 bits, RGB, transparency on white."""
    values: npt.NDArray[np.floating] = photo.floats()
    if photo.alpha is not None:
        alpha = (photo.alpha / np.float32(photo.top))[..., None]
        values = values * alpha + (1 - alpha)
    values = np.repeat(values, 3, axis=-1) if values.shape[-1] == 1 else values
    return np.asarray(np.rint(values * 255), np.uint8)
