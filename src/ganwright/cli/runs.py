"""`ganwright sample`, `report`, `recipes` and `data`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from ganwright.cli.options import pairs, parse, step


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
    format: Literal["png", "nifti", "dicom"] = "png"
    """nifti, dicom: of a run on medical images, a file each in physical units, in the folder OUT."""
    set: tuple[str, ...] = ()
    """What the run's recipe alone understands, as NAME=VALUE: truncation=0.7 for stylegan2, say."""


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
    kind: Literal["auto", "pairs"] = "auto"
    """pairs: aligned pairs, side by side in one picture or in two folders; auto: as the data looks."""
    pair_direction: Literal["a2b", "b2a"] = "a2b"
    """As for `train`: which of A and B is the input."""
    split_by: Literal["auto", "image", "group", "patient"] = "auto"
    """As for `train`: what the held-out split never parts."""
    groups: str = ""
    """As for `train`: a CSV file of file,group; folder:N; or name:REGEX."""
    window: str = "auto"
    """As for `train`: which values of medical images are kept."""


def sample(arguments: list[str]) -> None:
    """`ganwright sample RUN`."""
    from ganwright import api

    options = parse("sample", Sample, arguments)
    run = api.load_run(options.run)
    if options.format != "png":
        from ganwright.medical import generate_files

        folder = options.out or run.path / f"samples-{options.seed}"
        generate_files(
            run, options.n, folder, seed=options.seed, format=options.format, checkpoint=step(options.checkpoint)
        )
        sys.stdout.write(f"{folder}\n")
        return
    samples = api.sample(
        run,
        options.n,
        seed=options.seed,
        labels=options.label,
        checkpoint=step(options.checkpoint),
        **pairs(options.set, taken=vars(options)),
    )
    if options.each:
        folder = options.out or run.path / f"samples-{options.seed}"
        samples.save_each(folder)
        sys.stdout.write(f"{folder}\n")
    else:
        path = options.out or run.path / f"samples-{options.seed}.{samples.suffix}"
        samples.save_overview(path)
        sys.stdout.write(f"{path}\n")


def report(arguments: list[str]) -> None:
    """`ganwright report RUN`."""
    from ganwright import api

    options = parse("report", Report, arguments)
    sys.stdout.write(f"{api.write_report(options.run, path=options.out)}\n")


def recipes(arguments: list[str]) -> None:
    """`ganwright recipes`."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from ganwright import api

    parse("recipes", Recipes, arguments)
    table = Table(title="recipes", title_justify="left")
    for heading in ("name", "what it is for", "kind of data", "paper"):
        table.add_column(heading)
    for info in api.list_recipes().values():
        kinds = ", ".join(sorted(kind.value for kind in info.recipe.accepts))
        table.add_row(info.name, escape(info.purpose), kinds, escape(info.paper))
    Console().print(table)


def data(arguments: list[str]) -> None:
    """`ganwright data DATA`."""
    import json

    from rich.console import Console

    from ganwright import api

    options = parse("data", Data, arguments)
    how = {name: getattr(options, name) for name in ("split_by", "groups", "window", "pair_direction")}
    found = api.describe_data(options.data, kind="" if options.kind == "auto" else options.kind, **how)
    if options.json:
        sys.stdout.write(json.dumps(found.to_dict(), indent=2, default=str) + "\n")
    else:
        Console().print(found.render())
