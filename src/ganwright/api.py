"""The Python API: one function for each verb of the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from ganwright.config import DataSettings
from ganwright.data.inspection import DataReport, inspect_data
from ganwright.data.spec import Dataset
from ganwright.errors import SettingsError
from ganwright.evaluating import evaluate
from ganwright.metrics.estimate import Evaluation
from ganwright.metrics.neighbours import NeighbourSheet, nearest_neighbours
from ganwright.recipes.registry import RecipeInfo, find_recipe, recipes
from ganwright.report import write_report as write_html_report
from ganwright.run import Run
from ganwright.samples import ImageSamples, Samples
from ganwright.training.journal import EVALUATION_SEED
from ganwright.training.launch import open_data, resume_run, start_run
from ganwright.training.restore import default_device, sample_run
from ganwright.training.settings import GROUPS, RunSettings, read_settings_file, resolve

__all__ = [
    "Evaluation",
    "TrainedRun",
    "describe_data",
    "evaluate",
    "list_recipes",
    "load_run",
    "resume",
    "sample",
    "train",
    "write_report",
]


@dataclass(frozen=True)
class TrainedRun(Run):
    """A run folder with what can be done with it."""

    def sample(self, n: int = 64, **options: Any) -> Samples:
        """See `ganwright.sample`."""
        return sample(self, n, **options)

    def evaluate(self, **options: Any) -> Evaluation:
        """See `ganwright.evaluate`."""
        return evaluate(self, **options)

    def report(self, **options: Any) -> Path:
        """See `ganwright.write_report`."""
        return write_report(self, **options)


def load_run(path: str | Path | Run) -> TrainedRun:
    """Open a run folder.

    Raises:
        RunError: It is none.
    """
    return TrainedRun(Run.open(path.path if isinstance(path, Run) else path).path)


def train(
    recipe: str | RecipeInfo | None = None,
    data: Any = None,
    *,
    out: str | Path | None = None,
    settings: str | Path | None = None,
    from_run: str | Path | Run | None = None,
    write_html: bool = True,
    **changes: Any,
) -> TrainedRun:
    """Train a recipe on data.

    Args:
        recipe: Name of the recipe; may be left out with `settings` or `from_run`.
        data: A folder, archive, array file, text file, picture, bundled name, "hf:NAME", array, tensor or pair
            of sets; see docs/data.md. May be left out with `settings` or `from_run`.
        out: The run folder; None: `runs/<data>-<recipe>-<4 hex digits>`.
        settings: A YAML file of settings; it may name `recipe` and `data` too.
        from_run: A run whose settings are repeated.
        write_html: Write `report.html` at the end.
        changes: Any setting by name; they win over file and run.

    Returns:
        The run.

    Raises:
        GanwrightError: Data or settings are at fault, the folder cannot be written, or training had to stop.
    """
    resolved, source = plan_training(recipe, data, settings, from_run, changes)
    run, _ = start_run(resolved, source, out)
    return _finish(load_run(run), source, write_html)


def plan_training(
    recipe: str | RecipeInfo | None,
    data: Any,
    settings: str | Path | None,
    from_run: str | Path | Run | None,
    changes: dict[str, Any],
) -> tuple[RunSettings, Any]:
    """All settings and the data source, from an earlier run, a file and keyword arguments, the later winning."""
    layers: list[dict[str, Any]] = []
    if from_run is not None:
        config = load_run(from_run).config
        recipe = recipe or config["recipe"]
        _check_same_settings(recipe, config)
        data = config.get("data_source") if data is None else data
        layers.append(config["settings"])
    if settings is not None:
        content = read_settings_file(Path(settings))
        recipe = recipe or content.pop("recipe", None)
        data = content.pop("data", None) if data is None else data
        content = {name: value for name, value in content.items() if name not in ("recipe", "data")}
        layers.append(content)
    if recipe is None:
        raise SettingsError("No recipe was named.", fix="`ganwright recipes` lists them")
    if data is None:
        _entry(recipe)  # `train DATA` and a misspelt name are told so first
        raise SettingsError("No data was given.", fix="give a folder, an archive, or the bundled 'mnist'")
    return resolve(recipe, *layers, changes), data


def _entry(recipe: str | RecipeInfo) -> RecipeInfo:
    return find_recipe(recipe) if isinstance(recipe, str) else recipe


def _check_same_settings(recipe: str | RecipeInfo, config: dict[str, Any]) -> None:
    """Refuse to repeat a run with a recipe that has other settings."""
    info = _entry(recipe)
    known = {field.name for part in (*GROUPS.values(), type(info.settings)) for field in fields(part)}
    unknown = sorted(set(config["settings"]) - known)
    if info.name != config["recipe"] and unknown:
        raise SettingsError(
            f"This is a run of {config['recipe']}, and {info.name} has other settings (no {unknown[0]}, say).",
            where="from_run",
            fix=f"leave {info.name} out, or take a run of {info.name}",
        )


def resume(run: str | Path | Run, *, data: Any = None, write_html: bool = True, **changes: Any) -> TrainedRun:
    """Train on from the last good checkpoint.

    Args:
        run: The run.
        data: The data, where it was an array in memory or has moved.
        write_html: Write `report.html` at the end.
        changes: Settings to change, such as `steps` to train longer.
    """
    opened = load_run(run)
    resume_run(opened, source=data, changes=changes)
    return _finish(opened, data, write_html)


def sample(
    run: str | Path | Run,
    n: int = 64,
    *,
    seed: int = 0,
    labels: Sequence[int] | int | None = None,
    checkpoint: int | str = "last",
    ema: bool = True,
    device: str | None = None,
    **options: Any,
) -> Samples:
    """Samples of a trained run.

    Args:
        run: The run.
        n: How many.
        seed: Equal seeds give equal samples.
        labels: Classes, one for all or one each; None: in turn.
        checkpoint: A step, "last" or "best".
        ema: Use the averaged weights.
        device: Where to compute; None: a GPU where there is one.
        options: What the recipe alone understands.

    Raises:
        CheckpointError: There is no such checkpoint.
    """
    return sample_run(
        load_run(run),
        n,
        seed=seed,
        labels=labels,
        checkpoint=checkpoint,
        ema=ema,
        device=device or default_device(),
        options=options,
    )


def write_report(run: str | Path | Run, *, data: Any = None, path: str | Path | None = None) -> Path:
    """Write a run's self-contained HTML report.

    Args:
        run: The run, finished or not.
        data: The data, where it has moved; without it nearest neighbours are left out.
        path: Where to; None: `report.html` in the run.

    Returns:
        The file.
    """
    opened = load_run(run)
    return write_html_report(opened, neighbours=_neighbours(opened, data), path=None if path is None else Path(path))


def list_recipes() -> dict[str, RecipeInfo]:
    """All recipes by name."""
    return recipes()


def describe_data(data: Any, *, kind: str = "", **settings: Any) -> DataReport:
    """What is found in a data source: counts, sizes, modes, classes, broken files, duplicates, groups.

    Args:
        data: What `train` takes.
        kind: "pairs" for pairs that stand side by side in one picture; "": as the data looks.
        settings: Of `DataSettings`, by name, as training would use them.
    """
    return inspect_data(data, DataSettings(**settings), kind=kind)


def _finish(run: TrainedRun, data: Any, write_html: bool) -> TrainedRun:
    from ganwright.training.launch import under_torchrun

    if write_html and not (under_torchrun() and torch.distributed.get_rank() != 0):
        try:
            write_report(run, data=data)
        except Exception as error:  # the training is done, and a report can be written again at any time
            from ganwright.console import console

            told = f"note: the report could not be written ({error}); again: ganwright report {run.path}"
            console.print(told, markup=False, soft_wrap=True)
    return run


def _neighbours(run: TrainedRun, data: Any) -> NeighbourSheet | None:
    from ganwright.errors import GanwrightError

    try:
        dataset = _dataset_of(run, resolve(run.config["recipe"], run.config["settings"]), data)
        samples = sample(run, 256, seed=EVALUATION_SEED)
        if dataset is None or not isinstance(samples, ImageSamples):
            return None
        return nearest_neighbours(samples, dataset)
    except GanwrightError:  # no checkpoint yet, the data has gone: the report says what is missing
        return None


def _dataset_of(run: Run, settings: RunSettings, data: Any) -> Dataset | None:
    source = run.config.get("data_source") if data is None else data
    return None if source is None else open_data(settings, source)
