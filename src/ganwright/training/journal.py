"""What a run writes down while it trains: log lines, samples, evaluations and findings. Rank 0 only.

The loop says when; this says what goes into which file and to the terminal.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ganwright.config import TrainSettings
from ganwright.console import console
from ganwright.data.spec import Dataset
from ganwright.errors import TrainingError
from ganwright.metrics.estimate import Evaluation
from ganwright.metrics.evaluator import Evaluator
from ganwright.recipes.base import Recipe, SampleRequest
from ganwright.run import Run
from ganwright.samples import ImageSamples
from ganwright.training.checkpoint import writing_to
from ganwright.training.doctor import Doctor, Finding
from ganwright.training.ema import MovingAverage
from ganwright.training.loggers import ScalarLogger

GRID_SEED = 2_014
"""Seed of the fixed latents that every stage's grid shows."""
EVALUATION_SEED = 1_406_2661
"""Seed of the samples an evaluation measures; no grid's."""


class Journal:
    """Writes a run's files.

    Args:
        run: Where to.
        recipe: What trains.
        ema: Its moving averages; samples and evaluations use them.
        dataset: What it trains on.
        doctor: Looks at everything written.
        evaluator: Measures samples, or None for data no metric fits.
        loggers: Further places for scalars.
        settings: The loop's settings.
        eval_samples: Samples an evaluation measures.
    """

    def __init__(
        self,
        run: Run,
        recipe: Recipe,
        ema: MovingAverage,
        dataset: Dataset,
        doctor: Doctor,
        evaluator: Evaluator | None,
        loggers: list[ScalarLogger],
        settings: TrainSettings,
        eval_samples: int,
    ) -> None:
        self.run, self.recipe, self.ema, self.dataset = run, recipe, ema, dataset
        self.doctor, self.evaluator, self.loggers = doctor, evaluator, loggers
        self.settings, self.eval_samples = settings, eval_samples
        self._since = time.monotonic()
        self._steps_since = 0

    def count_step(self) -> None:
        """A step was done (throughput)."""
        self._steps_since += 1

    def scalars(self, step: int, stage: str, values: Mapping[str, Tensor | float], seconds: float) -> dict[str, Any]:
        """Write one line of the log; returns it.

        Raises:
            TrainingError: The doctor says that training cannot go on.
            RunError: The disk is full or the folder cannot be written.
        """
        elapsed = time.monotonic() - self._since
        record: dict[str, Any] = {
            "step": step,
            "stage": stage,
            "images_seen": step * self.settings.batch_size,
            **{name: float(value) for name, value in values.items()},
            "images_per_second": round(self._steps_since * self.settings.batch_size / max(elapsed, 1e-9), 1),
            "seconds": round(seconds, 2),
        }
        self._since, self._steps_since = time.monotonic(), 0
        self._log(record)
        numbers = {name: value for name, value in record.items() if isinstance(value, int | float)}
        for logger in self.loggers:
            logger.log(numbers, step)
        self._tell(self.doctor.after_log(step, numbers))
        return record

    def real_sheet(self, seed: int) -> None:
        """Write `samples/real.png` once: what the generated grids should look like."""
        path = self.run.path / "samples" / "real.png"
        if not path.exists():
            samples = self.dataset.real_samples(64, seed=seed)
            if isinstance(samples, ImageSamples):
                with writing_to(self.run):
                    samples.save_overview(path)

    def grid(self, step: int) -> None:
        """Write the fixed-seed samples of this step."""
        started = time.monotonic()
        samples = self._sample(SampleRequest(n=self._grid_size(), seed=GRID_SEED))
        with writing_to(self.run):
            samples.save_overview(self.run.sample_path(step, samples.suffix))
        if step > 0:
            self._tell(self.doctor.after_samples(step, samples, self.dataset))
        self._since += time.monotonic() - started

    def evaluation(self, step: int) -> Evaluation:
        """Measure the averaged weights and write `metrics.jsonl`."""
        started = time.monotonic()
        with self.ema.swapped_in(), torch.no_grad():
            training = self.recipe.training
            self.recipe.eval()
            scalars = self.recipe.evaluate(EVALUATION_SEED)
            self.recipe.train(training)
        estimates = Evaluation()
        if self.evaluator is not None:
            samples = self._sample(SampleRequest(n=self.eval_samples, seed=EVALUATION_SEED))
            if isinstance(samples, ImageSamples):
                estimates = self.evaluator.evaluate(samples)
        if estimates or scalars:
            seconds = round(time.monotonic() - started, 2)
            with writing_to(self.run):
                self.run.log_metrics(
                    {"step": step, "estimates": estimates.to_dict(), "scalars": scalars, "seconds": seconds}
                )
            for logger in self.loggers:
                values = {f"metrics/{name}": estimate.value for name, estimate in estimates.items()}
                logger.log({**values, **scalars}, step)
            if estimates:
                console.print(f"step {step}: " + ", ".join(str(e) for e in estimates.values()), markup=False)
        self._tell(self.doctor.after_evaluation(step, estimates))
        self._since += time.monotonic() - started  # throughput is the steps' own
        return estimates

    def event(self, step: int, kind: str, **values: Any) -> None:
        """Write an event to the log."""
        self._log({"step": step, "event": kind, **values})

    def close(self) -> None:
        """Close the loggers."""
        for logger in self.loggers:
            logger.close()

    def _log(self, record: dict[str, Any]) -> None:
        with writing_to(self.run):
            self.run.log(record)

    def _grid_size(self) -> int:
        classes = self.recipe.data.num_classes
        return 64 if not 4 <= classes <= 20 else classes * max(4, 80 // classes)

    def _sample(self, request: SampleRequest) -> Any:
        with self.ema.swapped_in(), torch.no_grad():
            training = self.recipe.training
            self.recipe.eval()
            try:
                return self.recipe.sample(request)
            finally:
                self.recipe.train(training)

    def _tell(self, findings: list[Finding]) -> None:
        for finding in findings:
            self._log(finding.to_dict())
            console.print(finding)
        for finding in findings:
            if finding.stop:
                raise TrainingError(
                    f"Training stopped at step {finding.step}: {finding.seen}",
                    where=self.run.path,
                    fix=finding.try_,
                )
