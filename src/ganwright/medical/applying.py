"""Scans in, scans out: every slice goes through a function, and comes back in physical units at its place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from rich.markup import escape
from torch import Tensor

from ganwright.config import DataSettings
from ganwright.console import console
from ganwright.data.decode import BrokenImageError
from ganwright.data.medical.files import Item, find_items
from ganwright.data.medical.scan import Affine, FloatArray, Plane, Scan, cut, from_ras, resize, square_size, uncut
from ganwright.data.medical.window import ValueRange, parse_window
from ganwright.data.sources import printable
from ganwright.errors import DataError, SettingsError
from ganwright.medical.dicom import frame_place, write_dicom
from ganwright.medical.nifti import NumberType, write_nifti
from ganwright.medical.pseudonyms import pseudonym

Format = Literal["auto", "nifti", "dicom"]
Translate = Callable[[Tensor], Tensor]
"""Float (N, C, H, W) in [-1, 1] to float (N, C, s * H, s * W) in [-1, 1]."""

BURNED_IN = "text burned into pixels is not looked for: check the pictures before sharing them"


@dataclass(frozen=True)
class Written:
    """What became of one scan.

    Attributes:
        name: Its name in the input.
        paths: The files written; their names are pseudonyms.
    """

    name: str
    paths: list[Path]


def apply_to_files(
    source: str | Path,
    translate: Translate,
    out: str | Path,
    *,
    settings: DataSettings | None = None,
    format: Format = "auto",
    output_range: ValueRange | None = None,
    number_type: NumberType = "float32",
    batch_size: int = 16,
    force: bool = False,
) -> list[Written]:
    """Send every slice of the scans in a file or folder through a function, and write them back.

    A volume is cut along `settings.slice_axis`, its values are mapped as in training (`settings.window`), and what
    comes back is written in physical units, with the input's own order of axes and the right affine. Names of outputs
    are salted hashes of the inputs' names.

    Args:
        source: A NIfTI or DICOM file, or a folder.
        translate: The function; it may enlarge pictures by a whole factor.
        out: Folder for the outputs.
        settings: As the run was trained with.
        format: "auto": the input's own.
        output_range: Physical range of the function's output; None: the input's.
        number_type: How NIfTI values are stored.
        batch_size: Slices at a time.
        force: Replace files that are there.

    Returns:
        One entry a scan that could be read; the others are named on the terminal.

    Raises:
        DataError: There is no readable scan, or an output is there already.
    """
    settings, window = settings or DataSettings(), parse_window((settings or DataSettings()).window)
    items, _ = find_items(Path(source))
    written = []
    for item in items:
        try:
            scan = item.read()
        except BrokenImageError as error:
            console.print(f"[yellow]skipped {escape(printable(item.name))}: {escape(error.what)}")
            continue
        kind = {"auto": "nifti" if item.kind == "NIfTI" else "dicom"}.get(format, format)
        paths = outputs(Path(out), item, scan, kind, settings)
        standing = [path for path in paths if path.exists()]
        if standing and not force:
            raise DataError("The output is there already.", where=standing[0], fix="--force replaces it")
        made = apply_to_scan(scan, translate, window.of(scan), settings, output_range, batch_size)
        written.append(Written(item.name, _write(Path(out), item, made, kind, settings, number_type)))
    if not written:
        raise DataError("There is no readable scan here.", where=source, fix="`ganwright data` says why")
    console.print(f"[yellow]{BURNED_IN}")
    return written


def apply_to_scan(
    scan: Scan,
    translate: Translate,
    values: ValueRange,
    settings: DataSettings | None = None,
    output_range: ValueRange | None = None,
    batch_size: int = 16,
) -> Scan:
    """One scan sent through a function, slice by slice; what was not valid gets the lowest value.

    Pictures are shown to the function with square pixels, as in training, and brought back to the scan's own grid.

    Raises:
        SettingsError: The function returns pictures of another size than a multiple of the input's.
    """
    plane = scan.plane((settings or DataSettings()).slice_axis)
    count = scan.count(plane)
    height, width = scan.slice(0, plane)[0].shape[:2]
    size = square_size((height, width), scan.spacing(plane))
    back = output_range or values
    parts: list[npt.NDArray[Any]] = []
    for start in range(0, count, batch_size):
        shown = []
        for k in range(start, min(start + batch_size, count)):
            picture, valid = scan.slice(k, plane)
            unit = picture.astype(np.float32) / 127.5 - 1 if scan.colour else values.to_unit(picture, valid)
            shown.append(resize(unit, size))
        batch = torch.from_numpy(np.stack(shown)).reshape(len(shown), *size, -1).permute(0, 3, 1, 2)
        with torch.no_grad():
            made = translate(batch).detach().float().cpu()
        factor = made.shape[2] // size[0]
        if factor < 1 or tuple(made.shape[2:]) != (factor * size[0], factor * size[1]):
            shape = f"{tuple(batch.shape[2:])} became {tuple(made.shape[2:])}"
            raise SettingsError("Pictures came back at a size that is no multiple of theirs.", where=shape)
        pictures = made.permute(0, 2, 3, 1).numpy()
        pictures = pictures if scan.colour else pictures.mean(axis=-1)
        parts += [resize(picture, (factor * height, factor * width)) for picture in pictures]
    together = np.stack(parts)
    if scan.colour:
        return replace(scan, values=np.round((together.clip(-1, 1) + 1) * 127.5).astype(np.uint8), valid=None)
    return _placed(scan, uncut(back.to_physical(together), plane), plane, back)


def _placed(scan: Scan, values: FloatArray, plane: Plane | None, back: ValueRange) -> Scan:
    """The scan with new values, on a finer grid where they are more."""
    if scan.valid is not None:
        factors = [new // old for new, old in zip(values.shape, scan.values.shape, strict=True)]
        valid = scan.valid
        for axis, factor in enumerate(factors):
            valid = np.repeat(valid, factor, axis=axis)
        values = np.where(valid, values, np.float32(back.low)).astype(np.float32)
    row, column = (
        old / new for old, new in zip(cut(scan.values, 0, plane).shape, cut(values, 0, plane).shape, strict=True)
    )
    spacing = (scan.pixel_spacing[0] * row, scan.pixel_spacing[1] * column)
    affine = None if scan.affine is None else finer(scan.affine, scan.values.shape, values.shape)
    return replace(scan, values=values, valid=None, affine=affine, pixel_spacing=spacing)


def finer(affine: Affine, old: tuple[int, ...], new: tuple[int, ...]) -> Affine:
    """The affine of a grid with more voxels in the same space: outer edges stay, centres move."""
    factors = np.array(new) / np.array(old)
    index = np.diag([*(1 / factors), 1.0])
    index[:3, 3] = (1 / factors - 1) / 2
    return np.asarray(affine @ index, np.float64)


def outputs(out: Path, item: Item, scan: Scan, kind: str, settings: DataSettings) -> list[Path]:
    """The files that will be written for a scan (of a DICOM series, its first)."""
    stem = pseudonym(item.name)
    volume = kind == "nifti" and scan.is_volume and not scan.colour
    return [out / (f"{stem}.nii.gz" if volume else f"{stem}-0001.dcm")]


def _write(out: Path, item: Item, scan: Scan, kind: str, settings: DataSettings, number_type: NumberType) -> list[Path]:
    out.mkdir(parents=True, exist_ok=True)
    stem = pseudonym(item.name)
    if kind == "nifti" and scan.affine is not None and scan.axes is not None and not scan.colour:
        values, affine = from_ras(scan.values, scan.affine, scan.axes)
        return [write_nifti(out / f"{stem}.nii.gz", values, affine, number_type=number_type)]
    plane = scan.plane(settings.slice_axis)
    frames = np.stack([scan.slice(k, plane)[0] for k in range(scan.count(plane))])
    places = None
    if scan.affine is not None and plane is not None:
        shape = scan.values.shape
        places = [frame_place(scan.affine, plane, k, (shape[0], shape[1], shape[2])) for k in range(len(frames))]
    return write_dicom(
        out,
        frames,
        stem=stem,
        spacing=scan.spacing(plane),
        places=places,
        modality=scan.modality,
        unit=scan.unit,
        inverted=scan.inverted,
    )
