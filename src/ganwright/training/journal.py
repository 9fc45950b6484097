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
from ganwright.data.spec import Batch, Dataset
from ganwright.errors import DataError, TrainingError
from ganwright.metrics.estimate import Evaluation
from ganwright.metrics.evaluator import RunEvaluator
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
SHOWN_INPUTS = 12
"""Inputs that a translator's or restorer's grids show."""


def sample_request(
    recipe: Recipe,
    dataset: Dataset | None,
    n: int,
    seed: int,
    *,
    inputs: Batch | None = None,
    baselines: bool = False,
    **more: Any,
) -> SampleRequest:
    """A request for samples of any recipe: one that turns images into images is shown some.

    Args:
        recipe: Which is asked.
        dataset: Gives a translator's inputs, where `inputs` are not given.
        n: How many; of a translator, at most as many as there are inputs.
        seed: Of the latents, or of the choice of inputs.
        inputs: What a translator is shown, in place of held-out data.
        baselines: Also make the recipe's baselines.
        more: Further fields of `SampleRequest`.

    Raises:
        DataError: The recipe needs inputs, and the data has none.
    """
    if not recipe.directions:
        return SampleRequest(n=n, seed=seed, **more)
    if inputs is None and dataset is not None:
        inputs = dataset.held_out_batch(n, seed=seed)
    if inputs is None:
        raise DataError(
            "This recipe turns images into images, and there are none to show it.",
            where=None if dataset is None else dataset.spec.name,
            fix="give the data it was trained on, or pictures of that kind",
        )
    rows = len(next(iter(inputs.values())))
    return SampleRequest(n=rows, seed=seed, inputs=inputs, baselines=baselines, **more)


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
        evaluator: RunEvaluator | None,
        loggers: list[ScalarLogger],
        settings: TrainSettings,
        eval_samples: int,
    ) -> None:
        self.run, self.recipe, self.ema, self.dataset = run, recipe, ema, dataset
        self.doctor, self.evaluator, self.loggers = doctor, evaluator, loggers
        self.settings, self.eval_samples = settings, eval_samples
        self._since = time.monotonic()
        self._steps_since = 0
        self._baselines_said = False
        if recipe.directions and dataset.nothing_held_out:
            console.print(
                "[yellow]nothing is held out: samples and evaluations show training data, "
                "so they say nothing of new pictures (--held-out 0.1 keeps a tenth apart)"
            )

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
        samples = self._sample(self._request(self._grid_size(), GRID_SEED))
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
            samples = self._sample(self._request(self.eval_samples, EVALUATION_SEED, baselines=True))
            if self.evaluator.fits(samples):
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
            self._say(step, estimates)
        self._tell(self.doctor.after_evaluation(step, estimates))
        self._since += time.monotonic() - started  # throughput is the steps' own
        return estimates

    def _say(self, step: int, estimates: Evaluation) -> None:
        """Print what was measured; baselines (`<metric>:<baseline>`) once, since they stay as they are."""
        own = [str(e) for name, e in estimates.items() if ":" not in name]
        beside = [str(e) for name, e in estimates.items() if ":" in name]
        if own:
            console.print(f"step {step}: " + ", ".join(own), markup=False)
        if beside and not self._baselines_said:
            console.print("beside: " + ", ".join(beside), markup=False)
            self._baselines_said = True

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

    def _request(self, n: int, seed: int, *, baselines: bool = False) -> SampleRequest:
        """What to sample; a translator is given held-out inputs, of which there may be fewer than `n`."""
        return sample_request(self.recipe, self.dataset, n, seed, baselines=baselines)

    def _grid_size(self) -> int:
        if self.recipe.directions:
            return SHOWN_INPUTS
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
