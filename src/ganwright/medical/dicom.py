"""Writing DICOM secondary captures: every attribute is named here, and none is copied from a patient's file.

Text that is burned into pixels cannot be ruled out; whoever shares pictures has to look at them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ganwright._version import __version__
from ganwright.data.medical.scan import Affine, need
from ganwright.errors import DataError
from ganwright.files import atomic_path

_MODALITIES = frozenset("CT MR PT NM US XA RF CR DX MG OT".split())  # noqa: SIM905
_TOP = 65535


def write_dicom(
    folder: Path,
    frames: npt.NDArray[Any],
    *,
    stem: str,
    spacing: tuple[float, float] = (0.0, 0.0),
    places: list[Affine] | None = None,
    modality: str = "",
    unit: str = "",
    inverted: bool = False,
) -> list[Path]:
    """Write pictures as one new series, a file each: `<stem>-0001.dcm`, ….

    Values are stored in 16 bits with slope and intercept: exactly, where they are whole numbers that span at most
    65,535; else to a 131,070th of their range.

    Args:
        folder: Where to.
        frames: Physical values (F, H, W), or colours uint8 (F, H, W, 3).
        stem: Beginning of the names, and the patient's number in the header: a pseudonym.
        spacing: Millimetres between rows and between columns; zeros: unknown.
        places: Affine of each frame in RAS: column, row and normal step to millimetres (see `frame_place`).
        modality: DICOM's code.
        unit: Of the values: HU, ….
        inverted: Low values are shown bright.

    Returns:
        The paths.

    Raises:
        DataError: Values are not finite.
        MissingExtraError: pydicom is not installed.
    """
    pydicom = need("pydicom")
    if not np.isfinite(frames).all():
        raise DataError("Values must be finite.", where=folder)
    stored, slope, intercept = _stored(frames)
    study, series, space = (pydicom.uid.generate_uid(prefix=None) for _ in range(3))
    paths = []
    for k, frame in enumerate(stored):
        dataset = _new_dataset(pydicom, stem, modality)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
        dataset.InstanceNumber = k + 1
        _pixels(dataset, frame, inverted)
        if frame.ndim == 2:
            dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
            dataset.RescaleType = unit or "US"  # DICOM's word for "unspecified"
        if min(spacing) > 0:
            dataset.PixelSpacing = [_decimal(mm) for mm in spacing]
        if places is not None:
            dataset.FrameOfReferenceUID = space
            _place(dataset, places[k])
        path = folder / f"{stem}-{k + 1:04d}.dcm"
        with atomic_path(path) as temporary:
            dataset.save_as(temporary, enforce_file_format=True)
        paths.append(path)
    return paths


def frame_place(affine: Affine, plane: str, k: int, shape: tuple[int, int, int]) -> Affine:
    """Where slice `k` of a RAS volume lies: column, row and normal step to millimetres, for pictures as `cut` has them.

    Args:
        affine: Of the volume.
        plane: The slice's plane.
        k: Its position along the axis.
        shape: Of the volume, (X, Y, Z).
    """
    axis = ("sagittal", "coronal", "axial").index(plane)
    a, b = (n for n in range(3) if n != axis)
    index = np.zeros((4, 4))
    index[a, 0], index[b, 1], index[axis, 2] = -1, -1, 1  # pictures run from the high indices down
    index[a, 3], index[b, 3], index[axis, 3], index[3, 3] = shape[a] - 1, shape[b] - 1, k, 1
    return np.asarray(affine @ index, np.float64)


def _new_dataset(pydicom: Any, stem: str, modality: str) -> Any:
    """A data set with all that a secondary capture must have (DICOM PS3.3 A.8.1), and no more."""
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    dataset.SOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = pydicom.uid.generate_uid(prefix=None)  # from random numbers, not from the input
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.Modality = modality if modality in _MODALITIES else "OT"
    dataset.ConversionType = "WSD"
    dataset.Manufacturer = "ganwright"
    dataset.SoftwareVersions = __version__
    dataset.PatientID, dataset.PatientIdentityRemoved = stem, "YES"
    dataset.DeidentificationMethod = "written anew from a list of attributes; pixels not inspected"
    dataset.StudyID, dataset.SeriesNumber = "1", 1
    for empty in ("PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber"):
        setattr(dataset, empty, "")  # the standard wants them to be there
    dataset.ReferringPhysicianName = ""
    return dataset


def _pixels(dataset: Any, frame: npt.NDArray[Any], inverted: bool) -> None:
    colour = frame.ndim == 3
    dataset.Rows, dataset.Columns = frame.shape[:2]
    dataset.SamplesPerPixel = 3 if colour else 1
    grey = "MONOCHROME1" if inverted else "MONOCHROME2"
    dataset.PhotometricInterpretation = "RGB" if colour else grey
    if colour:
        dataset.PlanarConfiguration = 0
    bits = 8 if colour else 16
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = bits, bits, bits - 1, 0
    content = np.ascontiguousarray(frame).tobytes()
    dataset.PixelData = content + b"\0" * (len(content) % 2)
    dataset["PixelData"].VR = "OB" if colour else "OW"


def _stored(frames: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], Any, Any]:
    """Stored values, slope and intercept."""
    if frames.ndim == 4:
        return frames.astype(np.uint8), 1, 0
    low, high = float(frames.min(initial=0.0 if frames.size == 0 else np.inf)), float(frames.max(initial=-np.inf))
    whole = bool((frames == np.round(frames)).all()) and high - low <= _TOP
    slope, intercept = _decimal(1.0 if whole or high <= low else (high - low) / _TOP), _decimal(low)
    # With the numbers as they are written: 16 characters may not hold all their digits.
    stored = np.round((frames.astype(np.float64) - float(intercept)) / float(slope)).clip(0, _TOP)
    return stored.astype("<u2"), slope, intercept


def _decimal(value: float) -> Any:
    """A DICOM decimal string: at most 16 characters."""
    from pydicom.valuerep import DSfloat

    return DSfloat(value, auto_format=True)


def _place(dataset: Any, affine: Affine) -> None:
    """Position and orientation in DICOM's axes, which point left and back."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    column, row, step = (lps[:3, n] for n in range(3))
    cosines = [*(column / np.linalg.norm(column)), *(row / np.linalg.norm(row))]
    dataset.ImageOrientationPatient = [_decimal(float(value)) for value in cosines]
    dataset.ImagePositionPatient = [_decimal(float(value)) for value in lps[:3, 3]]
    dataset.SliceThickness = _decimal(float(np.linalg.norm(step)))
