"""R3GAN in two processes, each with half of every batch, trains as one process with the whole batch does."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from image_gan_fakes import data_spec, random_batches
from test_image_gan_processes import SharedContext
from torch import Tensor

from ganwright.recipes.r3gan import R3GAN
from ganwright.recipes.r3gan_settings import R3GANSettings

CASES: dict[str, dict[str, Any]] = {
    "schedule": {"conditional": True, "augment_p": 0.8, "burn_in": 0.3},
    "adaptive": {"augment_p": 0.5, "ada_target": 0.6, "ada_kimg": 0.1},
}


def _train(name: str, rank: int, world_size: int) -> dict[str, Tensor]:
    torch.manual_seed(0)
    settings = R3GANSettings(width=8, group_width=8, blocks=1, latent_dim=5, **CASES[name])
    recipe = R3GAN(data_spec(16, 3, 3), settings).double()
    ctx = SharedContext(recipe, random_batches(recipe.data, rows=8), steps=5)
    ctx.rank, ctx.world_size = rank, world_size
    recipe.train()
    for step in range(5):
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
            assert torch.allclose(found[key], value, rtol=1e-6, atol=1e-8), (rank, key)
