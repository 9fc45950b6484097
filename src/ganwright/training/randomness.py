"""Randomness as a function of the run's seed and a position, so that nothing has to be remembered to resume."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def derive_seed(seed: int, *position: object) -> int:
    """A 63-bit seed that depends on the run's seed and on where it is used (`"step", 17`, say)."""
    text = "/".join(str(part) for part in (seed, *position))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


class StepRandomness:
    """Random numbers of one step: drawn for the global batch, each process takes its rows.

    Args:
        seed: The run's seed.
        device: Where the numbers are drawn.
        rank: This process.
        world_size: Number of processes.
    """

    def __init__(self, seed: int, device: torch.device, rank: int = 0, world_size: int = 1) -> None:
        self.seed, self.device, self.rank, self.world_size = seed, device, rank, world_size
        self.generator = torch.Generator(device)

    def begin_step(self, step: int) -> None:
        """Seed the generator, and torch's own (dropout layers draw from that), for this step."""
        self.generator.manual_seed(derive_seed(self.seed, "step", step))
        torch.manual_seed(derive_seed(self.seed, "global", step, self.rank))

    def normal(self, rows: int, *shape: int) -> Tensor:
        """Standard normal numbers (rows, *shape)."""
        size = (rows * self.world_size, *shape)
        return self._own(torch.randn(size, generator=self.generator, device=self.device), rows)

    def uniform(self, rows: int, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1), (rows, *shape)."""
        size = (rows * self.world_size, *shape)
        return self._own(torch.rand(size, generator=self.generator, device=self.device), rows)

    def integers(self, high: int, rows: int, *shape: int) -> Tensor:
        """int64 numbers in 0..high-1, (rows, *shape)."""
        size = (rows * self.world_size, *shape)
        return self._own(torch.randint(high, size, generator=self.generator, device=self.device), rows)

    def _own(self, drawn: Tensor, rows: int) -> Tensor:
        return drawn if self.world_size == 1 else drawn[self.rank * rows : (self.rank + 1) * rows]
