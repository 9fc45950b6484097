"""All settings of a run together: defaults, preset, file and flags, checked and told apart by name."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from ganwright.config import DataSettings, EvalSettings, TrainSettings
from ganwright.errors import SettingsError, nearest
from ganwright.recipes.registry import RecipeInfo, find_recipe

GROUPS: dict[str, type[Any]] = {"train": TrainSettings, "data": DataSettings, "evaluation": EvalSettings}


@dataclass(frozen=True)
class RunSettings:
    """Everything a run was told.

    Attributes:
        info: The recipe and its preset.
        train: How the loop trains.
        data: What is done to the data.
        evaluation: How it is evaluated.
        recipe: The recipe's own settings.
    """

    info: RecipeInfo
    train: TrainSettings
    data: DataSettings
    evaluation: EvalSettings
    recipe: Any

    def flat(self) -> dict[str, Any]:
        """All settings by name, as plain values for YAML."""
        values: dict[str, Any] = {}
        for part in (self.train, self.data, self.evaluation, self.recipe):
            for field in fields(part):
                value = getattr(part, field.name)
                values[field.name] = list(value) if isinstance(value, tuple) else value
        return values

    def changed(self) -> dict[str, Any]:
        """The settings that differ from the recipe's defaults."""
        default = resolve(self.info).flat()
        return {name: value for name, value in self.flat().items() if value != default[name]}


def resolve(recipe: str | RecipeInfo, *layers: Mapping[str, Any], where: str = "settings") -> RunSettings:
    """Put settings together: the recipe's defaults, overlaid by each layer in turn.

    Args:
        recipe: Its name or registry entry.
        layers: Flat names to values, such as a file's content and then the flags.
        where: What to name in errors.

    Raises:
        SettingsError: An unknown name (the nearest is suggested), a value of the wrong type or out of range.
    """
    info = find_recipe(recipe) if isinstance(recipe, str) else recipe
    given: dict[str, Any] = dict(info.train_defaults)
    for layer in layers:
        given.update({str(name).replace("-", "_"): value for name, value in layer.items()})
    parts = {**{name: group() for name, group in GROUPS.items()}, "recipe": info.settings}
    owner = {field.name: part for part, value in parts.items() for field in fields(value)}
    for name, value in given.items():
        if name not in owner:
            raise SettingsError(
                f"There is no setting '{name}'.{nearest(name, owner)}",
                where=where,
                fix=f"`ganwright train {info.name} --help` lists all settings",
            )
        part = owner[name]
        hint = typing.get_type_hints(type(parts[part]))[name]
        parts[part] = replace(parts[part], **{name: coerce(name, value, hint)})
    settings = RunSettings(info=info, **parts)
    _check_ranges(settings)
    return settings


def read_settings_file(path: Path) -> dict[str, Any]:
    """A YAML file of flat settings (`recipe` and `data` may stand in it too).

    Raises:
        SettingsError: It is missing, no YAML, or not a mapping.
    """
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"The settings file cannot be read: {error.strerror}.", where=path) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError("The settings file is not valid YAML.", where=f"{path}: {error}") from error
    if loaded is None:
        return {}
    if not isinstance(loaded, dict) or not all(isinstance(key, str) for key in loaded):
        raise SettingsError("The settings file must hold lines of the form `name: value`.", where=path)
    return loaded


def coerce(name: str, value: Any, hint: Any) -> Any:
    """The value as its type says: integers are taken for floats and lists for tuples, nothing else is guessed.

    Raises:
        SettingsError: It has another type or is none of the choices.
    """
    origin = typing.get_origin(hint)
    if origin is Literal:
        choices = typing.get_args(hint)
        for choice in choices:  # `channels: 1` in YAML means the choice "1"
            if value == choice or (not isinstance(value, bool) and str(value) == str(choice)):
                return choice
        raise _wrong(name, value, "one of " + ", ".join(map(str, choices)), nearest(str(value), map(str, choices)))
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in typing.get_args(hint):
            return None
        inner = [arg for arg in typing.get_args(hint) if arg is not type(None)]
        return coerce(name, value, inner[0])
    if origin is tuple:
        args = typing.get_args(hint)
        if not isinstance(value, list | tuple):
            raise _wrong(name, value, "a list")
        if args[-1] is Ellipsis:
            return tuple(coerce(name, item, args[0]) for item in value)
        if len(value) != len(args):
            raise _wrong(name, value, f"a list of {len(args)}")
        return tuple(coerce(name, item, arg) for item, arg in zip(value, args, strict=True))
    if hint is bool and isinstance(value, bool):
        return value
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str):  # YAML 1.1 reads 2e-4 as text
        try:
            return float(value)
        except ValueError:
            pass
    if hint is str and isinstance(value, str):
        return value
    raise _wrong(name, value, {bool: "true or false", int: "a whole number", float: "a number"}.get(hint, "text"))


def _wrong(name: str, value: Any, wanted: str, hint: str = "") -> SettingsError:
    return SettingsError(f"'{name}' must be {wanted}, not {value!r}.{hint}", where=name)


_AT_LEAST: dict[str, float] = {
    "steps": 1,
    "batch_size": 1,
    "max_minutes": 0,
    "log_every": 1,
    "sample_every": 0,
    "checkpoint_every": 0,
    "keep_last": 1,
    "devices": 1,
    "clip_grad_norm": 0,
    "ema_half_life": 0,
    "ema_ramp_up": 0,
    "plateau_patience": 0,
    "resolution": 0,
    "evaluate_every": -1,
    "eval_samples": 2,
    "seed": 0,
    "freeze_d": 0,
}
_WITHIN: dict[str, tuple[float, float]] = {
    "held_out": (0.0, 0.9),
    "jitter": (1.0, 4.0),
    "lr_decay_from": (0.0, 0.999),
    "plateau_factor": (1e-6, 0.999999),
}


def _check_ranges(settings: RunSettings) -> None:
    values = settings.flat()
    for name, least in _AT_LEAST.items():
        if values[name] < least:
            raise _wrong(name, values[name], f"at least {least:g}")
    for name, (low, high) in _WITHIN.items():
        if not low <= values[name] <= high:
            raise _wrong(name, values[name], f"between {low:g} and {high:g}")
    if values["batch_size"] % values["devices"]:
        raise _wrong("batch_size", values["batch_size"], f"divisible by the number of devices {values['devices']}")
