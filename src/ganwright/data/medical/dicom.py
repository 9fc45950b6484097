"""DICOM pixels in physical units: series and enhanced files as volumes, everything else as frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ganwright.data.decode import BrokenImageError
from ganwright.data.medical.dicom_headers import (
    DicomHeader,
    even_order,
    functional_value,
    read_dataset,
    volume_affine,
)
from ganwright.data.medical.nifti import CT_FLOOR
from ganwright.data.medical.scan import FloatArray, Scan, need, to_ras
from ganwright.errors import GanwrightError

Mask = npt.NDArray[np.bool_]


def read_series(headers: Sequence[DicomHeader]) -> Scan:
    """Read a volume from its slices in order, or one file of frames.

    The modality LUT (rescale slope and intercept, or a table) is applied; padding values are not valid.

    Raises:
        BrokenImageError: Pixels are missing, broken, or compressed in a way that no installed plugin can read.
    """
    if len(headers) == 1:
        return _read_file(headers[0])
    slices, masks, first = [], [], None
    for header in headers:
        dataset = read_dataset(header.path, header.name, pixels=True)
        values, valid = _values(dataset, header.name)
        if values.ndim == 4 or len(values) != 1:
            raise BrokenImageError("It is a colour slice of a volume, which cannot be read.", where=header.name)
        slices.append(values[0])
        masks.append(np.ones(values.shape[1:], bool) if valid is None else valid[0])
        first = dataset if first is None else first
    volume, mask = np.stack(slices), np.stack(masks)
    return _in_space(volume, None if mask.all() else mask, [h.places[0] for h in headers], first)


def _read_file(header: DicomHeader) -> Scan:
    dataset = read_dataset(header.path, header.name, pixels=True)
    values, valid = _values(dataset, header.name)
    if values.ndim == 3 and len(header.places) == len(values):
        order = [0] if len(values) == 1 else even_order(header.places)
        if order is not None:
            mask = None if valid is None else valid[order]
            return _in_space(values[order], mask, [header.places[i] for i in order], dataset)
    return Scan(values, valid, pixel_spacing=_pixel_spacing(dataset), **_about(dataset))


def _in_space(values: FloatArray, valid: Mask | None, places: Sequence[Any], dataset: Any) -> Scan:
    """(slices, rows, columns) as a volume in RAS."""
    turned = values.transpose(2, 1, 0)  # to (columns, rows, slices), as the affine has them
    mask = None if valid is None else valid.transpose(2, 1, 0)
    volume, mask, affine, axes = to_ras(turned, mask, volume_affine(places))
    return Scan(volume, mask, affine, axes=axes, **_about(dataset))


def _about(dataset: Any) -> dict[str, Any]:
    """What `Scan` keeps of the header."""
    modality = str(dataset.get("Modality", "") or "")
    unit = str(functional_value(dataset, 0, "PixelValueTransformationSequence", "RescaleType") or "")
    notes = []
    if str(dataset.get("BurnedInAnnotation", "")).upper() == "YES":
        notes.append("the file says that text is burned into its pixels")
    return {
        "modality": modality,
        "unit": {"CT": "HU", "PT": str(dataset.get("Units", "") or "")}.get(modality, unit if unit != "US" else ""),
        "inverted": str(dataset.get("PhotometricInterpretation", "")) == "MONOCHROME1",
        "windows": tuple(_windows(dataset)),
        "notes": tuple(notes),
    }


def _windows(dataset: Any) -> list[tuple[float, float]]:
    """Windows as (low, high), by the functions of DICOM PS3.3 C.11.2.1.2; there may be several in one file."""
    centres = _numbers(functional_value(dataset, 0, "FrameVOILUTSequence", "WindowCenter"))
    widths = _numbers(functional_value(dataset, 0, "FrameVOILUTSequence", "WindowWidth"))
    how = str(functional_value(dataset, 0, "FrameVOILUTSequence", "VOILUTFunction") or "LINEAR")
    found = []
    for centre, width in zip(centres, widths, strict=False):
        if how == "LINEAR" and width > 1:  # from the middle of the first level to that of the last
            centre, width = centre - 0.5, width - 1
        if width > 0:
            found.append((centre - width / 2, centre + width / 2))
    return found


def _numbers(value: Any) -> list[float]:
    if value is None or value == "":
        return []
    return [float(one) for one in (value if hasattr(value, "__iter__") and not isinstance(value, str) else [value])]


def _pixel_spacing(dataset: Any) -> tuple[float, float]:
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        spacing = _numbers(functional_value(dataset, 0, "PixelMeasuresSequence", keyword))
        if len(spacing) == 2 and min(spacing) > 0:
            return spacing[0], spacing[1]
    return 0.0, 0.0


# Pixels. -------------------------------------------------------------------------------------------------------------


def _values(dataset: Any, name: str) -> tuple[npt.NDArray[Any], Mask | None]:
    """Physical values float32 (F, H, W), or colours uint8 (F, H, W, 3); and which are valid."""
    try:
        stored = _stored(dataset, name)
        if stored.ndim == 4:
            return stored, None
        valid = _not_padding(dataset, stored)
        values = np.stack([_rescaled(dataset, stored[k], k) for k in range(len(stored))]).astype(np.float32)
    except (GanwrightError, MemoryError):
        raise
    except Exception as error:  # every decoder has errors of its own, and some quote the header
        syntax = dataset.file_meta.TransferSyntaxUID
        of = f"compressed as {syntax.name}, and this decoder cannot read them" if syntax.is_compressed else "broken"
        raise BrokenImageError(f"Its pixels are missing, or {of} ({type(error).__name__}).", where=name) from error
    if str(dataset.get("Modality", "")) == "CT":
        inside = values >= CT_FLOOR
        valid = inside if valid is None else valid & inside
    finite = np.isfinite(values)
    if not finite.all():
        values, valid = np.where(finite, values, np.float32(0)), finite if valid is None else valid & finite
    return values, None if valid is None or valid.all() else valid


def _stored(dataset: Any, name: str) -> npt.NDArray[Any]:
    """Stored pixels (F, H, W); colours uint8 (F, H, W, 3)."""
    pydicom = need("pydicom")
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
    _check_decoder(dataset.file_meta.TransferSyntaxUID, name)
    array: npt.NDArray[Any] = pydicom.pixels.pixel_array(dataset)
    if str(dataset.PhotometricInterpretation) == "PALETTE COLOR":
        array = pydicom.pixels.apply_color_lut(array, dataset)
        array = (array >> 8).astype(np.uint8) if array.dtype.itemsize == 2 else array
    colour = array.ndim >= 3 and array.shape[-1] in (3, 4) and int(dataset.get("SamplesPerPixel", 1)) != 1
    colour = colour or str(dataset.PhotometricInterpretation) == "PALETTE COLOR"
    array = array.reshape(-1, *array.shape[-3:]) if colour else array.reshape(-1, *array.shape[-2:])
    if not colour:
        return array
    if array.dtype != np.uint8:
        array = (array >> max(0, int(dataset.get("BitsStored", 8)) - 8)).astype(np.uint8)
    return array[..., :3]


def _check_decoder(syntax: Any, name: str) -> None:
    """Say which plugin is missing for a compressed file."""
    pixels = need("pydicom").pixels
    if not syntax.is_compressed or syntax.is_deflated:
        return
    try:
        decoder = pixels.get_decoder(syntax)
    except NotImplementedError as error:
        raise BrokenImageError(f"It is compressed as {syntax.name}, which cannot be read.", where=name) from error
    if not decoder.is_available:
        ways = " or ".join(text.partition("requires ")[2] or text for text in decoder.missing_dependencies)
        raise BrokenImageError(
            f"It is compressed as {syntax.name}, and the plugin for that is not installed: pip install {ways}.",
            where=name,
        )


def _rescaled(dataset: Any, stored: npt.NDArray[Any], frame: int) -> npt.NDArray[Any]:
    """The modality LUT of one frame: slope and intercept, or a table (DICOM PS3.3 C.11.1)."""
    if "ModalityLUTSequence" in dataset:
        found: npt.NDArray[Any] = need("pydicom").pixels.apply_modality_lut(stored, dataset)
        return found
    slope = functional_value(dataset, frame, "PixelValueTransformationSequence", "RescaleSlope")
    intercept = functional_value(dataset, frame, "PixelValueTransformationSequence", "RescaleIntercept")
    return stored.astype(np.float64) * float(1 if slope is None else slope) + float(intercept or 0)


def _not_padding(dataset: Any, stored: npt.NDArray[Any]) -> Mask | None:
    """False where pixels hold the padding value, or one in the padding range (in stored values)."""
    low = dataset.get("PixelPaddingValue")
    if low is None or low == "":
        return None
    high = dataset.get("PixelPaddingRangeLimit", low)
    low, high = sorted((int(low), int(low if high is None else high)))
    found: Mask = (stored < low) | (stored > high)
    return found
