"""Translators in two processes, each with half of every batch, train as one process with the whole batch does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from two_processes import assert_as_one, run_two, train_share

from ganwright.data.spec import Batch, DataKind, DataSpec
from ganwright.recipes.base import Recipe
from ganwright.recipes.cyclegan import CycleGAN, CycleGANSettings
from ganwright.recipes.pix2pix import Pix2Pix, Pix2PixSettings

SMALL: dict[str, Any] = {"width_g": 2, "width_d": 2}
CASES: dict[str, Any] = {
    "pix2pix-instance": (Pix2PixSettings(**SMALL, norm="instance"), ("inputs", "targets")),
    "pix2pix-batch": (Pix2PixSettings(**SMALL), ("inputs", "targets")),
    "cyclegan": (CycleGANSettings(**SMALL, resnet_blocks=1, pool_size=3), ("images_a", "images_b")),
}


def _recipe(name: str) -> Recipe:
    torch.manual_seed(0)
    settings, _ = CASES[name]
    if isinstance(settings, CycleGANSettings):
        return CycleGAN(DataSpec(DataKind.DOMAINS, "x", 9, "0", 32, 2), settings).double().train()
    return Pix2Pix(DataSpec(DataKind.PAIRS, "x", 9, "0", 32, 2), settings).double().train()


def _train(name: str, rank: int, world_size: int) -> dict[str, Tensor]:
    recipe = _recipe(name)
    generator = torch.Generator().manual_seed(1)

    def draw() -> Batch:
        whole = [torch.rand(4, 2, 32, 32, generator=generator, dtype=torch.float64) * 2 - 1 for _ in range(2)]
        return dict(zip(CASES[name][1], whole, strict=True))

    return train_share(recipe, draw, rank, world_size, steps=4)


def _noisy(name: str, key: str) -> bool:
    """Adam turns rounding errors of vanishing gradients (biases before a norm) into steps of its full size."""
    return key.endswith("bias") and ("instance" in name or name == "cyclegan")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_two(_train, CASES, tmp_path_factory.mktemp("processes"))


@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_as_one(name: str, folder: Path) -> None:
    assert_as_one(_train, name, folder, rtol=1e-5, atol=1e-6, leave=lambda key: _noisy(name, key))
