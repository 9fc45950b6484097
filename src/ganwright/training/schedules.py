"""Learning-rate schedules: a factor on every optimiser's own rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch.optim import Optimizer

from ganwright.config import TrainSettings
from ganwright.metrics.estimate import Estimate

SCHEDULES: dict[str, Callable[[float, TrainSettings], float]] = {
    "constant": lambda done, settings: 1.0,
    "linear": lambda done, settings: (
        1.0 if done <= settings.lr_decay_from else (1 - done) / (1 - settings.lr_decay_from)
    ),
    "cosine": lambda done, settings: 0.5 * (1 + math.cos(math.pi * done)),
    "plateau": lambda done, settings: 1.0,  # its factor is `Plateau`'s
}
"""Factor by name, as a function of the share of steps done, in [0, 1)."""


@dataclass
class Plateau:
    """Reduce on plateau: the state of it, saved with the run.

    Attributes:
        factor: Present factor on the learning rates.
        best: Best value so far, None before the first evaluation.
        waited: Evaluations since the best.
    """

    factor: float = 1.0
    best: float | None = None
    waited: int = 0

    def observe(self, estimate: Estimate, settings: TrainSettings) -> bool:
        """Take note of an evaluation; True if the rates were reduced."""
        sign = 1 if estimate.higher_is_better else -1
        if self.best is None or sign * estimate.value > sign * self.best:
            self.best, self.waited = estimate.value, 0
            return False
        self.waited += 1
        if self.waited <= settings.plateau_patience:
            return False
        self.factor *= settings.plateau_factor
        self.waited = 0
        return True

    def state(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


class LearningRates:
    """Sets every optimiser's learning rate before each step.

    Args:
        optimizers: By name; the rates they were built with are what the factors apply to.
        settings: Which schedule.
    """

    def __init__(self, optimizers: Mapping[str, Optimizer], settings: TrainSettings) -> None:
        self.settings = settings
        self.optimizers = optimizers
        self.base = {name: [float(group["lr"]) for group in opt.param_groups] for name, opt in optimizers.items()}
        self.plateau = Plateau()

    def set(self, step: int, own: float = 1.0) -> None:
        """Set the rates for the step after `step` steps; `own` is the recipe's `learning_rate_factor`."""
        factor = (
            own * self.plateau.factor * SCHEDULES[self.settings.lr_schedule](step / self.settings.steps, self.settings)
        )
        for name, optimizer in self.optimizers.items():
            # Looked up anew each time: an optimiser that loads a checkpoint replaces its groups.
            for group, base in zip(optimizer.param_groups, self.base[name], strict=True):
                group["lr"] = base * factor

    def current(self) -> dict[str, float]:
        """`lr_<optimizer>`: the rate of each optimiser's first group."""
        return {f"lr_{name}": float(opt.param_groups[0]["lr"]) for name, opt in self.optimizers.items()}
