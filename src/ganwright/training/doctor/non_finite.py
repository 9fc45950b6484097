"""Numbers that are no longer numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from ganwright.training.doctor.check import Check, Healthy, Scalars, Symptom, Verdict

_WHY = (
    "Every update from here on spreads it to all weights; nothing that follows can be used, and a "
    "checkpoint written now would be worthless."
)
_ADVICE = (
    "go on from the last good checkpoint with a third of the learning rates",
    "clip gradients (--clip-grad-norm 1)",
    "train with --precision 32 or bf16 if this was fp16",
    "look for corrupt input (`ganwright data`)",
)


@dataclass
class NonFinite(Check):
    """NaN or infinity in any logged scalar: training stops."""

    name: ClassVar[str] = "non-finite"

    scaled_gradients: bool = False
    """Gradients are scaled (fp16): the scaler provokes an overflow now and then to find the largest scale,
    and skips that step (Micikevicius et al. 2018, arXiv:1710.03740, section 3.2). Then a gradient norm alone
    counts only when it stays."""
    gradient_patience: int = 3
    """With scaled gradients: logged steps in a row with a non-finite gradient norm after which it counts;
    each such step halves the scale, so a healthy run has recovered by then."""

    def on_log(self, step: int, scalars: Scalars) -> Verdict:
        """Any non-finite number is a reason to stop, but see `scaled_gradients`."""
        bad = {name: value for name, value in scalars.items() if not math.isfinite(value)}
        only_gradients = bool(bad) and all(name.startswith("grad_norm_") for name in bad)
        in_a_row = self.memory.get("gradients", 0) + 1 if only_gradients else 0
        self.memory["gradients"] = in_a_row
        if not bad:
            return Healthy("All logged numbers are finite.")
        if only_gradients and self.scaled_gradients and in_a_row < self.gradient_patience:
            return None
        seen = ", ".join(f"{name} is {value}" for name, value in bad.items())
        return Symptom("critical", float(len(bad)), f"{seen}.", _WHY, _ADVICE, stop=True)
