"""Further loggers by name: TensorBoard through Fabric, Weights & Biases and MLflow where installed."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from ganwright.errors import MissingExtraError, SettingsError, nearest
from ganwright.files import hash_bytes
from ganwright.run import Run


class ScalarLogger(Protocol):
    """Takes numbers by name and step."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log the values of one step."""

    def close(self) -> None:
        """Flush and close."""


class _TensorBoard:
    def __init__(self, run: Run, settings: Mapping[str, Any]) -> None:
        _require("tensorboard", "Logging to TensorBoard")
        from lightning_fabric.loggers.tensorboard import TensorBoardLogger

        self.logger = TensorBoardLogger(root_dir=run.path, name="tensorboard", version="")

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.logger.log_metrics(dict(values), step)

    def close(self) -> None:
        self.logger.finalize("success")


class _WandB:
    def __init__(self, run: Run, settings: Mapping[str, Any]) -> None:
        wandb = _require("wandb", "Logging to Weights & Biases")
        self.session = wandb.init(
            project="ganwright",
            name=run.name,
            dir=str(run.path),
            config=dict(settings),
            # A resumed run goes on in the same place; another folder of the same name does not.
            id=hash_bytes(run.name.encode(), str(run.config.get("created")).encode())[:16],
            resume="allow",
        )

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.session.log(dict(values), step=step)

    def close(self) -> None:
        self.session.finish()


class _MLflow:
    def __init__(self, run: Run, settings: Mapping[str, Any]) -> None:
        self.mlflow = _require("mlflow", "Logging to MLflow")
        self.mlflow.set_experiment("ganwright")
        self.mlflow.start_run(run_name=run.name)
        self.mlflow.log_params({name: str(value) for name, value in settings.items()})

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.mlflow.log_metrics(dict(values), step=step)

    def close(self) -> None:
        self.mlflow.end_run()


LOGGERS: dict[str, Any] = {"tensorboard": _TensorBoard, "wandb": _WandB, "mlflow": _MLflow}


def _require(module: str, what_for: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        missing = MissingExtraError(module, module, what_for)
        if module != "tensorboard":  # which alone is an extra of ganwright
            missing.fix = f"pip install {module}"
        raise missing from error


def open_loggers(names: tuple[str, ...], run: Run, settings: Mapping[str, Any]) -> list[ScalarLogger]:
    """Open the loggers asked for.

    Raises:
        SettingsError: An unknown name.
        MissingExtraError: The package is not installed.
    """
    for name in names:
        if name not in LOGGERS:
            raise SettingsError(
                f"There is no logger '{name}'.{nearest(name, LOGGERS)}",
                where="loggers",
                fix="choose from " + ", ".join(LOGGERS),
            )
    opened: list[ScalarLogger] = []
    try:
        for name in names:
            opened.append(LOGGERS[name](run, settings))
    except BaseException:
        for logger in opened:
            logger.close()
        raise
    return opened


def tensorboard_folder(run: Run) -> Path:
    """Where TensorBoard's files are."""
    return run.path / "tensorboard"
