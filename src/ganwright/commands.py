"""The options of each command; `cli` says what the commands do. Apart so that `ganwright --help` starts at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

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
    set: tuple[str, ...] = ()
    """What the run's recipe alone understands, as NAME=VALUE: truncation=0.7 for stylegan2, say."""


@dataclass(frozen=True)
class Evaluate:
    """Evaluate a run, or a set of images against another."""

    what: Positional[str]
    """A run, a folder, archive or array of images, or a file of extracted features."""
    reference: str | None = None
    """Real images, or a file of their statistics; for a run, by default the data it was trained on."""
    held_out: str | None = None
    """Real images that were not trained on, where the reference is the training set: measures memorisation."""
    paired: bool = False
    """Compare image by image with the reference of the same name: PSNR, SSIM, MS-SSIM, MAE, feature distance."""
    luma: bool = False
    """With --paired: on the luma channel only, as super-resolution papers do."""
    shave: int = 0
    """With --paired: pixels left out at each border."""
    n: Annotated[int | None, tyro.conf.arg(aliases=["-n"])] = None
    """Samples measured."""
    metrics: tuple[str, ...] | None = None
    """Which metrics; by default all that fit."""
    protocol: str | None = None
    """clean-fid, pytorch-fid, torch-fidelity, stylegan, offline or custom: whose numbers these are to be."""
    extractor: str | None = None
    """efficientnet-lite0, inception, dinov2, clip, or a .pt, .onnx or .safetensors file."""
    weights: Path | None = None
    """The extractor's weights file, where it is not found by itself."""
    checkpoint: str = "last"
    """Of a run: a step, last or best."""
    devices: int = 1
    """Processes that extract features."""
    report: Path | None = None
    """Write an HTML report here."""
    json: bool = False
    """Print JSON."""


@dataclass(frozen=True)
class TrainExtractor:
    """Train a feature extractor on labelled images of your own domain (digits, MRI, ...), as one file."""

    data: Positional[str]
    """Labelled images: a folder with a sub-folder for each class, for example."""
    out: Path | None = None
    """The .safetensors file; by default <data>-extractor.safetensors."""
    resolution: int = 0
    """Height and width of its input, in pixels; 0: chosen from the images (at most 64)."""
    channels: Literal["auto", "1", "3"] = "auto"
    """1: grey, 3: RGB, auto: as found (a mixture is an error)."""
    minutes: float = 5.0
    """At most so long."""
    steps: int | None = None
    """Training steps; by default chosen from the number of images."""
    flip: bool = False
    """Mirror images while training; right where a mirror image is as good (not for digits or letters)."""
    seed: int = 0
    """Seed of weights, data order and split."""


@dataclass(frozen=True)
class Statistics:
    """Write the statistics of a set of images, to share or to compare with later; pytorch-fid reads the file too."""

    data: Positional[str]
    out: Path
    """The .npz file to write."""
    protocol: str | None = None
    """As for evaluate."""
    extractor: str | None = None
    """As for evaluate."""
    weights: Path | None = None
    """As for evaluate."""
    features: bool = True
    """Store all features; without them only the Fréchet distance can be computed."""
    n: Annotated[int | None, tyro.conf.arg(aliases=["-n"])] = None
    """At most so many images."""
    devices: int = 1
    """Processes that extract features."""


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
