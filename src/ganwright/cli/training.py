"""`ganwright train`, `resume` and `demo`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from ganwright.cli.options import parse, speaks, with_defaults
from ganwright.errors import SettingsError


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


def train(arguments: list[str]) -> None:
    """`train RECIPE DATA`: the options are the recipe's own, so the recipe is read first."""
    from ganwright import api

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
    command = with_defaults("Train", description, parts)
    parsed = parse("train RECIPE DATA", command, rest)
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


def _next_steps(run: Any) -> None:
    from ganwright.console import console

    if not speaks():
        return

    # Not wrapped: paths are there to be copied.
    console.print(f"\nrun     {run.path}\nreport  {run.path / 'report.html'}\n\nnext:", markup=False, soft_wrap=True)
    ended = [event["event"] for event in run.events() if event["event"] in ("finished", "stopped")]
    go_on = "resume {}" if ended[-1:] == ["stopped"] else "resume {} --steps MORE"
    for command in ("sample {} -n 64", "evaluate {}", go_on, "train --from-run {}"):
        console.print(f"  ganwright {command.format(run.path)}", markup=False, soft_wrap=True)


def resume(arguments: list[str]) -> None:
    """`ganwright resume RUN`."""
    from ganwright import api

    options = parse("resume", Resume, arguments)
    changes: dict[str, Any] = {
        name: value
        for name, value in (("steps", options.steps), ("max_minutes", options.max_minutes))
        if value is not None
    }
    before = [step for step, _ in api.load_run(options.run).checkpoints()]
    run = api.resume(options.run, data=options.data, **changes)
    if before and [step for step, _ in run.checkpoints()] == before and speaks():
        from ganwright.console import console

        console.print(f"all {before[-1]} steps were done before; --steps MORE trains longer", markup=False)
    _next_steps(run)


def demo(arguments: list[str]) -> None:
    """`ganwright demo`."""
    from ganwright import api

    options = parse("demo", Demo, arguments)
    _next_steps(api.train("cgan", "mnist", out=options.out, max_minutes=options.minutes, evaluate_every=2000))
