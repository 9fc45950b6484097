"""A recipe may say that it has nothing left to do: the run ends there, in order, in every process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

import ganwright as gw
from ganwright.data.spec import Batch, DataKind, DataSpec
from ganwright.recipes.base import Recipe, SampleRequest, StepContext
from ganwright.recipes.registry import RecipeInfo
from ganwright.run import Run
from ganwright.samples import ImageSamples
from ganwright.training import launch

from .helpers import write_arrays


@dataclass(frozen=True)
class Bound:
    """Settings of `Satisfied`."""

    enough: int = 5
    """Steps it wants."""


class Satisfied(Recipe):
    """Counts its steps, and has had enough after some."""

    Settings: ClassVar[type[Any]] = Bound
    accepts: ClassVar = frozenset({DataKind.IMAGES})
    ema_networks = ()

    def __init__(self, data: DataSpec, settings: Bound) -> None:
        super().__init__(data, settings)
        self.weight = nn.Parameter(torch.zeros(4))
        self.register_buffer("counted", torch.zeros((), dtype=torch.int64))

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"weight": torch.optim.SGD([self.weight], 0.1)}

    def step(self, batch: Batch, ctx: StepContext) -> dict[str, Tensor]:
        loss = (self.weight - ctx.normal(len(batch["images"]), 4)).square().mean()
        ctx.minimise(loss, "weight")
        self.counted += 1
        return {"loss_weight": loss.detach()}

    def finished(self) -> str:
        # What another process thinks does not matter.
        first = not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0
        return "it had enough" if first and int(self.counted) >= self.settings.enough else ""

    def sample(self, request: SampleRequest) -> ImageSamples:
        return ImageSamples.from_tensor(self.weight.expand(1, 1, 4, 4))


INFO = RecipeInfo("satisfied", Satisfied, Bound(), "none", "counts")
SETTINGS: dict[str, Any] = {
    "steps": 30,
    "batch_size": 4,
    "log_every": 2,
    "checkpoint_every": 10,
    "sample_every": 10,
    "evaluate_every": -1,
    "held_out": 0.0,
    "write_html": False,
}


def test_a_run_ends_at_the_log_step_after_the_recipe_had_enough(tmp_path: Path) -> None:
    run = gw.train(INFO, write_arrays(tmp_path / "d.npz"), out=tmp_path / "run", **SETTINGS)
    assert [record["step"] for record in run.log_records()] == [2, 4, 6]
    assert [step for step, _ in run.checkpoints()] == [6] and run.sample_files()[-1][0] == 6
    (event,) = run.events("finished")
    assert (event["step"], event["reason"]) == (6, "it had enough")
    assert "It finished at step 6: it had enough." in gw.write_report(run).read_text()


def test_resumed_it_has_still_had_enough_unless_it_is_told_otherwise(tmp_path: Path, monkeypatch: Any) -> None:
    from ganwright.recipes import registry

    monkeypatch.setitem(registry.recipes(), "satisfied", INFO)
    run = gw.train(INFO, write_arrays(tmp_path / "d.npz"), out=tmp_path / "run", **SETTINGS)
    before = (tmp_path / "run" / "checkpoints" / "step-000006" / "networks.safetensors").read_bytes()
    assert launch.resume_run(run) == "finished"
    assert [step for step, _ in run.checkpoints()] == [6]
    assert (tmp_path / "run" / "checkpoints" / "step-000006" / "networks.safetensors").read_bytes() == before
    gw.resume(run, enough=9, write_html=False)
    assert Run(run.path).log_records()[-1]["step"] == 10


def test_two_processes_end_together(tmp_path: Path) -> None:
    run = gw.train(INFO, write_arrays(tmp_path / "d.npz"), out=tmp_path / "run", devices=2, **SETTINGS)
    assert [record["step"] for record in run.log_records()] == [2, 4, 6]
    assert run.events("finished")[0]["reason"] == "it had enough"
