"""Plain state dicts: tensors by name, under whatever wrappers and prefixes, and which known layout they are near to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

_WRAPPERS = ("params_ema", "params", "state_dict", "model_state_dict", "generator", "netG")
"""Keys under which a state dict may lie, the preferred first (BasicSR: the averaged weights)."""
_PREFIXES = ("module.", "_orig_mod.")
_MAX_WRAPPERS = 4
"""So many are taken off; a file may wrap itself without end."""


def plain_state(content: Any) -> dict[str, Tensor] | None:
    """The state dict in what a file holds, without wrappers and prefixes; None where there is none."""
    for _ in range(_MAX_WRAPPERS):
        wrapped = [
            content[key] for key in _WRAPPERS if isinstance(content, dict) and isinstance(content.get(key), dict)
        ]
        content = wrapped[0] if wrapped else content
    if not isinstance(content, dict) or not content:
        return None
    if not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()):
        return None
    state: dict[str, Tensor] = dict(content)
    for _ in range(_MAX_WRAPPERS):
        for prefix in _PREFIXES:
            if all(name.startswith(prefix) for name in state):
                state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def nearest_layout(shapes: frozenset[str], known: Mapping[str, frozenset[str]]) -> str:
    """Say which layout these names (digits as #) are nearest to, and what of it is missing; or nothing.

    Args:
        shapes: Names in the file.
        known: Names of layouts by origin.
    """

    def likeness(origin: str) -> float:
        return len(shapes & known[origin]) / len(shapes | known[origin])

    best = max(known, key=likeness)
    if likeness(best) == 0:
        return ""
    missing = sorted(known[best] - shapes)
    foreign = sorted(shapes - known[best])
    parts = [f"of which it lacks {', '.join(missing[:3])}" if missing else "", f"it also has {', '.join(foreign[:3])}"]
    told = "; ".join(part for part, there in zip(parts, (missing, foreign), strict=True) if there)
    return f" The nearest is {best}" + (f": {told}." if told else ".")


def numberless(name: str) -> str:
    """The name with every number written as #."""
    return re.sub(r"\d+", "#", name)
