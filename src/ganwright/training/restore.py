"""Trained recipes from run folders, for sampling and evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ganwright.data.opening import open_dataset
from ganwright.data.spec import Batch, Dataset, DataSpec
from ganwright.errors import CheckpointError, MetricError, SettingsError, nearest
from ganwright.recipes.base import Recipe
from ganwright.run import Run
from ganwright.samples import Samples
from ganwright.training import checkpoint
from ganwright.training.ema import MovingAverage
from ganwright.training.journal import sample_request
from ganwright.training.settings import resolve


def load_recipe(run: Run, *, step: int | str = "last", ema: bool = True, device: torch.device | str = "cpu") -> Recipe:
    """The recipe of a run with its trained weights, in `eval` mode.

    Args:
        run: Where from.
        step: A checkpoint's step, "last" or "best".
        ema: Use the averaged weights.
        device: Where to put it.

    Raises:
        CheckpointError: There is no such checkpoint, or it is damaged.
    """
    config = run.config
    settings = resolve(config["recipe"], config["settings"], where=f"{run.path}/run.yaml")
    recipe = settings.info.recipe(DataSpec.from_dict(config["data"]), settings.recipe)
    content = checkpoint.read_checkpoint(checkpoint_folder(run, step))
    checkpoint.load_networks(recipe, content["networks"], run.path)
    if ema:
        average = MovingAverage(recipe, recipe.ema_networks, 1.0, 0.0)
        average.load_state_dict(content["ema"])
        average.copy_to_networks()
    return recipe.to(device).eval()


def sample_run(
    run: Run,
    n: int,
    *,
    seed: int = 0,
    labels: Sequence[int] | int | None = None,
    checkpoint: int | str = "last",
    ema: bool = True,
    device: torch.device | str = "cpu",
    inputs: Batch | None = None,
    baselines: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Samples:
    """Samples of a trained run; see `ganwright.sample`.

    A translator or restorer is shown `inputs`, or held-out samples of the data that the run was trained on.

    Raises:
        MetricError: n is below 1.
        SettingsError: The recipe does not know an option.
        CheckpointError: There is no such checkpoint.
        DataError: Inputs are needed, and the run's data cannot be opened.
    """
    if n < 1:
        raise MetricError(f"n must be at least 1, not {n}.", where="n")
    recipe = load_recipe(run, step=checkpoint, ema=ema, device=device)
    _check_options(recipe, run, options or {})
    asked = [labels] * n if isinstance(labels, int) else labels
    dataset = data_of(run) if recipe.directions and inputs is None else None
    request = sample_request(
        recipe, dataset, n, seed, inputs=inputs, baselines=baselines, labels=asked, options=options or {}
    )
    with torch.no_grad():
        return recipe.sample(request)


def data_of(run: Run) -> Dataset | None:
    """The data a run was trained on, opened; None where it was an array in memory.

    Raises:
        DataError: It cannot be read any more.
    """
    config = run.config
    source = config.get("data_source")
    if source is None:
        return None
    settings = resolve(config["recipe"], config["settings"], where=f"{run.path}/run.yaml")
    return open_dataset(source, settings.data, accepts=settings.info.recipe.accepts, seed=settings.train.seed)


def _check_options(recipe: Recipe, run: Run, options: Mapping[str, Any]) -> None:
    known = recipe.sample_options
    for name in options:
        if name not in known:
            told = "; ".join(f"{option}: {meaning}" for option, meaning in known.items())
            raise SettingsError(
                f"Samples of this run cannot be asked for a '{name}'.{nearest(name, known)}",
                where=run.path,
                fix=f"its recipe understands {told}" if told else "its recipe has no such options: leave it out",
            )


def default_device() -> str:
    """A GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def checkpoint_folder(run: Run, step: int | str = "last") -> Path:
    """The folder of a checkpoint.

    Raises:
        CheckpointError: There is none; says which there are.
    """
    found = dict(run.checkpoints())
    if not found:
        raise CheckpointError(
            "This run has no checkpoint yet.", where=run.path, fix=f"train it: ganwright resume {run.path}"
        )
    newest = max(found)
    if step == "last":
        return found[newest]
    if step == "best":
        best = checkpoint.read_checkpoint(found[newest]).get("best", {}).get("step", newest)
        return found.get(best, found[newest])
    if not isinstance(step, int) or step not in found:
        raise CheckpointError(
            f"There is no checkpoint of step {step}.",
            where=run.path,
            fix="choose last, best or one of " + ", ".join(map(str, sorted(found))),
        )
    return found[step]
