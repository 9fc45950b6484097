"""Errors meant for people: what was wrong, where, and what to do about it.

Every error a user can cause derives from `GanwrightError`; the command line prints it without a traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class GanwrightError(Exception):
    """Something a person can put right.

    Args:
        what: One sentence that says what was wrong.
        where: The file, key or value it was found at.
        fix: What to do about it.
    """

    def __init__(self, what: str, *, where: object | None = None, fix: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = None if where is None else str(where)
        self.fix = fix

    def __str__(self) -> str:
        lines = [self.what]
        if self.where is not None:
            lines.append(f"  where: {self.where}")
        if self.fix is not None:
            lines.append(f"  fix:   {self.fix}")
        return "\n".join(lines)


class SettingsError(GanwrightError):
    """A setting has an unknown name or an impossible value."""


class DataError(GanwrightError):
    """The data cannot be read or does not fit the recipe."""


class RunError(GanwrightError):
    """A run folder is missing, incomplete or of another version."""


class CheckpointError(RunError):
    """A checkpoint could not be written or read; earlier checkpoints are untouched."""


class TrainingError(GanwrightError):
    """Training had to stop (numbers no longer finite, say)."""


class MetricError(GanwrightError):
    """A metric cannot be computed on these inputs."""


class ProvenanceError(MetricError):
    """Two estimates measured in different ways were about to be compared."""


class MissingExtraError(GanwrightError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str, what_for: str) -> None:
        super().__init__(
            f"{what_for} needs the package '{package}', which is not installed.",
            fix=f"pip install 'ganwright[{extra}]'",
        )


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known name is nearest to a wrong one: `" Did you mean 'x'?"`, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""
