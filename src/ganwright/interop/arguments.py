"""What official files say of how a network was constructed: plain values, none of a size that could hurt."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from ganwright.interop.restricted import ImportRefusedError
from ganwright.interop.tensors import Array
from ganwright.networks.stylegan3 import StyleGAN3Plan

MAX_CLASSES = 30_000
"""ImageNet's largest list has 21,841."""
_MAX_TEXT = 200
_MAX_VALUES = 5_000
_MAX_TAPS = 256


def plain_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    """Construction arguments as plain values; numpy's arrays become lists.

    Raises:
        ImportRefusedError: They are nested too deeply, too many, or no plain values.
    """
    left = [_MAX_VALUES]
    return {_name(key): _thaw(item, 1, left) for key, item in arguments.items()}


def _thaw(value: Any, depth: int, left: list[int]) -> Any:
    left[0] -= 1
    if depth > 4 or left[0] < 0:
        raise ImportRefusedError("The construction arguments of a network are nested too deeply, or too many.")
    if isinstance(value, dict) and len(value) <= 100:
        return {_name(key): _thaw(item, depth + 1, left) for key, item in value.items()}
    if isinstance(value, list | tuple) and len(value) <= 64:
        return [_thaw(item, depth + 1, left) for item in value]
    if isinstance(value, Array) and value.value.size <= 64:
        return value.value.tolist()
    if value is None or isinstance(value, bool | float) or _is_text(value):
        return value
    if isinstance(value, int) and value.bit_length() <= 64:
        return value
    raise ImportRefusedError("The construction arguments of a network are no plain values.")


def _name(key: Any) -> str:
    if not _is_text(key):
        raise ImportRefusedError("A construction argument of a network has no plain name.")
    return str(key)


def _is_text(value: Any) -> bool:
    return type(value) is str and len(value) <= _MAX_TEXT and value.isprintable()


def shown(value: Any) -> str:
    """A value of the file, for people: short, whatever it is."""
    if isinstance(value, int) and value.bit_length() > 64:
        return "a very large number"
    plain = value is None or isinstance(value, bool | int | float) or _is_text(value)
    return str(value)[:40] if plain else f"a {type(value).__name__}"


_LARGEST = {
    "img_resolution": 4096,
    "c_dim": MAX_CLASSES,
    "num_layers": 256,
    "filter_size": 64,
    "lrelu_upsampling": 16,
    "margin_size": 256,
    "kernel_size": 31,
    "conv_kernel": 31,
}


def check_sizes(arguments: Mapping[str, Any]) -> None:
    """Sizes that would take minutes to build even without memory are refused first.

    Raises:
        ValueError: With the argument's name.
    """
    for name, value in arguments.items():
        if isinstance(value, dict):
            check_sizes(value)
        elif isinstance(value, int | float) and not abs(value) <= _LARGEST.get(name, 1 << 24):
            raise ValueError(f"{name} is too large")


def check_filters(plan: StyleGAN3Plan) -> None:
    """StyleGAN3's filters are made at once, and radial ones take the square of their length.

    Raises:
        ValueError: A filter longer than any of the official networks, or a sampling rate below 1.
    """
    rates = [signal.sampling_rate for signal in plan.signals()]
    if not all(type(rate) is int and 1 <= rate <= 1 << 14 for rate in rates):
        raise ValueError("a layer has no whole sampling rate")
    steps = [max(a, b) // min(a, b) for a, b in itertools.pairwise(rates)]
    if max(steps) * plan.filter_size * plan.lrelu_upsampling > _MAX_TAPS:
        raise ValueError("a filter is too long")


def plain_values(data: Any) -> dict[str, Any]:
    """Short plain values of `training_set_kwargs`."""
    if not isinstance(data, dict):
        return {}
    kept = list(data.items())[:50]
    small = (bool, float, type(None))
    return {
        key: value
        for key, value in kept
        if _is_text(key)
        and (type(value) in small or _is_text(value) or (type(value) is int and value.bit_length() < 63))
    }
