"""`ganwright import`: from somebody's file to a run of ours that can be sampled, measured, explored and fine-tuned."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ganwright.console import console
from ganwright.errors import RunError, SettingsError
from ganwright.files import hash_file, write_atomic
from ganwright.interop import as_settings, junyanz, r3gan, sr_checkpoints
from ganwright.interop.admitted import read_checkpoint_file
from ganwright.interop.foreign import Foreign, Format
from ganwright.interop.licences import notice_for
from ganwright.interop.module_trees import check_state
from ganwright.interop.restricted import CheckpointImportError, printable
from ganwright.interop.state_dicts import nearest_layout, numberless, plain_state
from ganwright.recipes.base import Recipe
from ganwright.run import Run
from ganwright.training.checkpoint import TrainingParts, save_checkpoint
from ganwright.training.description import run_config
from ganwright.training.ema import MovingAverage
from ganwright.training.loop import TrainingState

FORMATS: tuple[Format, ...] = (junyanz.FORMAT, r3gan.FORMAT, sr_checkpoints.FORMAT, as_settings.FORMAT)
"""All kinds of files, in the order in which they are asked."""


def import_checkpoint(
    path: str | Path, out: str | Path | None = None, *, eval_mode: bool = False, quiet: bool = False
) -> Run:
    """Make a run of an official network file, without running anything in it.

    Args:
        path: A `.pkl` of NVIDIA's stylegan2-ada-pytorch or stylegan3 repository, a snapshot of R3GAN's, or a state dict
            of a generator for super-resolution (see `sr_checkpoints`) or for translation (see `junyanz`).
        out: The run folder; None: `runs/<file's name>-imported`.
        eval_mode: Generators for translation: see `junyanz.translator_from_state`.
        quiet: Do not print what was found, nor the licence notice.

    Returns:
        The run: its checkpoint is of step 0, with the averaged generator, the last one, and the discriminator.

    Raises:
        ImportRefusedError: The file asks for something no checkpoint needs; nothing was run, and no folder was made.
        CheckpointImportError: It is damaged, or no network we know.
        RunError: The folder holds a run already, or cannot be written.
    """
    path = Path(path)
    name = "".join(c if c.isprintable() else "_" for c in path.stem)[:100]
    folder = Path(out) if out else Path("runs") / f"{name}-imported"
    if (folder / "run.yaml").exists():
        raise RunError("There is a run in this folder already.", where=folder, fix="choose another --out")
    content = read_checkpoint_file(path)
    try:
        foreign = _translate(content, name, f"imported-{hash_file(path)}", eval_mode)
        recipe = _recipe(foreign)
    except CheckpointImportError as error:
        if error.where is None:
            raise type(error)(error.what, where=path, fix=error.fix) from error
        raise
    except SettingsError as error:
        raise CheckpointImportError(error.what, where=path, fix=error.fix) from error
    run = Run.create(folder, _config(foreign, path))
    write_atomic(run.path / "LICENCE-NOTICE.txt", notice_for(foreign.origin) + "\n")
    average = MovingAverage(recipe, recipe.ema_networks, 1.0, 0.0)
    average.load_state_dict({f"generator.{name}": tensor for name, tensor in foreign.average.items()})
    parts = TrainingParts(recipe, recipe.optimizers(), average)
    save_checkpoint(run, parts, dict(vars(TrainingState())))
    run.log({"step": 0, "event": "imported", "origin": foreign.origin, "file": printable(path.name)})
    if not quiet:
        _tell(run, foreign)
    return run


def _translate(content: Any, name: str, fingerprint: str, eval_mode: bool) -> Foreign:
    form = next((form for form in FORMATS if form.claims(content)), None)
    if eval_mode and not (form and form.two_ways):
        raise CheckpointImportError(
            "Only generators for translation (pytorch-CycleGAN-and-pix2pix) have two ways of use, and this is none.",
            fix="leave eval_mode out",
        )
    if form is None:
        state = plain_state(content) or {}
        check_state("The state dict", state)
        raise _unknown(state)
    return form.read(content, name, fingerprint, eval_mode=eval_mode)


def _unknown(state: Mapping[str, Tensor]) -> CheckpointImportError:
    """The refusal of a state dict of no known layout."""
    if junyanz.may_be_discriminator(state):
        return CheckpointImportError(
            "This is a discriminator, and nothing is made with one alone.", fix="give the generator's file (net_G)"
        )
    known = {origin: names for form in FORMATS for origin, names in form.layouts.items()}
    nearest = nearest_layout(frozenset(map(numberless, state)), known)
    return CheckpointImportError(
        f"The weights are of no network we know.{nearest}", fix="known state dicts: " + "; ".join(known)
    )


def _recipe(foreign: Foreign) -> Recipe:
    """The recipe with the file's weights; what the file lacks is drawn from the run's seed."""
    _check_sizes(foreign)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(foreign.settings.train.seed)
        recipe = foreign.settings.info.recipe(foreign.data, foreign.settings.recipe)
    _load(recipe.get_submodule("generator"), foreign.generator)
    if foreign.discriminator is not None:
        _load(recipe.get_submodule("discriminator"), foreign.discriminator)
    return recipe


_FRESH = 1 << 26
"""Weights a fresh discriminator may have in any case: twice those of the official ones."""


def _check_sizes(foreign: Foreign) -> None:
    """Build the recipe without memory first: what a file says must not make us allocate what it does not hold."""
    try:
        with torch.device("meta"):
            recipe = foreign.settings.info.recipe(foreign.data, foreign.settings.recipe)
    except (ValueError, TypeError, RuntimeError, ArithmeticError) as error:
        raise CheckpointImportError(f"The network cannot be built: {error}.") from error
    _check_fit(recipe.get_submodule("generator"), foreign.average)
    _check_fit(recipe.get_submodule("generator"), foreign.generator)
    given = sum(tensor.numel() for tensor in foreign.generator.values())
    if foreign.discriminator is not None:
        _check_fit(recipe.get_submodule("discriminator"), foreign.discriminator)
        given += sum(tensor.numel() for tensor in foreign.discriminator.values())
    if sum(tensor.numel() for tensor in recipe.state_dict().values()) > 5 * given + _FRESH:
        raise CheckpointImportError("A discriminator for this generator would be many times as large as it is.")


def _check_fit(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    for name in sorted(wanted.keys() | state.keys()):
        found = tuple(state[name].shape) if name in state else "missing"
        if found != wanted.get(name, "absent"):
            raise CheckpointImportError(
                f"The weights do not fit the network: '{name}' is {found}, and should be {wanted.get(name, 'absent')}.",
                fix="only unchanged networks can be imported",
            )


def _load(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    try:
        network.load_state_dict(dict(state))
    except RuntimeError as error:
        raise CheckpointImportError(f"The weights do not fit the network: {error}") from error


def _config(foreign: Foreign, path: Path) -> dict[str, Any]:
    """`run.yaml`, as of a trained run; the key `imported` is what tells them apart."""
    command = printable(shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]))
    return {
        **run_config(foreign.settings, foreign.data, None, "imported", command),
        "imported": {
            "origin": foreign.origin,
            "file": printable(path.name),
            "blake2b": hash_file(path),
            "discriminator": foreign.discriminator is not None,
            "notes": list(foreign.notes),
            "licence": notice_for(foreign.origin),
        },
    }


def _tell(run: Run, foreign: Foreign) -> None:
    data = foreign.data
    classes = f", {data.num_classes} classes" if data.num_classes else ""
    what = f"{foreign.settings.info.name} of {data.resolution}x{data.resolution} pixels{classes} ({foreign.origin})"
    lines = [f"imported {what} into {run.path}", *foreign.notes, "", notice_for(foreign.origin)]
    for line in lines:
        console.print(printable(line), markup=False, highlight=False)
