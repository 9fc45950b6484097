"""`ganwright restore WHAT PICTURE` and `ganwright translate RUN PICTURES`: parses, calls and prints."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from tyro.conf import Positional

from ganwright.cli.options import parse
from ganwright.console import console
from ganwright.errors import SettingsError, nearest

if TYPE_CHECKING:
    from ganwright import restoring

_HELP = """\
usage: ganwright restore WHAT PICTURE …

  denoise PICTURE [--sigma 25]       take noise out
  inpaint PICTURE --mask MASK        fill in what is black in the mask (or, without one, transparent in the picture)
  upscale PICTURE --factor 4         enlarge
  deblock PICTURE                    take JPEG's artefacts out

PICTURE may be a folder. With --run RUN a trained restorer does it (srgan, denoise-gan, …); without, Deep Image Prior,
which needs no data and minutes for each picture. A classical result is computed beside it, and named when it is better.
`ganwright restore denoise --help` shows all options. By example: docs/restore.md
"""


@dataclass(frozen=True)
class Files:
    """Where results go."""

    out: Path | None = None
    """The result's file or folder; by default beside the picture."""
    format: Literal["auto", "png", "jpg", "tiff", "webp"] = "auto"
    """Of the results; auto: the picture's own where that is lossless, else PNG."""
    force: bool = False
    """Write over results that are there."""


@dataclass(frozen=True)
class Tiles:
    """How a trained run goes over large pictures."""

    tile: int | None = None
    """Side of a tile, in pixels of the picture; 0: the whole picture at once; by default 512 (less to enlarge)."""
    overlap: int = 64
    """Pixels that neighbouring tiles share."""
    checkpoint: str = "last"
    """A step, last or best."""
    device: str | None = None
    """cpu, cuda or mps; by default a GPU where there is one."""


@dataclass(frozen=True)
class Fit:
    """How Deep Image Prior is fitted."""

    network: str = "auto"
    """official, half, small, wide-skip, hourglass; auto: official on a GPU, small on a CPU."""
    steps: int | None = None
    """At most so many; it stops by itself when no more is gained."""
    max_minutes: float = 0.0
    """Stop after so long and take the best so far; 0: no bound."""
    stopping: Literal["held-out", "variance", "none"] = "held-out"
    """What tells it when to stop: pixels it does not see, its output's variance, or only --steps."""
    seed: int = 0
    """Of weights, code and held-out pixels."""


@dataclass(frozen=True)
class Restore:
    """Restore a picture, or each picture of a folder."""

    picture: Positional[Path]
    run: Path | None = None
    """A trained restorer; by default Deep Image Prior."""
    mask: Path | None = None
    """inpaint: white where the picture is known, black where it is to be filled in; or a folder of masks by name."""
    factor: Annotated[int | None, tyro.conf.arg(aliases=["-x"])] = None
    """upscale: how many times larger; by default as the run does, or 4."""
    sigma: float | None = None
    """denoise: the noise's standard deviation in grey levels (0 to 255), if you know it; for the classical method."""
    truth: Path | None = None
    """The undamaged picture, to measure against; or a folder of them by name."""
    classical: bool = True
    """Compute a classical result beside it."""
    before_after: bool = True
    """Write before/after pictures."""
    files: Files = field(default_factory=Files)
    tiles: Tiles = field(default_factory=Tiles)
    fit: Fit = field(default_factory=Fit)


@dataclass(frozen=True)
class Translate:
    """Turn a picture, or each picture of a folder, into another with a trained run (pix2pix, cyclegan, srgan, …)."""

    run: Positional[Path]
    pictures: Positional[Path]
    direction: Literal["", "a2b", "b2a"] = ""
    """From domain A to B or back; by default the run's first."""
    before_after: bool = False
    """Write before/after pictures."""
    files: Files = field(default_factory=Files)
    tiles: Tiles = field(default_factory=Tiles)


def restore(arguments: list[str]) -> None:
    """Run one of the four tasks."""
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.stdout.write(_HELP)
        return
    from ganwright import restoring

    what = arguments[0]
    if what not in restoring.DONE:
        raise SettingsError(
            f"`restore` cannot '{what}'.{nearest(what, restoring.DONE)}", fix="ganwright restore --help"
        )
    o = parse(f"restore {what}", Restore, arguments[1:])
    by = None if o.run is None else _translator(o.run, o.tiles, restoring_=True)
    fit = o.fit
    options = restoring.RestoreOptions(
        mask=o.mask,
        sigma=o.sigma,
        factor=o.factor,
        truth=o.truth,
        classical=o.classical,
        format_=o.files.format,
        force=o.files.force,
        sheets=o.before_after,
        prior=restoring.PriorOptions(fit.network, fit.steps, fit.max_minutes, fit.seed, {"stopping": fit.stopping}),
    )
    for done in restoring.restore_each(what, o.picture, out=o.files.out, by=by, options=options):
        _tell(done)
        if done.interrupted:
            raise KeyboardInterrupt


def _tell(done: restoring.Restored) -> None:
    sys.stdout.write(f"{done.target}\n")
    for verdict in done.verdicts:
        _say(str(verdict))
    if done.better:
        _say(f"{done.better} is better here than {done.method}: {done.classical}", "yellow")
    if done.sheet:
        _say(f"before and after: {done.sheet}")
    if done.run:
        _say(f"run: {done.run.path}")


def translate(arguments: list[str]) -> None:
    """Translate pictures with a run."""
    from ganwright import restoring

    o = parse("translate", Translate, arguments)
    by = _translator(o.run, o.tiles, direction=o.direction)
    for path in restoring.translate_each(
        by,
        o.pictures,
        out=o.files.out,
        format_=o.files.format,
        force=o.files.force,
        sheets=o.before_after,
    ):
        sys.stdout.write(f"{path}\n")


def _translator(run: Path, tiles: Tiles, *, direction: str = "", restoring_: bool = False) -> restoring.Translator:
    from ganwright import restoring

    return restoring.load_translator(
        restoring.open_run(run),
        direction=direction,
        checkpoint=int(tiles.checkpoint) if tiles.checkpoint.isdigit() else tiles.checkpoint,
        tile=tiles.tile,
        overlap=tiles.overlap,
        restoring=restoring_,
        device=tiles.device,
    )


def _say(text: str, style: str = "") -> None:
    """To stderr, not wrapped: paths are there to be copied."""
    console.print(text, style=style, markup=False, soft_wrap=True)
