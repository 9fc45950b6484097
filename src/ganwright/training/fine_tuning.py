"""Fine-tuning: begin with another run's weights, and keep the first blocks of the discriminator as they are.

Mo et al. 2020, "Freeze the Discriminator: a Simple Baseline for Fine-Tuning GANs" (FreezeD).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ganwright.console import console
from ganwright.errors import SettingsError
from ganwright.recipes.base import Recipe
from ganwright.run import Run
from ganwright.training import checkpoint
from ganwright.training.ema import MovingAverage
from ganwright.training.restore import checkpoint_folder


def freeze_first_blocks(recipe: Recipe, count: int) -> None:
    """Train the discriminator without its first blocks, seen from the image.

    Args:
        recipe: Before its optimisers are made.
        count: How many blocks; 0: none.

    Raises:
        SettingsError: The recipe has no, or not so many, blocks.
    """
    blocks = recipe.freezable()
    if count > len(blocks):
        raise SettingsError(
            f"{count} blocks of the discriminator cannot be frozen: this recipe has {len(blocks)} that can be.",
            where="freeze_d",
            fix=f"choose 0 to {len(blocks)}" if blocks else "leave freeze_d out",
        )
    for block in blocks[:count]:
        block.requires_grad_(False)


def begin_from(recipe: Recipe, ema: MovingAverage, source: str, *, quiet: bool = False) -> None:
    """Take the weights of a run's last checkpoint, live and averaged, where name and shape are the same.

    What does not fit (the layers of other classes, say) keeps the weights it was drawn with, and is named.

    Args:
        recipe: Takes the live weights.
        ema: Takes the averaged ones.
        source: The run folder.
        quiet: Do not say what was taken.

    Raises:
        SettingsError: No network of the recipe has any weight in common with the run.
        RunError, CheckpointError: It is no run, or has no readable checkpoint.
    """
    run = Run.open(source)
    content = checkpoint.read_checkpoint(checkpoint_folder(run))
    fitting, other = _fitting(dict(recipe.named_parameters()), content["networks"])
    if not fitting:
        raise SettingsError(
            f"The run '{run.name}' ({run.config['recipe']}) has no weights that fit this recipe.",
            where=f"init_from={source}",
            fix="fine-tune with the recipe and the network sizes of that run: --from-run takes its settings over",
        )
    state = recipe.state_dict()
    with torch.no_grad():
        # Of networks only: where an augmentation's strength or a running mean of the loss stood belongs to that run.
        networks = {name for name, child in recipe.named_children() if next(child.parameters(), None) is not None}
        rest = {name: state[name] for name in state if name not in fitting and name.partition(".")[0] in networks}
        buffers, _ = _fitting(rest, content["networks"])
        for name, value in {**fitting, **buffers}.items():
            state[name].copy_(value)
        averages, _ = _fitting(ema.average, content["ema"])
        for name, own in ema.average.items():
            own.copy_(averages.get(name, state[name]))
    if not quiet:
        left = f"; left as drawn: {', '.join(other[:4])}{' …' if len(other) > 4 else ''}" if other else ""
        told = f"begins with {len(fitting)} of {len(fitting) + len(other)} weights of {source}{left}"
        console.print(told, markup=False, soft_wrap=True)


def _fitting(own: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """(their tensors of our names and shapes, our names that they lack)."""
    found = {name: theirs[name] for name, value in own.items() if name in theirs and theirs[name].shape == value.shape}
    return found, [name for name in own if name not in found]
