"""Random numbers for augmenters in tests."""

from __future__ import annotations

import torch
from torch import Tensor

from ganwright.augment.draws import COINS, NORMALS, UNIFORMS, Draws


class Seeded:
    """Fresh numbers at each call."""

    def __init__(self, seed: int = 0) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def uniform(self, rows: int, *shape: int) -> Tensor:
        return torch.rand(rows, *shape, generator=self.generator)

    def normal(self, rows: int, *shape: int) -> Tensor:
        return torch.randn(rows, *shape, generator=self.generator)


class Repeated:
    """The same numbers at each call of a kind and shape, so that an augmenter is a function of its images."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def uniform(self, rows: int, *shape: int) -> Tensor:
        return Seeded(self.seed).uniform(rows, *shape)

    def normal(self, rows: int, *shape: int) -> Tensor:
        return Seeded(self.seed + 1).normal(rows, *shape)


class Chosen:
    """One transform (or several) happens to every image, with the numbers given; no other does at p = 0.5."""

    def __init__(self, *happening: str, **numbers: float) -> None:
        self.happening, self.numbers = happening, numbers

    def uniform(self, rows: int, *shape: int) -> Tensor:
        coins = [0.0 if name in self.happening else 0.999 for name in COINS]
        return torch.tensor([*coins, *(self.numbers.get(name, 0.0) for name in UNIFORMS)]).expand(rows, -1)

    def normal(self, rows: int, *shape: int) -> Tensor:
        if len(shape) == 3:
            return torch.ones(rows, *shape)
        return torch.tensor([self.numbers.get(name, 0.0) for name in NORMALS]).expand(rows, -1)


def draws(rows: int, p: float, seed: int = 0) -> Draws:
    return Draws.of(Seeded(seed), rows, torch.tensor(p))
