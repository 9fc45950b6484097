"""Loggers: Weights & Biases and MLflow by fakes that record their calls, TensorBoard by what it wrote."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import ganwright as gw
from ganwright.errors import MissingExtraError, SettingsError, TrainingError
from ganwright.run import Run
from ganwright.training.loggers import open_loggers

from .helpers import SMALL_NETWORKS, TINY, write_arrays

OPTIONS = {**TINY, **SMALL_NETWORKS, "write_html": False}
Logged = list[tuple[dict[str, float], int]]


class FakeWandB(ModuleType):
    """`wandb.init` returns a session with `log` and `finish`; steps may not fall within a session."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.begun: list[dict[str, Any]] = []
        self.logged: Logged = []
        self.finished = 0

    def init(self, *, project: str, name: str, dir: str, config: dict[str, Any], id: str, resume: str) -> FakeWandB:
        self.begun.append({"project": project, "name": name, "dir": dir, "config": config, "id": id, "resume": resume})
        return self

    def log(self, data: dict[str, Any], step: int | None = None) -> None:
        assert type(data) is dict and type(step) is int
        self.logged.append((data, step))

    def finish(self) -> None:
        self.finished += 1


class FakeMLflow(ModuleType):
    """The calls of MLflow's fluent interface, in the order it asks for: experiment, run, then what is logged."""

    def __init__(self) -> None:
        super().__init__("mlflow")
        self.calls: list[str] = []
        self.params: dict[str, str] = {}
        self.logged: Logged = []

    def set_experiment(self, experiment_name: str) -> None:
        self.calls.append(f"experiment {experiment_name}")

    def start_run(self, *, run_name: str) -> None:
        self.calls.append(f"start {run_name}")

    def log_params(self, params: dict[str, Any]) -> None:
        assert self.calls[-1].startswith("start")
        self.params |= params

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        assert self.calls[-1].startswith("start") and type(step) is int
        self.logged.append((metrics, step))

    def end_run(self) -> None:
        self.calls.append("end")


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> FakeWandB:
    monkeypatch.setitem(sys.modules, "wandb", FakeWandB())
    return sys.modules["wandb"]  # type: ignore[return-value]


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> FakeMLflow:
    monkeypatch.setitem(sys.modules, "mlflow", FakeMLflow())
    return sys.modules["mlflow"]  # type: ignore[return-value]


def train(tmp_path: Path, *loggers: str, **changes: Any) -> gw.TrainedRun:
    data = write_arrays(tmp_path / "images.npz")
    return gw.train("dcgan", data, out=tmp_path / "run", loggers=loggers, **{**OPTIONS, **changes})


def assert_same_as_log(logged: Logged, run: Run) -> None:
    """Every number of every line of log.jsonl, and nothing else."""
    expected = [
        ({name: value for name, value in record.items() if isinstance(value, int | float)}, record["step"])
        for record in run.log_records()
    ]
    assert len(expected) == 6
    assert logged == expected
    assert {"loss_generator", "loss_discriminator", "images_per_second"} <= logged[0][0].keys()


def test_wandb_gets_settings_and_every_logged_line(wandb: FakeWandB, tmp_path: Path) -> None:
    run = train(tmp_path, "wandb")
    (begun,) = wandb.begun
    assert begun["project"] == "ganwright" and begun["name"] == "run" and begun["dir"] == str(run.path)
    assert begun["resume"] == "allow"
    assert begun["config"] == run.config["settings"] | {"loggers": begun["config"]["loggers"]}
    assert begun["config"]["steps"] == 12 and begun["config"]["width_g"] == 4
    assert_same_as_log(wandb.logged, run)
    assert wandb.finished == 1


def test_a_resumed_run_goes_on_in_the_same_wandb_run_and_a_namesake_does_not(wandb: FakeWandB, tmp_path: Path) -> None:
    run = train(tmp_path, "wandb", steps=6)
    gw.resume(run, steps=12, write_html=False)
    assert wandb.begun[0]["id"] == wandb.begun[1]["id"]
    assert [step for _, step in wandb.logged] == [2, 4, 6, 8, 10, 12]
    assert wandb.finished == 2
    namesake = Run.create(tmp_path / "elsewhere" / "run", {**run.config, "created": "2001-01-01T00:00:00+00:00"})
    open_loggers(("wandb",), namesake, {})
    assert wandb.begun[2]["id"] != wandb.begun[0]["id"]


def test_mlflow_gets_parameters_and_every_logged_line(mlflow: FakeMLflow, tmp_path: Path) -> None:
    run = train(tmp_path, "mlflow")
    assert mlflow.calls == ["experiment ganwright", "start run", "end"]
    assert mlflow.params.keys() == run.config["settings"].keys()
    assert mlflow.params["steps"] == "12" and all(isinstance(value, str) for value in mlflow.params.values())
    assert_same_as_log(mlflow.logged, run)


def test_loggers_are_closed_when_training_fails(wandb: FakeWandB, mlflow: FakeMLflow, tmp_path: Path) -> None:
    with pytest.raises(TrainingError):
        train(tmp_path, "wandb", "mlflow", lr_g=1e30, lr_d=1e30, log_every=1)
    assert wandb.finished == 1 and mlflow.calls[-1] == "end"


def test_evaluations_are_logged_under_metrics(
    wandb: FakeWandB, mlflow: FakeMLflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    class Mean(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.adaptive_avg_pool2d(x, 2).flatten(1)

    torch.jit.script(Mean()).save(str(tmp_path / "mean.pt"))
    evaluation = {"evaluate_every": 6, "eval_samples": 32, "extractor": f"{tmp_path / 'mean.pt'}@8", "metrics": ("fd",)}
    run = train(tmp_path, "wandb", "mlflow", **evaluation)
    expected = [(r["estimates"]["fd"]["value"], r["step"]) for r in run.metric_records()]
    assert [step for _, step in expected] == [6, 12]
    for logged in (wandb.logged, mlflow.logged):
        assert [(values["metrics/fd"], step) for values, step in logged if "metrics/fd" in values] == expected


def test_tensorboard_files_hold_every_logged_line(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = train(tmp_path, "tensorboard")
    events = accumulator.EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    losses = [(event.step, event.value) for event in events.Scalars("loss_generator")]
    expected = [(record["step"], record["loss_generator"]) for record in run.log_records()]
    assert len(expected) == 6
    assert losses == [(step, pytest.approx(value)) for step, value in expected]


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_logger_that_is_not_installed_says_what_to_install(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)  # as Python marks what cannot be imported
    with pytest.raises(MissingExtraError, match=f"needs the package '{name}'") as caught:
        train(tmp_path, name)
    assert caught.value.fix == f"pip install {name}"  # there is no extra of that name


def test_what_was_opened_is_closed_if_another_cannot_be(
    wandb: FakeWandB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(MissingExtraError):
        train(tmp_path, "wandb", "mlflow")
    assert len(wandb.begun) == wandb.finished == 1


def test_an_unknown_logger_is_refused_before_any_is_opened(wandb: FakeWandB, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {})
    with pytest.raises(SettingsError, match=r"mlfow.*mlflow"):
        open_loggers(("wandb", "mlfow"), run, {})
    assert wandb.begun == []
