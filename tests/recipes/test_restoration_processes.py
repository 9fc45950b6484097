"""Restorers in two processes, each with half of every batch, train as one process with the whole batch does."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from image_gan_fakes import data_spec, random_batches
from test_image_gan_processes import SharedContext
from torch import Tensor

from ganwright.recipes.registry import find_recipe

SMALL: dict[str, Any] = {"width_g": 4, "width_d": 4, "levels_d": 2, "perceptual_weight": 0.0}
CASES: dict[str, dict[str, Any]] = {
    "srgan": {"blocks": 1, "upscale": 2},
    "esrgan": {"blocks": 1, "growth": 2},
    "denoise-gan": {"degradation": "poisson", "peak_photons": (5.0, 50.0), "network": "dncnn", "depth": 4},
}


class RestoringContext(SharedContext):
    """Whole numbers too are drawn for the global batch."""

    def integers(self, high: int, rows: int, *shape: int) -> Tensor:
        drawn = super().integers(high, rows * self.world_size, *shape)
        return drawn[self.rank * rows : (self.rank + 1) * rows]


def _train(name: str, rank: int, world_size: int) -> dict[str, Tensor]:
    torch.manual_seed(0)
    info = find_recipe(name)
    recipe = info.recipe(data_spec(16, 1, 0), replace(info.settings, **SMALL, **CASES[name])).double()
    ctx = RestoringContext(recipe, random_batches(recipe.data, rows=8), steps=4)
    ctx.rank, ctx.world_size = rank, world_size
    recipe.train()
    for step, ctx.stage in enumerate(("pretraining", "pretraining", "adversarial", "adversarial")):
        ctx.step = ctx.stage_step = step
        log = recipe.step(ctx.next_batch(), ctx)
    for value in log.values():
        if world_size > 1:
            dist.all_reduce(value)
    # where a process's own threshold counts pairs, the mean over processes is the global one
    return {**recipe.state_dict(), **{key: value / world_size for key, value in log.items()}}


def _worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    for name in CASES:
        torch.save(_train(name, rank, 2), f"{folder}/{name}-{rank}.pt")
    # Without this, gloo's threads now and then outlive the interpreter and abort the finished process.
    gc.collect()
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("processes")
    mp.spawn(_worker, (str(path),), nprocs=2)
    return path


@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_as_one(name: str, folder: Path) -> None:
    expected = _train(name, 0, 1)
    for rank in range(2):
        found = torch.load(folder / f"{name}-{rank}.pt", weights_only=True)
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert torch.allclose(found[key], value.to(found[key].dtype), rtol=1e-6, atol=1e-8), (rank, key)
