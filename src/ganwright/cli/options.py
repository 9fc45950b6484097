"""What all verbs share: parsing options, reading `NAME=VALUE` words, and who speaks under torchrun."""

from __future__ import annotations

import os
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro

from ganwright.errors import SettingsError

T = TypeVar("T")


def parse(verb: str, command: type[T], arguments: list[str]) -> T:
    """Parse a command's arguments; prints help or an error and exits where they say so."""
    return tyro.cli(command, prog=f"ganwright {verb}", args=arguments, config=(tyro.conf.OmitArgPrefixes,))


def with_defaults(name: str, description: str, parts: dict[str, Any]) -> type[Any]:
    """A command whose options are the fields of `parts`, with their values as defaults, beside `out`."""
    from dataclasses import field, make_dataclass

    fields: list[Any] = [("out", Path | None, None)]
    fields += [(part, type(value), field(default=value)) for part, value in parts.items()]
    command = make_dataclass(name, fields, frozen=True)
    command.__doc__ = description
    return command


def step(text: str) -> int | str:
    """A checkpoint as it is written on the command line: a number, last or best."""
    return int(text) if text.isdigit() else text


def speaks() -> bool:
    """Under torchrun one process speaks."""
    return os.environ.get("RANK", "0") == "0"


def pairs(words: Sequence[str], taken: Container[str]) -> dict[str, Any]:
    """`NAME=VALUE` words, their values read as YAML; no name of an option that is `taken`."""
    import yaml

    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        option = "label" if name == "labels" else name
        if option in taken:
            fix = f"write --{option} {value}"
            raise SettingsError(f"'{name}' is an option of the command.", where="--set", fix=fix)
        if name in ("ema", "device"):
            raise SettingsError(f"'{name}' can be chosen from Python only.", where="--set", fix="see ganwright.sample")
        if not equals or not name:
            raise SettingsError(f"'{word}' is not of the form NAME=VALUE.", where="--set", fix="--set truncation=0.7")
        try:
            found[name.replace("-", "_")] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise SettingsError(f"The value of '{name}' cannot be read.", where=f"--set {word}") from error
    return found
