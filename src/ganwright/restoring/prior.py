"""Deep Image Prior as a restorer: an ordinary run on the picture, and the best it found."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ganwright.console import console
from ganwright.data.single import SingleImageDataset
from ganwright.data.spec import Dataset
from ganwright.errors import SettingsError
from ganwright.networks.skip import PLANS, SkipPlan
from ganwright.recipes.deep_image_prior import DeepImagePrior, picture_and_known
from ganwright.restoring.measuring import Floats, Mask
from ganwright.run import Run
from ganwright.training.launch import open_data, start_run
from ganwright.training.restore import default_device, load_recipe
from ganwright.training.settings import resolve

RECIPE = "deep-image-prior"
INTERRUPTED = ("interrupted", "terminated")


@dataclass(frozen=True)
class PriorOptions:
    """What can be said about a fit.

    Attributes:
        network: A key of `PLANS`; "auto": official on a GPU, small on a CPU.
        steps: At most so many; None: the recipe's.
        max_minutes: Stop after so long and take the best; 0: no bound.
        seed: Of weights, code and held-out pixels.
        settings: Further settings of the recipe or the loop, by name.
    """

    network: str = "auto"
    steps: int | None = None
    max_minutes: float = 0.0
    seed: int = 0
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Fitted:
    """What a fit found.

    Attributes:
        restored: (H, W, C) in [0, 1]; in the holes of a masked picture, elsewhere the picture.
        estimate: The network's own picture everywhere.
        held_out: Pixels (h, w) of the damaged picture that the fit did not see.
        run: The run folder.
        reason: Why it ended: "finished", "time", "interrupted", "terminated".
        best_step: The step it is of.
    """

    restored: Floats
    estimate: Floats
    held_out: Mask
    run: Run
    reason: str
    best_step: int


def fit_prior(
    source: Path | SingleImageDataset,
    task: str,
    options: PriorOptions,
    *,
    mask: str = "",
    factor: int = 4,
    out: Path | None = None,
) -> Fitted:
    """Fit the network to one picture until nothing more is gained.

    Args:
        source: A picture file; or a picture already open (its run cannot be resumed).
        task: See `DeepImagePriorSettings`.
        options: How.
        mask: See `DataSettings.mask`.
        factor: upscale: how many times larger.
        out: The run folder; None: a new one in `runs`.

    Raises:
        GanwrightError: The picture or a setting is at fault, or the fit would not fit into memory.
    """
    network = options.network
    if network == "auto":
        network = "official" if default_device() == "cuda" else "small"
    changes: dict[str, Any] = {"task": task, "network": network, "seed": options.seed, "mask": mask}
    changes |= {"max_minutes": options.max_minutes} | ({} if options.steps is None else {"steps": options.steps})
    changes |= {"factor": factor} if task == "upscale" else {}
    settings = resolve(RECIPE, changes, options.settings)
    dataset: Dataset = open_data(settings, source)
    extra = dataset.spec.extra
    pixels = extra["height"] * extra["width"] * (factor if task == "upscale" else 1) ** 2
    _check_memory(pixels, settings.recipe.network)
    if settings.recipe.patience and settings.recipe.stopping != "none":
        console.print(f"at most {settings.train.steps} steps; it stops by itself when no more is gained", markup=False)
    run, reason = start_run(settings, str(source) if isinstance(source, Path) else source, out)
    if reason in INTERRUPTED:
        console.print("[yellow]interrupted: the best so far is taken")
    recipe = load_recipe(run)
    assert isinstance(recipe, DeepImagePrior)
    _, known = picture_and_known(dataset.batch(0, 1, seed=0))
    return Fitted(
        _pixels(recipe.restored()),
        _pixels(recipe.estimate()),
        recipe.held_out(known)[0, 0].numpy(),
        run,
        reason,
        int(recipe.best.best_step),
    )


def _pixels(picture: torch.Tensor) -> Floats:
    found: Floats = picture[0].permute(1, 2, 0).numpy().astype(np.float64)
    return found


def bytes_per_pixel(plan: SkipPlan) -> float:
    """About what a fit holds for each pixel of the result, measured to within a third."""
    floats, inputs = 3.0 * plan.channels_in + 20, plan.channels_in
    for i in range(len(plan.down)):
        deeper = plan.up[i + 1] if i + 1 < len(plan.up) else plan.down[i]
        merged = plan.skip[i] + deeper
        at_size = 2 * plan.skip[i] + 3 * merged + (4 if plan.mix else 2) * plan.up[i]
        halved = 4 * plan.down[i] + (inputs if i else 0)
        floats += (at_size + halved / 4) / 4**i
        inputs = plan.down[i]
    return 4 * 1.3 * floats


def _check_memory(pixels: int, network: str) -> None:
    if network not in PLANS:
        return  # the recipe says so
    wanted, there = pixels * bytes_per_pixel(PLANS[network]), _memory()
    if there and wanted > 0.9 * there:
        smaller = "" if network == "small" else " --network small, or"
        raise SettingsError(
            f"To fit {pixels / 1e6:.1f} megapixels takes about {wanted / 2**30:.0f} GiB of memory, and there are "
            f"{there / 2**30:.0f}.",
            where=f"network {network}",
            fix=f"use{smaller} a smaller picture (or a part of it)",
        )


def _memory() -> int:
    """Bytes where the fit will run; 0: unknown."""
    if default_device() == "cuda":
        return int(torch.cuda.get_device_properties(0).total_memory)
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 0
