"""Finding medical files in a folder, and what in them belongs to one volume."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ganwright.data.decode import EXTENSIONS, BrokenImageError
from ganwright.data.medical import dicom_headers, nifti
from ganwright.data.medical.dicom import read_series
from ganwright.data.medical.dicom_headers import DicomHeader, is_dicom
from ganwright.data.medical.scan import Scan

Kind = Literal["NIfTI", "DICOM"]
_BIDS = re.compile(r"(?:^|[/_])sub-([A-Za-z0-9]+)")


def kind_of(path: Path) -> Kind | None:
    """What a file is by its name, or by its first bytes where the name has no telling ending."""
    name = path.name.lower()
    if name.endswith(nifti.ENDINGS):
        return "NIfTI"
    if name.endswith(dicom_headers.ENDINGS):
        return "DICOM"
    suffix = path.suffix.lower()
    # Files of scanners are often without an ending, or end like "….1.2.840.113" or "IM.0001".
    unnamed = not suffix or suffix[1:].isdigit()
    return "DICOM" if unnamed and not name.startswith(".") and is_dicom(path) else None


def recognises(path: Path) -> bool:
    """Whether a file is medical, or the first picture or medical file met in a folder is."""
    if path.is_file():
        return kind_of(path) is not None
    for _, file in _walk(path):
        if Path(file.path).suffix.lower() in EXTENSIONS:
            return False
        if kind_of(Path(file.path)) is not None:
            return True
    return False


def _walk(folder: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """(name with forward slashes, file) of all files in a folder and its sub-folders; links are followed once."""
    seen: set[tuple[int, int]] = set()
    pending = [("", os.fspath(folder))]
    while pending:
        prefix, place = pending.pop()
        status = Path(place).stat()
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(place) as found:
            for item in found:
                if item.name.startswith(".") or item.name == "__MACOSX":
                    continue
                if item.is_dir():
                    pending.append((f"{prefix}{item.name}/", item.path))
                elif item.is_file():
                    yield prefix + item.name, item


@dataclass(frozen=True)
class Item:
    """One volume, or one file of frames.

    Attributes:
        name: A name for it: a file, or the folder of its series.
        kind: NIfTI or DICOM.
        path: The file; of a series, its first.
        headers: Of a DICOM series, its files in order.
        reason: Why it cannot be read, or "".
    """

    name: str
    kind: Kind
    path: Path
    headers: tuple[DicomHeader, ...] = ()
    reason: str = ""

    @property
    def patient(self) -> str:
        """A key of its patient, or ""; it may identify a person."""
        if self.kind == "DICOM":
            return self.headers[0].patient if self.headers else ""
        found = _BIDS.findall(self.name)
        return found[0] if found else ""

    @property
    def study(self) -> str:
        """A key of the study or file it belongs to."""
        return self.headers[0].study if self.headers else self.name

    def read(self) -> Scan:
        """Read it in physical units.

        Raises:
            BrokenImageError: It cannot be read.
        """
        if self.reason:
            raise BrokenImageError(self.reason, where=self.name)
        return nifti.read_nifti(self.path, self.name) if self.kind == "NIfTI" else read_series(self.headers)


@dataclass
class Found:
    """What lies in a folder.

    Attributes:
        items: Volumes and files of frames, by name.
        files: Names of all medical files.
        stored_bytes: Their size together.
        stamp: A hash of names, sizes and times.
        notes: What was passed over.
    """

    items: list[Item]
    files: list[str]
    stored_bytes: int
    stamp: str
    notes: list[str] = field(default_factory=list)


def find_files(path: Path) -> dict[str, tuple[Path, os.stat_result]]:
    """Medical files by name, sorted: those of a folder, or the one file."""
    if path.is_file():
        return {path.name: (path, path.stat())}
    found = {name: item for name, item in _walk(path) if kind_of(Path(item.path)) is not None}
    return {name: (Path(found[name].path), found[name].stat()) for name in sorted(found)}


def stamp_of(path: Path) -> str:
    """A quick hash that changes when a medical file in a folder changes."""
    digest = hashlib.blake2b(str(path.resolve()).encode("utf-8", "surrogateescape"), digest_size=16)
    for name, (_, status) in find_files(path).items():
        times = f"{status.st_size}\0{status.st_mtime_ns}\0{status.st_ctime_ns}"
        digest.update(f"{name}\0{times}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def find_items(path: Path) -> tuple[list[Item], list[str]]:
    """Volumes and files of frames of a folder, or of one file, by name; and notes on what was passed over.

    Raises:
        MissingExtraError: nibabel or pydicom is not installed.
    """
    items: list[Item] = []
    headers: list[DicomHeader] = []
    others: Counter[str] = Counter()
    for name, (file, _) in find_files(path).items():
        if kind_of(file) == "NIfTI":
            items.append(Item(name, "NIfTI", file))
            continue
        try:
            header = dicom_headers.read_header(file, name)
        except BrokenImageError as error:
            items.append(Item(name, "DICOM", file, reason=error.what))
            continue
        if header is None:
            others["DICOM files without an image"] += 1
        else:
            headers.append(header)
    items += [_series_item(members) for members in dicom_headers.volumes_of(headers)]
    notes = [f"{count} {what} passed over" for what, count in others.items()]
    return sorted(items, key=lambda item: (item.name, item.path)), notes


def _series_item(members: Sequence[DicomHeader]) -> Item:
    first = min(members, key=lambda header: header.name)
    return Item(first.name, "DICOM", members[0].path, tuple(members))
