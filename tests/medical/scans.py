"""Small scans made on the spot: volumes with a place in space, NIfTI files, DICOM series."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

SPACING = (0.8, 1.1, 2.5)


def volume(seed: int = 0, shape: tuple[int, int, int] = (12, 14, 10)) -> np.ndarray:
    """Whole numbers with smooth structure, as Hounsfield units: air around, tissue and bone inside."""
    rng = np.random.default_rng(seed)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    radius = np.sqrt(x**2 + (y * 1.2) ** 2 + z**2 / 4)
    tissue = np.where(radius < 0.8, 40 + 400 * (radius > 0.65) + 60 * rng.standard_normal(shape), -1000)
    return np.round(tissue).clip(-1000, 2000)


def affine(spacing: tuple[float, float, float] = SPACING) -> np.ndarray:
    """RAS, away from the origin."""
    found = np.diag([*spacing, 1.0])
    found[:3, 3] = (-31.5, -40.25, 12.0)
    return found


def write_nifti(path: Path, values: np.ndarray, where: np.ndarray, **header: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(values, where)
    image.header.set_xyzt_units("mm")
    for name, value in header.items():
        image.header[name] = value
    nibabel.save(image, path)
    return path


def dicom_slice(
    stored: np.ndarray, *, position: tuple[float, float, float] = (0, 0, 0), number: int = 1, **fields: Any
) -> Dataset:
    """A CT slice of int16 stored values; `fields` by keyword, None to leave one out."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, generate_uid()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    values: dict[str, Any] = {
        "Modality": "CT",
        "PatientID": "P1",
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": "1.2.3.4",
        "InstanceNumber": number,
        "ImagePositionPatient": list(position),
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [1.1, 0.8],
        "SliceThickness": 2.5,
        "RescaleSlope": 1,
        "RescaleIntercept": 0,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": int(stored.dtype.kind == "i"),
        **fields,
    }
    for name, value in values.items():
        if value is not None:
            setattr(dataset, name, value)
    dataset.Rows, dataset.Columns = stored.shape[-2:] if stored.dtype != np.uint8 else stored.shape[:2]
    dataset.PixelData = stored.astype(stored.dtype.newbyteorder("<")).tobytes()
    dataset["PixelData"].VR = "OW"
    return dataset


def save(dataset: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_series(folder: Path, values: np.ndarray, *, order: list[int] | None = None, **fields: Any) -> list[Path]:
    """A RAS volume (X, Y, Z) with `affine()` as a CT series: rows run to the back, columns to the left."""
    where, (nx, ny, nz) = affine(), values.shape
    paths = []
    for number, k in enumerate(order or range(nz), 1):
        # DICOM's first pixel: the patient's right and front, that is high y and low x reversed to LPS
        stored = values[:, :, k].T[::-1, ::-1].astype(np.int16)
        corner = where @ [nx - 1, ny - 1, k, 1]
        # columns run from high x (right) down to low x: towards +L; rows from high y (front) to the back: +P
        position = (-corner[0], -corner[1], corner[2])
        dataset = dicom_slice(stored, position=position, number=number, **fields)
        paths.append(save(dataset, folder / f"IM{number:04d}.dcm"))
    return paths


def header_text(path: Path) -> str:
    return str(pydicom.dcmread(path))
