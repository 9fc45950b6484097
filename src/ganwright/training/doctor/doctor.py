"""`Doctor`: asks every check, and decides which verdicts are worth a finding."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ganwright.data.spec import Dataset
from ganwright.errors import SettingsError, nearest
from ganwright.metrics.estimate import Estimate
from ganwright.samples import Samples
from ganwright.training.doctor.check import Check, Healthy, Symptom, Verdict
from ganwright.training.doctor.finding import SEVERITIES, Finding
from ganwright.training.doctor.non_finite import NonFinite
from ganwright.training.doctor.table import CHECKS

WORSE_BY = 1.5
"""A finding is repeated when its badness has grown by this factor since it was last said."""
REPEAT_AFTER_STEPS = 5_000
"""… or when it still holds after this many steps; the interval doubles with each repetition."""


class Doctor:
    """Live diagnosis of one training.

    A finding is given when its condition starts, again when it got worse or after a long interval, and once,
    as "info", when it has cleared.

    Args:
        recipe_name: The recipe that trains; it is not recommended as its own remedy.
        checks: Names of checks, or `Check` objects with thresholds of one's own; None: all of `CHECKS`.
        precision: Arithmetic of the networks ("32", "bf16", "fp16"); in fp16 an occasional infinite gradient
            is the loss scaler at work and does not stop training.

    Raises:
        SettingsError: There is no check of that name, or one is given twice.
    """

    def __init__(
        self, recipe_name: str = "", checks: Iterable[str | Check] | None = None, *, precision: str = "32"
    ) -> None:
        self.recipe_name = recipe_name
        self.checks: dict[str, Check] = {}
        for item in CHECKS if checks is None else checks:
            check = item if isinstance(item, Check) else _find(item)
            if check.name in self.checks:
                raise SettingsError(f"The doctor's check '{check.name}' is given twice.", where="checks")
            if isinstance(check, NonFinite) and not isinstance(item, Check):
                check.scaled_gradients = precision == "fp16"
            self.checks[check.name] = check
        self._open: dict[str, dict[str, Any]] = {}

    def after_log(self, step: int, scalars: Mapping[str, float]) -> list[Finding]:
        """Findings from the scalars of a logged step.

        Args:
            step: Steps done.
            scalars: What was logged; the checks know `loss_<network>`, `d_accuracy`, `grad_norm_<optimizer>`.
        """
        return self._ask(step, lambda check: check.on_log(step, scalars))

    def after_samples(self, step: int, samples: Samples, dataset: Dataset) -> list[Finding]:
        """Findings from the fixed-seed samples; silent for samples that are not images of the data set's
        kind.

        Args:
            step: Steps done.
            samples: The grid, 16 samples at least, 64 or more to be of use.
            dataset: What is trained on. Image data sets have `images`, `train_index` and `held_out_index`.
        """
        return self._ask(step, lambda check: check.on_samples(step, samples, dataset))

    def after_evaluation(self, step: int, evaluation: Mapping[str, Estimate]) -> list[Finding]:
        """Findings from an evaluation.

        Args:
            step: Steps done.
            evaluation: Estimates by name.
        """
        return self._ask(step, lambda check: check.on_evaluation(step, evaluation))

    def state(self) -> dict[str, Any]:
        """Everything remembered, JSON-able: a doctor that loads it goes on exactly as this one would."""
        checks = {name: check.state() for name, check in self.checks.items()}
        return {"open": copy.deepcopy(self._open), "checks": checks}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state()` gave; checks that are not in it start afresh."""
        self._open = {name: dict(entry) for name, entry in state.get("open", {}).items() if name in self.checks}
        for name, memory in state.get("checks", {}).items():
            if name in self.checks:
                self.checks[name].load_state(memory)

    @property
    def open_checks(self) -> list[str]:
        """Names of the checks whose condition holds at present."""
        return list(self._open)

    def _ask(self, step: int, look: Callable[[Check], Verdict]) -> list[Finding]:
        findings = []
        for check in self.checks.values():
            verdict = look(check)
            if isinstance(verdict, Symptom):
                findings += self._symptom(check, step, verdict)
            elif isinstance(verdict, Healthy):
                findings += self._healthy(check, step, verdict)
        return findings

    def _symptom(self, check: Check, step: int, symptom: Symptom) -> list[Finding]:
        entry = self._open.get(check.name)
        rank = SEVERITIES.index(symptom.severity)
        if entry is None:
            entry = {"since": step, "wait": REPEAT_AFTER_STEPS}
            lead = ""
        else:
            worse = rank > entry["rank"] or symptom.badness >= WORSE_BY * entry["badness"]
            overdue = step - entry["said"] >= entry["wait"]
            entry["healthy"] = 0
            if not (worse or overdue or symptom.stop):
                return []
            lead = f"Worse since step {entry['since']}. " if worse else f"Still so since step {entry['since']}. "
            entry["wait"] *= 2 if overdue else 1
        entry.update(said=step, rank=rank, badness=symptom.badness, healthy=0)
        self._open[check.name] = entry
        advice = [clause for clause in symptom.advice if f"recipe `{self.recipe_name}`" not in clause]
        return [
            Finding(
                step,
                check.name,
                symptom.severity,
                lead + symptom.seen,
                symptom.why,
                "; ".join(advice),
                symptom.stop,
            )
        ]

    def _healthy(self, check: Check, step: int, verdict: Healthy) -> list[Finding]:
        entry = self._open.get(check.name)
        if entry is None:
            return []
        entry["healthy"] += 1
        if entry["healthy"] < check.clear_after:
            return []
        del self._open[check.name]
        seen = f"Cleared; it had held since step {entry['since']}. {verdict.seen}"
        return [Finding(step, check.name, "info", seen, "", "")]


def _find(name: str) -> Check:
    if name not in CHECKS:
        raise SettingsError(
            f"The doctor has no check '{name}'.{nearest(name, CHECKS)}",
            where="checks",
            fix="choose from " + ", ".join(CHECKS),
        )
    return CHECKS[name].make()
