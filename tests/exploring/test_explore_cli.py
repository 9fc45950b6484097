"""`ganwright explore` as a user meets it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ganwright as gw
from ganwright.cli import main
from ganwright.cli.exploring import WHATS


def said(capsys: pytest.CaptureFixture[str]) -> str:
    found = capsys.readouterr()
    assert "Traceback" not in found.err
    return (found.out + found.err).replace("\n", " ")


def test_help_starts_without_torch(style_run: Path) -> None:
    program = (
        "import sys; from ganwright.cli import main; main(['explore', '--help']); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for what in WHATS:
        assert what in done.stdout


@pytest.mark.parametrize("what", sorted(WHATS))
def test_every_option_is_explained(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["explore", "RUN", what, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for option in ("--out", "--seed", "--label", "--checkpoint", "--device"):
        assert option in text


@pytest.mark.parametrize(
    ("what", "options", "files"),
    [
        ("truncation", ["--psi", "0", "1", "-n", "2"], ["truncation-0.png"]),
        ("mix", ["--rows", "1", "--columns", "2", "3", "--layers", "b8"], ["mix-0.png"]),
        ("walk", ["--seconds", "0.5", "--fps", "8", "--format", "gif"], ["walk-0.gif"]),
        ("interpolate", ["--between", "1", "2", "--steps", "3"], ["interpolate-0.png"]),
        ("interpolate", ["--film", "webp", "--seconds", "0.5"], ["interpolate-0.webp"]),
        ("directions", ["--method", "sefa", "-k", "2"], ["directions-0.png", "directions-0.safetensors"]),
    ],
)
def test_each_writes_its_files_into_the_run(
    style_run: Path, what: str, options: list[str], files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explore", str(style_run), what, *options]) == 0
    printed = capsys.readouterr().out.split()
    assert [Path(line).name for line in printed] == files
    assert all(Path(line).parent == style_run / "explore" and Path(line).stat().st_size for line in printed)


def test_project_then_edit_mix_and_interpolate(
    style_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = tmp_path / "face.png"
    pixels = np.asarray(Image.fromarray(gw.explore(style_run).images(9).images[0]).resize((24, 20)))
    Image.fromarray(pixels).save(photo)
    out = str(tmp_path / "found.png")
    options = ["--extractor", "none", "--steps", "60", "--out", out]
    assert main(["explore", str(style_run), "project", str(photo), *options]) == 0
    text = said(capsys)
    assert "resized" in text and "PSNR" in text and "pixels (mean squared error)" in text
    latents = str(tmp_path / "found.safetensors")
    assert main(["explore", str(style_run), "directions", "-k", "2", "--rename", "ganspace-0=big"]) == 0
    edit = ["edit", "--edits", "big=1@coarse", "ganspace-1=-1", "--of", latents, "3"]
    assert main(["explore", str(style_run), *edit]) == 0
    assert main(["explore", str(style_run), "mix", "--rows", latents, "--columns", "1"]) == 0
    assert main(["explore", str(style_run), "interpolate", "--between", latents, "1"]) == 0
    assert (
        main(["explore", str(style_run), "directions", "--file", str(style_run / "explore/directions-0.safetensors")])
        == 0
    )
    assert "big" in gw.explore(style_run).load_directions(style_run / "explore/directions-0.safetensors").names


def test_without_w_most_things_work(plain_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = tmp_path / "p.png"
    Image.fromarray(gw.explore(plain_run).images(9).images[0]).save(photo)
    for words in (
        ["truncation"],
        ["interpolate"],
        ["walk", "--seconds", "0.2", "--format", "apng"],
        ["directions", "-k", "2"],
        ["edit", "--edits", "ganspace-0=1"],
        ["project", str(photo), "--extractor", "none", "--steps", "5"],
    ):
        assert main(["explore", str(plain_run), *words]) == 0, words
    assert main(["explore", str(plain_run), "mix"]) == 1
    assert "intermediate latents W" in said(capsys)


def test_a_file_of_another_run_is_refused(
    style_run: Path, plain_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    explorer = gw.explore(style_run)
    path = str(explorer.save(explorer.latents(1), tmp_path / "w.safetensors"))
    assert main(["explore", str(plain_run), "interpolate", "--between", path, "1"]) == 1
    assert "latent space differs" in said(capsys)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["RUN", "truncaton"], "Did you mean 'truncation'"),
        (["RUN", "mix", "--layers", "b9"], "There is no layer 'b9'"),
        (["RUN", "truncation", "--label", "1"], "has no classes"),
        (["RUN", "truncation", "--checkpoint", "77"], "no checkpoint of step 77"),
        (["RUN", "truncation", "--device", "warp"], "device"),
        (["RUN", "project"], "No image was given"),
        (["RUN", "project", "nowhere.png"], "cannot be read"),
        (["RUN", "edit", "--edits", "sefa-0=1", "--file", "nowhere.safetensors"], "no such file of directions"),
        (["RUN", "walk", "--out", "walk.avi", "--seconds", "0.1"], "cannot be written as '.avi'"),
        (["RUN", "mix", "--rows", "nowhere.safetensors"], "no such file of latents"),
        (["/nowhere/run", "truncation"], "not a run folder"),
    ],
)
def test_mistakes_are_told_without_a_traceback(
    style_run: Path, words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explore", *[str(style_run) if word == "RUN" else word for word in words]]) == 1
    assert told in said(capsys)


def test_the_words_may_come_in_the_other_order(style_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "t.png"
    assert main(["explore", "truncation", str(style_run), "--out", str(out), "-n", "1"]) == 0
    assert Image.open(out).mode == "RGB"


def test_an_interrupted_projection_is_written_all_the_same(
    style_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = tmp_path / "p.png"
    Image.fromarray(gw.explore(style_run).images(9).images[0]).save(photo)

    def interrupted(t: float) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr("ganwright.exploring.projection.ramp", interrupted)
    out = ["--extractor", "none", "--out", str(tmp_path / "found.png")]
    assert main(["explore", str(style_run), "project", str(photo), *out]) == 130
    assert (tmp_path / "found.png").exists() and (tmp_path / "found.safetensors").exists()
    assert "interrupted" in said(capsys)


def test_the_python_api(style_run: Path) -> None:
    explorer = gw.explore(style_run, checkpoint="last", device="cpu")
    assert explorer.layers[0] == "b4.conv1" and explorer.origin.step == 2
    assert len(explorer.truncation([1], [0, 1]).samples()) == 2
    assert "explore" in dir(gw)
