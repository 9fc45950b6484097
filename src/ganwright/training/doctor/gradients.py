"""A generator that no longer receives a gradient."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import ClassVar

from ganwright.training.doctor.check import Check, Healthy, Scalars, Symptom, Verdict, gravest, push

_PREFIX = "grad_norm_generator"
_WHY = (
    "The generator has stopped learning. Usually the discriminator is certain of every sample, where the "
    "minimax loss log(1 - D) is flat; or units have died, after a step that was too large."
)
_ADVICE = (
    "the non-saturating loss (--loss non-saturating) in place of minimax",
    "a lower learning rate for the discriminator (--lr-d) or fewer of its steps (--d-steps 1)",
    "a critic that keeps a gradient everywhere: recipe `wgan-gp`",
    "instance noise (--instance-noise 0.1) or one-sided label smoothing (--label-smoothing 0.1)",
    "if the losses have exploded as well: lower all learning rates",
)


@dataclass
class VanishingGradients(Check):
    """The generator's gradient norm is a tiny share of what it was, or as good as zero.

    Looks at each `grad_norm_generator*`.
    """

    name: ClassVar[str] = "vanishing-gradients"
    clear_after: ClassVar[int] = 3

    share: float = 1e-3
    """Median of the window over the median of the beginning. In healthy runs the norm stays within about a
    factor of ten (measured on MNIST: 0.1 to 1.5 over 1,500 steps); with the minimax loss and an optimal
    discriminator it falls by orders of magnitude (Arjovsky & Bottou 2017, figure 2)."""
    smallest: float = 1e-5
    """Absolute bound on the norm. Over a million weights it means 1e-8 for each, which is Adam's epsilon:
    from there down even Adam's rescaled update shrinks with the gradient (Kingma & Ba 2015, arXiv:1412.6980,
    algorithm 1). It catches gradients that had vanished before the first log."""
    early: int = 10
    """Logs that make the beginning."""
    logs: int = 5
    """Logs in the window."""
    steps: int = 100
    """Steps the window spans."""

    def on_log(self, step: int, scalars: Scalars) -> Verdict:
        """Look at each generator's gradient norm."""
        return gravest(
            [
                self._look(step, name, value)
                for name, value in scalars.items()
                if name.startswith(_PREFIX) and math.isfinite(value)
            ]
        )

    def _look(self, step: int, name: str, value: float) -> Verdict:
        memory = self.memory.setdefault(name, {"early": [], "window": []})
        if len(memory["early"]) < self.early:
            memory["early"].append(value)
        if not push(memory["window"], step, value, logs=self.logs, steps=self.steps):
            return None
        now = statistics.median(pair[1] for pair in memory["window"])
        began = statistics.median(memory["early"])
        since = int(memory["window"][0][0])
        if now < self.smallest:
            seen = f"{name} was {now:.1e} over steps {since} to {step} (bound {self.smallest:.0e})."
            return Symptom("critical", _decades(now), seen, _WHY, _ADVICE)
        if now < self.share * began:
            seen = (
                f"{name} was {now:.1e} over steps {since} to {step}, {now / began:.1e} of its early median "
                f"{began:.1e} (bound {self.share:.0e})."
            )
            return Symptom("warning", _decades(now), seen, _WHY, _ADVICE)
        return Healthy(f"{name} is {now:.1e}.")


def _decades(norm: float) -> float:
    """Powers of ten by which the norm lies below 1, at least 1: so worse means by powers, not by factors."""
    return max(1.0, -math.log10(max(norm, 1e-30)))
