"""Losses that explode without (yet) ceasing to be numbers."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import ClassVar

from ganwright.training.doctor.check import Check, Healthy, Scalars, Symptom, Verdict, gravest, push

_WHY = (
    "Losses of a GAN that learns stay within a few orders of magnitude. Beyond that the outputs of the "
    "discriminator are so large that float32 rounds the differences between images away; NaN usually "
    "comes next."
)
_ADVICE = (
    "go on from a checkpoint before it with a tenth of the learning rates",
    "clip gradients (--clip-grad-norm 1)",
    "bound the discriminator: a gradient penalty (--penalty r1 --norm-d none) or spectral normalisation (--spectral-d)",
)


@dataclass
class Divergence(Check):
    """The median of a `loss_*` over the last logs is enormous, in itself or against how it began."""

    name: ClassVar[str] = "divergence"
    clear_after: ClassVar[int] = 3

    logs: int = 5
    """Logs in the window: one spike is not divergence."""
    largest: float = 1e6
    """Absolute bound on |loss|. float32 has 24 bits, so at 1e6 differences below 0.06 are lost."""
    growth: float = 1e3
    """Bound relative to the median of the first `early` logs: a warning."""
    floor: float = 10.0
    """The beginning counts as at least this large, so that a loss that starts near 0 may grow to ordinary
    size."""
    early: int = 10
    """Logs that make the beginning."""

    def on_log(self, step: int, scalars: Scalars) -> Verdict:
        """Look at each `loss_*`."""
        return gravest(
            [
                self._look(step, name, abs(value))
                for name, value in scalars.items()
                if name.startswith("loss_") and math.isfinite(value)
            ]
        )

    def _look(self, step: int, name: str, size: float) -> Verdict:
        memory = self.memory.setdefault(name, {"early": [], "window": []})
        if len(memory["early"]) < self.early:
            memory["early"].append(size)
        if not push(memory["window"], step, size, logs=self.logs, steps=0):
            return None
        values = [value for _, value in memory["window"]]
        now, began = statistics.median(values), max(self.floor, statistics.median(memory["early"]))
        seen = f"The median of {name} over the last {self.logs} logs is {now:.2g}"
        if now > self.largest:
            seen += f" (bound {self.largest:.0e})."
            return Symptom("critical", math.log10(now), seen, _WHY, _ADVICE)
        if now > self.growth * began:
            seen += f", more than {self.growth:.0f} times what it began with (counted as {began:.2g})."
            return Symptom("warning", math.log10(now), seen, _WHY, _ADVICE)
        if max(values) > min(self.largest, self.growth * began):  # it jumps about: neither ill nor well
            return None
        return Healthy(f"{name} is {size:.2g}.")
