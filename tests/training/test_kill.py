"""kill -9 at any moment, then resume, gives the very run that was not interrupted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ganwright.run import Run

from .helpers import assert_identical, without_times, write_arrays

DRIVER = Path(__file__).parent / "kill_driver.py"


def drive(data: Path, run: Path, kills: int, seed: int = 0) -> str:
    command = [sys.executable, str(DRIVER), str(data), str(run), str(kills), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_twenty_kills_leave_no_trace(tmp_path: Path) -> None:
    data = write_arrays(tmp_path / "images.npz")
    drive(data, tmp_path / "whole", kills=0)
    assert "killed 20 times" in drive(data, tmp_path / "killed", kills=20)
    assert_identical(tmp_path / "whole", tmp_path / "killed", 800)
    whole, killed = Run(tmp_path / "whole"), Run(tmp_path / "killed")
    assert without_times(whole.log_records()) == without_times(killed.log_records())
    for (step, mine), (other_step, theirs) in zip(whole.sample_files(), killed.sample_files(), strict=True):
        assert step == other_step and mine.read_bytes() == theirs.read_bytes()
    leftovers = [p.name for p in (tmp_path / "killed").rglob("*") if ".tmp-" in p.name]
    assert not leftovers
