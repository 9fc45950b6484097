"""Schedules, averages, bounds, signals and loggers."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

import ganwright as gw
from ganwright.config import TrainSettings
from ganwright.errors import SettingsError
from ganwright.metrics.estimate import Estimate, Provenance
from ganwright.recipes.base import Stage
from ganwright.training.context import LoopContext
from ganwright.training.ema import MovingAverage
from ganwright.training.randomness import StepRandomness
from ganwright.training.schedules import Plateau

from .helpers import SMALL_NETWORKS, TINY, write_arrays

OPTIONS = {**TINY, **SMALL_NETWORKS, "write_html": False}


def rates(tmp_path: Path, **changes: Any) -> list[float]:
    data = write_arrays(tmp_path / "images.npz")
    options = {**OPTIONS, "steps": 10, "log_every": 1, "lr_g": 1e-3, **changes}
    run = gw.train("dcgan", data, out=tmp_path / "run", **options)
    return [record["lr_generator"] for record in run.log_records()]


def test_constant(tmp_path: Path) -> None:
    assert rates(tmp_path) == [1e-3] * 10


def test_linear(tmp_path: Path) -> None:
    expected = [1e-3 * min(1.0, (10 - step) / 5) for step in range(10)]
    assert rates(tmp_path, lr_schedule="linear") == pytest.approx(expected)


def test_cosine(tmp_path: Path) -> None:
    expected = [5e-4 * (1 + math.cos(math.pi * step / 10)) for step in range(10)]
    assert rates(tmp_path, lr_schedule="cosine") == pytest.approx(expected)


def test_plateau_reduces_after_patience() -> None:
    settings = TrainSettings(plateau_patience=1, plateau_factor=0.5)
    plateau = Plateau()
    values = [10.0, 8.0, 9.0, 8.5, 7.0, 7.5, 7.5]
    reduced = [plateau.observe(estimate(v), settings) for v in values]
    assert reduced == [False, False, False, True, False, False, True]
    assert plateau.factor == 0.25


def estimate(value: float) -> Estimate:
    return Estimate("fd", "FD", value, value, value, 10, Provenance(), "none", False)


def test_moving_average_against_its_closed_form() -> None:
    module = nn.Module()
    module.generator = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        module.generator.weight.fill_(0.0)
    average = MovingAverage(module, ("generator",), half_life=2.0, ramp_up=0.0)
    with torch.no_grad():
        module.generator.weight.fill_(1.0)
    for step in range(1, 7):
        average.update(step)
        assert float(average.average["generator.weight"]) == pytest.approx(1 - 0.5 ** (step / 2), rel=1e-5)
    with average.swapped_in():
        assert module.generator.weight.item() == pytest.approx(1 - 0.5**3, rel=1e-5)
    assert module.generator.weight.item() == 1.0


def test_moving_average_does_not_lag_early() -> None:
    module = nn.Module()
    module.generator = nn.Linear(1, 1, bias=False)
    average = MovingAverage(module, ("generator",), half_life=1e6, ramp_up=0.05)
    with torch.no_grad():
        module.generator.weight.fill_(5.0)
    average.update(10)  # half-life of half a step: three quarters of the way at once
    assert float(average.average["generator.weight"]) > 3.5


def test_the_time_bound_ends_a_run_like_its_last_step(tmp_path: Path) -> None:
    data = write_arrays(tmp_path / "images.npz")
    options = {**OPTIONS, "steps": 10**6, "max_minutes": 2 / 60, "checkpoint_every": 10**5, "sample_every": 10**5}
    run = gw.train("dcgan", data, out=tmp_path / "run", **options)
    (event,) = run.events("stopped")
    assert event["reason"] == "time" and event["seconds"] < 30
    assert run.checkpoints()[-1][0] == event["step"] == run.sample_files()[-1][0]


def test_clipping_bounds_the_step_and_the_log_has_the_norm_before_it() -> None:
    weight = nn.Parameter(torch.tensor([3.0, 4.0]))
    fabric = Fabric(accelerator="cpu", devices=1)
    optimizer = torch.optim.SGD([weight], lr=1.0)
    randomness = StepRandomness(0, torch.device("cpu"))
    ctx = LoopContext(fabric, {"w": optimizer}, randomness, dict, [Stage("train", 1)], clip_grad_norm=0.5)
    ctx.begin_step(0, logging=True)
    ctx.minimise(weight.square().sum() / 2, "w")  # the gradient is the weight: norm 5
    assert float(ctx.grad_norms["w"]) == pytest.approx(5.0)
    assert weight.tolist() == pytest.approx([3.0 - 0.3, 4.0 - 0.4], rel=1e-5)


def test_tensorboard_and_unknown_loggers(tmp_path: Path) -> None:
    data = write_arrays(tmp_path / "images.npz")
    run = gw.train("dcgan", data, out=tmp_path / "run", **OPTIONS, loggers=["tensorboard"])
    assert list((run.path / "tensorboard").glob("events.*"))
    with pytest.raises(SettingsError, match="tensorboard"):
        gw.train("dcgan", data, out=tmp_path / "bad", **OPTIONS, loggers=["tensorbord"])


def test_ctrl_c_stops_cleanly_and_keeps_what_is_done(tmp_path: Path) -> None:
    data, out = write_arrays(tmp_path / "images.npz"), tmp_path / "run"
    flags = "--steps 1000000 --batch-size 8 --width-g 4 --width-d 4 --evaluate-every -1 --checkpoint-every 100000"
    command = [sys.executable, "-m", "ganwright.cli", "train", "dcgan", str(data), "--out", str(out), *flags.split()]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (out / "log.jsonl").exists():
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=120)
    assert "Traceback" not in told
    run = gw.load_run(out)
    (event,) = run.events("stopped")
    assert event["reason"] == "interrupted"
    assert run.checkpoints()[-1][0] == event["step"] > 0
