"""R3GAN's official snapshots: their tensors by our names, and back.

A snapshot stores no construction arguments, so the architecture, cardinality included, is read off the shapes. What
reads the file, without running anything in it, is elsewhere.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ganwright.data.spec import DataKind, DataSpec
from ganwright.errors import SettingsError
from ganwright.interop.arguments import MAX_CLASSES
from ganwright.interop.foreign import Foreign, Format
from ganwright.interop.module_trees import check_state, tensors, walk
from ganwright.interop.restricted import CheckpointImportError, Inert
from ganwright.networks.r3gan import Discriminator, Generator, R3GANPlan, smoothing_filter
from ganwright.recipes.r3gan_settings import R3GANSettings, check, network_plan
from ganwright.training.settings import resolve

_PREFIX = "Model."
"""The training code wraps each network once more."""
_OUTER = {
    "AggregationLayer.Layer.weight": "to_image.weight",
    "ExtractionLayer.Layer.weight": "from_image.weight",
    "EmbeddingLayer.weight": "embedding.weight",
}
_INNER = {
    "LinearLayer1.Layer.weight": "expand.weight",
    "NonLinearity1.Bias": "expand.bias",
    "LinearLayer2.Layer.weight": "grouped.weight",
    "NonLinearity2.Bias": "grouped.bias",
    "LinearLayer3.Layer.weight": "project.weight",
    "LinearLayer.Layer.weight": "mix.weight",
    "LinearLayer.weight": "linear.weight",
    "Basis": "basis",
    "Basis.weight": "basis.weight",
}
"""Theirs to ours; inside, `MainLayers.<i>.Layers.<j>.` is our `stages.<i>.<j>.`."""
_KERNEL = "Resampler.Kernel"
_MAX_STAGES = 12


@dataclass(frozen=True)
class ImportedR3GAN:
    """What is needed to make a run of an official snapshot.

    Attributes:
        settings: With which `R3GAN` builds the same networks; what concerns training has its default.
        resolution: Height and width of images.
        channels: 1 or 3.
        num_classes: 0 for an unconditional GAN.
        generator: State of `R3GAN.generator`.
        discriminator: State of `R3GAN.discriminator`; None if there was none.
    """

    settings: R3GANSettings
    resolution: int
    channels: int
    num_classes: int
    generator: dict[str, Tensor]
    discriminator: dict[str, Tensor] | None


def r3gan_from_state(g_state: Mapping[str, Tensor], d_state: Mapping[str, Tensor] | None = None) -> ImportedR3GAN:
    """The networks of an official snapshot.

    Args:
        g_state: The generator's parameters and buffers by their official names (those of `G_ema`, say), with or
            without the wrapper's prefix "Model.".
        d_state: The discriminator's, if there is one.

    Raises:
        CheckpointImportError: The names or shapes are not those of R3GAN's networks, or of none that `R3GAN` builds.
    """
    generator = _by_our_names(g_state, "generator")
    discriminator = None if d_state is None else _by_our_names(d_state, "discriminator")
    try:
        plan = plan_from_state(generator)
        settings = _settings(plan)
        with torch.device("meta"):
            _fits(Generator(plan), generator, "generator")
            if discriminator is not None:
                _fits(Discriminator(plan), discriminator, "discriminator")
    except (LookupError, ValueError, ArithmeticError, TypeError, RuntimeError) as error:
        raise CheckpointImportError("These are not the tensors of an R3GAN generator.", where=repr(error)) from error
    return ImportedR3GAN(settings, plan.resolution, plan.channels, plan.num_classes, generator, discriminator)


def r3gan_to_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A network's state by the official names, which the official classes load strictly: filters are included.

    Args:
        state: Of `R3GAN.generator` or `R3GAN.discriminator`.
    """
    outer = {ours: theirs for theirs, ours in _OUTER.items()}
    inner = {ours: theirs for theirs, ours in _INNER.items()}
    renamed = {}
    for name, tensor in state.items():
        place = re.fullmatch(r"stages\.(\d+)\.(\d+)\.(.+)", name)
        official = f"MainLayers.{place[1]}.Layers.{place[2]}.{inner[place[3]]}" if place else outer[name]
        renamed[_PREFIX + official] = tensor
    blocks = _blocks(state)
    # The resampler stands first in a stage of G and last in one of D.
    of_g, of_d = [(i, 0) for i in range(1, len(blocks))], [(i, blocks[i]) for i in range(len(blocks) - 1)]
    for i, j in of_g if "to_image.weight" in state else of_d:
        renamed[f"{_PREFIX}MainLayers.{i}.Layers.{j}.{_KERNEL}"] = smoothing_filter()
    return renamed


def plan_from_state(state: Mapping[str, Tensor]) -> R3GANPlan:
    """The sizes of both networks, from a generator's state by our names.

    The discriminator is taken to mirror it, as all official ones do.

    Raises:
        KeyError, IndexError, ValueError, ZeroDivisionError: It is no R3GAN generator's.
    """
    blocks = _blocks(state)
    expand = [state[f"stages.{i}.1.expand.weight"] for i in range(len(blocks))]
    grouped = [state[f"stages.{i}.1.grouped.weight"] for i in range(len(blocks))]
    widths = tuple(weight.shape[1] for weight in expand)
    numbers, classes = state["embedding.weight"].shape if "embedding.weight" in state else (0, 0)
    if classes > MAX_CLASSES:
        raise ValueError(f"{classes} classes")
    return R3GANPlan(
        resolution=state["stages.0.0.basis"].shape[1] << (len(blocks) - 1),
        channels=state["to_image.weight"].shape[0],
        widths=widths,
        groups=tuple(weight.shape[0] // weight.shape[1] for weight in grouped),
        blocks=blocks,
        expansion=expand[0].shape[0] // widths[0],
        latent_dim=state["stages.0.0.linear.weight"].shape[1] - numbers,
        num_classes=classes,
        class_embedding=numbers,
        class_embedding_d=widths[0] if classes else 0,
    )


def _by_our_names(state: Mapping[str, Tensor], network: str) -> dict[str, Tensor]:
    """In float32, without the filters of the resamplers, which our networks do not store."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        short = name.removeprefix(_PREFIX)
        place = re.fullmatch(r"MainLayers\.(\d+)\.Layers\.(\d+)\.(.+)", short)
        if place and place[3] == _KERNEL:
            _check_filter(tensor, f"{network}: {name}")
        elif place and place[3] in _INNER:
            renamed[f"stages.{place[1]}.{place[2]}.{_INNER[place[3]]}"] = tensor.detach().float()
        elif short in _OUTER:
            renamed[_OUTER[short]] = tensor.detach().float()
        else:
            raise CheckpointImportError("R3GAN's networks have no such tensor.", where=f"{network}: {name}")
    return renamed


def _check_filter(kernel: Tensor, where: str) -> None:
    wanted = smoothing_filter()
    if kernel.shape != wanted.shape or not torch.allclose(kernel.detach().float(), wanted, atol=1e-6):
        raise CheckpointImportError("The snapshot resamples with another filter than [1, 2, 1].", where=where)


def _blocks(state: Mapping[str, Tensor]) -> tuple[int, ...]:
    """Residual blocks of each stage, in the network's own order."""
    stages = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("stages."))
    if stages > _MAX_STAGES:
        raise ValueError("so many stages that no image is as large")
    found = [re.fullmatch(r"stages\.(\d+)\.\d+\.grouped\.weight", name) for name in state]
    in_stage = Counter(int(match[1]) for match in found if match)
    return tuple(in_stage[i] for i in range(stages))


def _settings(plan: R3GANPlan) -> R3GANSettings:
    """Settings that build networks of this plan.

    Raises:
        CheckpointImportError: There are none.
    """
    settings = R3GANSettings(
        latent_dim=plan.latent_dim,
        width=plan.widths[0],
        taper_after=plan.base << (plan.widths.count(plan.widths[0]) - 1),
        expansion=plan.expansion,
        group_width=plan.widths[0] * plan.expansion // plan.groups[0],
        blocks=plan.blocks[0],
        conditional=plan.num_classes > 0,
    )
    kind = DataKind.LABELLED_IMAGES if plan.num_classes else DataKind.IMAGES
    classes = tuple(str(k) for k in range(plan.num_classes))
    data = DataSpec(kind, "imported", 0, "", plan.resolution, plan.channels, classes)
    try:
        check(settings, data)
        built = replace(network_plan(settings, data), half_stages=plan.half_stages)
    except SettingsError as error:
        raise CheckpointImportError(f"No settings build this network: {error.what}", where="generator") from error
    if built != plan:
        raise CheckpointImportError(
            f"No settings build this network; the nearest is another: {built} instead of {plan}.",
            where="generator",
            fix="only widths that stay and then halve, with the same blocks and group width throughout, are supported",
        )
    return settings


def _fits(network: nn.Module, state: Mapping[str, Tensor], which: str) -> None:
    """Refuse a state of other names or shapes than the network's."""
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in state.items()}
    differ = sorted(name for name in wanted.keys() | given.keys() if wanted.get(name) != given.get(name))
    if differ:
        name = differ[0]
        found, expected = given.get(name, "missing"), wanted.get(name, "absent")
        raise CheckpointImportError(
            f"The {which}'s tensor '{name}' is {found}; it should be {expected}.",
            where=which,
        )


def _claims(content: Any) -> bool:
    tree = content.get("G_ema", content.get("G")) if isinstance(content, dict) else content
    return isinstance(tree, Inert) and tree.name.startswith(("R3GAN.", "training.networks."))


def _read(content: Any, name: str, fingerprint: str, *, eval_mode: bool) -> Foreign:
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


FORMAT = Format(_claims, _read, {})
