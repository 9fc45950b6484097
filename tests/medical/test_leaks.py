"""Identifiers planted in every place a medical file has for them are in nothing that is written."""

from __future__ import annotations

import gzip
import json
import sys
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from nibabel.nifti1 import Nifti1Extension
from pydicom.dataset import Dataset
from scans import affine, volume, write_series

import ganwright as gw
from ganwright.config import DataSettings
from ganwright.data.inspection import inspect_data
from ganwright.medical import apply_to_files, generate_files

NAMES = ("ZEBRAMANN", "QUOKKA77", "1931-02-03", "19310203", "WOMBATKLINIK", "NUMBATCODE", "XYLOPHONIUS")


def fields(n: int) -> dict[str, object]:
    """One identifier of every kind of header field."""
    return {
        "PatientName": f"ZEBRAMANN^XYLOPHONIUS{n}",  # PN
        "PatientID": f"QUOKKA77{n}",  # LO
        "PatientBirthDate": "19310203",  # DA
        "StudyTime": "101112",
        "OtherPatientNames": "ZEBRAMANN^B",
        "InstitutionName": "WOMBATKLINIK",  # LO
        "InstitutionAddress": "WOMBATKLINIK street",  # ST
        "StationName": "WOMBATKLINIK1",  # SH
        "PatientComments": "called ZEBRAMANN",  # LT
        "AccessionNumber": "NUMBATCODE",  # SH
        "RescaleType": "HU",
        "SeriesDescription": "head of ZEBRAMANN",
        "ProtocolName": "ZEBRAMANN",
        "ImageComments": "ZEBRAMANN",
    }


def plant(folder: Path) -> Path:
    """Three patients as DICOM, three as NIfTI, all over identifiers."""
    for n in range(3):
        place = folder / f"ZEBRAMANN_{n}"
        write_series(place, volume(n, (16, 16, 8)), **fields(n), SeriesInstanceUID=f"1.2.{n + 3}")
        import pydicom

        for path in place.iterdir():
            dataset = pydicom.dcmread(path)
            block = dataset.private_block(0x0011, "NUMBATCODE", create=True)
            block.add_new(0x01, "LO", "QUOKKA77 private")
            request = Dataset()
            request.RequestingPhysician, request.RequestedProcedureDescription = "ZEBRAMANN^DR", "NUMBATCODE"
            dataset.RequestAttributesSequence = [request]
            dataset.save_as(path)
            path.rename(path.with_name(f"ZEBRAMANN-{path.name}"))
        image = nibabel.Nifti1Image(volume(n + 5, (16, 16, 8)).astype(np.int16), affine())
        image.header["descrip"], image.header["aux_file"] = b"ZEBRAMANN 19310203", b"QUOKKA77.txt"
        image.header["intent_name"], image.header["db_name"] = b"NUMBATCODE", b"WOMBATKLINIK"
        image.header.extensions.append(Nifti1Extension("comment", b"born 1931-02-03, XYLOPHONIUS"))
        nibabel.save(image, folder / f"QUOKKA77-{n}.nii.gz")
    (folder / "ZEBRAMANN-broken.nii.gz").write_bytes(b"ZEBRAMANN")
    return folder


def contents(path: Path) -> bytes:
    """All that can be read in a file: as it is, unpacked, and the text chunks of pictures."""
    raw = path.read_bytes()
    found = [str(path).encode(), raw]
    if raw[:2] == b"\x1f\x8b":
        found.append(gzip.decompress(raw))
    if path.suffix == ".pt" or raw[:2] == b"PK":
        import io
        import zipfile

        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            found += [archive.read(name) for name in archive.namelist()]
    if raw[:8] == b"\x89PNG\r\n\x1a\n":
        at = 8
        while at < len(raw):
            length, kind = int.from_bytes(raw[at : at + 4], "big"), raw[at + 4 : at + 8]
            chunk = raw[at + 8 : at + 8 + length]
            found += [zlib.decompress(chunk[chunk.index(b"\0") + 2 :])] if kind == b"zTXt" else [chunk]
            at += length + 12
    everything = b"\n".join(found)
    return everything + everything.decode("utf-16-le", "ignore").encode("utf-8", "ignore")


def leaks(folder: Path, below: Path) -> list[str]:
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            text = contents(path).replace(str(below).encode(), b"").lower()
            found += [f"{name} in {path}" for name in NAMES if name.lower().encode() in text]
        found += [f"{name} in the name {path}" for name in NAMES if name.lower() in path.name.lower()]
    return found


def test_the_search_finds_what_is_planted(tmp_path: Path) -> None:
    plant(tmp_path / "in")
    found = leaks(tmp_path / "in", tmp_path)
    assert {one.split(" ")[0] for one in found} == set(NAMES)


def test_no_output_holds_an_identifier(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(1)
    data = plant(tmp_path / "in")
    out, cache = tmp_path / "out", tmp_path / "cache"
    monkeypatch.setenv("GANWRIGHT_CACHE", str(cache))
    monkeypatch.setattr("ganwright.data.pack.MANY_IMAGES", 5)  # so that it is packed into the cache
    monkeypatch.setattr(sys, "argv", ["ganwright", "train", "dcgan", str(data)])
    small = {"resolution": 16, "batch_size": 4, "steps": 4, "held_out": 0.4, "sample_every": 2, "eval_samples": 8}
    run = gw.train("dcgan", str(data), out=out / "run", metrics=("fd", "mmd"), evaluate_every=4, **small)
    gw.resume(run, steps=6)
    assert run.config["data"]["bits"] == 16
    gw.sample(run, 4).save_each(out / "each")
    nifti = generate_files(run, 3, out / "nifti")
    dicom = generate_files(run, 3, out / "dicom", format="dicom")
    assert len(nifti) == len(dicom) == 3
    for kind in ("nifti", "dicom"):
        apply_to_files(data, lambda x: x * 0.5, out / f"applied-{kind}", format=kind)
        assert len(list((out / f"applied-{kind}").iterdir())) == (6 if kind == "nifti" else 48)
    report = inspect_data(data, DataSettings(resolution=16))
    (out / "facts.json").write_text(json.dumps([report.facts, report.notes, report.advice, report.name], default=str))
    assert (cache / "packed").is_dir() and (out / "run" / "report.html").is_file()
    assert leaks(out, tmp_path) == []
    assert leaks(cache, tmp_path) == []


def test_the_inspection_names_fields_and_not_their_values(tmp_path: Path) -> None:
    report = inspect_data(plant(tmp_path / "in"), DataSettings(resolution=16))
    named = report.facts["identifying fields"].split(", ")
    expected = {"PatientName", "PatientID", "PatientBirthDate", "InstitutionName", "AccessionNumber", "private fields"}
    assert expected | {"descrip", "aux_file", "intent_name", "db_name", "extensions", "StationName"} <= set(named)
    assert "RequestingPhysician" in named and "PatientComments" in named and "Rows" not in named
    text = json.dumps([report.facts, report.notes, report.advice, report.classes, report.name], default=str)
    assert not [name for name in NAMES if name.lower() in text.lower()]


@pytest.mark.parametrize("place", ["ZEBRAMANN_scans", "scans of QUOKKA770"])
def test_a_path_that_names_a_patient_is_not_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    data = tmp_path / place
    for n in range(3):
        write_series(data / str(n), volume(n, (16, 16, 8)), **fields(n), SeriesInstanceUID=f"1.2.{n + 3}")
    monkeypatch.setattr(sys, "argv", ["ganwright", "train", "dcgan", str(data), "--steps", "2"])
    settings = {"resolution": 16, "batch_size": 4, "steps": 2, "evaluate_every": -1}
    run = gw.train("dcgan", str(data), out=tmp_path / "run", write_html=False, **settings)
    assert run.config["data_source"] is None and run.config["command"] == "ganwright train dcgan DATA --steps 2"
    assert leaks(tmp_path / "run", tmp_path) == []
    with pytest.raises(gw.errors.DataError, match="names a patient"):
        gw.resume(run, steps=3, write_html=False)
    gw.resume(run, data=str(data), steps=3, write_html=False)


def test_folders_of_patients_are_no_classes(tmp_path: Path) -> None:
    from ganwright.data.opening import open_dataset

    for patient in ("ZEBRAMANN_A", "ZEBRAMANN_B", "ZEBRAMANN_C"):
        for name in ("t1.nii.gz", "t2.nii.gz"):
            (tmp_path / patient).mkdir(exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(volume(hash(name) % 99), affine()), tmp_path / patient / name)
    dataset = open_dataset(tmp_path, DataSettings(resolution=8, skip_empty=0))
    assert dataset.labels is None and dataset.spec.class_names == ()
    assert dataset.spec.extra["split"]["by"] == "patient"
