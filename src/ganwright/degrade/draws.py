"""Where the randomness of a degradation comes from: a training step's context, or a seed."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Draws(Protocol):
    """Random numbers, rows first; a training step's context is one."""

    def normal(self, rows: int, *shape: int) -> Tensor:
        """Standard normal numbers (rows, *shape)."""

    def uniform(self, rows: int, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1), (rows, *shape)."""

    def integers(self, high: int, rows: int, *shape: int) -> Tensor:
        """int64 numbers in 0..high-1, (rows, *shape)."""


class SeededDraws:
    """Numbers that follow from a seed, the same on every device: drawn on the CPU, row by row.

    Row i depends on the seed, on how often was drawn before, and on i, and not on how many rows there are.

    Args:
        seed: Any whole number from 0.
        device: Where the numbers are wanted.
        first_row: Place of the first row among all of them, for work in chunks.
    """

    def __init__(self, seed: int, device: torch.device | str = "cpu", *, first_row: int = 0) -> None:
        self.seed, self.device, self.first_row = seed, torch.device(device), first_row
        self._calls = 0

    def normal(self, rows: int, *shape: int) -> Tensor:
        """Standard normal numbers (rows, *shape)."""
        return self._stack([torch.randn(shape, generator=g) for g in self._generators(rows)], shape)

    def uniform(self, rows: int, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1), (rows, *shape)."""
        return self._stack([torch.rand(shape, generator=g) for g in self._generators(rows)], shape)

    def integers(self, high: int, rows: int, *shape: int) -> Tensor:
        """int64 numbers in 0..high-1, (rows, *shape)."""
        return self._stack([torch.randint(high, shape, generator=g) for g in self._generators(rows)], shape)

    def _generators(self, rows: int) -> list[torch.Generator]:
        self._calls += 1
        base = (self.seed * 1_000_003 + self._calls) * 1_000_003 + self.first_row
        return [torch.Generator().manual_seed((base + i) % (1 << 63)) for i in range(rows)]

    def _stack(self, drawn: list[Tensor], shape: tuple[int, ...]) -> Tensor:
        together = torch.stack(drawn) if drawn else torch.zeros(0, *shape)
        return together.to(self.device)
