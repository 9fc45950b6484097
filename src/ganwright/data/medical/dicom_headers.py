"""DICOM headers: what a file shows and where it lies in space, series put in order, and whose it is.

Headers are read for these purposes only; no value of an identifying field goes into messages, caches or runs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ganwright.data.decode import BrokenImageError
from ganwright.data.filesets import EXPANSION_FLOOR, MAX_EXPANSION
from ganwright.data.medical.scan import Affine, need

ENDINGS = (".dcm", ".dicom", ".ima")
_MAGIC_AT, _MAGIC = 128, b"DICM"
_UNEVEN = 0.02
"""Distances between slices may differ by this share of their median before a series is no volume."""
_NOBODY = frozenset(
    (
        "",
        "anon",
        "anonymous",
        "anonymized",
        "anonymised",
        "deidentified",
        "unknown",
        "none",
        "na",
        "n/a",
        "0",
        "patient",
    )
)
"""Patient numbers that say nothing."""
_IDENTIFYING_WORDS = (
    *("patient", "physician", "operator", "institution", "station", "address", "telephone", "accession", "comment"),
    *("description", "serial", "requesting", "performed", "scheduled", "issuer", "birth", "ethnic", "religious"),
    *("occupation", "military"),
)
"""In keywords, in lower case."""


@dataclass(frozen=True)
class DicomHeader:
    """What is needed of one file's header.

    Attributes:
        name: Name in the set.
        path: Where it is.
        patient: A key of its patient, or "" where the file does not tell.
        study: A key of its study.
        series: What its slices have in common: series, size, orientation, echo and phase.
        acquisition: Number of the acquisition, where a series has several at one place.
        number: Number within the series.
        frames: Frames in the file.
        places: Of each frame, the affine of its plane in RAS: column, row and one step along the normal to millimetres;
            empty where the file does not say.
    """

    name: str
    path: Path
    patient: str
    study: str
    series: tuple[Any, ...]
    acquisition: int
    number: int
    frames: int
    places: tuple[Affine, ...]


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM files do."""
    try:
        with path.open("rb") as file:
            return file.read(_MAGIC_AT + 4)[_MAGIC_AT:] == _MAGIC
    except OSError:
        return False


def read_dataset(path: Path, name: str, *, pixels: bool) -> Any:
    """A file as a pydicom data set.

    Raises:
        BrokenImageError: It is no DICOM file, truncated, or claims an absurd size.
    """
    pydicom = need("pydicom")
    try:
        forced = path.suffix.lower() in ENDINGS  # old files begin without a preamble
        dataset = pydicom.dcmread(path, stop_before_pixels=not pixels, force=forced)
        if "SOPClassUID" not in dataset and "Rows" not in dataset:
            raise BrokenImageError("It is no DICOM file.", where=name)
        claimed = _whole(dataset, "Rows") * _whole(dataset, "Columns") * max(1, _whole(dataset, "NumberOfFrames"))
    except BrokenImageError:
        raise
    except Exception as error:  # pydicom's errors may quote values
        raise BrokenImageError(f"It is no DICOM file, or it is broken ({type(error).__name__}).", where=name) from error
    if 2 * claimed > max(EXPANSION_FLOOR, MAX_EXPANSION * path.stat().st_size):
        raise BrokenImageError("It claims an absurd size.", where=name)
    return dataset


def read_header(path: Path, name: str) -> DicomHeader | None:
    """The header of one file; None where it holds no image (reports, presentation states, directories).

    Raises:
        BrokenImageError: See `read_dataset`.
    """
    dataset = read_dataset(path, name, pixels=False)
    if not _whole(dataset, "Rows") or not _whole(dataset, "Columns"):
        return None
    try:
        frames = max(1, _whole(dataset, "NumberOfFrames"))
        places = tuple(frame_places(dataset, frames))
        cosines = tuple(np.round(places[0][:3, :2], 4).ravel().tolist()) if places else ()
        size = (_whole(dataset, "Rows"), _whole(dataset, "Columns"), _whole(dataset, "SamplesPerPixel"))
        phase = (str(dataset.get("EchoNumbers", "")), _whole(dataset, "TemporalPositionIdentifier"))
        series = str(dataset.get("SeriesInstanceUID", "") or name)
        patient = _patient(dataset)
        return DicomHeader(
            name,
            path,
            patient,
            str(dataset.get("StudyInstanceUID", "") or series),
            (series, patient, size, cosines, phase),
            _whole(dataset, "AcquisitionNumber"),
            _whole(dataset, "InstanceNumber"),
            frames,
            places if size[2] <= 1 else (),  # colour is no measurement: it is shown as stored
        )
    except Exception as error:
        raise BrokenImageError(f"Its header is broken ({type(error).__name__}).", where=name) from error


def frame_places(dataset: Any, frames: int) -> list[Affine]:
    """Where each frame lies: see `DicomHeader.places`."""
    shared = _first(dataset, "SharedFunctionalGroupsSequence")
    each = list(dataset.get("PerFrameFunctionalGroupsSequence", []) or [])
    if not each:
        each = [None] * frames
        if frames > 1:  # an ordinary multi-frame file says nothing about where its frames lie
            return []
    found = []
    for frame in each[:frames]:
        position = _functional(dataset, shared, frame, "PlanePositionSequence", "ImagePositionPatient")
        cosines = _functional(dataset, shared, frame, "PlaneOrientationSequence", "ImageOrientationPatient")
        spacing = _functional(dataset, shared, frame, "PixelMeasuresSequence", "PixelSpacing")
        if position is None or cosines is None or spacing is None:
            return []
        thickness = _functional(dataset, shared, frame, "PixelMeasuresSequence", "SliceThickness")
        found.append(_place(position, cosines, spacing, thickness))
    return found


def _place(position: Any, cosines: Any, spacing: Any, thickness: Any) -> Affine:
    along_row, along_column = np.array(cosines, np.float64).reshape(2, 3)
    between_rows, between_columns = (float(value) for value in spacing)
    affine = np.eye(4)
    affine[:3, 0] = along_row * between_columns  # one column further
    affine[:3, 1] = along_column * between_rows  # one row further
    affine[:3, 2] = np.cross(along_row, along_column) * (float(thickness or 0) or 1.0)
    affine[:3, 3] = np.array(position, np.float64)
    affine[:2] *= -1  # DICOM's axes point left and back
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise ValueError("no plane")
    return affine


def functional_value(dataset: Any, frame: int, sequence: str, keyword: str) -> Any:
    """A value of one frame of an enhanced file, from its own or the shared groups, or from the file's top level."""
    each = dataset.get("PerFrameFunctionalGroupsSequence", []) or [None]
    one = each[frame] if frame < len(each) else None
    return _functional(dataset, _first(dataset, "SharedFunctionalGroupsSequence"), one, sequence, keyword)


def _functional(dataset: Any, shared: Any, frame: Any, sequence: str, keyword: str) -> Any:
    for groups in (frame, shared):
        inner = None if groups is None else _first(groups, sequence)
        if inner is not None and inner.get(keyword) is not None:
            return inner.get(keyword)
    return dataset.get(keyword)


def _first(dataset: Any, keyword: str) -> Any:
    found = dataset.get(keyword)
    return found[0] if found else None


def _whole(dataset: Any, keyword: str) -> int:
    """A whole number of the header; 0 where it is missing or no number."""
    value: Any = 0
    with contextlib.suppress(Exception):
        value = dataset.get(keyword)
        return int(value if value is not None and not hasattr(value, "__len__") else 0)
    return 0


def _patient(dataset: Any) -> str:
    key = str(dataset.get("PatientID", "") or "").strip().lower()
    return "" if key in _NOBODY else key


# Series. -------------------------------------------------------------------------------------------------------------


def volumes_of(headers: Sequence[DicomHeader]) -> list[list[DicomHeader]]:
    """Single-frame files put together to volumes, each in order along its normal; what fits nowhere stands alone."""
    series: dict[tuple[Any, ...], list[DicomHeader]] = {}
    for header in headers:
        alone = header.frames > 1 or not header.places
        series.setdefault((header.name,) if alone else header.series, []).append(header)
    found: list[list[DicomHeader]] = []
    for members in series.values():
        ordered = _in_order(members)
        if ordered is not None:
            found.append(ordered)
            continue
        acquisitions: dict[int, list[DicomHeader]] = {}
        for header in members:
            acquisitions.setdefault(header.acquisition, []).append(header)
        for part in acquisitions.values():
            ordered = _in_order(part)
            found += [ordered] if ordered is not None else [[header] for header in part]
    return found


def _in_order(members: list[DicomHeader]) -> list[DicomHeader] | None:
    """The slices along their normal; None where they are not evenly spaced."""
    if len(members) == 1:
        return members
    order = even_order([header.places[0] for header in members])
    return None if order is None else [members[i] for i in order]


def even_order(places: Sequence[Affine]) -> list[int] | None:
    """The order of planes along their normal; None where they are not parallel and evenly spaced."""
    cosines = np.stack([place[:3, :2] for place in places])
    if np.abs(cosines - cosines[0]).max() > 1e-3 * np.abs(cosines[0]).max():
        return None
    normal = np.cross(cosines[0, :, 0], cosines[0, :, 1])
    along = np.array([place[:3, 3] @ normal for place in places]) / np.linalg.norm(normal)
    order = np.argsort(along, kind="stable")
    steps = np.diff(along[order])
    usual = float(np.median(steps)) if len(steps) else 0.0
    uneven = usual <= 1e-3 or np.abs(steps - usual).max() > _UNEVEN * usual  # usual 0: two slices at one place
    return None if uneven else [int(i) for i in order]


def volume_affine(places: Sequence[Affine]) -> Affine:
    """The affine of planes in order: column, row and slice to millimetres in RAS."""
    affine = places[0].copy()
    if len(places) > 1:
        affine[:3, 2] = (places[-1][:3, 3] - places[0][:3, 3]) / (len(places) - 1)
    return affine


# What would identify a patient. --------------------------------------------------------------------------------------


def identifying_fields(path: Path) -> set[str]:
    """Names of the fields that hold something and may identify a person; their values are not returned."""
    found: set[str] = set()
    for element in need("pydicom").dcmread(path, stop_before_pixels=True, force=True).iterall():
        if element.is_empty or element.VR == "SQ":
            continue
        word = str(element.keyword).lower()
        if element.tag.is_private:
            found.add("private fields")
        elif element.VR in ("PN", "DA", "TM", "DT") or any(part in word for part in _IDENTIFYING_WORDS):
            found.add(str(element.keyword) or f"({element.tag.group:04x},{element.tag.element:04x})")
        elif element.VR == "UI" and word.endswith("instanceuid"):
            found.add(str(element.keyword))
    return found


def identifiers(path: Path) -> set[str]:
    """Names and numbers of the patient, in lower case, to see whether a path gives them away. Never to be stored."""
    found: set[str] = set()
    dataset = need("pydicom").dcmread(path, stop_before_pixels=True, force=True)
    for element in dataset.iterall():
        if element.VR == "PN" or element.keyword in ("PatientID", "OtherPatientIDs", "AccessionNumber"):
            text = str(element.value).lower()
            for sign in "^=,;\\[]'\"":
                text = text.replace(sign, " ")
            found.update(part for part in text.split() if len(part) >= 3 and part not in _NOBODY)
    return found
