"""Two processes, each with half of every batch, breed and select as one process with the whole batch does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from image_gan_fakes import data_spec, random_batches
from torch import Tensor
from two_processes import assert_as_one, of_rank, run_two, train_share

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
    return train_share(recipe, random_batches(recipe.data, rows=8), rank, world_size)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_two(_train, CASES, tmp_path_factory.mktemp("processes"))


@pytest.mark.parametrize("case", CASES)
def test_two_processes_evolve_as_one(case: str, folder: Path) -> None:
    assert_as_one(_train, case, folder, rtol=1e-7, atol=1e-9)
    first, second = (of_rank(folder, case, rank) for rank in range(2))
    for key, value in first.items():
        assert torch.equal(value, second[key]), key  # to the last bit, or the two would drift apart
