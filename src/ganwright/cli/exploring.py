"""`ganwright explore RUN WHAT`: options of each thing that can be explored, and what is printed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ganwright.cli.options import parse
from ganwright.errors import SettingsError, nearest

if TYPE_CHECKING:
    from ganwright.exploring import Explorer


@dataclass(frozen=True)
class Common:
    """Options of all."""

    out: Path | None = None
    """The file to write; by default explore/WHAT-SEED in the run, with the ending that fits."""
    seed: int = 0
    """The first seed; what needs several takes the next ones too. Seed S is `ganwright sample RUN -n 1 --seed S`."""
    label: tuple[int, ...] | None = None
    """Classes of a conditional recipe, one for all or several in turn; by default all in turn."""
    checkpoint: str = "last"
    """A step, last or best."""
    device: str | None = None
    """cpu, cuda or mps; by default a GPU where there is one."""
    other_run: bool = False
    """Use files of another run where they fit: of the run this one was fine-tuned from, say."""


@dataclass(frozen=True)
class Truncation(Common):
    """Sheet: one row a seed, one column a truncation."""

    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 5
    """Seeds shown."""
    seeds: tuple[int, ...] | None = None
    """These seeds instead."""
    psi: tuple[float, ...] | None = None
    """Truncations: 0 is the mean image, 1 as trained. Without a W: the threshold of |z|; 0 to inf."""
    layers: str = "all"
    """Layers truncated: all, coarse, middle, fine, names, numbers or ranges, with commas between."""


@dataclass(frozen=True)
class Mix(Common):
    """Sheet of style mixing: columns give the styles of some layers, rows those of all others."""

    rows: tuple[str, ...] | None = None
    """Seeds, or files made by project; by default the first 4 seeds."""
    columns: tuple[str, ...] | None = None
    """The same; by default the next 5 seeds."""
    layers: str = "coarse"
    """Layers taken from the column: coarse, middle, fine, names, numbers or ranges, with commas between."""
    psi: float = 1.0
    """Truncation of the seeds."""


@dataclass(frozen=True)
class Walk(Common):
    """Film of a smooth closed loop through random points, as MP4, GIF, WebP or APNG."""

    walks: int = 1
    """Loops side by side."""
    keyframes: int = 6
    """Random points on each loop."""
    seconds: float = 12.0
    """How long a round takes."""
    fps: float = 30.0
    """Frames a second."""
    psi: float = 1.0
    """Truncation, in W."""
    format: Literal["mp4", "gif", "webp", "apng"] = "mp4"
    """Unless --out says."""


@dataclass(frozen=True)
class Interpolate(Common):
    """From point to point: a sheet, or with --film (or a film's ending of --out) there and back as a film."""

    between: tuple[str, ...] | None = None
    """Two or more seeds, or files made by project; by default the first 3 seeds."""
    steps: int = 8
    """Of the sheet: images in a row."""
    psi: float = 1.0
    """Truncation of the seeds, in W."""
    film: Literal["mp4", "gif", "webp", "apng"] | None = None
    """Make a film of this format."""
    seconds: float = 6.0
    """Of the film: there and back."""
    fps: float = 30.0
    """Of the film: frames a second."""


@dataclass(frozen=True)
class FindDirections(Common):
    """Find directions that change one thing at a time, without labels: a sheet, and a file for edit."""

    method: Literal["ganspace", "sefa"] = "ganspace"
    """ganspace: principal components of W. sefa: eigenvectors of the weights."""
    k: Annotated[int, tyro.conf.arg(aliases=["-k"])] = 5
    """How many."""
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 2
    """Seeds shown for each direction."""
    samples: int = 10_000
    """ganspace: random latents looked at."""
    layers: str = "all"
    """Layers they are for: all, coarse, middle, fine, names, numbers or ranges, with commas between."""
    strengths: tuple[float, ...] = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)
    """Steps shown, in standard deviations."""
    psi: float = 1.0
    """Truncation of the seeds shown."""
    normalise: bool = False
    """sefa: bring each output's weights to unit length first, as its authors' program does."""
    file: Path | None = None
    """Show the directions of this file instead of finding any."""
    rename: tuple[str, ...] = ()
    """OLD=NEW, ...: names in the file that is written, such as ganspace-0=thickness."""


@dataclass(frozen=True)
class EditImages(Common):
    """Sheet before and after steps along directions, in all layers or some; the edited latents as a file."""

    file: Path | None = None
    """Directions; by default those that `explore RUN directions` found last."""
    edits: tuple[str, ...] = ()
    """NAME=STRENGTH or NAME=STRENGTH@LAYERS, such as ganspace-0=2 sefa-3=-1.5@fine."""
    of: tuple[str, ...] | None = None
    """Seeds, or files made by project; by default the first 3 seeds."""
    psi: float = 1.0
    """Truncation of the seeds."""


@dataclass(frozen=True)
class Project(Common):
    """Find the latent whose image is nearest to a real one: a sheet, and the latent as a file."""

    image: tyro.conf.Positional[Path] = Path()
    """The picture; other sizes are resized."""
    space: Literal["w", "w+"] = "w+"
    """w: one style for all layers, a typical image. w+: a style for each layer, a nearer one."""
    steps: int = 600
    """Of gradient descent."""
    extractor: str = "efficientnet-lite0"
    """For the perceptual loss; none: pixels alone."""
    weights: Path | None = None
    """The extractor's weights file, where it is not found by itself."""
    noise: bool = False
    """Fit the per-pixel noise too."""
    lr: float = 0.1
    """Largest learning rate."""
    starts: int = 8
    """Without a W: beginnings tried at once."""


def explore(arguments: list[str]) -> None:
    """`explore RUN WHAT [options]`."""
    if not arguments or {"-h", "--help"} & set(arguments[:1]):
        _print_help()
        return
    if len(arguments) > 1 and arguments[0] in WHATS and arguments[1] not in ("-h", "--help"):
        arguments = [arguments[1], arguments[0], *arguments[2:]]  # the order of every other program's sub-commands
    if arguments[0] in WHATS:
        arguments = ["RUN", *arguments]
    run, what = Path(arguments[0]), arguments[1] if len(arguments) > 1 else ""
    if what in ("-h", "--help", ""):
        _print_help()
        return
    if what not in WHATS:
        raise SettingsError(
            f"There is no '{what}' to explore.{nearest(what, WHATS)}", fix="choose from " + ", ".join(WHATS)
        )
    command, do = WHATS[what]
    if what == "project" and len(arguments) < 3:
        raise SettingsError("No image was given.", fix=f"ganwright explore {run} project IMAGE")
    options = parse(f"explore RUN {what}", command, arguments[2:])
    from ganwright.exploring import explore as open_run

    explorer = open_run(
        run,
        checkpoint=int(options.checkpoint) if options.checkpoint.isdigit() else options.checkpoint,
        device=options.device,
        other_run=options.other_run,
    )
    do(explorer, options, lambda ending: options.out or run / "explore" / f"{what}-{options.seed}{ending}")
    for note in explorer.notes:
        _note(note)


Name = Callable[[str], Path]
"""The file to write, for an ending."""


def _truncation(explorer: Explorer, options: Truncation, name: Name) -> None:
    seeds = options.seeds or _seeds(options, options.n)
    _say(explorer.truncation(seeds, options.psi, layers=options.layers, labels=options.label).save(name(".png")))


def _mix(explorer: Explorer, options: Mix, name: Name) -> None:
    rows = options.rows or tuple(map(str, _seeds(options, 4)))
    columns = options.columns or tuple(map(str, _seeds(options, 9)[4:]))
    sheet = explorer.mix(rows, columns, options.layers, psi=options.psi, labels=options.label)
    _say(sheet.save(name(".png")))


def _walk(explorer: Explorer, options: Walk, name: Name) -> None:
    clip = explorer.walk(
        options.seed,
        walks=options.walks,
        keyframes=options.keyframes,
        seconds=options.seconds,
        fps=options.fps,
        psi=options.psi,
        labels=options.label,
    )
    _say(clip.save(name(f".{options.format}")))


def _interpolate(explorer: Explorer, options: Interpolate, name: Name) -> None:
    points = options.between or tuple(map(str, _seeds(options, 3)))
    as_film = options.film or (options.out is not None and options.out.suffix.lower() not in ("", ".png"))
    if as_film:
        clip = explorer.interpolation_film(
            points, seconds=options.seconds, fps=options.fps, labels=options.label, psi=options.psi
        )
        _say(clip.save(name(f".{options.film}")))
    else:
        _say(explorer.interpolate(points, options.steps, labels=options.label, psi=options.psi).save(name(".png")))


def _directions(explorer: Explorer, options: FindDirections, name: Name) -> None:
    if options.file is not None:
        found = explorer.load_directions(options.file)
    else:
        found = explorer.directions(
            options.method,
            options.k,
            layers=options.layers,
            n=options.samples,
            seed=options.seed,
            labels=options.label,
            normalise=options.normalise,
        )
    if options.rename:
        found = found.renamed(dict(_renaming(text) for text in options.rename))
    sheet = explorer.show_directions(
        found,
        _seeds(options, options.n),
        strengths=options.strengths,
        layers=options.layers if options.file is not None and options.layers != "all" else None,
        labels=options.label,
        psi=options.psi,
    )
    picture = sheet.save(name(".png"))
    _say(picture)
    _say(explorer.save_directions(found, picture.with_suffix(".safetensors")))


def _edit(explorer: Explorer, options: EditImages, name: Name) -> None:
    file = options.file or name(".png").parent / f"directions-{options.seed}.safetensors"
    found = explorer.load_directions(file)
    if not options.edits:
        strong = f"--edits {found.names[0]}=2"
        raise SettingsError(
            "No edits were given.", where="edits", fix=f"add {strong}; there are {', '.join(found.names)}"
        )
    points = explorer.latents(options.of or _seeds(options, 3), labels=options.label, psi=options.psi)
    picture = explorer.edit(points, options.edits, found).save(name(".png"))
    _say(picture)
    _say(explorer.save(explorer.edited(points, options.edits, found), picture.with_suffix(".safetensors")))


def _project(explorer: Explorer, options: Project, name: Name) -> None:
    settings: dict[str, Any] = {
        key: getattr(options, key) for key in ("space", "steps", "seed", "noise", "lr", "starts")
    }
    found = explorer.project(
        options.image,
        extractor=None if options.extractor == "none" else options.extractor,
        weights=options.weights,
        labels=options.label,
        **settings,
    )
    picture = options.out or name(".png").with_name(f"project-{options.image.stem}.png")
    _say(found.sheet().save(picture))
    _say(explorer.save(found.latents, picture.with_suffix(".safetensors")))
    if found.in_w is not None:
        _note(f"W:  {found.in_w[2]}")
    _note(f"{'W+' if found.in_w is not None else found.latents.kind}: {found.quality}")
    _note(f"loss: {found.loss}")
    for note in found.notes:
        _note(note)
    if found.interrupted:
        raise KeyboardInterrupt


WHATS: dict[str, tuple[type[Any], Callable[..., None]]] = {
    "truncation": (Truncation, _truncation),
    "mix": (Mix, _mix),
    "walk": (Walk, _walk),
    "interpolate": (Interpolate, _interpolate),
    "directions": (FindDirections, _directions),
    "edit": (EditImages, _edit),
    "project": (Project, _project),
}
"""What can be explored: options and function."""


def _seeds(options: Common, n: int) -> tuple[int, ...]:
    return tuple(range(options.seed, options.seed + n))


def _renaming(text: str) -> tuple[str, str]:
    old, equals, new = text.partition("=")
    if not equals:
        raise SettingsError(f"'{text}' is no renaming.", where="rename", fix="write OLD=NEW")
    return old, new


def _say(path: Path) -> None:
    sys.stdout.write(f"{path}\n")


def _note(text: str) -> None:
    from ganwright.console import console

    console.print(text, markup=False, soft_wrap=True)


def _print_help() -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 2))
    for what, (command, _) in WHATS.items():
        table.add_row(f"[bold]{what}[/]", str(command.__doc__))
    out = Console()
    out.print("usage: ganwright explore RUN WHAT [options]\n", markup=False)
    out.print(table)
    out.print(
        "\n`ganwright explore RUN WHAT --help` shows the options. mix and w+ need a style-based recipe.", markup=False
    )
