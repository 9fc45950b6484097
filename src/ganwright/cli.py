"""The command line: one verb for each function of the Python API. It parses, calls and prints."""

from __future__ import annotations

import sys
from collections.abc import Callable, Container, Sequence
from typing import Any

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
        VERBS[verb][0](arguments[1:])
    except GanwrightError as error:
        from ganwright.console import console

        console.print(f"[red]error:[/] {_escape(str(error))}")
        return 2 if verb not in VERBS else 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; what was finished is kept\n")
        return 130
    except BrokenPipeError:
        return 0
    return 0


def _print_help() -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 2))
    for verb, (_, usage, what) in VERBS.items():
        table.add_row(f"[bold]{verb}[/] {_escape(usage)}", what)
    out = Console()
    out.print(f"ganwright {__version__}: train, honestly evaluate, compare and choose GANs\n")
    out.print(table)
    out.print("\n`ganwright COMMAND --help` shows all options of a command. First try: ganwright demo")


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


# Training. ---------------------------------------------------------------------------------------------------------


def _train(arguments: list[str]) -> None:
    """`train RECIPE DATA`: the options are the recipe's own, so the recipe is read first."""
    from ganwright import api, commands

    rest, named = _take(arguments, ("--settings", "--from-run"))
    recipe = rest.pop(0) if rest and not rest[0].startswith("-") else None
    data = rest.pop(0) if rest and not rest[0].startswith("-") else None
    help_wanted = bool({"-h", "--help"} & set(rest))
    if help_wanted and recipe is None and not named:
        recipe = "dcgan"
    if help_wanted and data is None:
        data = "DATA"
    resolved, source = api.plan_training(recipe, data, named.get("--settings"), named.get("--from-run"), {})
    parts = {
        "train": resolved.train,
        "data": resolved.data,
        "evaluation": resolved.evaluation,
        "recipe": resolved.recipe,
    }
    description = (
        f"Train {resolved.info.name}: {resolved.info.purpose}\n\n"
        "usage: ganwright train RECIPE DATA [options] [--settings FILE.yaml] [--from-run RUN]\n\n"
        "Without --out the run is written to runs/<data>-<recipe>-<4 hex digits>."
    )
    command = commands.with_defaults("Train", description, parts)
    parsed = commands.parse("train RECIPE DATA", command, rest)
    changes = {
        name: getattr(getattr(parsed, part), name)
        for part, value in parts.items()
        for name in vars(value)
        if getattr(getattr(parsed, part), name) != getattr(value, name)
    }
    run = api.train(
        recipe,
        source,
        out=parsed.out,
        settings=named.get("--settings"),
        from_run=named.get("--from-run"),
        **changes,
    )
    _next_steps(run)


def _take(arguments: list[str], names: tuple[str, ...]) -> tuple[list[str], dict[str, str]]:
    """Take `--name VALUE` and `--name=VALUE` out of the arguments."""
    rest, taken = [], {}
    waiting = list(arguments)
    while waiting:
        word = waiting.pop(0)
        name, equals, value = word.partition("=")
        if name not in names:
            rest.append(word)
        elif equals:
            taken[name] = value
        elif waiting:
            taken[name] = waiting.pop(0)
        else:
            raise SettingsError(f"{name} needs a value.", where=name)
    return rest, taken


def _speaks() -> bool:
    """Under torchrun one process speaks."""
    import os

    return os.environ.get("RANK", "0") == "0"


def _next_steps(run: Any) -> None:
    from ganwright.console import console

    if not _speaks():
        return

    # Not wrapped: paths are there to be copied.
    console.print(f"\nrun     {run.path}\nreport  {run.path / 'report.html'}\n\nnext:", markup=False, soft_wrap=True)
    for command in ("sample {} -n 64", "evaluate {}", "resume {} --steps MORE", "train --from-run {}"):
        console.print(f"  ganwright {command.format(run.path)}", markup=False, soft_wrap=True)


def _resume(arguments: list[str]) -> None:
    from ganwright import api, commands

    options = commands.parse("resume", commands.Resume, arguments)
    changes: dict[str, Any] = {
        name: value
        for name, value in (("steps", options.steps), ("max_minutes", options.max_minutes))
        if value is not None
    }
    _next_steps(api.resume(options.run, data=options.data, **changes))


def _demo(arguments: list[str]) -> None:
    from ganwright import api, commands

    options = commands.parse("demo", commands.Demo, arguments)
    _next_steps(api.train("cgan", "mnist", out=options.out, max_minutes=options.minutes, evaluate_every=2000))


# Using runs. -------------------------------------------------------------------------------------------------------


def _sample(arguments: list[str]) -> None:
    from ganwright import api, commands

    options = commands.parse("sample", commands.Sample, arguments)
    run = api.load_run(options.run)
    samples = api.sample(
        run,
        options.n,
        seed=options.seed,
        labels=options.label,
        checkpoint=_step(options.checkpoint),
        **_pairs(options.set, taken=vars(options)),
    )
    if options.each:
        folder = options.out or run.path / f"samples-{options.seed}"
        samples.save_each(folder)
        sys.stdout.write(f"{folder}\n")
    else:
        path = options.out or run.path / f"samples-{options.seed}.{samples.suffix}"
        samples.save_overview(path)
        sys.stdout.write(f"{path}\n")


def _pairs(words: Sequence[str], taken: Container[str]) -> dict[str, Any]:
    """`NAME=VALUE` words, their values read as YAML; no name of an option that is `taken`."""
    import yaml

    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if name in taken or name in ("labels", "ema", "device"):
            raise SettingsError(f"'{name}' is an option of the command.", where="--set", fix=f"write --{name} {value}")
        if not equals or not name:
            raise SettingsError(f"'{word}' is not of the form NAME=VALUE.", where="--set", fix="--set truncation=0.7")
        try:
            found[name.replace("-", "_")] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise SettingsError(f"The value of '{name}' cannot be read.", where=f"--set {word}") from error
    return found


def _step(text: str) -> int | str:
    return int(text) if text.isdigit() else text


def _evaluate(arguments: list[str]) -> None:
    from rich.console import Console

    from ganwright import commands, evaluating
    from ganwright.metrics.render import render

    options = commands.parse("evaluate", commands.Evaluate, arguments)
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
            checkpoint=_step(options.checkpoint),
            report=options.report,
            devices=options.devices,
        )
    if not _speaks():
        return
    if options.json:
        import json

        sys.stdout.write(json.dumps(found.to_dict(), indent=2) + "\n")
    else:
        Console().print(render(found))


def _extractor(arguments: list[str]) -> None:
    from ganwright import commands, evaluating
    from ganwright.training.restore import default_device

    if arguments[:1] != ["train"]:
        asked = arguments[0] if arguments else "nothing"
        if not {"-h", "--help"} & set(arguments[:1]):
            raise SettingsError(f"`extractor` can only train, not '{asked}'.", fix="ganwright extractor train DATA")
    options = commands.parse("extractor train", commands.TrainExtractor, arguments[arguments[:1] == ["train"] :])
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


def _statistics(arguments: list[str]) -> None:
    from ganwright import commands, evaluating

    options = commands.parse("statistics", commands.Statistics, arguments)
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


def _report(arguments: list[str]) -> None:
    from ganwright import api, commands

    options = commands.parse("report", commands.Report, arguments)
    sys.stdout.write(f"{api.write_report(options.run, path=options.out)}\n")


def _recipes(arguments: list[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    from ganwright import api, commands

    commands.parse("recipes", commands.Recipes, arguments)
    table = Table(title="recipes", title_justify="left")
    for heading in ("name", "what it is for", "kind of data", "paper"):
        table.add_column(heading)
    for info in api.list_recipes().values():
        kinds = ", ".join(sorted(kind.value for kind in info.recipe.accepts))
        table.add_row(info.name, _escape(info.purpose), kinds, _escape(info.paper))
    Console().print(table)


def _data(arguments: list[str]) -> None:
    import json

    from rich.console import Console

    from ganwright import api, commands

    options = commands.parse("data", commands.Data, arguments)
    found = api.describe_data(options.data)
    if options.json:
        sys.stdout.write(json.dumps(found.to_dict(), indent=2, default=str) + "\n")
    else:
        Console().print(found.render())


def _explore(arguments: list[str]) -> None:
    from ganwright.exploring_cli import explore

    explore(arguments)


def _import(arguments: list[str]) -> None:
    from ganwright.interop_cli import import_file

    import_file(arguments)


def _export(arguments: list[str]) -> None:
    from ganwright.interop_cli import export_run

    export_run(arguments)


def _segment(arguments: list[str]) -> None:
    from ganwright.segmenting_cli import segment

    segment(arguments)


VERBS: dict[str, tuple[Callable[[list[str]], None], str, str]] = {
    "demo": (_demo, "", "train on the bundled digits and open a report: the place to start"),
    "train": (_train, "RECIPE DATA", "train a recipe on data"),
    "resume": (_resume, "RUN", "train on from the last good checkpoint"),
    "sample": (_sample, "RUN -n 64", "make samples"),
    "evaluate": (_evaluate, "RUN|FOLDER", "measure a run, or images against --reference DATA"),
    "explore": (_explore, "RUN WHAT", "look around in latent space: truncation, mixing, films, directions, projection"),
    "extractor": (_extractor, "train DATA", "train a feature extractor on labelled images of your own domain"),
    "segment": (_segment, "WHAT …", "pairs of image and mask without end, from a handful of annotated pictures"),
    "import": (_import, "FILE", "make a run of an official StyleGAN2, StyleGAN3 or R3GAN file, safely"),
    "export": (_export, "RUN --out FILE", "write a network's weights as a plain state dict"),
    "statistics": (_statistics, "DATA --out FILE", "write reference statistics that evaluate and pytorch-fid read"),
    "report": (_report, "RUN", "write the HTML report"),
    "recipes": (_recipes, "", "list the recipes"),
    "data": (_data, "DATA", "say what is found in a data source"),
}
"""Verb: function, usage, what it does."""

if __name__ == "__main__":
    sys.exit(main())
