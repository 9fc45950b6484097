"""Writing NIfTI volumes with a header of their own."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ganwright.data.medical.scan import Affine, need
from ganwright.errors import DataError
from ganwright.files import write_atomic

NumberType = Literal["float32", "int16", "uint16", "uint8"]


def write_nifti(path: Path, values: npt.NDArray[Any], affine: Affine, *, number_type: NumberType = "float32") -> Path:
    """Write one volume. The header is new: no description, no extension, no other file's name.

    Args:
        path: `.nii` or `.nii.gz`.
        values: Physical values (X, Y, Z).
        affine: Voxel indices to millimetres in RAS, (4, 4).
        number_type: How values are stored, with slope 1. Integers are rounded.

    Returns:
        The path.

    Raises:
        DataError: The name has another ending, or values do not fit the type.
        MissingExtraError: nibabel is not installed.
    """
    nibabel = need("nibabel")
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        raise DataError("NIfTI files end in .nii or .nii.gz.", where=path)
    image = nibabel.Nifti1Image(_stored(values, number_type, path), np.asarray(affine, np.float64))
    image.header.set_xyzt_units("mm")
    # Readers that know only one of the two transforms find the same place in both, unless the axes are sheared.
    image.set_sform(affine, code=1)
    try:
        image.set_qform(affine, code=1, strip_shears=False)
    except nibabel.spatialimages.HeaderDataError:
        image.set_qform(None, code=0)
    content = image.to_bytes()
    # Without name and time: gzip would write both into the file.
    write_atomic(
        path, gzip.compress(content, compresslevel=6, mtime=0) if path.name.lower().endswith("gz") else content
    )
    return path


def _stored(values: npt.NDArray[Any], number_type: NumberType, path: Path) -> npt.NDArray[Any]:
    if number_type == "float32":
        return values.astype(np.float32)
    rounded, limits = np.round(values), np.iinfo(number_type)
    if not np.isfinite(rounded).all() or rounded.min() < limits.min or rounded.max() > limits.max:
        raise DataError(f"Values do not fit {number_type}.", where=path, fix="write float32")
    return rounded.astype(number_type)
