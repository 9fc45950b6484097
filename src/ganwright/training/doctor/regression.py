"""Metrics that were better before."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ganwright.errors import ProvenanceError
from ganwright.metrics.estimate import Estimate
from ganwright.training.doctor.check import Check, Healthy, Symptom, Verdict

_WHY = (
    "GANs do not converge like classifiers: they often pass their best and then drift, oscillate or "
    "collapse. What is trained now is worse than what is already saved."
)
_ADVICE = (
    "use the best checkpoint, which is kept",
    "stop here if it goes on",
    "let the learning rates decay (--lr-schedule linear, cosine or plateau) or halve them",
    "a longer moving average of the generator (--ema-half-life)",
    "with few images: augment what the discriminator sees, since it overfits first",
)


@dataclass
class MetricRegression(Check):
    """A metric is clearly worse than its best: their intervals do not overlap, several evaluations in a row.

    An evaluation by other means (extractor, reference, number of samples) starts afresh.
    """

    name: ClassVar[str] = "metric-regression"

    metrics: tuple[str, ...] = ("fd", "kid", "class-accuracy")
    """Metrics that are watched; those not evaluated are passed over. The Inception score is left out: it can
    rise and fall without regard to the real data (Barratt & Sharma 2018, arXiv:1801.01973)."""
    patience: int = 2
    """Evaluations in a row. Non-overlap of two 95 % intervals is rarer by chance than 1 in 100 when nothing
    changed, but the best of many is a lucky one, so one is not enough."""

    warm_up_steps: int = 500
    """Evaluations before this step do not count: the first samples are noise, some of it lucky."""
    margin: float = 0.2
    """And worse by this share of the best value. The intervals cover the samples drawn, not the oscillation
    of the weights, which alone moves a Fréchet distance by 10 to 40 % from one evaluation to the next
    (measured on MNIST)."""

    def on_evaluation(self, step: int, evaluation: Mapping[str, Estimate]) -> Verdict:
        """Compare each watched metric with its best so far."""
        if step < self.warm_up_steps:
            return None
        worse: list[tuple[Estimate, Estimate, int]] = []
        looked = [estimate for name in self.metrics if (estimate := evaluation.get(name)) is not None]
        looked = [estimate for estimate in looked if math.isfinite(estimate.value)]
        for estimate in looked:
            memory = self.memory.get(estimate.name)
            best = None if memory is None else Estimate.from_dict(memory["best"])
            if memory is None or best is None or not _comparable(estimate, best) or estimate.better_than(best):
                self.memory[estimate.name] = {"best": estimate.to_dict(), "step": step, "in_a_row": 0}
                continue
            memory["in_a_row"] = memory["in_a_row"] + 1 if self._clearly_worse(estimate, best) else 0
            if memory["in_a_row"] >= self.patience:
                worse.append((estimate, best, memory["step"]))
        if not looked:
            return None
        if not worse:
            return Healthy(f"{looked[0]} is no longer clearly worse than its best.")
        seen = "; ".join(f"{now}, but {best.value:.4g} at step {at}" for now, best, at in worse)
        in_a_row = max(self.memory[now.name]["in_a_row"] for now, _, _ in worse)
        seen += f"; the intervals do not overlap, in {in_a_row} evaluations in a row."
        badness = max(_gap(now, best) for now, best, _ in worse)
        return Symptom("warning", badness, seen, _WHY, _ADVICE)

    def _clearly_worse(self, now: Estimate, best: Estimate) -> bool:
        """Whether the intervals do not overlap and the values differ by more than the margin."""
        return best.clearly_better_than(now) and abs(now.value - best.value) > self.margin * abs(best.value)


def _comparable(a: Estimate, b: Estimate) -> bool:
    """Whether the two were measured in the same way."""
    try:
        a.require_comparable(b)
    except ProvenanceError:
        return False
    return True


def _gap(now: Estimate, best: Estimate) -> float:
    """How far the value is from its best, in widths of the best's interval; at least 1."""
    return max(1.0, abs(now.value - best.value) / max(best.high - best.low, 1e-12))
