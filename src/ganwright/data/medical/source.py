"""A folder of NIfTI and DICOM files, or one of them, as a set of 16-bit images: the slices of its volumes."""

from __future__ import annotations

import re
import threading
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ganwright.config import DataSettings
from ganwright.console import progress
from ganwright.data.decode import BrokenImageError, Header, Picture
from ganwright.data.labels import Labelling, common_folder, labels_from_folders
from ganwright.data.medical.files import Item, find_files, find_items, recognises, stamp_of
from ganwright.data.medical.identity import identifying_fields, path_identifies
from ganwright.data.medical.scan import Plane, Scan, resize, square_size
from ganwright.data.medical.window import ValueRange, parse_window
from ganwright.data.sources import Belonging, ImageSource
from ganwright.errors import SettingsError
from ganwright.files import hash_bytes

__all__ = ["MedicalSource", "recognises"]

READER = "medical, v1"
"""Part of the cache's key: a change of how pixels are made makes old packs unused."""
FOREGROUND = 0.05
"""Pixels above this share of the range count as foreground, for `skip_empty`."""
_KEPT_SCANS = 2
_NAMES = {"CT": "ct", "MR": "mr", "PT": "pet", "US": "ultrasound", "CR": "xray", "DX": "xray"}


@dataclass(frozen=True)
class ItemFacts:
    """What is kept of a scan after it was looked at once.

    Attributes:
        plane: The plane of its slices; None for frames.
        kept: Its slices or frames that are used.
        empty: Slices left out as empty.
        shape: Of its pictures, (H, W, C), with square pixels.
        pixel_mm: Millimetres a pixel of its pictures; 0 where unknown.
        values: The range that becomes 16 bits.
        lowest: Lowest and …
        highest: … highest valid physical value.
        modality: DICOM's code, or "".
        unit: Of the values.
        window: What is done to the values, in words.
        spacing: Voxel spacing of a volume, or (row, column) of frames.
        notes: The reader's.
    """

    plane: Plane | None
    kept: tuple[int, ...]
    empty: int
    shape: tuple[int, int, int]
    pixel_mm: float
    values: ValueRange
    lowest: float
    highest: float
    modality: str
    unit: str
    window: str
    spacing: tuple[float, ...]
    notes: tuple[str, ...]


class MedicalSource(ImageSource):
    """The slices of all volumes in a folder, and the frames of its other DICOM images.

    Pictures are uint16: `DataSettings.window` says which physical values become 0 and 65535. Pixels are made square.
    Names of files are never stored, since they may identify patients.

    Args:
        path: A folder or a file.
        settings: `window`, `slice_axis`, `slice_range` and `skip_empty`.

    Raises:
        SettingsError: One of these is impossible.
    """

    bits = 16
    private = True
    name = "scans"
    """A folder's own name may be a patient's."""

    def __init__(self, path: Path, settings: DataSettings) -> None:
        self.path, self.location, self.settings = path, str(path), settings
        self._window = parse_window(settings.window)
        low, high = settings.slice_range
        if not (0 <= low < high <= 1 and 0 <= settings.skip_empty <= 1):
            raise SettingsError(
                f"A slice range of {low:g} to {high:g}, or skipping below {settings.skip_empty:g}, is impossible.",
                where="slice_range, skip_empty",
                fix="give shares of the axis such as 0.2 0.8, and a share of the picture in 0 to 1",
            )
        self._scans: OrderedDict[int, tuple[Scan, ValueRange]] = OrderedDict()
        self._lock = threading.Lock()

    # What there is. --------------------------------------------------------------------------------------------------

    @cached_property
    def _found(self) -> tuple[list[Item], list[str]]:
        return find_items(self.path)

    @property
    def items(self) -> list[Item]:
        """Volumes and files of frames."""
        return self._found[0]

    @cached_property
    def facts(self) -> list[ItemFacts | str]:
        """Of each item, what was found when it was read once; or why it cannot be read."""
        found: list[ItemFacts | str] = []
        quiet = sum(len(item.headers) or 1 for item in self.items) < 20
        with progress("reading scans", len(self.items), quiet=quiet) as advance:
            for item in self.items:
                try:
                    scan = item.read()
                    found.append(self._look(scan))
                    if len(self.items) <= _KEPT_SCANS:  # it need not be read again
                        self._scans[len(found) - 1] = (scan, self._window.of(scan))
                except BrokenImageError as error:
                    found.append(error.what)
                advance()
        return found

    def _look(self, scan: Scan) -> ItemFacts:
        plane = scan.plane(self.settings.slice_axis)
        values = self._window.of(scan)
        count = scan.count(plane)
        chosen = range(count)
        if plane is not None:
            low, high = self.settings.slice_range
            chosen = range(int(np.floor(low * count)), max(int(np.floor(low * count)) + 1, int(np.ceil(high * count))))
        threshold = values.low + FOREGROUND * (values.high - values.low)
        kept = [k for k in chosen if count == 1 or plane is None or self._is_full(scan, k, plane, threshold)]
        shape, spacing = scan.slice(0, plane)[0].shape, scan.spacing(plane)
        size = square_size((shape[0], shape[1]), spacing)
        valid = scan.values if scan.valid is None else scan.values[scan.valid]
        return ItemFacts(
            plane,
            tuple(kept),
            len(chosen) - len(kept),
            (*size, 3 if scan.colour else 1),
            min(spacing),
            values,
            float(valid.min()) if valid.size else values.low,
            float(valid.max()) if valid.size else values.high,
            scan.modality,
            scan.unit,
            self._window.told(scan),
            scan.voxel_spacing if plane is not None else scan.pixel_spacing,
            scan.notes,
        )

    def _is_full(self, scan: Scan, k: int, plane: Plane, threshold: float) -> bool:
        values, valid = scan.slice(k, plane)
        full = values > threshold if valid is None else (values > threshold) & valid
        return float(full.mean()) >= self.settings.skip_empty

    @cached_property
    def _rows(self) -> list[tuple[int, int]]:
        """(item, slice) of each image; an item that cannot be read is one image that cannot be read."""
        rows: list[tuple[int, int]] = []
        for i, fact in enumerate(self.facts):
            rows += [(i, -1)] if isinstance(fact, str) else [(i, k) for k in fact.kept]
        return rows

    @property
    def good(self) -> list[ItemFacts]:
        """Facts of the items that can be read."""
        return [fact for fact in self.facts if not isinstance(fact, str)]

    # The interface of image sources. ---------------------------------------------------------------------------------

    @cached_property
    def names(self) -> Sequence[str]:
        """`file#axial-0081`, `file#frame-0003`, or the file where it holds one image."""
        found = []
        for i, k in self._rows:
            fact, name = self.facts[i], self.items[i].name
            if isinstance(fact, str) or (fact.plane is None and len(fact.kept) == 1):
                found.append(name)
            else:
                found.append(f"{name}#{fact.plane or 'frame'}-{k:04d}")
        return found

    @property
    def files(self) -> Sequence[str]:
        """The file of each image (of a DICOM series, its first by name)."""
        return [self.items[i].name for i, _ in self._rows]

    def read(self, i: int) -> bytes:
        """The 16-bit pixels of image `i`."""
        item, k = self._rows[i]
        scan, values = self._scan(item)
        fact = self.facts[item]
        assert not isinstance(fact, str)
        picture, valid = scan.slice(k, fact.plane)
        pixels = picture * np.uint16(257) if scan.colour else values.to_uint16(picture, valid)
        return np.ascontiguousarray(resize(pixels, fact.shape[:2])).astype("<u2").tobytes()

    def picture_of(self, raw: bytes, i: int) -> Picture:
        """The pixels of image `i`, uint16 (H, W, 1 or 3)."""
        item, _ = self._rows[i]
        fact = self.facts[item]
        assert not isinstance(fact, str)
        pixels = np.frombuffer(raw, "<u2").astype(np.uint16).reshape(fact.shape)
        return Picture(pixels, "I;16" if fact.shape[2] == 1 else "RGB", self.items[item].kind)

    def header(self, i: int) -> Header:
        """Size, mode and format of image `i`."""
        item, _ = self._rows[i]
        fact = self.facts[item]
        if isinstance(fact, str):
            raise BrokenImageError(fact, where=self.items[item].name)
        return Header(fact.shape[1], fact.shape[0], "I;16" if fact.shape[2] == 1 else "RGB", self.items[item].kind)

    def _scan(self, i: int) -> tuple[Scan, ValueRange]:
        """Item `i`, read again or still in memory."""
        with self._lock:
            if i not in self._scans:
                fact = self.facts[i]
                if isinstance(fact, str):
                    raise BrokenImageError(fact, where=self.items[i].name)
                while len(self._scans) >= _KEPT_SCANS:
                    self._scans.popitem(last=False)
                self._scans[i] = (self.items[i].read(), fact.values)
            self._scans.move_to_end(i)
            return self._scans[i]

    @cached_property
    def stored_bytes(self) -> int:
        """Size of all files, in bytes."""
        return sum(status.st_size for _, status in find_files(self.path).values())

    def _quick_signature(self) -> str:
        s = self.settings
        how = f"{READER} {s.window} {s.slice_axis} {s.slice_range} {s.skip_empty}"
        return hash_bytes(stamp_of(self.path).encode(), how.encode())

    @property
    def key_names(self) -> list[str]:
        """Positions: names may identify patients, and do not matter."""
        return [str(i) for i in range(len(self))]

    # Whose the images are. -------------------------------------------------------------------------------------------

    def belonging(self) -> Belonging:
        """Patients where all are known, from DICOM, BIDS names or folders; else volumes (of DICOM, studies)."""
        items = [self.items[i] for i, _ in self._rows]
        if items and all(item.patient for item in items):
            how = "by patient, as the headers and file names say"
            return Belonging("patient", [item.patient for item in items], how)
        if self._patient_folders is not None:
            return Belonging("patient", [self._patient_folders[item.name] for item in items], "one for each folder")
        return Belonging("volume", [item.study for item in items], "one for each volume or study")

    @cached_property
    def _patient_folders(self) -> dict[str, str] | None:
        """The folder of each item, where folders look like patients.

        They do where most hold files of the same names (`t1.nii.gz` in each), or are part of their files' names.
        """
        names = [item.name for item in self.items]
        shared = len(common_folder(names))
        parts = {name: name[shared:].split("/") for name in names}
        if not names or min(map(len, parts.values())) < 2:
            return None
        folders = {name: part[0] for name, part in parts.items()}
        files: dict[str, set[str]] = {}
        for name, folder in folders.items():
            files.setdefault(folder, set()).add("/".join(parts[name][1:]))
        if len(files) < 2:
            return None
        often = Counter(file for own in files.values() for file in own)
        alike = [any(often[f] > 1 for f in own) or all(name in f for f in own) for name, own in files.items()]
        return folders if sum(alike) * 2 > len(alike) else None

    def _find_labels(self) -> Labelling:
        """Classes from folders, but never from folders of single patients: their names may be the patients' own."""
        found = labels_from_folders(self.files)
        if found.labels is None:
            return Labelling()
        belonging = self.belonging()
        members: dict[int, set[str]] = {}
        for label, key in zip(found.labels.tolist(), belonging.keys, strict=True):
            members.setdefault(label, set()).add(key)
        least = 2 if belonging.by == "patient" else 3
        if self._patient_folders is not None or min(map(len, members.values())) < least:
            return Labelling(notes=["no labels: folders look like patients, not like classes"])
        return Labelling(found.labels, found.class_names)

    # What is told of it. ---------------------------------------------------------------------------------------------

    @property
    def notes(self) -> list[str]:
        """How the scans were read."""
        counted = Counter(note for fact in self.good for note in fact.notes)
        notes = [*super().notes, *self._found[1], *(f"{note} ({n} scans)" for note, n in counted.items())]
        empty = sum(fact.empty for fact in self.good)
        if empty:
            notes.append(f"{empty} slices with too little foreground are left out (--skip-empty)")
        notes.append("pixels may hold burned-in text, which is not looked for: check the pictures before sharing them")
        return notes

    @property
    def extra(self) -> dict[str, Any]:
        """`medical`: what is needed to give generated images physical units; `path_names_patient`."""
        good = self.good
        if not good:
            return {}
        planes = Counter(fact.plane or "frames" for fact in good)
        sides = [min(fact.shape[:2]) * fact.pixel_mm for fact in good if fact.pixel_mm > 0]
        ranges = {(fact.values.low, fact.values.high) for fact in good}
        modality = Counter(fact.modality for fact in good).most_common(1)[0][0]
        known = modality.lower() if re.fullmatch("[A-Z]{2,4}", modality) else self.name
        told = {
            "name": _NAMES.get(modality, known),
            "modality": modality,
            "unit": Counter(fact.unit for fact in good).most_common(1)[0][0],
            "window": Counter(fact.window for fact in good).most_common(1)[0][0],
            "low": float(np.median([fact.values.low for fact in good])),
            "high": float(np.median([fact.values.high for fact in good])),
            "same_range": len(ranges) == 1,
            "inverted": all(fact.values.inverted for fact in good),
            "plane": planes.most_common(1)[0][0],
            "field_of_view_mm": float(np.median(sides)) if sides else 0.0,
        }
        return {"medical": told, "path_names_patient": path_identifies(self.path, self.items)}

    def told(self) -> dict[str, Any]:
        """Modality, spacing, values and the names of identifying fields, for `ganwright data`."""
        good = self.good
        known = self.belonging()
        fields = identifying_fields(self.items)
        spacings = Counter(" x ".join(f"{mm:.3g}" for mm in fact.spacing) for fact in good)
        units = {fact.unit for fact in good} - {""}
        low = min((fact.lowest for fact in good), default=0.0)
        high = max((fact.highest for fact in good), default=0.0)
        return {
            "modality": dict(Counter(fact.modality or "not said" for fact in good)),
            "scans": f"{len(good)} readable of {len(self.items)}",
            f"{known.by}s": f"{len(set(known.keys))} ({known.how})",
            "planes": dict(Counter(fact.plane or "frames" for fact in good)),
            "voxel spacing (mm)": dict(spacings.most_common(4)),
            "values": f"{low:g} to {high:g} {'/'.join(sorted(units))}".strip(),
            "kept in 16 bits": dict(Counter(fact.window for fact in good).most_common(4)),
            "identifying fields": ", ".join(sorted(fields)) or "none found",
        }

    def close(self) -> None:
        """Forget the scans in memory."""
        self._scans.clear()
