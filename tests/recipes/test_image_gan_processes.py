"""Two processes, each with half of every batch, train as one process with the whole batch does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from image_gan_fakes import data_spec, random_batches
from torch import Tensor
from two_processes import assert_as_one, run_two, train_share

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


def _train(name: str, rank: int, world_size: int) -> dict[str, Tensor]:
    torch.manual_seed(0)
    recipe = ImageGAN(data_spec(), replace(find_recipe(name).settings, **{**SMALL, **CASES[name]})).double()
    return train_share(recipe, random_batches(recipe.data, rows=8), rank, world_size)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_two(_train, CASES, tmp_path_factory.mktemp("processes"))


@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_as_one(name: str, folder: Path) -> None:
    assert_as_one(_train, name, folder, rtol=1e-7, atol=1e-9)
