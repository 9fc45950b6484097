"""What a check is: it looks at one kind of evidence and gives a verdict. Also the window checks remember in.

Checks judge only the present state. When a verdict is worth saying (first time, worse, cleared) is for the
doctor to decide.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ganwright.data.spec import Dataset
from ganwright.metrics.estimate import Estimate
from ganwright.samples import Samples
from ganwright.training.doctor.finding import SEVERITIES, Severity

Scalars = Mapping[str, float]


@dataclass(frozen=True)
class Symptom:
    """A condition that holds now.

    Attributes:
        severity: How grave.
        badness: A positive number that grows as it gets worse; a clear rise is worth saying again.
        seen: What was seen, with numbers and threshold.
        why: Why it matters.
        advice: What to try, each a clause, most promising first. One that recommends the recipe in use
            (written "recipe `name`") is left out.
        stop: Training must stop.
    """

    severity: Severity
    badness: float
    seen: str
    why: str
    advice: tuple[str, ...]
    stop: bool = False


@dataclass(frozen=True)
class Healthy:
    """The condition was looked for and does not hold.

    Attributes:
        seen: What was seen instead; said when an earlier finding clears.
    """

    seen: str


Verdict = Symptom | Healthy | None
"""None: nothing to go by (the evidence does not apply, or there is too little of it yet)."""


@dataclass
class Check:
    """One check. Thresholds are dataclass fields; what it remembers is `memory`, which stays JSON-able."""

    name: ClassVar[str]
    """Key in `CHECKS` and in the log."""
    clear_after: ClassVar[int] = 1
    """Healthy verdicts in a row after which a finding is taken back (so that a flickering one is not
    spam)."""

    memory: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def on_log(self, step: int, scalars: Scalars) -> Verdict:
        """Look at the scalars of a logged step."""
        return None

    def on_samples(self, step: int, samples: Samples, dataset: Dataset) -> Verdict:
        """Look at the fixed-seed samples."""
        return None

    def on_evaluation(self, step: int, evaluation: Mapping[str, Estimate]) -> Verdict:
        """Look at an evaluation."""
        return None

    def state(self) -> dict[str, Any]:
        """A copy of what it remembers."""
        return copy.deepcopy(self.memory)

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Remember what `state()` gave."""
        self.memory = copy.deepcopy(dict(state))


def push(window: list[list[float]], step: int, value: float, *, logs: int, steps: int) -> bool:
    """Append (step, value) to a window that spans at least `logs` entries and `steps` steps, and trim it.

    Both bounds are needed: ten lines of a log may be ten steps or ten thousand.

    Args:
        window: Pairs [step, value] in order; changed in place.
        step: The present step; entries at or after it (of a run that was rewound) are dropped.
        value: The new value.
        logs: Entries a full window has at least.
        steps: Steps a full window spans at least.

    Returns:
        Whether the window is full.
    """
    while window and window[-1][0] >= step:
        window.pop()
    window.append([step, value])
    while len(window) > logs and step - window[1][0] >= steps:
        window.pop(0)
    return len(window) >= logs and step - window[0][0] >= steps


def gravest(verdicts: list[Verdict]) -> Verdict:
    """The one verdict of several: the gravest symptom, else the first healthy one, else None."""
    symptoms = [verdict for verdict in verdicts if isinstance(verdict, Symptom)]
    if symptoms:
        return max(symptoms, key=lambda symptom: (SEVERITIES.index(symptom.severity), symptom.badness))
    return next((verdict for verdict in verdicts if verdict is not None), None)
