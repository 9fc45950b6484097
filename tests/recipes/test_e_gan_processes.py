"""Two processes, each with half of every batch, breed and select as one process with the whole batch does."""

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

from ganwright.recipes.e_gan import E_GAN, EGAN

SMALL: dict[str, Any] = {"width_g": 4, "width_d": 4, "latent_dim": 5, "growth": 2, "fitness_batch": 12, "lr_g": 0.01}
CASES: dict[str, dict[str, Any]] = {
    "preset": {},
    "population": {"population": 2, "norm_g": "batch", "conditioning": "projection"},
    "quality-alone": {"diversity_weight": 0.0, "norm_d": "none", "spectral_d": True, "dropout_d": 0.3},
}


def _train(case: str, rank: int, world_size: int) -> dict[str, Tensor]:
    torch.manual_seed(0)
    recipe = EGAN(data_spec(), replace(E_GAN, **{**SMALL, **CASES[case]})).double()
    ctx = SharedContext(recipe, random_batches(recipe.data, rows=8), steps=3)
    ctx.rank, ctx.world_size = rank, world_size
    recipe.train()
    for step in range(3):
        ctx.step = ctx.stage_step = step
        log = recipe.step(ctx.next_batch(), ctx)
    for value in log.values():
        if world_size > 1:
            dist.all_reduce(value)
    return {**recipe.state_dict(), **{f"log_{key}": value / world_size for key, value in log.items()}}


def _worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    for case in CASES:
        torch.save(_train(case, rank, 2), f"{folder}/{case}-{rank}.pt")
    gc.collect()  # see test_image_gan_processes.py
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("processes")
    mp.spawn(_worker, (str(path),), nprocs=2)
    return path


@pytest.mark.parametrize("case", CASES)
def test_two_processes_evolve_as_one(case: str, folder: Path) -> None:
    expected = _train(case, 0, 1)
    first, second = (torch.load(folder / f"{case}-{rank}.pt", weights_only=True) for rank in range(2))
    assert first.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(first[key], second[key]), key  # to the last bit, or the two would drift apart
        assert torch.allclose(first[key].to(value.dtype), value, rtol=1e-7, atol=1e-9), key
