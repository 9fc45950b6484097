"""The options of each command; `cli` says what the commands do. Apart so that `ganwright --help` starts at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro
from tyro.conf import Positional

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


@dataclass(frozen=True)
class Resume:
    """Train on from the last good checkpoint."""

    run: Positional[Path]
    steps: int | None = None
    """Steps in total, to train longer than the run was planned for."""
    max_minutes: float | None = None
    """A new time bound, over all sessions."""
    data: str | None = None
    """Where the data is now, if it has moved."""


@dataclass(frozen=True)
class Demo:
    """Train a conditional GAN on the digits that come with ganwright: about 6 minutes on two cores."""

    out: Path | None = None
    """The run folder; by default runs/mnist-cgan-<4 hex digits>."""
    minutes: float = 6.0
    """At most so long."""


@dataclass(frozen=True)
class Sample:
    """Sample from a trained run: a grid, or one file each."""

    run: Positional[Path]
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 64
    """How many."""
    seed: int = 0
    """Equal seeds give equal samples."""
    label: int | None = None
    """The class of all samples, for a conditional recipe; by default all classes in turn."""
    checkpoint: str = "last"
    """A step, last or best."""
    out: Path | None = None
    """Where to; by default samples-<seed>.png (or .txt) in the run."""
    each: bool = False
    """Write each sample to a file of its own in the folder OUT."""


@dataclass(frozen=True)
class Evaluate:
    """Evaluate a run, or a set of images against another."""

    what: Positional[str]
    reference: str | None = None
    """Real images to compare with; for a run, by default the data it was trained on."""
    n: Annotated[int | None, tyro.conf.arg(aliases=["-n"])] = None
    """Samples measured."""
    metrics: tuple[str, ...] | None = None
    """Which metrics; by default all that fit."""
    extractor: str | None = None
    """inception, efficientnet-lite0, or a TorchScript (.pt) or ONNX (.onnx) file."""
    checkpoint: str = "last"
    """Of a run: a step, last or best."""
    json: bool = False
    """Print JSON."""


@dataclass(frozen=True)
class Report:
    """Write a run's self-contained HTML report."""

    run: Positional[Path]
    out: Path | None = None
    """Where to; by default report.html in the run."""


@dataclass(frozen=True)
class Recipes:
    """List all recipes."""


@dataclass(frozen=True)
class Data:
    """Say what is found in a data source: counts, sizes, modes, classes, broken files, duplicates."""

    data: Positional[str]
    json: bool = False
    """Print JSON."""
