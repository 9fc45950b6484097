"""NIfTI files, `.nii` and `.nii.gz`, as volumes in RAS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ganwright.data.decode import BrokenImageError
from ganwright.data.filesets import EXPANSION_FLOOR, MAX_EXPANSION
from ganwright.data.medical.scan import Scan, need, to_ras
from ganwright.errors import MissingExtraError

ENDINGS = (".nii", ".nii.gz")
_MILLIMETRES = {"meter": 1000.0, "micron": 0.001}


def read_nifti(path: Path, name: str) -> Scan:
    """Read one NIfTI volume.

    Slope and intercept are applied; NaN and infinite values are not valid. Of a series of volumes over time the first
    is read.

    Args:
        path: The file.
        name: Its name, for errors.

    Raises:
        BrokenImageError: It is no NIfTI, truncated, complex or in colour, or claims an absurd size.
        MissingExtraError: nibabel is not installed.
    """
    nibabel = need("nibabel")
    try:
        image = nibabel.load(path)
        _check(image, path, name)
        notes = _notes(image)
        proxy = image.dataobj
        raw: Any = proxy[..., 0] if len(image.shape) == 4 else np.asanyarray(proxy)
        values = np.asarray(raw, np.float32).reshape((*image.shape[:3], 1, 1)[:3])
        affine = np.array(image.affine, np.float64)
    except (BrokenImageError, MissingExtraError, MemoryError):
        raise
    except Exception as error:  # nibabel, gzip and numpy each have their own; their texts may quote the header
        raise BrokenImageError(
            f"It is no NIfTI file, or it is truncated ({type(error).__name__}).", where=name
        ) from error
    affine[:3] *= _MILLIMETRES.get(str(image.header.get_xyzt_units()[0]), 1.0)
    finite = np.isfinite(values)
    valid = None if finite.all() else finite
    values = values if valid is None else np.where(finite, values, np.float32(0))
    modality, unit = "", ""
    if _looks_like_ct(values):
        modality, unit = "CT", "HU"
        notes.append("values look like Hounsfield units: taken for CT")
        outside = values >= CT_FLOOR
        if not outside.all():
            valid = outside if valid is None else valid & outside
    values, valid, affine, axes = to_ras(values, valid, affine)
    return Scan(values, valid, affine, modality=modality, unit=unit, axes=axes, notes=tuple(notes))


CT_FLOOR = -1024.0
"""Nothing has fewer Hounsfield units: lower values (-2000, -3024) mark what lies outside the field of view."""


def _looks_like_ct(values: np.ndarray[Any, Any]) -> bool:
    """Air near -1000 and bone well above 200, in whole numbers."""
    if not (values.min(initial=0) <= -900 and values.min(initial=0) >= -4096 and values.max(initial=0) >= 200):
        return False
    some = values.reshape(-1)[:: max(1, values.size // 100_000)]
    return bool((some == np.round(some)).all())


def _check(image: Any, path: Path, name: str) -> None:
    """Refuse what is not one volume of real numbers, before its pixels are read."""
    shape, kind = image.shape, image.get_data_dtype()
    if not 2 <= len(shape) <= 4 or 0 in shape:
        raise BrokenImageError(f"It has {len(shape)} axes; a volume has three.", where=name)
    if kind.kind not in "iufb":
        raise BrokenImageError("Its voxels are complex numbers or colours.", where=name)
    claimed = int(np.prod([int(n) for n in shape], dtype=object)) * kind.itemsize
    if claimed > max(EXPANSION_FLOOR, MAX_EXPANSION * path.stat().st_size):
        raise BrokenImageError("It claims an absurd size.", where=name)
    if not np.isfinite(image.affine).all() or abs(np.linalg.det(image.affine[:3, :3])) < 1e-12:
        raise BrokenImageError("Its affine is broken.", where=name)


def _notes(image: Any) -> list[str]:
    notes = []
    if len(image.shape) == 4 and image.shape[3] > 1:
        notes.append("of volumes over time, the first is read")
    header = image.header
    if "sform_code" in header and int(header["sform_code"]) == 0 and int(header["qform_code"]) == 0:
        notes.append("the file does not say how it is oriented: left and right may be exchanged")
    return notes


def identifying_fields(path: Path) -> set[str]:
    """Names of the header fields that hold free text, and may identify a patient; their values are not returned."""
    header = need("nibabel").load(path).header
    texts = ("descrip", "aux_file", "intent_name", "db_name", "data_type")
    found = {name for name in texts if name in header and bytes(header[name].tobytes()).strip(b"\0 ")}
    return found | ({"extensions"} if len(getattr(header, "extensions", ())) else set())
