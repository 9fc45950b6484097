"""`ganwright data`: what is reported about sets whose content is known."""

from __future__ import annotations

import io
import json
from pathlib import Path

from picture_sets import encode, noise, write_folder
from rich.console import Console

from ganwright.data.inspection import DataReport, inspect_data
from ganwright.data.spec import DataKind


def shown(report: DataReport) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(report.render())
    return console.file.getvalue()


def test_images(tmp_path: Path) -> None:
    files = {f"cat/{i}.png": encode(noise(i, 40, 50)) for i in range(9)}
    files |= {
        "dog/0.jpg": encode(noise(100, 30, 20, channels=1), "JPEG"),
        "dog/bad.png": b"x",
        "dog/copy.png": files["cat/3.png"],
    }
    report = inspect_data(write_folder(tmp_path / "s", files))
    assert (report.kind, report.count, report.name) == (DataKind.LABELLED_IMAGES, 11, "s")
    assert report.classes == {"cat": 9, "dog": 2}
    assert report.broken == [("dog/bad.png", "It is no picture in JPEG, PNG, WEBP, TIFF, BMP format.")]
    assert report.duplicates == [["cat/3.png", "dog/copy.png"]]
    assert report.facts["width"] == "20 … 50, median 50" and report.facts["height"] == "30 … 40, median 40"
    assert report.facts["channels"] == {"grey": 1, "colour": 10}
    assert report.facts["modes"] == {"RGB": 10, "L": 1} and report.facts["formats"] == {"PNG": 10, "JPEG": 1}
    advice = " ".join(report.advice)
    assert "--channels" in advice and "1 images are smaller than 32" in advice and "'dog' has only 2" not in advice
    assert json.loads(json.dumps(report.to_dict()))["kind"] == "labelled images"
    text = shown(report)
    assert "dog/bad.png" in text and "1 copies in 1 groups" in text and "RGB: 10, L: 1" in text


def test_unusable_set_is_a_report_not_an_error(tmp_path: Path) -> None:
    report = inspect_data(write_folder(tmp_path / "s", {"a.png": b"x"}))
    assert report.count == 0 and report.broken[0][0] == "a.png" and "nothing to train on" in report.advice[0]
    assert "a.png" in shown(report)


def test_other_kinds(tmp_path: Path) -> None:
    report = inspect_data(["the cat", "", "the  cat", "a dog ran"])
    assert (report.kind, report.count) == (DataKind.TEXT, 3)
    assert report.duplicates == [["line 1", "line 2"]] and report.facts["vocabulary"].startswith("5 words, 3 of")
    shown(report)
    folder = write_folder(tmp_path / "s", {"A/1.png": encode(noise(0)), "B/1.png": encode(noise(1)), "B/2.png": b"x"})
    report = inspect_data(folder)
    assert (report.kind, report.count) == (DataKind.DOMAINS, 2) and report.broken[0][0] == "B/2.png"
    shown(report)
    report = inspect_data(folder / "A" / "1.png")
    assert (report.kind, report.count) == (DataKind.SINGLE_IMAGE, 1)
    assert inspect_data("mnist").classes["1"] == 1127  # counted with numpy in the file itself
