"""The one loop. It trains every kind of recipe and knows none of them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.optim import Optimizer

from ganwright.console import console, progress
from ganwright.data.spec import Dataset
from ganwright.errors import TrainingError
from ganwright.metrics.evaluator import make_evaluator
from ganwright.recipes.base import Recipe
from ganwright.run import Run
from ganwright.training import checkpoint
from ganwright.training.calendar import Calendar
from ganwright.training.context import LoopContext, average_over_processes
from ganwright.training.doctor import Doctor
from ganwright.training.ema import MovingAverage, default_half_life
from ganwright.training.fine_tuning import begin_from, freeze_first_blocks
from ganwright.training.interrupt import StopSignal
from ganwright.training.journal import Journal
from ganwright.training.loggers import open_loggers
from ganwright.training.randomness import StepRandomness
from ganwright.training.schedules import LearningRates, Plateau
from ganwright.training.settings import RunSettings
from ganwright.training.stream import BatchStream


@dataclass
class TrainingState:
    """What must survive beside networks and optimisers; saved as JSON in each checkpoint."""

    step: int = 0
    position: int = 0
    """Batches drawn from the data."""
    seconds: float = 0.0
    """Time spent training, over all sessions."""
    best: dict[str, Any] = field(default_factory=dict)
    """`step` and `value` of the best evaluation by `best_by`."""
    plateau: dict[str, Any] = field(default_factory=dict)
    doctor: dict[str, Any] = field(default_factory=dict)


class Training:
    """One training in one process: builds the parts, restores them, and runs the loop.

    Args:
        fabric: Launched.
        run: The run folder.
        recipe: Built on the CPU from the run's seed, equal in all processes.
        dataset: Opened.
        settings: All settings.
    """

    def __init__(self, fabric: Fabric, run: Run, recipe: Recipe, dataset: Dataset, settings: RunSettings) -> None:
        self.fabric, self.run, self.dataset, self.settings = fabric, run, dataset, settings
        train = settings.train
        self.recipe = recipe.to(fabric.device)
        freeze_first_blocks(recipe, train.freeze_d)
        self.optimizers: dict[str, Optimizer] = recipe.optimizers()
        prepared: dict[str, Any] = {name: fabric.setup_optimizers(opt) for name, opt in self.optimizers.items()}
        half_life = train.ema_half_life or default_half_life(train.batch_size, train.steps)
        self.ema = MovingAverage(recipe, recipe.ema_networks, half_life, train.ema_ramp_up)
        self.parts = checkpoint.TrainingParts(recipe, self.optimizers, self.ema)
        self.rates = LearningRates(self.optimizers, train)
        self.doctor = Doctor(recipe_name=settings.info.name, precision=train.precision)
        self.calendar = Calendar(train, settings.evaluation)
        self.state = TrainingState()
        share = {"rank": fabric.global_rank, "world_size": fabric.world_size}
        self.stream = BatchStream(dataset, train.batch_size, seed=train.seed, device=fabric.device, **share)
        self.ctx = LoopContext(
            fabric,
            prepared,
            StepRandomness(train.seed, fabric.device, **share),
            self.stream.next,
            recipe.stages(train.steps),
            train.clip_grad_norm,
        )
        self.journal: Journal | None = None
        self._told_of_best = False

    def restore(self) -> None:
        """Go on from the newest good checkpoint, or from the start if there is none."""
        step, content, damaged = checkpoint.last_good_checkpoint(self.run)
        if content:
            checkpoint.restore(self.parts, content)
            self.state = TrainingState(**{name: content[name] for name in TrainingState.__dataclass_fields__})
            self.stream.position = self.state.position
            self.rates.plateau = Plateau(**self.state.plateau)
            self.doctor.load_state(self.state.doctor)
        elif self.settings.train.init_from:
            begin_from(self.recipe, self.ema, self.settings.train.init_from, quiet=not self.fabric.is_global_zero)
        if self.fabric.is_global_zero:
            for folder in damaged:
                told = f"note: the checkpoint {folder.name} is damaged and is removed; going on from step {step}"
                console.print(told, markup=False, soft_wrap=True)
            with checkpoint.writing_to(self.run):
                checkpoint.clean_up(self.run)
                checkpoint.remove(damaged)
                self.run.rewind(step)

    def fit(self) -> str:
        """Train to the end, to the time bound or to a signal; returns "finished", "time", "interrupted" …."""
        if self.fabric.is_global_zero:
            self.journal = self._open_journal()
        try:
            return self._loop()
        except TrainingError as error:
            if self.journal:
                self.journal.event(self.state.step, "stopped", reason=error.what)
            raise
        finally:
            self.stream.close()
            if self.journal:
                self.journal.close()

    def _loop(self) -> str:
        state, ctx, train, journal = self.state, self.ctx, self.settings.train, self.journal
        session_start = time.monotonic() - state.seconds
        self.recipe.train()
        if journal and state.step == 0:
            journal.real_sheet(train.seed)
            journal.grid(0)
        stop, early = "", self._finished_early()
        with (
            StopSignal() as signal,
            progress(f"training {self.settings.info.name}", train.steps, done=state.step, quiet=not journal) as advance,
        ):
            while state.step < train.steps and not (stop or early):
                due = self.calendar.due(state.step + 1)
                ctx.begin_step(state.step, logging=due.log)
                self.rates.set(state.step, self.recipe.learning_rate_factor(state.step / train.steps))
                with self.fabric.autocast():
                    scalars = self.recipe.step(self.stream.next(), ctx)
                state.step += 1
                self.ema.update(state.step)
                state.position = self.stream.position
                state.seconds = time.monotonic() - session_start
                stop = self._stop_wanted(signal.requested, due.log)
                early = self._finished_early() if due.log else ""

                if stop == "time" or early:  # the end of the run: everything that the last step has
                    due = self.calendar.due(train.steps)
                if journal:
                    journal.count_step()
                if due.log:
                    values = {**scalars, **{f"grad_norm_{k}": v for k, v in ctx.grad_norms.items()}}
                    average_over_processes(list(scalars.values()), self.fabric.world_size)
                    if journal:
                        line = journal.scalars(state.step, ctx.stage, {**values, **self.rates.current()}, state.seconds)
                        advance(0, note=_brief(line))
                if due.samples and journal:
                    journal.grid(state.step)
                if due.evaluation:
                    self._evaluate()
                if due.checkpoint or stop:
                    self._save()
                advance()
        if journal:
            reason = stop or early or "finished"
            journal.event(state.step, "stopped" if stop else "finished", reason=reason, seconds=round(state.seconds, 1))
        return stop or "finished"

    def _finished_early(self) -> str:
        """Why the recipe has nothing left to do, or ""; the same in all processes."""
        if self.state.step == 0:
            return ""
        why = self.recipe.finished()
        return why if self.fabric.world_size == 1 else str(self.fabric.broadcast(why))

    def _evaluate(self) -> None:
        """Measure on rank 0; the schedule and the best checkpoint follow what was measured."""
        found = self.journal.evaluation(self.state.step) if self.journal else None
        found = self.fabric.broadcast(found)
        if not found:
            return
        watched = found.get(self.settings.train.plateau_metric)
        if self.settings.train.lr_schedule == "plateau" and watched is not None:
            self.rates.plateau.observe(watched, self.settings.train)
        best_by = self.settings.evaluation.best_by
        judged = found.get(best_by)
        if judged is None and self.journal and not self._told_of_best:
            self._told_of_best = True
            measured = ", ".join(found)
            console.print(f"[yellow]note[/] '{best_by}' was not measured, so no best checkpoint is kept: --best-by may")
            console.print(f"     be one of {measured}", markup=False)
        if judged is not None:
            best = self.state.best.get("value")
            sign = 1 if judged.higher_is_better else -1
            if best is None or sign * judged.value > sign * best:
                self.state.best = {"step": self.state.step, "metric": judged.name, "value": judged.value}
                self._save()

    def _save(self) -> None:
        """Write a checkpoint (rank 0), unless the weights are no longer numbers."""
        if self.fabric.is_global_zero:
            tensors = [p.detach() for p in self.recipe.parameters() if p.is_floating_point()]
            if tensors and not all(bool(n.isfinite()) for n in torch._foreach_norm(tensors)):
                raise TrainingError(
                    f"The weights are no longer finite at step {self.state.step}; no checkpoint was written.",
                    where=self.run.path,
                    fix="resume from the last good checkpoint with a lower learning rate, or choose another loss",
                )
            self.state.plateau = self.rates.plateau.state()
            self.state.doctor = self.doctor.state()
            checkpoint.save_checkpoint(self.run, self.parts, dict(vars(self.state)))
            checkpoint.prune(self.run, self.settings.train.keep_last, self.state.best.get("step"))
        if self.fabric.world_size > 1:
            self.fabric.barrier()

    def _stop_wanted(self, signal: str, log_step: bool) -> str:
        limit = self.settings.train.max_minutes * 60
        stop = signal or ("time" if 0 < limit <= self.state.seconds else "")
        if self.fabric.world_size == 1:
            return stop
        # All processes must stop at the same step; they only confer on log steps.
        return str(self.fabric.broadcast(stop)) if log_step else ""

    def _open_journal(self) -> Journal:
        settings = self.settings
        wanted = settings.evaluation.evaluate_every >= 0
        how: dict[str, Any] = {"device": self.fabric.device, "measured_as": self.recipe.measured_as}
        evaluator = make_evaluator(self.dataset, settings.evaluation, **how) if wanted else None
        loggers = open_loggers(settings.train.loggers, self.run, settings.flat())
        n = settings.evaluation.eval_samples
        return Journal(
            self.run, self.recipe, self.ema, self.dataset, self.doctor, evaluator, loggers, settings.train, n
        )


def build_recipe(settings: RunSettings, dataset: Dataset) -> Recipe:
    """The recipe with weights drawn from the run's seed, on the CPU, so that they are equal everywhere."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.train.seed)
        recipe = settings.info.recipe(dataset.spec, settings.recipe)
    assert isinstance(recipe, nn.Module)
    return recipe


def _brief(line: dict[str, Any]) -> str:
    losses = [f"{name.removeprefix('loss_')} {value:.3f}" for name, value in line.items() if name.startswith("loss_")]
    return ", ".join([*losses[:3], f"{line['images_per_second']:.0f} img/s"])
