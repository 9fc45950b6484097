"""Which layers of a style-based generator are meant: by name, number, range, or coarse, middle and fine."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ganwright.errors import SettingsError, nearest

GROUPS = ("coarse", "middle", "fine")
_COARSE, _MIDDLE = 8, 32
"""Finest resolutions of coarse and middle styles in Karras et al. 2019, figure 3; the rest are fine."""


def layer_groups(layers: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Coarse, middle and fine layers.

    Where names tell resolutions ("b16.conv0") and there are some of 64 pixels or more, those of Karras et al. (2019):
    up to 8, 16 to 32, and 64 pixels on. Otherwise thirds of the layers.

    Args:
        layers: Names, coarse to fine.

    Returns:
        Positions of the layers, by name of the group.
    """
    sizes = [re.search(r"\d+", name) for name in layers]
    found = [int(size[0]) for size in sizes if size is not None]
    if len(found) == len(layers) and found and max(found) > _MIDDLE:
        ends = [sum(size <= _COARSE for size in found), sum(size <= _MIDDLE for size in found)]
    else:
        ends = [round(len(layers) / 3), round(2 * len(layers) / 3)]
    bounds = [0, *ends, len(layers)]
    return {group: tuple(range(bounds[i], bounds[i + 1])) for i, group in enumerate(GROUPS)}


def parse_layers(wanted: str | Sequence[int | str], layers: Sequence[str]) -> tuple[int, ...]:
    """Positions of the layers that are meant, in order and without repetition.

    Args:
        wanted: "all", or several of these with commas between: coarse, middle, fine, a name ("b8.conv0"), a beginning
            of names up to a dot ("b8"), a number from 0, a range of numbers ("2-5"). Or a sequence of them.
        layers: Names, coarse to fine.

    Raises:
        SettingsError: There is no such layer.
    """
    parts = wanted.split(",") if isinstance(wanted, str) else [str(part) for part in wanted]
    found: set[int] = set()
    for part in (part.strip() for part in parts if part.strip()):
        found |= set(_meant(part, layers))
    if not found:
        raise SettingsError("No layers were named.", where="layers", fix=_advice(layers))
    return tuple(sorted(found))


def describe_layers(chosen: Sequence[int], layers: Sequence[str]) -> str:
    """Chosen layers in words: "all layers", "coarse layers", or names with ranges."""
    if len(chosen) == len(layers):
        return "all layers"
    for group, members in layer_groups(layers).items():
        if tuple(chosen) == members:
            return f"{group} layers ({_ranges(chosen, layers)})"
    return f"layers {_ranges(chosen, layers)}"


def _meant(part: str, layers: Sequence[str]) -> Sequence[int]:
    if part == "all":
        return range(len(layers))
    if part in GROUPS:
        return layer_groups(layers)[part]
    if part in layers:
        return [layers.index(part)]
    if members := [i for i, name in enumerate(layers) if name.startswith(f"{part}.")]:
        return members
    match = re.fullmatch(r"(\d+)(?:\s*-\s*(\d+))?", part)
    if match:
        first, last = int(match[1]), int(match[2] or match[1])
        if first <= last < len(layers):
            return range(first, last + 1)
    hint = nearest(part, [*GROUPS, "all", *layers])
    raise SettingsError(f"There is no layer '{part}'.{hint}", where="layers", fix=_advice(layers))


def _advice(layers: Sequence[str]) -> str:
    return f"choose all, coarse, middle, fine, numbers 0 to {len(layers) - 1}, or from " + ", ".join(layers)


def _ranges(chosen: Sequence[int], layers: Sequence[str]) -> str:
    runs: list[list[int]] = []
    for i in chosen:
        if runs and i == runs[-1][-1] + 1:
            runs[-1].append(i)
        else:
            runs.append([i])
    return ", ".join(layers[run[0]] if len(run) == 1 else f"{layers[run[0]]} to {layers[run[-1]]}" for run in runs)
