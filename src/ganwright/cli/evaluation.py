"""`ganwright evaluate`, `extractor` and `statistics`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from ganwright.cli.options import parse, speaks, step
from ganwright.errors import SettingsError


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


def evaluate(arguments: list[str]) -> None:
    """`ganwright evaluate RUN|FOLDER`."""
    from rich.console import Console

    from ganwright import evaluating
    from ganwright.metrics.render import render

    options = parse("evaluate", Evaluate, arguments)
    if options.paired:
        if options.reference is None:
            raise SettingsError("There is nothing to compare these images with.", fix="give --reference ORIGINALS")
        found = evaluating.evaluate_pairs(
            options.what,
            options.reference,
            metrics=options.metrics,
            extractor=options.extractor,
            luma=options.luma,
            shave=options.shave,
            n=options.n,
        )
    else:
        found = evaluating.evaluate(
            options.what,
            reference=options.reference,
            held_out=options.held_out,
            n=options.n,
            metrics=options.metrics,
            protocol=options.protocol,
            extractor=options.extractor,
            weights=options.weights,
            checkpoint=step(options.checkpoint),
            report=options.report,
            devices=options.devices,
        )
    if not speaks():
        return
    if options.json:
        import json

        sys.stdout.write(json.dumps(found.to_dict(), indent=2) + "\n")
    else:
        Console().print(render(found))


def extractor(arguments: list[str]) -> None:
    """`ganwright extractor train DATA`."""
    from ganwright import evaluating
    from ganwright.training.restore import default_device

    if arguments[:1] != ["train"]:
        asked = arguments[0] if arguments else "nothing"
        if not {"-h", "--help"} & set(arguments[:1]):
            raise SettingsError(f"`extractor` can only train, not '{asked}'.", fix="ganwright extractor train DATA")
    options = parse("extractor train", TrainExtractor, arguments[arguments[:1] == ["train"] :])
    found = evaluating.train_extractor(
        options.data,
        out=options.out,
        resolution=options.resolution,
        channels=options.channels,
        steps=options.steps,
        max_minutes=options.minutes,
        seed=options.seed,
        flip=options.flip,
        device=default_device(),
    )
    sys.stdout.write(f"{found}\n")


def statistics(arguments: list[str]) -> None:
    """`ganwright statistics DATA --out FILE`."""
    from ganwright import evaluating

    options = parse("statistics", Statistics, arguments)
    path = evaluating.save_statistics(
        options.data,
        options.out,
        protocol=options.protocol,
        extractor=options.extractor,
        weights=options.weights,
        with_features=options.features,
        n=options.n,
        devices=options.devices,
    )
    sys.stdout.write(f"{path}\n")
