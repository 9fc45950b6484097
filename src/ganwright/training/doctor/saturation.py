"""A discriminator that has won."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import ClassVar

from ganwright.training.doctor.check import Check, Healthy, Scalars, Symptom, Verdict, gravest, push

_WHY = (
    "A discriminator that separates real from fake without error is flat where the samples are: the "
    "generator is told that it is wrong but hardly how to be less so. With the minimax loss its gradient "
    "vanishes, with the non-saturating loss it becomes noisy."
)
_ADVICE = (
    "lower the discriminator's learning rate (--lr-d), to a half or a quarter",
    "take one discriminator step per generator step (--d-steps 1)",
    "a gradient penalty (--penalty r1 --norm-d none)",
    "one-sided label smoothing (--label-smoothing 0.1) or instance noise that fades (--instance-noise 0.1)",
    "spectral normalisation (--spectral-d, or recipe `sngan`)",
    "with few images (below some ten thousand) it may know them by heart: augment what it sees, or add images",
)


@dataclass
class DiscriminatorSaturation(Check):
    """`d_accuracy` stays at 1. Silent where it is not logged (a Wasserstein critic does not classify)."""

    name: ClassVar[str] = "discriminator-saturation"
    clear_after: ClassVar[int] = 3

    accuracy: float = 0.99
    """Mean accuracy over the window that counts as saturated. Healthy DCGANs stay at about 0.5 to 0.95;
    adaptive augmentation aims at 0.8 (Karras et al. 2020, arXiv:2006.06676: r_t = 0.6 = 2·0.8 - 1)."""
    loss: float = 0.01
    """Median `loss_discriminator` below which it is critical. For cross-entropy this means that the right
    answer has a probability above 0.99 on average."""
    logs: int = 10
    """Logs in the window: a batch of 64 gives 128 answers, so ten logs more than a thousand."""
    steps: int = 500
    """Steps the window spans."""
    warm_up_steps: int = 500
    """Logs before this step do not count: a young generator makes noise, which is easy to tell. Measured on
    MNIST: accuracy 0.97 to 1 for 100 to 600 steps, also in runs that end well."""

    def on_log(self, step: int, scalars: Scalars) -> Verdict:
        """Look at each `d_accuracy*`."""
        if step < self.warm_up_steps:
            return None
        return gravest(
            [
                self._look(step, name, value, scalars)
                for name, value in scalars.items()
                if name.startswith("d_accuracy") and math.isfinite(value)
            ]
        )

    def _look(self, step: int, name: str, value: float, scalars: Scalars) -> Verdict:
        memory = self.memory.setdefault(name, {"accuracy": [], "loss": []})
        loss = scalars.get("loss_discriminator" + name.removeprefix("d_accuracy"), math.nan)
        full = push(memory["accuracy"], step, value, logs=self.logs, steps=self.steps)
        if math.isfinite(loss):
            push(memory["loss"], step, loss, logs=self.logs, steps=self.steps)
        if not full:
            return None
        mean = statistics.fmean(pair[1] for pair in memory["accuracy"])
        if mean < self.accuracy:
            return Healthy(f"{name} is {mean:.3f} on average.")
        since = int(memory["accuracy"][0][0])
        seen = f"{name} was {mean:.4f} on average over steps {since} to {step} (bound {self.accuracy})"
        if len(memory["loss"]) < self.logs:
            return Symptom("warning", 1.0, seen + ".", _WHY, _ADVICE)
        median = statistics.median(pair[1] for pair in memory["loss"])
        seen += f", the discriminator's loss {median:.2g}."
        critical = 0 <= median < self.loss
        return Symptom("critical" if critical else "warning", 1.0, seen, _WHY, _ADVICE)
