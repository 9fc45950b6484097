"""Restorers in two processes, each with half of every batch, train as one process with the whole batch does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from image_gan_fakes import data_spec, random_batches
from torch import Tensor
from two_processes import assert_as_one, run_two, train_share

from ganwright.recipes.registry import find_recipe

SMALL: dict[str, Any] = {"width_g": 4, "width_d": 4, "levels_d": 2, "perceptual_weight": 0.0}
CASES: dict[str, dict[str, Any]] = {
    "srgan": {"blocks": 1, "upscale": 2},
    "esrgan": {"blocks": 1, "growth": 2},
    "denoise-gan": {"degradation": "poisson", "peak_photons": (5.0, 50.0), "network": "dncnn", "depth": 4},
}
STAGES = ("pretraining", "pretraining", "adversarial", "adversarial")


def _train(name: str, rank: int, world_size: int) -> dict[str, Tensor]:
    torch.manual_seed(0)
    info = find_recipe(name)
    recipe = info.recipe(data_spec(16, 1, 0), replace(info.settings, **SMALL, **CASES[name])).double()
    # where a process's own threshold counts pairs, the mean over processes is the global one
    return train_share(recipe, random_batches(recipe.data, rows=8), rank, world_size, steps=4, stages=STAGES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_two(_train, CASES, tmp_path_factory.mktemp("processes"))


@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_as_one(name: str, folder: Path) -> None:
    assert_as_one(_train, name, folder, rtol=1e-6, atol=1e-8)
