"""Under torchrun two processes train one run: the numbers of one process, one run folder, one voice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ganwright as gw

from .helpers import SMALL_NETWORKS, weights, write_arrays

SETTINGS = {
    "steps": 4,
    "batch_size": 8,
    "log_every": 1,
    "sample_every": 4,
    "checkpoint_every": 4,
    "evaluate_every": -1,
    "held_out": 0.0,
    **SMALL_NETWORKS,
}
RECIPES = {"dcgan": {}, "wgan-gp": {"d_steps": 2, "resolution": 16, "lr_schedule": "constant"}}


def torchrun(*arguments: str) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [*launcher, "-m", "ganwright.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.parametrize("recipe", list(RECIPES))
def test_two_processes_of_torchrun_equal_one(recipe: str, tmp_path: Path) -> None:
    data = write_arrays(tmp_path / "images.npz")
    settings = {**SETTINGS, **RECIPES[recipe]}
    options = [part for name, value in settings.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    done = torchrun("train", recipe, str(data), "--out", str(tmp_path / "two"), *options)
    assert done.returncode == 0, done.stderr
    one = gw.train(recipe, data, out=tmp_path / "one", write_html=False, **settings)
    two = gw.load_run(tmp_path / "two")

    records = list(zip(one.log_records(), two.log_records(), strict=True))
    assert [mine["step"] for mine, _ in records] == [1, 2, 3, 4]
    for mine, theirs in records:
        measured = [name for name in mine if name.startswith(("loss_", "d_real", "d_fake", "penalty", "grad_norm"))]
        assert len(measured) >= 6
        for name in measured:
            assert theirs[name] == pytest.approx(mine[name], rel=1e-5, abs=1e-5), (mine["step"], name)
    a, b = weights(one.path, 4)["networks"], weights(two.path, 4)["networks"]
    apart = np.concatenate([np.abs(a[name] - b[name]).ravel() for name in a])
    # Where a gradient is nought but for rounding (a bias before batch norm), Adam's step is rounding, too.
    assert len(apart) > 1000 and np.quantile(apart, 0.97) < 1e-5

    # One run with one report, told of once.
    assert {path.name for path in tmp_path.iterdir()} == {"images.npz", "one", "two"}
    assert [path.name for path in two.path.glob("*.html")] == ["report.html"]
    assert len(two.events("finished")) == 1
    assert done.stderr.count("report.html") == 1 and done.stderr.count("ganwright resume") == 1
    assert "GLOBAL_RANK" not in done.stderr and done.stdout == ""


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path: Path) -> None:
    data = write_arrays(tmp_path / "images.npz")
    done = torchrun("train", "dcgan", str(data), "--out", str(tmp_path / "run"), "--batch-size", "7")
    assert done.returncode != 0
    assert "A batch of 7 cannot be shared among 2 processes." in done.stderr
    assert not (tmp_path / "run").exists()
