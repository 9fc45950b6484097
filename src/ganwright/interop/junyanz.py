"""Generators of pytorch-CycleGAN-and-pix2pix, as plain state dicts (`net_G.pth`, `latest_net_G_A.pth`).

Everything is told from names and shapes: kind, blocks or depth, width, channels, norm, and for residual generators
whether they drop. A generator that is nearly one of theirs is refused, with what it lacks and what it has too many of.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ganwright.data.spec import DataKind, DataSpec
from ganwright.interop.foreign import Foreign, Format
from ganwright.interop.module_trees import check_state
from ganwright.interop.restricted import CheckpointImportError
from ganwright.interop.state_dicts import numberless, plain_state
from ganwright.networks import translator, unet
from ganwright.networks.translating import NormName
from ganwright.training.settings import resolve

State = Mapping[str, Tensor]
_REPOSITORY = "pytorch-CycleGAN-and-pix2pix"
RESNET, UNET = f"residual generator ({_REPOSITORY})", f"U-Net ({_REPOSITORY})"
_FIRST_BLOCK = 10
"""Where residual blocks begin in the authors' sequence."""
_MOST_BLOCKS = 64
_MOST_CHANNELS = 4
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_ONLY_UNCHANGED = "only unchanged networks of that repository can be imported"


@dataclass(frozen=True)
class TranslatorCheckpoint:
    """A generator in our terms.

    Attributes:
        origin: The layout, for people.
        settings: What builds the generator, of `Pix2PixSettings`, and how it is used.
        resolution: Of the images that such generators are trained on.
        channels: Of the images it is given.
        channels_out: Of those it makes.
        state: Its weights, in our names.
        notes: What the user should know.
    """

    origin: str
    settings: dict[str, Any]
    resolution: int
    channels: int
    channels_out: int
    state: dict[str, Tensor]
    notes: tuple[str, ...]


def recognises(state: State) -> bool:
    """Whether the state dict is such a generator, or nearly one."""
    return _is_resnet(state) or _is_unet(state)


def translator_from_state(state: State, *, eval_mode: bool = False) -> TranslatorCheckpoint:
    """The generator that a state dict (without `module.` and wrappers) holds.

    Args:
        state: Tensors by the authors' names; `recognises` says that it is one.
        eval_mode: The generator is to be used as by the authors' `test.py --eval`: nothing is dropped, and batch norm
            uses the statistics of training. Else as without: it drops, and batch norm uses each image's own.

    Raises:
        CheckpointImportError: It is not one of theirs; it says what is missing and what is not known.
    """
    if any(name.endswith(".filt") for name in state):
        raise CheckpointImportError(
            "This generator blurs where it halves and doubles (as CUT's do), which our networks do not.",
            fix="import a generator trained with --no_antialias --no_antialias_up",
        )
    return _resnet(state, eval_mode) if _is_resnet(state) else _unet(state, eval_mode)


def may_be_discriminator(state: State) -> bool:
    """Whether the names are those of the repository's discriminators, `net_D`."""
    leaves = ("weight", "bias", *_STATISTICS)
    names = {f"{part}.#.{leaf}" for part in ("model", "net") for leaf in leaves}
    return {numberless(name) for name in state} <= names and bool({"model.0.weight", "net.0.weight"} & state.keys())


# The two layouts. -----------------------------------------------------------------------------------------------


def _is_resnet(state: State) -> bool:
    return any(re.match(r"^model\.\d+\.conv_block\.\d+\.", name) for name in state)


def _is_unet(state: State) -> bool:
    return "model.model.0.weight" in state and any(name.startswith("model.model.1.model.") for name in state)


def _resnet(state: State, eval_mode: bool) -> TranslatorCheckpoint:
    places = {int(found[1]) for name in state if (found := re.match(r"^model\.(\d{1,6})\.conv_block\.", name))}
    blocks = len(places)
    if blocks > _MOST_BLOCKS or places != set(range(_FIRST_BLOCK, _FIRST_BLOCK + blocks)):
        raise CheckpointImportError(
            f"The file looks like a {RESNET}, but its {blocks} blocks are not those from model.{_FIRST_BLOCK} on.",
            fix=_ONLY_UNCHANGED,
        )
    start = _FIRST_BLOCK + blocks
    moved = (f"model.{start + 1}.weight", f"model.{start + 2}.weight")
    _refuse_upsampling(RESNET, state, f"model.{start}.weight", moved)
    # The second convolution of a block is at 5, or after a layer that drops at 6, where a batch norm may stand too.
    second = state.get(f"model.{_FIRST_BLOCK}.conv_block.6.weight")
    dropout = 0.5 if second is not None and second.ndim == 4 else 0.0
    norm = _norm(state, gain="model.2.weight", bias="model.1.bias")
    width, channels = _maps(state, "model.1.weight", RESNET)
    channels_out, _ = _maps(state, f"model.{start + 7}.weight", RESNET)
    _check_channels(channels, channels_out)
    names = translator.released_names(blocks, dropout=dropout > 0)
    ours = _renamed(
        RESNET,
        state,
        norm,
        names,
        lambda: translator.Translator(channels, channels_out, width=width, blocks=blocks, norm=norm, dropout=dropout),
    )
    settings = {"generator": "resnet", "resnet_blocks": blocks, "width_g": width, "norm": norm, "dropout": dropout}
    resolution = 128 if blocks <= 6 else 256
    used, notes = _use(norm, dropout, eval_mode)
    return TranslatorCheckpoint(RESNET, settings | used, resolution, channels, channels_out, ours, notes)


def _unet(state: State, eval_mode: bool) -> TranslatorCheckpoint:
    depth, prefix = 1, "model.model.1.model"
    while any(name.startswith(f"{prefix}.") for name in state):
        depth, prefix = depth + 1, f"{prefix}.3.model"
        if depth > unet.DEEPEST:
            raise CheckpointImportError(
                f"This U-Net halves more than {unet.DEEPEST} times, and ours do so {unet.DEEPEST} times at most.",
                fix="import unet_128 or unet_256",
            )
    _refuse_upsampling(UNET, state, "model.model.3.weight", ("model.model.4.weight", "model.model.5.weight"))
    inner = "model.model.1.model"
    norm = _norm(state, gain=f"{inner}.{6 if depth > 2 else 4}.weight", bias=f"{inner}.1.bias")
    width, channels = _maps(state, "model.model.0.weight", UNET)
    _, channels_out = _maps(state, "model.model.3.weight", UNET)  # transposed: inputs come first
    _check_channels(channels, channels_out)
    ours = _renamed(
        UNET,
        state,
        norm,
        unet.released_names(depth),
        lambda: unet.UNet(channels, channels_out, width=width, depth=depth, norm=norm),
    )
    # Layers that drop have no weights, so that the file does not tell of them; pix2pix has batch norm and drops, and
    # CycleGAN has instance norm and does not, unless the authors' scripts are told otherwise.
    dropout = 0.5 if norm == "batch" and depth > 5 else 0.0
    settings = {"generator": "unet", "unet_depth": depth, "width_g": width, "norm": norm, "dropout": dropout}
    used, notes = _use(norm, dropout, eval_mode)
    # 32: for smaller images there is no discriminator to fine-tune with
    return TranslatorCheckpoint(UNET, settings | used, max(2**depth, 32), channels, channels_out, ours, notes)


def _use(norm: NormName, dropout: float, eval_mode: bool) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Settings of how the generator is used, and what to say of that."""
    settings = {
        "test_dropout": dropout > 0 and not eval_mode,
        "test_statistics": "running" if eval_mode else "image",
    }
    notes = ["The file holds one generator, so one direction; fine-tuning begins with a fresh discriminator."]
    if (dropout or norm == "batch") and eval_mode:
        notes.append(
            "It is used as by the authors' test.py --eval: nothing is dropped, and a batch norm uses the statistics of "
            "training."
        )
    elif dropout or norm == "batch":
        dropped = "units are dropped" if dropout else "nothing is dropped"
        notes.append(
            f"It is used as by the authors' test.py without --eval: {dropped}, and a batch norm uses each image's own "
            "statistics. For the other way import it with --eval-mode."
        )
    return settings, tuple(notes)


# What both have in common. --------------------------------------------------------------------------------------


def _norm(state: State, *, gain: str, bias: str) -> NormName:
    """The norm: batch norm alone has gains; convolutions have biases only before instance norm."""
    if gain in state:
        return "batch"
    return "instance" if bias in state else "none"


def _maps(state: State, name: str, origin: str) -> tuple[int, int]:
    """The first two sizes of a convolution's weight."""
    tensor = state.get(name)
    if tensor is None or tensor.ndim != 4:
        what = "no" if tensor is None else f"a {tensor.ndim}-dimensional"
        raise CheckpointImportError(f"The file looks like a {origin}, but has {what} {name}.", fix=_ONLY_UNCHANGED)
    return tensor.shape[0], tensor.shape[1]


def _check_channels(*channels: int) -> None:
    if max(channels) > _MOST_CHANNELS:
        raise CheckpointImportError(
            f"A generator from {channels[0]} to {channels[1]} channels cannot be imported.",
            fix=f"images have at most {_MOST_CHANNELS} channels here",
        )


def _refuse_upsampling(origin: str, state: State, place: str, moved: tuple[str, ...]) -> None:
    """Refuse the variant whose doublings are an upsampling (by bilinear interpolation, say) and a convolution.

    Upsampling and padding have no weights but count as layers, so that the convolution stands one or two places on.
    """
    if place not in state and any(name in state and state[name].ndim == 4 for name in moved):
        raise CheckpointImportError(
            f"This {origin} doubles by interpolation and a convolution (the bilinear variant); ours doubles by "
            "transposed convolutions.",
            fix="only generators with transposed convolutions, which are the authors' own, can be imported",
        )


def _renamed(
    origin: str, state: State, norm: NormName, names: Mapping[str, str], make: Callable[[], nn.Module]
) -> dict[str, Tensor]:
    """The weights in our names, for the network that `make` makes; `names` has the authors' name of each module."""
    wanted = _without_memory(origin, make)
    theirs = {}
    for name in wanted:
        module, _, leaf = name.rpartition(".")
        theirs[f"{names[module]}.{leaf}"] = name
    # Instance norms of torch before 0.4 kept statistics that the authors' code ignores: they are left out.
    norms = {place for module, place in names.items() if "norm" in module}
    left_out = {f"{place}.{leaf}" for place in norms for leaf in _STATISTICS} - theirs.keys()
    missing = sorted(theirs.keys() - state.keys() - _implied(theirs, norm))
    foreign = sorted(state.keys() - theirs.keys() - left_out)
    if missing or foreign:
        told = [f"it lacks {', '.join(missing[:3])}"] if missing else []
        told += [f"it also has {', '.join(foreign[:3])}"] if foreign else []
        raise CheckpointImportError(
            f"The weights are of no network we know. The nearest is a {origin}: {'; '.join(told)}.", fix=_ONLY_UNCHANGED
        )
    ours = {theirs[name]: tensor for name, tensor in state.items() if name in theirs}
    for name in wanted.keys() - ours.keys():
        ours[name] = torch.zeros(wanted[name].shape, dtype=wanted[name].dtype)
    return ours


def _without_memory(origin: str, make: Callable[[], nn.Module]) -> dict[str, Tensor]:
    """The state dict of the network, its tensors without numbers."""
    try:
        with torch.device("meta"):
            return make().state_dict()
    except (RuntimeError, ValueError, ArithmeticError) as error:
        raise CheckpointImportError(f"The file looks like a {origin} that cannot be built: {error}.") from error


def _implied(theirs: Mapping[str, str], norm: NormName) -> set[str]:
    """What files may lack and is zero then, by the authors' names.

    Batch norms of torch before 0.4.1 have no counter; in networks without norms only the last convolution has a bias.
    """
    last = next(name for name in reversed(list(theirs.values())) if name == "head.bias" or name.startswith("up."))
    return {
        name
        for name, ours in theirs.items()
        if ours.endswith(".num_batches_tracked") or (norm == "none" and ours.endswith(".bias") and ours not in last)
    }


def _names(names: Mapping[str, str]) -> frozenset[str]:
    return frozenset(numberless(f"{place}.weight") for module, place in names.items() if "norm" not in module)


LAYOUTS: Mapping[str, frozenset[str]] = {
    RESNET: _names(translator.released_names(9)),
    UNET: _names(unet.released_names(8)),
}
"""Names of a typical file, digits written as #, by origin; the nearest layout is found by them."""


def _claims(content: Any) -> bool:
    state = plain_state(content)
    return state is not None and recognises(state)


def _read(content: Any, name: str, fingerprint: str, *, eval_mode: bool) -> Foreign:
    state = plain_state(content) or {}
    check_state("The state dict", state)
    found = translator_from_state(state, eval_mode=eval_mode)
    channels = {"channels_in": str(found.channels), "channels_out": str(found.channels_out)}
    settings = resolve("pix2pix", {**found.settings, **channels, "resolution": found.resolution})
    extra = {"channels_out": found.channels_out}
    data = DataSpec(DataKind.PAIRS, name, 0, fingerprint, found.resolution, found.channels, extra=extra)
    return Foreign(found.origin, settings, data, found.state, found.state, None, found.notes)


FORMAT = Format(_claims, _read, LAYOUTS, two_ways=True)
