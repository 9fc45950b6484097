"""Disks that are really full and folders that really cannot be written: a small tmpfs of its own for each test."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ganwright as gw
from ganwright.errors import CheckpointError, RunError
from ganwright.run import Run
from ganwright.training import checkpoint
from ganwright.training.journal import Journal

from .helpers import SMALL_NETWORKS, TINY, assert_identical, write_arrays

OPTIONS = {**TINY, **SMALL_NETWORKS, "write_html": False}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """An empty file system of 2 MiB; skips where none may be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    try:
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], capture_output=True, text=True
        )
    except FileNotFoundError:
        pytest.skip("a small file system cannot be mounted: there is no mount command")
    if made.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {made.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path) -> Path:
    """Write until nothing more can be written."""
    ballast = place / "ballast"
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(4096))
    return ballast


def fill_after(monkeypatch: pytest.MonkeyPatch, place: Path, step: int) -> None:
    """Let somebody else fill the disk right after the checkpoint of a step."""
    save = checkpoint.save_checkpoint

    def saving(run: Run, parts: checkpoint.TrainingParts, state: dict[str, Any]) -> Path:
        path = save(run, parts, state)
        if state["step"] == step:
            fill(place)
        return path

    monkeypatch.setattr(checkpoint, "save_checkpoint", saving)


@pytest.mark.parametrize(
    ("first_to_fail", "full_at", "steps", "changes"),
    [
        ("checkpoint", 6, 18, {"checkpoint_every": 6, "log_every": 18, "sample_every": 18}),
        ("samples", 6, 12, {"checkpoint_every": 6, "log_every": 12, "sample_every": 1}),
        # less than a page is left for the log, and no checkpoint is due before it is full
        ("log", 20, 40, {"checkpoint_every": 20, "log_every": 1, "sample_every": 40}),
    ],
)
def test_a_full_disk_stops_the_run_and_it_can_be_resumed(
    disk: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    first_to_fail: str,
    full_at: int,
    steps: int,
    changes: dict[str, Any],
) -> None:
    data = write_arrays(tmp_path / "images.npz")
    options = {**OPTIONS, **changes, "steps": steps}
    gw.train("dcgan", data, out=tmp_path / "whole", **options)
    fill_after(monkeypatch, disk, full_at)
    with pytest.raises(RunError, match="No space left") as caught:
        gw.train("dcgan", data, out=disk / "run", **options)
    monkeypatch.undo()

    told = str(caught.value)
    assert isinstance(caught.value, CheckpointError) == (first_to_fail == "checkpoint")
    assert f"the last good checkpoint is of step {full_at}" in told
    assert str(disk / "run") in told and f"ganwright resume {disk / 'run'}" in told
    run = gw.load_run(disk / "run")
    assert checkpoint.last_good_checkpoint(run)[::2] == (full_at, [])
    assert not [path for path in run.path.rglob("*") if ".tmp-" in path.name]
    assert len(gw.sample(run, 4).images) == 4

    with pytest.raises(RunError, match="No space left"):  # still no room
        gw.resume(run, write_html=False)
    (disk / "ballast").unlink()
    gw.resume(run, write_html=False)
    assert_identical(tmp_path / "whole", run.path, steps)


def test_a_disk_full_from_the_start(disk: Path, tmp_path: Path) -> None:
    fill(disk)
    with pytest.raises(RunError, match="cannot be written: No space left") as caught:
        gw.train("dcgan", write_arrays(tmp_path / "images.npz"), out=disk / "run", **OPTIONS)
    assert str(disk / "run") in str(caught.value)


def read_only(disk: Path, *, yes: bool) -> None:
    subprocess.run(["mount", "-o", f"remount,{'ro' if yes else 'rw'}", str(disk)], check=True)


def test_a_run_on_a_read_only_disk_is_readable_and_says_why_it_cannot_go_on(disk: Path, tmp_path: Path) -> None:
    data = write_arrays(tmp_path / "images.npz")
    run = gw.train("dcgan", data, out=disk / "run", **{**OPTIONS, "steps": 6})
    read_only(disk, yes=True)
    assert gw.load_run(disk / "run").log_records() == run.log_records() != []
    assert len(gw.sample(run, 4).images) == 4
    for changes in ({}, {"steps": 9}):
        with pytest.raises(RunError, match=r"Read-only file system.*last good checkpoint is of step 6") as caught:
            gw.resume(run, write_html=False, **changes)
        assert str(run.path) in str(caught.value)
    with pytest.raises(RunError, match="cannot be written: Read-only"):
        gw.train("dcgan", data, out=disk / "other", **OPTIONS)
    read_only(disk, yes=False)
    gw.resume(run, write_html=False, steps=9)
    assert [step for step, _ in run.checkpoints()] == [6, 9]


def test_a_disk_that_turns_read_only_while_training(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As a disk does on errors of its own.
    data = write_arrays(tmp_path / "images.npz")
    grid, shown = Journal.grid, []

    def grid_then_trouble(journal: Journal, step: int) -> None:
        grid(journal, step)
        shown.append(step)
        if step == 6:
            read_only(disk, yes=True)

    monkeypatch.setattr(Journal, "grid", grid_then_trouble)
    with pytest.raises(CheckpointError, match=r"step 6 could not be written.*Read-only.*checkpoint is of step 3"):
        gw.train("dcgan", data, out=disk / "run", **OPTIONS)
    assert shown == [0, 6]
    assert checkpoint.last_good_checkpoint(Run(disk / "run"))[0] == 3


@pytest.mark.parametrize("place", ["file/run", "file", "/proc/nowhere/run"])
def test_a_place_where_no_folder_can_be(place: str, tmp_path: Path) -> None:
    # Not even root can write there.
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(RunError, match="cannot be written") as caught:
        gw.train("dcgan", write_arrays(tmp_path / "images.npz"), out=tmp_path / place, **OPTIONS)
    assert str(tmp_path / place) in str(caught.value)
    assert (tmp_path / "file").read_text() == "no folder"


def test_a_run_folder_that_vanishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = Journal.grid

    def grid_then_trouble(journal: Journal, step: int) -> None:
        grid(journal, step)
        if step == 6:
            shutil.rmtree(tmp_path / "run")
            (tmp_path / "run").write_text("a file in its place")

    monkeypatch.setattr(Journal, "grid", grid_then_trouble)
    with pytest.raises(RunError, match=r"could not be written.*no checkpoint yet") as caught:
        gw.train("dcgan", write_arrays(tmp_path / "images.npz"), out=tmp_path / "run", **OPTIONS)
    assert str(tmp_path / "run") in str(caught.value)
