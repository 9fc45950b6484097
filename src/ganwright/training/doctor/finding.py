"""What the doctor says: a finding, as JSON for the log and the report, and drawn for the terminal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from rich.panel import Panel
from rich.table import Table
from rich.text import Text

Severity = Literal["info", "warning", "critical"]
"""info: nothing to do (something cleared up); warning: look at it; critical: going on as it is wastes
time."""

SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical")
"""From mild to grave."""

_COLOURS: dict[Severity, str] = {"info": "green", "warning": "yellow", "critical": "red"}


@dataclass(frozen=True)
class Finding:
    """One diagnosis.

    Attributes:
        step: Steps done when it was made.
        check: Name of the check, a key of `CHECKS`.
        severity: How grave it is.
        seen: What was seen, with its numbers and the threshold.
        why: Why it matters.
        try_: What to try, most promising first.
        stop: Training must stop now; what follows would only be damage.
    """

    step: int
    check: str
    severity: Severity
    seen: str
    why: str
    try_: str
    stop: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The line of `log.jsonl`: `event` ("finding"), `step`, `check`, `severity`, `seen`, `why`, `try`."""
        return {
            "event": "finding",
            "step": self.step,
            "check": self.check,
            "severity": self.severity,
            "seen": self.seen,
            "why": self.why,
            "try": self.try_,
        }

    def __str__(self) -> str:
        lines = [f"{self.severity}: {self.check} at step {self.step}: {self.seen}"]
        lines += [f"  {label} {text}" for label, text in (("why:", self.why), ("try:", self.try_)) if text]
        return "\n".join(lines)

    def __rich__(self) -> Panel:
        """A panel for the terminal; texts are shown as they are, never read as markup."""
        body = Table.grid(padding=(0, 1))
        body.add_column(style="dim", no_wrap=True)
        body.add_column(overflow="fold")
        for label, text in (("seen", self.seen), ("why", self.why), ("try", self.try_)):
            if text:
                body.add_row(label, Text(text))
        colour = _COLOURS[self.severity]
        title = Text(f"{self.severity}: {self.check}, step {self.step}", style=f"bold {colour}")
        return Panel(body, title=title, title_align="left", border_style=colour, width=100)
