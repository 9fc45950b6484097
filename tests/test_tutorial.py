"""The tutorial's recipe is a file outside the package, found through its entry point, and it runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from ganwright.run import Run

from .conftest import ROOT
from .training.helpers import write_arrays


def blocks(language: str) -> list[str]:
    text = (ROOT / "docs" / "write-your-own-gan.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.S)


def test_the_recipe_of_the_tutorial_trains(tmp_path: Path) -> None:
    (source,) = blocks("python")
    assert len(source.splitlines()) <= 60
    project = tomllib.loads(blocks("toml")[0])["project"]
    (site := tmp_path / "site").mkdir()
    (site / "tiny_ragan.py").write_text(source, encoding="utf-8")
    # What `pip install` would leave behind.
    (info := site / "tiny_ragan-0.1.dist-info").mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    points = project["entry-points"]["ganwright.recipes"]
    lines = [f"{name} = {value}" for name, value in points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[ganwright.recipes]", *lines]) + "\n")

    def ganwright(*arguments: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(site), "COLUMNS": "200"}
        command = [sys.executable, "-m", "ganwright.cli", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    assert "tiny-ragan" in ganwright("recipes")
    data = write_arrays(tmp_path / "images.npz", n=80)
    out = tmp_path / "run"
    ganwright(
        "train",
        "tiny-ragan",
        str(data),
        "--steps",
        "4",
        "--log-every",
        "1",
        "--evaluate-every",
        "-1",
        "--lr",
        "1e-3",
        "--out",
        str(out),
    )
    run = Run.open(out)
    assert [record["step"] for record in run.log_records()] == [1, 2, 3, 4]
    assert run.config["settings"]["lr"] == 1e-3 and run.config["recipe"] == "tiny-ragan"
    assert run.checkpoints()[-1][0] == 4 and (out / "report.html").exists()
