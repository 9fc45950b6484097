"""Trainings that many tests look at, each run once."""

from __future__ import annotations

import pytest
import torch
from tiny_gan import Evidence, Images, Judge, TinyGAN, digits, train


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data() -> Images:
    return digits()


@pytest.fixture(scope="session")
def healthy_then_collapsed(data: Images) -> tuple[list[Evidence], list[Evidence]]:
    """A sane training of 700 steps, and what follows when the generator runs away from its discriminator."""
    gan, judge = TinyGAN(data, lr_g=1e-3, lr_d=5e-4), Judge(data)
    healthy = train(gan, 700, evaluate=judge)
    gan.set_lr(2e-2, 1e-6)
    return healthy, train(gan, 300, evaluate=judge, sample_every=50)
