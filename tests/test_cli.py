"""The command line as a user meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ganwright as gw
from ganwright.cli import main

from .training.helpers import SMALL_NETWORKS, TINY, write_arrays


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    data = write_arrays(folder / "images.npz", classes=3)
    options = {**TINY, **SMALL_NETWORKS, "resolution": 16}
    return gw.train("cgan", data, out=folder / "run", **options).path


def test_help_starts_without_torch() -> None:
    program = "import sys; from ganwright.cli import main; main(['--help']); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for verb in ("demo", "train", "resume", "sample", "evaluate", "report", "recipes", "data"):
        assert verb in done.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["trian"], 2, "Did you mean 'train'"),
        (["train", "dcgna", "mnist"], 1, "Did you mean 'dcgan'"),
        (["train", "dcgan", "/nowhere/photos"], 1, "/nowhere/photos"),
        (["train", "dcgan"], 1, "No data"),
        (["train", "photos/"], 1, "no recipe 'photos/'"),
        (["resume", "/nowhere/run"], 1, "not a run folder"),
        (["sample", "/nowhere/run"], 1, "not a run folder"),
        (["evaluate", "/nowhere/images"], 1, "no such run"),
        (["evaluate", "."], 1, "--reference"),
        (["data", "/nowhere"], 1, "/nowhere"),
    ],
)
def test_bad_input_is_told_without_a_traceback(
    arguments: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == status
    told = capsys.readouterr().err
    assert said in told.replace("\n", " ") and "Traceback" not in told


def test_an_unknown_flag_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["train", "dcgan", "mnist", "--stesp", "3"])
    assert caught.value.code == 2
    assert "--steps" in "".join(capsys.readouterr())


def test_train_takes_flags_and_a_file(tmp_path: Path) -> None:
    data = write_arrays(tmp_path / "images.npz")
    (tmp_path / "s.yaml").write_text(f"recipe: dcgan\ndata: {data}\nsteps: 9\nwidth_g: 4\nwidth_d: 4\nbatch_size: 8\n")
    out = tmp_path / "run"
    flags = ["--steps", "4", "--evaluate-every", "-1", "--log-every", "2", "--flip"]
    assert main(["train", "--settings", str(tmp_path / "s.yaml"), "--out", str(out), *flags]) == 0
    settings = gw.load_run(out).config["settings"]
    assert (settings["steps"], settings["width_g"], settings["flip"]) == (4, 4, True)
    assert (out / "report.html").exists()
    assert main(["resume", str(out), "--steps", "6"]) == 0
    assert gw.load_run(out).checkpoints()[-1][0] == 6
    assert main(["train", "--from-run", str(out), "--out", str(tmp_path / "again"), "--steps", "2"]) == 0
    assert gw.load_run(tmp_path / "again").config["settings"]["width_g"] == 4


def test_an_existing_run_is_not_overwritten(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "dcgan", "mnist", "--out", str(run)]) == 1
    assert "already" in capsys.readouterr().err


def test_sample(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", str(run), "-n", "6", "--label", "2", "--each", "--out", str(tmp_path / "many")]) == 0
    files = sorted(path.name for path in (tmp_path / "many").iterdir())
    assert files == [f"{i:06d}-class2.png" for i in range(6)]
    assert main(["sample", str(run), "-n", "6", "--out", str(tmp_path / "grid.png")]) == 0
    assert Image.open(tmp_path / "grid.png").mode == "L"
    for wrong in (["-n", "0"], ["--label", "9"], ["--checkpoint", "7"]):
        assert main(["sample", str(run), *wrong]) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_samples_depend_on_the_seed_alone(run: Path) -> None:
    a, b, c = gw.sample(run, 5, seed=1), gw.sample(run, 3, seed=1), gw.sample(run, 5, seed=2)
    assert np.array_equal(a.images[:3], b.images)
    assert not np.array_equal(a.images, c.images)


def test_evaluate_prints_json_for_machines(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = str(run.parent / "images.npz")
    assert main(["evaluate", data, "--reference", data, "--metrics", "fd", "kid", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["fd"]["value"] < 1e-3 and found["fd"]["n"] == 48
    assert "efficientnet-lite0" in found["fd"]["label"]
    assert main(["evaluate", str(run), "-n", "30", "--metrics", "class-coverage"]) == 0
    assert "class coverage" in capsys.readouterr().out


def test_data_and_recipes(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "mnist", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["count"] == 10_000
    assert main(["recipes"]) == 0
    assert "wgan-gp" in capsys.readouterr().out


def test_options_of_a_recipe(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", str(run), "-n", "4", "--set", "truncation=0.7"]) == 1
    told = " ".join(capsys.readouterr().err.split())
    assert "cannot be asked for a 'truncation'" in told and "no such options" in told
    assert main(["sample", str(run), "--set", "truncation"]) == 1
    assert "NAME=VALUE" in capsys.readouterr().err
    assert main(["sample", str(run), "--set", "seed=3"]) == 1
    assert "--seed 3" in capsys.readouterr().err
    assert main(["sample", str(run), "--set", "labels=3"]) == 1
    assert "--label 3" in capsys.readouterr().err


def test_a_recipe_may_take_options_that_depend_on_its_settings(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {**TINY, **SMALL_NETWORKS, "resolution": 16, "evaluate_every": -1}
    asked = gw.train("infogan", run.parent / "images.npz", out=run.parent / "codes", **options)
    assert main(["sample", str(asked.path), "-n", "2", "--set", "category=3", "code1=[-1, 1]"]) == 0
    for wrong in ("category=10", "code7=0"):
        assert main(["sample", str(asked.path), "-n", "2", "--set", wrong]) == 1
    assert "category2" not in capsys.readouterr().err


def test_repeating_a_run_with_a_recipe_of_other_settings(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "stylegan2", "mnist", "--from-run", str(run)]) == 1
    assert "a run of cgan" in " ".join(capsys.readouterr().err.split())


def test_a_finished_run_has_nothing_left_to_do(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resume", str(run)]) == 0
    assert "steps were done before" in " ".join(capsys.readouterr().err.split())


def test_what_cannot_be_written_is_told_without_a_traceback(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["sample", str(run), "-n", "2", "--out", str(tmp_path / "file" / "grid.png")]) == 1
    told = "".join(capsys.readouterr().err.split())
    assert str(tmp_path / "file") in told and "Traceback" not in told
