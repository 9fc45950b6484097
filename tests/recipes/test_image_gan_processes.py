"""Two processes, each with half of every batch, train as one process with the whole batch does."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from image_gan_fakes import FakeContext, data_spec, random_batches
from torch import Tensor

from ganwright.data.spec import Batch, slice_batch
from ganwright.recipes.image_gan import ImageGAN
from ganwright.recipes.registry import find_recipe

SMALL: dict[str, Any] = {"width_g": 4, "width_d": 4, "latent_dim": 5, "growth": 2}
CASES: dict[str, dict[str, Any]] = {
    "dcgan": {},
    "wgan-gp": {},
    "sngan": {"spectral_g": True, "dropout_d": 0.3},
    "lsgan": {"augment": "ada", "augment_policy": "bgcfnc", "augment_p": 0.5, "norm_d": "none", "penalty": "r1"},
    "cgan": {"conditioning": "auxiliary", "conditioning_g": "norm", "norm_d": "batch", "penalty": "none"},
}


class SharedContext(FakeContext):
    """Draws for the global batch, hands out this process's rows, averages gradients over processes."""

    rank, world_size = 0, 1

    def _rows(self, x: Tensor, rows: int) -> Tensor:
        return x[self.rank * rows : (self.rank + 1) * rows].double()

    def normal(self, rows: int, *shape: int) -> Tensor:
        return self._rows(super().normal(rows * self.world_size, *shape), rows)

    def uniform(self, rows: int, *shape: int) -> Tensor:
        return self._rows(super().uniform(rows * self.world_size, *shape), rows)

    def next_batch(self) -> Batch:
        batch = super().next_batch()
        batch["images"] = batch["images"].double()
        return slice_batch(batch, self.rank, self.world_size)

    def backward(self, loss: Tensor) -> None:
        super().backward(loss)
        if self.world_size > 1:
            for optimizer in self.optimizers.values():
                for parameter in (p for group in optimizer.param_groups for p in group["params"]):
                    if parameter.grad is not None:
                        dist.all_reduce(parameter.grad)
                        parameter.grad /= self.world_size


def _train(name: str, rank: int, world_size: int) -> dict[str, Tensor]:
    torch.manual_seed(0)
    recipe = ImageGAN(data_spec(), replace(find_recipe(name).settings, **{**SMALL, **CASES[name]})).double()
    ctx = SharedContext(recipe, random_batches(recipe.data, rows=8), steps=3)
    ctx.rank, ctx.world_size = rank, world_size
    recipe.train()
    for step in range(3):
        ctx.step = ctx.stage_step = step
        log = recipe.step(ctx.next_batch(), ctx)
    for value in log.values():
        if world_size > 1:
            dist.all_reduce(value)
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
            assert torch.allclose(found[key], value, rtol=1e-7, atol=1e-9), (rank, key)
