"""What in a set would identify patients: the names of such fields, and whether the set's own path gives one away."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path

from ganwright.data.medical import dicom_headers, nifti
from ganwright.data.medical.files import Item


def identifying_fields(items: Sequence[Item]) -> set[str]:
    """Names of header fields that hold something and may identify a patient, in any file; never their values."""
    found: set[str] = set()
    for item in items:
        with contextlib.suppress(Exception):  # a broken header has no fields
            if item.kind == "NIfTI":
                found |= nifti.identifying_fields(item.path)
            elif item.headers:
                for path in {item.headers[0].path, item.headers[-1].path}:
                    found |= dicom_headers.identifying_fields(path)
    return found


def path_identifies(path: Path, items: Sequence[Item]) -> bool:
    """Whether the path of a set must not be stored: it is a single file, or holds a patient's name or number."""
    if path.is_file():
        return True
    words = set(re.split(r"[^a-z0-9]+", str(path.resolve()).lower()))
    text = str(path.resolve()).lower()
    for item in items:
        if item.kind == "DICOM" and item.headers:
            known: set[str] = set()
            with contextlib.suppress(Exception):
                known = dicom_headers.identifiers(item.headers[0].path)
            # Short ones only as whole words: "ali" is in "quality".
            if any(one in words or (len(one) >= 6 and one in text) for one in known):
                return True
    return False
