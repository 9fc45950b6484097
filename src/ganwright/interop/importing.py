"""`ganwright import`: from somebody's file to a run of ours that can be sampled, measured, explored and fine-tuned."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ganwright._version import __version__
from ganwright.console import console
from ganwright.data.spec import DataKind, DataSpec
from ganwright.errors import RunError, SettingsError
from ganwright.files import hash_file, write_atomic
from ganwright.interop import junyanz, sr_checkpoints
from ganwright.interop.admitted import read_checkpoint_file
from ganwright.interop.as_settings import data_spec, run_settings
from ganwright.interop.licences import notice_for
from ganwright.interop.module_trees import check_state, tensors, walk
from ganwright.interop.nvidia import OfficialCheckpoint, understand
from ganwright.interop.r3gan import r3gan_from_state
from ganwright.interop.restricted import CheckpointImportError, Inert, printable
from ganwright.interop.sr_checkpoints import plain_state, sr_from_state
from ganwright.recipes.base import Recipe
from ganwright.run import Run
from ganwright.training.checkpoint import TrainingParts, save_checkpoint
from ganwright.training.ema import MovingAverage
from ganwright.training.loop import TrainingState
from ganwright.training.settings import RunSettings, resolve


@dataclass(frozen=True)
class Foreign:
    """A file's networks in our terms.

    Attributes:
        origin: Where such files come from, for people and `run.yaml`.
        settings: Recipe and settings that build the networks.
        data: What is known of the training data.
        average: State of the averaged generator.
        generator: State of the generator as it was trained last.
        discriminator: State of the discriminator; None: none that fits.
        notes: What the user should know.
    """

    origin: str
    settings: RunSettings
    data: DataSpec
    average: Mapping[str, Tensor]
    generator: Mapping[str, Tensor]
    discriminator: Mapping[str, Tensor] | None
    notes: tuple[str, ...] = ()


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
    state = None if _is_r3gan(content) else plain_state(content)
    if state is not None and junyanz.recognises(state):
        check_state("The state dict", state)
        return _from_translation(state, name, fingerprint, eval_mode)
    if eval_mode:
        raise CheckpointImportError(
            "Only generators for translation (pytorch-CycleGAN-and-pix2pix) have two ways of use, and this is none.",
            fix="leave eval_mode out",
        )
    if _is_r3gan(content):
        return _from_r3gan(content, name, fingerprint)
    if state is not None:
        check_state("The state dict", state)
        if not sr_checkpoints.recognises(state):
            raise _unknown(state)
        return _from_super_resolution(state, name, fingerprint)
    return _from_nvidia(understand(content), name, fingerprint)


def _from_nvidia(checkpoint: OfficialCheckpoint, name: str, fingerprint: str) -> Foreign:
    data = data_spec(checkpoint, name, fingerprint)
    settings, misfit = run_settings(checkpoint, data)
    notes = []
    if checkpoint.generator is None:
        notes.append("The file holds one generator only; it stands for the last one and the averaged one.")
    if checkpoint.discriminator is None:
        notes.append("The file holds no discriminator; fine-tuning begins with a fresh one.")
    elif misfit:
        notes.append(f"The discriminator is left out, as no settings build it ({misfit}); fine-tuning begins afresh.")
    kept = None if misfit or checkpoint.discriminator is None else checkpoint.discriminator.state
    live = checkpoint.generator or checkpoint.average
    return Foreign(
        checkpoint.average.repository, settings, data, checkpoint.average.state, live.state, kept, tuple(notes)
    )


def _is_r3gan(content: Any) -> bool:
    tree = content.get("G_ema", content.get("G")) if isinstance(content, dict) else content
    return isinstance(tree, Inert) and tree.name.startswith(("R3GAN.", "training.networks."))


def _from_r3gan(content: Any, name: str, fingerprint: str) -> Foreign:
    trees = content if isinstance(content, dict) else {"G_ema": content}
    states = {
        key: dict(tensors(dict(walk(trees[key])))) for key in ("G_ema", "G", "D") if isinstance(trees.get(key), Inert)
    }
    for key, state in states.items():
        check_state(key, state)
    found = r3gan_from_state(states.get("G_ema", states.get("G", {})), states.get("D"))
    live = r3gan_from_state(states["G"]) if "G" in states else found
    changes = {"resolution": found.resolution, "channels": str(found.channels)}
    settings = resolve("r3gan", {**vars(found.settings), **changes})
    kind = DataKind.LABELLED_IMAGES if found.num_classes else DataKind.IMAGES
    classes = tuple(str(k) for k in range(found.num_classes))
    data = DataSpec(kind, name, 0, fingerprint, found.resolution, found.channels, classes)
    return Foreign("R3GAN", settings, data, found.generator, live.generator, found.discriminator)


def _from_super_resolution(state: Mapping[str, Tensor], name: str, fingerprint: str) -> Foreign:
    found = sr_from_state(state)
    side = 24 * max(4, found.settings["upscale"])  # of the crops that fine-tuning would begin with
    settings = resolve(found.recipe, {**found.settings, "resolution": side, "channels": str(found.channels)})
    data = DataSpec(DataKind.IMAGES, name, 0, fingerprint, side, found.channels)
    notes = ("The file holds a generator alone; fine-tuning begins with a fresh discriminator.",)
    return Foreign(found.origin, settings, data, found.state, found.state, None, notes)


def _from_translation(state: Mapping[str, Tensor], name: str, fingerprint: str, eval_mode: bool) -> Foreign:
    found = junyanz.translator_from_state(state, eval_mode=eval_mode)
    channels = {"channels_in": str(found.channels), "channels_out": str(found.channels_out)}
    settings = resolve("pix2pix", {**found.settings, **channels, "resolution": found.resolution})
    data = DataSpec(
        DataKind.PAIRS,
        name,
        0,
        fingerprint,
        found.resolution,
        found.channels,
        extra={"channels_out": found.channels_out},
    )
    return Foreign(found.origin, settings, data, found.state, found.state, None, found.notes)


def _unknown(state: Mapping[str, Tensor]) -> CheckpointImportError:
    """The refusal of a state dict of no known layout."""
    if junyanz.may_be_discriminator(state):
        return CheckpointImportError(
            "This is a discriminator, and nothing is made with one alone.", fix="give the generator's file (net_G)"
        )
    nearest = sr_checkpoints.nearest_layout(frozenset(map(sr_checkpoints.numberless, state)), junyanz.LAYOUTS)
    known = [*(layout.origin for layout in sr_checkpoints.LAYOUTS), *junyanz.LAYOUTS]
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
    settings = foreign.settings
    versions = {package: version(package) for package in ("torch", "numpy", "safetensors")}
    return {
        "recipe": settings.info.name,
        "paper": settings.info.paper,
        "purpose": settings.info.purpose,
        "settings": settings.flat(),
        "settings_changed": settings.changed(),
        "data": foreign.data.to_dict(),
        "data_source": None,
        "versions": {"ganwright": __version__, "python": sys.version.split()[0], **versions},
        "device": "imported",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": printable(shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])),
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
