"""From a run of ours to a plain `.pt` state dict that other programs read."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ganwright.errors import CheckpointError, SettingsError, nearest
from ganwright.files import atomic_path
from ganwright.run import Run
from ganwright.training.checkpoint import read_checkpoint
from ganwright.training.restore import checkpoint_folder

Network = Literal["generator", "discriminator"]


def export_state(
    run: Run | str | Path,
    path: str | Path,
    *,
    network: str = "generator",
    ema: bool = True,
    step: int | str = "last",
) -> Path:
    """Write the weights of one network as a plain state dict: names to tensors, nothing else.

    Names are those of NVIDIA's repositories for stylegan2 and stylegan3, so `G.load_state_dict(torch.load(path,
    weights_only=True))` works there; those of the authors' code for r3gan; ours for other recipes.

    Args:
        run: The run.
        path: The file, usually `.pt`.
        network: "generator", "discriminator", or another network of the recipe.
        ema: The averaged weights, where there is an average of this network.
        step: A checkpoint's step, "last" or "best".

    Returns:
        The file.

    Raises:
        SettingsError: The recipe has no such network.
        CheckpointError: There is no such checkpoint, or the file cannot be written.
    """
    run = run if isinstance(run, Run) else Run.open(run)
    content = read_checkpoint(checkpoint_folder(run, step))
    averaged: dict[str, Tensor] = content["ema"]
    source = averaged if ema and any(name.startswith(f"{network}.") for name in averaged) else content["networks"]
    state = {name.removeprefix(f"{network}."): t for name, t in source.items() if name.startswith(f"{network}.")}
    if not state:
        known = sorted({name.partition(".")[0] for name in content["networks"] if "." in name})
        raise SettingsError(
            f"This run has no network '{network}'.{nearest(network, known)}",
            where=run.path,
            fix="choose from " + ", ".join(known),
        )
    if run.config["recipe"] == "r3gan":
        from ganwright.interop.r3gan import r3gan_to_state

        state = r3gan_to_state(state)
    path = Path(path)
    try:
        with atomic_path(path) as temporary:
            torch.save({name: tensor.contiguous() for name, tensor in state.items()}, temporary)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"The file could not be written: {error}.", where=path, fix="make room") from error
    return path
