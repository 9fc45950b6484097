"""The command line: one verb for each function of the Python API. It parses, calls and prints."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ganwright._version import __version__
from ganwright.errors import GanwrightError, SettingsError, nearest


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit status: 0, 1 for an error of the user's, 2 for a wrong command, 130 for Ctrl-C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        _print_help()
        return 0
    if arguments[0] == "--version":
        sys.stdout.write(f"ganwright {__version__}\n")
        return 0
    verb = arguments[0]
    try:
        if verb not in VERBS:
            raise SettingsError(f"There is no command '{verb}'.{nearest(verb, VERBS)}", fix="ganwright --help")
        _load(VERBS[verb].run)(arguments[1:])
    except GanwrightError as error:
        from ganwright.console import console

        console.print(f"[red]error:[/] {_escape(str(error))}")
        return 2 if verb not in VERBS else 1
    except BrokenPipeError:
        return 0
    except OSError as error:
        from ganwright.console import console

        where = "" if error.filename is None else f"\n  where: {error.filename}"
        console.print(f"[red]error:[/] {_escape(f'{error.strerror or error}.{where}')}")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; what was finished is kept\n")
        return 130
    return 0


def _print_help() -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 2))
    for verb, about in VERBS.items():
        table.add_row(f"[bold]{verb}[/] {_escape(about.usage)}", about.what)
    out = Console()
    out.print(f"ganwright {__version__}: train, honestly evaluate, compare and choose GANs\n")
    out.print(table)
    out.print("\n`ganwright COMMAND --help` shows all options of a command. First try: ganwright demo")


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


@dataclass(frozen=True)
class Verb:
    """One row of `ganwright --help`.

    Attributes:
        run: "module:function" in `ganwright.cli`, loaded when the verb is used; the function takes the arguments.
        usage: What follows the verb.
        what: What it does, in a few words.
    """

    run: str
    usage: str
    what: str


def _load(place: str) -> Callable[[list[str]], None]:
    module, _, name = place.partition(":")
    found: Callable[[list[str]], None] = getattr(importlib.import_module(f"ganwright.cli.{module}"), name)
    return found


VERBS: dict[str, Verb] = {
    "demo": Verb("training:demo", "", "train on the bundled digits and open a report: the place to start"),
    "train": Verb("training:train", "RECIPE DATA", "train a recipe on data"),
    "resume": Verb("training:resume", "RUN", "train on from the last good checkpoint"),
    "sample": Verb("runs:sample", "RUN -n 64", "make samples"),
    "evaluate": Verb("evaluation:evaluate", "RUN|FOLDER", "measure a run, or images against --reference DATA"),
    "explore": Verb(
        "exploring:explore",
        "RUN WHAT",
        "truncation, mixing, films, directions and projection in latent space",
    ),
    "extractor": Verb("evaluation:extractor", "train DATA", "train a feature extractor on labelled images"),
    "segment": Verb("segmenting:segment", "WHAT …", "pairs of image and mask from a handful of annotated pictures"),
    "restore": Verb(
        "restoring:restore", "WHAT PICTURE", "denoise, inpaint, upscale or deblock a picture, with or without a run"
    ),
    "translate": Verb("restoring:translate", "RUN PICTURES", "turn pictures into others with a trained run"),
    "import": Verb("interop:import_file", "FILE", "make a run of an official StyleGAN2/3 or R3GAN file, safely"),
    "export": Verb("interop:export_run", "RUN --out FILE", "write a network's weights as a plain state dict"),
    "statistics": Verb(
        "evaluation:statistics", "DATA --out FILE", "write statistics that evaluate and pytorch-fid read"
    ),
    "report": Verb("runs:report", "RUN", "write the HTML report"),
    "recipes": Verb("runs:recipes", "", "list the recipes"),
    "data": Verb("runs:data", "DATA", "say what is found in a data source"),
}
"""All verbs; a new one is a file with a function of the arguments, and a row here."""
