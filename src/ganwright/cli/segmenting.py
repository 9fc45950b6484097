"""`ganwright segment pictures|train|make|evaluate`: parses, calls and prints."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional

from ganwright import segmenting
from ganwright.cli.options import parse
from ganwright.console import console
from ganwright.errors import SettingsError, nearest
from ganwright.segmenting import HeadSettings, SegmenterSettings
from ganwright.segmenting.head import LabelHead

_HELP = """\
usage: ganwright segment WHAT …

  pictures RUN --out FOLDER -n 16         write pictures to annotate
  train RUN PICTURES --out HEAD           train a label head on the annotated pictures
  make HEAD --out DATASET -n 1000         make pairs of image and mask
  evaluate DATASET --handful PICTURES --real FOLDER
                                          is a segmenter better for it, on real images?

Each has --help. All of it by example: docs/segmentation.md
"""


@dataclass(frozen=True)
class Pictures:
    """Write pictures of a style-based run to annotate, and a classes.yaml to fill in."""

    run: Positional[Path]
    out: Path
    """The folder."""
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 16
    """How many pictures."""
    candidates: int | None = None
    """How many they are chosen from; by default 20 times as many."""
    seed: int = 0
    """Of the candidates."""
    truncation: float = 0.7
    """Psi of the truncation trick, in (0, 1]."""
    checkpoint: str = "last"
    """A step, last or best."""


@dataclass(frozen=True)
class Train:
    """Train a label head on annotated pictures (NAME.png with NAME.mask.png beside it)."""

    run: Positional[Path]
    pictures: Positional[Path]
    out: Path
    """The label head's folder."""
    seed: int = 0
    """Of weights and batches."""
    snap: bool = False
    """Take the nearest class colour of each mask pixel (JPEG, soft brushes)."""
    settings: HeadSettings = field(default_factory=HeadSettings)


@dataclass(frozen=True)
class Make:
    """Make pairs of image and mask; a killed call goes on where it was."""

    head: Positional[Path]
    out: Path
    """The data set's folder."""
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 1000
    """Pairs, after dropping."""
    drop: float = 0.1
    """Share of the most uncertain candidates that is dropped."""
    seed: int = 0
    """Of the latents."""
    truncation: float | None = None
    """Psi, in (0, 1]; by default that of the annotated pictures."""
    run: Path | None = None
    """Where the run is, if it has moved."""
    batch_size: int = 16
    """Candidates made at a time."""


@dataclass(frozen=True)
class Evaluate:
    """Train the same segmenter on the pairs and on the handful alone, and compare both on real labelled images."""

    dataset: Positional[Path]
    handful: Path
    """The annotated pictures."""
    real: Path
    """Labelled real images the GAN was not trained on: NAME.jpg with NAME.mask.png, or images/ and masks/."""
    out: Path | None = None
    """Write result.json, segmenter.safetensors and pictures.png here."""
    seeds: int = 3
    """Times each of the two is trained."""
    snap: bool = False
    """Take the nearest class colour of each mask pixel (JPEG, soft brushes)."""
    json: bool = False
    """Print JSON."""
    settings: SegmenterSettings = field(default_factory=SegmenterSettings)


def segment(arguments: list[str]) -> None:
    """Run one of the four."""
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.stdout.write(_HELP)
        return
    what = arguments[0]
    if what not in _VERBS:
        raise SettingsError(f"`segment` cannot '{what}'.{nearest(what, _VERBS)}", fix="ganwright segment --help")
    _VERBS[what](arguments[1:])


def _pictures(arguments: list[str]) -> None:
    o = parse("segment pictures", Pictures, arguments)
    folder = segmenting.make_pictures(
        o.run,
        o.out,
        n=o.n,
        seed=o.seed,
        truncation=o.truncation,
        candidates=o.candidates,
        checkpoint=int(o.checkpoint) if o.checkpoint.isdigit() else o.checkpoint,
    )
    _say(f"edit {folder / 'classes.yaml'}, then paint 000000.mask.png, … beside the pictures; next:")
    _say(f"  ganwright segment train {o.run} {folder} --out head")
    sys.stdout.write(f"{folder}\n")


def _train(arguments: list[str]) -> None:
    o = parse("segment train", Train, arguments)
    head = segmenting.train_head(o.run, o.pictures, o.out, settings=o.settings, seed=o.seed, snap=o.snap)
    _say(_scores(head))
    _say(f"look at {o.out / 'check.png'}; next:\n  ganwright segment make {o.out} -n 1000 --out pairs")
    sys.stdout.write(f"{o.out}\n")


def _scores(head: LabelHead) -> str:
    lines = [str(head.estimate), *head.estimate.warnings]
    for name, value in head.per_class.items():
        lines.append(f"  {name:20} " + ("in no mask" if value is None else f"IoU {value:.3f}"))
    return "\n".join(lines)


def _make(arguments: list[str]) -> None:
    o = parse("segment make", Make, arguments)
    folder = segmenting.make_dataset(
        o.head,
        o.out,
        n=o.n,
        seed=o.seed,
        drop=o.drop,
        truncation=o.truncation,
        run=o.run,
        batch_size=o.batch_size,
    )
    _say(f"look at {folder / 'overview.png'}; next:")
    _say(f"  ganwright segment evaluate {folder} --handful PICTURES --real LABELLED")
    sys.stdout.write(f"{folder}\n")


def _evaluate(arguments: list[str]) -> None:
    import json

    o = parse("segment evaluate", Evaluate, arguments)
    verdict = segmenting.evaluate_dataset(
        o.dataset, o.handful, o.real, o.out, settings=o.settings, seeds=range(o.seeds), snap=o.snap
    )
    sys.stdout.write((json.dumps(verdict.to_dict(), indent=2) if o.json else str(verdict)) + "\n")


def _say(text: str) -> None:
    """To stderr, not wrapped: commands and paths are there to be copied."""
    console.print(text, markup=False, soft_wrap=True)


_VERBS: dict[str, Callable[[list[str]], None]] = {
    "pictures": _pictures,
    "train": _train,
    "make": _make,
    "evaluate": _evaluate,
}
