"""Two processes, each with half of every batch, beside one with the whole batch."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from image_gan_fakes import FakeContext
from torch import Tensor

from ganwright.data.spec import Batch, slice_batch
from ganwright.recipes.base import Recipe

Train = Callable[[str, int, int], dict[str, Tensor]]
"""(case, rank, world size) -> all that training ends with; a function of a module, since processes import it."""


class SharedContext(FakeContext):
    """Draws for the global batch, hands out this process's rows, averages gradients over processes."""

    rank, world_size = 0, 1

    def _rows(self, x: Tensor, rows: int) -> Tensor:
        return x[self.rank * rows : (self.rank + 1) * rows]

    def normal(self, rows: int, *shape: int) -> Tensor:
        return self._rows(super().normal(rows * self.world_size, *shape), rows).double()

    def uniform(self, rows: int, *shape: int) -> Tensor:
        return self._rows(super().uniform(rows * self.world_size, *shape), rows).double()

    def integers(self, high: int, rows: int, *shape: int) -> Tensor:
        return self._rows(super().integers(high, rows * self.world_size, *shape), rows)

    def next_batch(self) -> Batch:
        batch = {name: x.double() if x.is_floating_point() else x for name, x in super().next_batch().items()}
        return slice_batch(batch, self.rank, self.world_size)

    def backward(self, loss: Tensor) -> None:
        super().backward(loss)
        if self.world_size > 1:
            for optimizer in self.optimizers.values():
                for parameter in (p for group in optimizer.param_groups for p in group["params"]):
                    if parameter.grad is not None:
                        dist.all_reduce(parameter.grad)
                        parameter.grad /= self.world_size


def train_share(
    recipe: Recipe,
    draw: Callable[[], Batch],
    rank: int,
    world_size: int,
    *,
    steps: int = 3,
    stages: Sequence[str] = (),
) -> dict[str, Tensor]:
    """A process's share of some steps: the recipe's state, and the last log averaged over processes (`log …`)."""
    ctx = SharedContext(recipe, draw, steps=steps)
    ctx.rank, ctx.world_size = rank, world_size
    recipe.train()
    for step in range(steps):
        ctx.step = ctx.stage_step = step
        ctx.stage = stages[step] if stages else ctx.stage
        log = recipe.step(ctx.next_batch(), ctx)
    for value in log.values():
        if world_size > 1:
            dist.all_reduce(value)
    return {**recipe.state_dict(), **{f"log {key}": value / world_size for key, value in log.items()}}


def _worker(rank: int, train: Train, cases: Sequence[str], folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    for case in cases:
        torch.save(train(case, rank, 2), f"{folder}/{case}-{rank}.pt")
    # Without this, gloo's threads now and then outlive the interpreter and abort the finished process.
    gc.collect()
    dist.barrier()
    dist.destroy_process_group()


def run_two(train: Train, cases: Iterable[str], folder: Path) -> Path:
    """Train all cases in two processes; returns the folder with what they ended with."""
    mp.spawn(_worker, (train, list(cases), str(folder)), nprocs=2)
    return folder


def of_rank(folder: Path, case: str, rank: int) -> dict[str, Tensor]:
    """What one process ended with."""
    found: dict[str, Tensor] = torch.load(folder / f"{case}-{rank}.pt", weights_only=True)
    return found


def assert_as_one(
    train: Train,
    case: str,
    folder: Path,
    *,
    rtol: float,
    atol: float,
    leave: Callable[[str], bool] = lambda key: False,
) -> None:
    """Both processes ended where one process with the whole batch does, but for keys that are to be left out."""
    expected = train(case, 0, 1)
    for rank in range(2):
        found = of_rank(folder, case, rank)
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert found[key].dtype == value.dtype, key
            if not leave(key):
                assert torch.allclose(found[key], value, rtol=rtol, atol=atol), (rank, key)
