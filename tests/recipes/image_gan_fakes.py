"""A minimal stand-in for the training loop: one process, no schedules, no files."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ganwright.data.spec import Batch, DataKind, DataSpec
from ganwright.recipes.base import Recipe


def data_spec(resolution: int = 16, channels: int = 1, classes: int = 3) -> DataSpec:
    kind = DataKind.LABELLED_IMAGES if classes else DataKind.IMAGES
    names = tuple(f"class {i}" for i in range(classes))
    return DataSpec(kind, "random", 100, "0", resolution, channels, names)


def random_batches(spec: DataSpec, rows: int = 6, seed: int = 0) -> Callable[[], Batch]:
    generator = torch.Generator().manual_seed(seed)

    def draw() -> Batch:
        shape = (rows, spec.channels, spec.resolution, spec.resolution)
        images = torch.rand(shape, generator=generator) * 2 - 1
        batch = {"images": images.contiguous(memory_format=torch.channels_last)}
        if spec.num_classes:
            batch["labels"] = torch.randint(spec.num_classes, (rows,), generator=generator)
        return batch

    return draw


class FakeContext:
    """A `StepContext` that also records what the recipe did."""

    def __init__(self, recipe: Recipe, draw: Callable[[], Batch], steps: int = 10, seed: int = 0) -> None:
        self.draw, self.stage, self.stage_steps = draw, "train", steps
        self.step = self.stage_step = 0
        self.device, self.logging = torch.device("cpu"), True
        self.generator = torch.Generator().manual_seed(seed)
        self.optimizers = recipe.optimizers()
        self.updates: list[str] = []
        self.batches_drawn = 0

    def normal(self, rows: int, *shape: int) -> Tensor:
        return torch.randn(rows, *shape, generator=self.generator)

    def uniform(self, rows: int, *shape: int) -> Tensor:
        return torch.rand(rows, *shape, generator=self.generator)

    def integers(self, high: int, rows: int, *shape: int) -> Tensor:
        return torch.randint(high, (rows, *shape), generator=self.generator)

    def next_batch(self) -> Batch:
        self.batches_drawn += 1
        return self.draw()

    def minimise(self, loss: Tensor, optimizer: str) -> None:
        assert loss.ndim == 0
        self.updates.append(optimizer)
        self.optimizers[optimizer].zero_grad()
        self.backward(loss)
        self.optimizers[optimizer].step()

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def apply(self, optimizer: str) -> None:
        self.optimizers[optimizer].step()
        self.optimizers[optimizer].zero_grad()


def train(recipe: Recipe, steps: int, *, rows: int = 6, seed: int = 0) -> tuple[FakeContext, list[dict[str, Tensor]]]:
    """Train on random images; returns the context and what was logged at each step."""
    draw = random_batches(recipe.data, rows, seed)
    ctx = FakeContext(recipe, draw, steps, seed)
    recipe.train()
    logs = []
    for step in range(steps):
        ctx.step = ctx.stage_step = step
        logs.append(recipe.step(draw(), ctx))
    return ctx, logs
