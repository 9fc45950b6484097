"""R3GAN in two processes, each with half of every batch, trains as one process with the whole batch does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from image_gan_fakes import data_spec, random_batches
from torch import Tensor
from two_processes import assert_as_one, run_two, train_share

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
    return train_share(recipe, random_batches(recipe.data, rows=8), rank, world_size, steps=5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_two(_train, CASES, tmp_path_factory.mktemp("processes"))


@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_as_one(name: str, folder: Path) -> None:
    assert_as_one(_train, name, folder, rtol=1e-6, atol=1e-8)
