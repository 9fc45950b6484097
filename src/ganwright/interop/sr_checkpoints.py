"""Super-resolution generators of other people, as plain state dicts: their layouts, and what builds the same network.

Known are SRGAN generators of leftthomas's repository, MSRResNet of BasicSR, and RRDBNet in the layouts of BasicSR, of
the ESRGAN repository, and of the one before that. Everything is told from names and shapes; an unknown layout is
refused with the nearest one named.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ganwright.data.spec import DataKind, DataSpec
from ganwright.interop.foreign import Foreign, Format
from ganwright.interop.module_trees import check_state
from ganwright.interop.restricted import CheckpointImportError
from ganwright.interop.state_dicts import nearest_layout, numberless, plain_state
from ganwright.training.settings import resolve

State = Mapping[str, Tensor]
_MAX_NUMBER = 1000
"""No name of a layer has a larger number; the largest says how many layers are made."""
_MAX_DOUBLINGS = 8


@dataclass(frozen=True)
class SRCheckpoint:
    """A generator in our terms.

    Attributes:
        origin: The layout, for people.
        recipe: "srgan" or "esrgan".
        settings: What builds the generator, of `SRGANSettings`.
        channels: 1 or 3.
        state: Its weights, in our names.
    """

    origin: str
    recipe: str
    settings: dict[str, Any]
    channels: int
    state: dict[str, Tensor]


@dataclass(frozen=True)
class Layout:
    """How one repository names the parts of a generator.

    Attributes:
        origin: Whose.
        signature: Names, digits written as #, that together are found in this layout alone.
        names: All names of a typical file, digits written as #; the nearest layout is found by them.
        read: A state with its wrappers off -> the generator in our terms.
    """

    origin: str
    signature: frozenset[str]
    names: frozenset[str]
    read: Callable[[State], SRCheckpoint]


def sr_from_state(state: State) -> SRCheckpoint:
    """The super-resolution generator that a state dict holds.

    Raises:
        CheckpointImportError: It is of no layout known here; the nearest is named, and what of it is missing.
    """
    shapes = frozenset(map(numberless, state))
    for layout in LAYOUTS:
        if layout.signature <= shapes:
            try:
                return layout.read(state)
            except (LookupError, ValueError, ArithmeticError) as error:
                raise CheckpointImportError(
                    f"The file looks like {layout.origin}, but its parts do not fit together ({error}).",
                    fix="only unchanged networks of that repository can be imported",
                ) from error
    raise CheckpointImportError(
        f"The weights are of no network we know.{nearest_layout(shapes, FORMAT.layouts)}",
        fix="known state dicts: " + "; ".join(layout.origin for layout in LAYOUTS),
    )


def recognises(state: State) -> bool:
    """Whether the state dict has one of the layouts."""
    shapes = frozenset(map(numberless, state))
    return any(layout.signature <= shapes for layout in LAYOUTS)


# RRDBNet. -----------------------------------------------------------------------------------------------------

_DENSE = re.compile(r"^(?:body|RRDB_trunk|model\.1\.sub)\.(\d+)\.(?:rdb|RDB)(\d)\.conv(\d)(?:\.0)?\.(weight|bias)$")
_NAMED = {
    "conv_first": "conv_first",
    "trunk_conv": "conv_body",
    "conv_body": "conv_body",
    "HRconv": "conv_hr",
    "conv_hr": "conv_hr",
    "conv_last": "conv_last",
}


def _rrdb(origin: str, rename: Callable[[State], dict[str, str]]) -> Callable[[State], SRCheckpoint]:
    def read(state: State) -> SRCheckpoint:
        renamed = {_dense_name(name) or name: tensor for name, tensor in state.items()}
        ends = rename(state)
        ours: dict[str, Tensor] = {}
        for name, tensor in renamed.items():
            part, _, kind = name.rpartition(".")
            ours[f"{ends.get(part, part)}.{kind}"] = tensor
        return _rrdb_checkpoint(origin, ours)

    return read


def _dense_name(name: str) -> str | None:
    found = _DENSE.match(name)
    return found and "body.{}.rdb{}.conv{}.{}".format(*found.groups())


def _rrdb_checkpoint(origin: str, state: dict[str, Tensor]) -> SRCheckpoint:
    channels = state["conv_last.weight"].shape[0]
    width, inputs = state["conv_first.weight"].shape[:2]
    ups = len({name for name in state if re.match(r"^conv_up\d+\.weight$", name)})
    _check_doublings(ups)
    folding = round((inputs / channels) ** 0.5)
    if folding**2 * channels != inputs or 2**ups % folding:
        raise ValueError(f"{inputs} channels in and {channels} out")
    settings = {
        "network": "rrdb",
        "upscale": 2**ups // folding,
        "width_g": width,
        "blocks": _count(state, r"^body\.(\d+)\."),
        "growth": state["body.0.rdb1.conv1.weight"].shape[0],
        "upsamplings": ups,
    }
    return SRCheckpoint(origin, "esrgan", settings, channels, state)


def _basicsr_ends(state: State) -> dict[str, str]:
    return _NAMED


def _trunk_ends(state: State) -> dict[str, str]:
    return _NAMED | {f"upconv{i}": f"conv_up{i}" for i in range(1, 5)}


def _sequential_ends(state: State) -> dict[str, str]:
    """`model.0` first, the last of `model.1.sub` ends the trunk; then doublings, and two convolutions at the end."""
    trunk = _count(state, r"^model\.1\.sub\.(\d+)\.") - 1
    places = sorted({int(found[1]) for name in state if (found := re.match(r"^model\.(\d+)\.weight$", name))})
    first, *ups, high, last = places
    named = {f"model.{first}": "conv_first", f"model.1.sub.{trunk}": "conv_body"}
    named |= {f"model.{place}": f"conv_up{i}" for i, place in enumerate(ups, start=1)}
    return named | {f"model.{high}": "conv_hr", f"model.{last}": "conv_last"}


# SRResNet. ----------------------------------------------------------------------------------------------------


def _msrresnet(state: State) -> SRCheckpoint:
    width, channels = state["conv_first.weight"].shape[:2]
    ups = _count(state, r"^upconv(\d+)\.") - 1
    _check_doublings(ups)
    factor = round((state["upconv1.weight"].shape[0] / width) ** 0.5)
    settings = {
        "network": "msrresnet",
        "upscale": factor**ups,
        "width_g": width,
        "blocks": _count(state, r"^body\.(\d+)\."),
    }
    return SRCheckpoint("MSRResNet (BasicSR)", "srgan", settings, channels, dict(state))


def _leftthomas(state: State) -> SRCheckpoint:
    """`block1`: head; `block2` …: residual blocks; the last but one: trunk; the last: enlargements and tail."""
    last = _count(state, r"^block(\d+)\.") - 1
    blocks = range(2, last - 1)
    ups = len({name for name in state if re.match(rf"^block{last}\.\d+\.conv\.weight$", name)})
    _check_doublings(ups)
    parts = {"block1.0": "head", "block1.1": "head_act", f"block{last - 1}.0": "trunk"}
    parts |= {f"block{last - 1}.1": "trunk_end", f"block{last}.{ups}": "tail"}
    for i, k in enumerate(blocks):
        inner = {"conv1": "conv1", "bn1": "norm1", "prelu": "act", "conv2": "conv2", "bn2": "norm2"}
        parts |= {f"block{k}.{theirs}": f"blocks.{i}.{ours}" for theirs, ours in inner.items()}
    for i in range(ups):
        parts |= {f"block{last}.{i}.conv": f"ups.{i}.conv", f"block{last}.{i}.prelu": f"ups.{i}.act"}
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        part, _, kind = name.rpartition(".")
        renamed[f"{parts[part]}.{kind}"] = tensor
    for name in [name for name in renamed if name.endswith("running_mean")]:  # old files have no counters
        renamed.setdefault(name.replace("running_mean", "num_batches_tracked"), torch.zeros((), dtype=torch.int64))
    width, channels = state["block1.0.weight"].shape[:2]
    settings = {
        "network": "srresnet",
        "upscale": 2**ups,
        "width_g": width,
        "blocks": len(blocks),
        "trunk": "norm" if "trunk_end.running_mean" in renamed else "prelu",
        "final": "tanh",
    }
    return SRCheckpoint("SRGAN (leftthomas)", "srgan", settings, channels, renamed)


def _count(state: State, pattern: str) -> int:
    """One more than the largest number that the pattern finds in a name."""
    largest = max(int(found[1]) for name in state if (found := re.match(pattern, name)))
    if largest > _MAX_NUMBER:
        raise ValueError(f"a layer numbered {largest}")
    return 1 + largest


def _check_doublings(ups: int) -> None:
    if ups > _MAX_DOUBLINGS:
        raise ValueError(f"{ups} enlargements")


def _with_bias(parts: Iterable[str]) -> frozenset[str]:
    return frozenset(f"{part}.{kind}" for part in parts for kind in ("weight", "bias"))


def _layout(origin: str, signature: str, parts: str, read: Callable[[State], SRCheckpoint], more: str = "") -> Layout:
    names = _with_bias(parts.split()) | frozenset(more.split())
    return Layout(origin, frozenset(f"{part}.weight" for part in signature.split()), names, read)


LAYOUTS = (
    _layout(
        "RRDBNet (BasicSR)",
        "conv_first body.#.rdb#.conv# conv_body conv_hr conv_last",
        "conv_first body.#.rdb#.conv# conv_body conv_up# conv_hr conv_last",
        _rrdb("RRDBNet (BasicSR)", _basicsr_ends),
    ),
    _layout(
        "RRDBNet (ESRGAN)",
        "conv_first RRDB_trunk.#.RDB#.conv# trunk_conv HRconv conv_last",
        "conv_first RRDB_trunk.#.RDB#.conv# trunk_conv upconv# HRconv conv_last",
        _rrdb("RRDBNet (ESRGAN)", _trunk_ends),
    ),
    _layout(
        "RRDBNet (ESRGAN, old)",
        "model.# model.#.sub.#.RDB#.conv#.# model.#.sub.#",
        "model.# model.#.sub.#.RDB#.conv#.# model.#.sub.#",
        _rrdb("RRDBNet (ESRGAN, old)", _sequential_ends),
    ),
    _layout(
        "MSRResNet (BasicSR)",
        "conv_first body.#.conv# upconv# conv_hr conv_last",
        "conv_first body.#.conv# upconv# conv_hr conv_last",
        _msrresnet,
    ),
    _layout(
        "SRGAN (leftthomas)",
        "block#.# block#.conv# block#.bn# block#.prelu block#.#.conv block#.#.prelu",
        "block#.# block#.conv# block#.bn# block#.#.conv",
        _leftthomas,
        "block#.prelu.weight block#.#.prelu.weight block#.bn#.running_mean block#.bn#.running_var",
    ),
)
"""All layouts, asked in this order."""


def _claims(content: Any) -> bool:
    state = plain_state(content)
    return state is not None and recognises(state)


def _read(content: Any, name: str, fingerprint: str, *, eval_mode: bool) -> Foreign:
    state = plain_state(content) or {}
    check_state("The state dict", state)
    found = sr_from_state(state)
    side = 24 * max(4, found.settings["upscale"])  # of the crops that fine-tuning would begin with
    settings = resolve(found.recipe, {**found.settings, "resolution": side, "channels": str(found.channels)})
    data = DataSpec(DataKind.IMAGES, name, 0, fingerprint, side, found.channels)
    notes = ("The file holds a generator alone; fine-tuning begins with a fresh discriminator.",)
    return Foreign(found.origin, settings, data, found.state, found.state, None, notes)


FORMAT = Format(_claims, _read, {layout.origin: layout.names for layout in LAYOUTS})
