"""When the loop logs, samples, evaluates and saves."""

from __future__ import annotations

from typing import NamedTuple

from ganwright.config import EvalSettings, TrainSettings


class Due(NamedTuple):
    """What is to be done after a step."""

    log: bool
    samples: bool
    evaluation: bool
    checkpoint: bool


class Calendar:
    """Resolves the `*_every` settings; everything is due at the last step.

    Args:
        train: `log_every`, `sample_every`, `checkpoint_every`, `steps`.
        evaluation: `evaluate_every`.
    """

    def __init__(self, train: TrainSettings, evaluation: EvalSettings) -> None:
        self.steps = train.steps
        self.log_every = min(train.log_every, train.steps)
        self.sample_every = train.sample_every or max(1, train.steps // 20)
        self.checkpoint_every = train.checkpoint_every or max(1, train.steps // 20)
        self.evaluate_every = evaluation.evaluate_every or max(1, train.steps // 4)

    def due(self, step: int) -> Due:
        """What is due once `step` steps are done."""
        last = step == self.steps
        never = self.evaluate_every < 0
        return Due(
            log=last or step % self.log_every == 0,
            samples=last or step % self.sample_every == 0,
            evaluation=not never and (last or step % self.evaluate_every == 0),
            checkpoint=last or step % self.checkpoint_every == 0,
        )
