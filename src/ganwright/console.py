"""The one console and the one progress bar."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import Protocol, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

console = Console(stderr=True, highlight=False)
"""Progress, warnings and findings go to stderr; results meant for other programs go to stdout."""

T = TypeVar("T")


class Advance(Protocol):
    """Reports progress."""

    def __call__(self, amount: int = 1, *, note: str = "") -> None:
        """Move on by `amount`; `note` is shown beside the bar."""


@contextlib.contextmanager
def progress(description: str, total: int, *, done: int = 0, quiet: bool = False) -> Iterator[Advance]:
    """Show progress with an ETA while the block runs; a plain line every 30 s where there is no terminal.

    Args:
        description: What is being done.
        total: How many units there are.
        done: How many are already done (a resumed run).
        quiet: Show nothing.
    """
    if quiet:
        yield lambda amount=1, *, note="": None
        return
    if not console.is_terminal:
        yield _PlainProgress(description, total, done)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=False) as bar:
        task = bar.add_task(description, total=total, completed=done, note="")

        def advance(amount: int = 1, *, note: str = "") -> None:
            bar.update(task, advance=amount)
            if note:
                bar.update(task, note=note)

        yield advance


class _PlainProgress:
    """Progress for logs and pipes: a line every 30 seconds."""

    every_seconds = 30.0

    def __init__(self, description: str, total: int, done: int) -> None:
        self.description, self.total, self.start_at, self.done = description, total, done, done
        self.started = self.last = time.monotonic()

    def __call__(self, amount: int = 1, *, note: str = "") -> None:
        self.done += amount
        now = time.monotonic()
        if now - self.last < self.every_seconds:
            return
        self.last = now
        rate = (self.done - self.start_at) / (now - self.started)
        eta = (self.total - self.done) / rate if rate > 0 else float("inf")
        text = f"{self.description}: {self.done}/{self.total}, ETA {eta:.0f} s {note}"
        print(text.rstrip(), file=sys.stderr, flush=True)


def track(items: Iterable[T], description: str, *, total: int | None = None, quiet: bool = False) -> Iterator[T]:
    """Iterate with a progress bar; the total is taken from `len(items)` where it is not given."""
    if total is None:
        total = len(items) if isinstance(items, Sized) else 0
    with progress(description, total, quiet=quiet) as advance:
        for item in items:
            yield item
            advance()
