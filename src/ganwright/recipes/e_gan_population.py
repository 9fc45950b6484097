"""What E-GAN's population is made of: a generator's genome, children and their selection, evaluation without a trace.

The algorithm itself is in `e_gan.py`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ganwright.networks.blocks import Dropout


class Genome:
    """A copy of a generator's weights, buffers and optimiser state: all that a child inherits."""

    def __init__(self, generator: nn.Module, optimizer: Optimizer) -> None:
        self.tensors = [tensor.detach().clone() for tensor in _heritage(generator, optimizer)]

    @torch.no_grad()
    def write_to(self, generator: nn.Module, optimizer: Optimizer) -> None:
        """Make the generator and its optimiser what they were here."""
        torch._foreach_copy_(_heritage(generator, optimizer), self.tensors)

    @torch.no_grad()
    def read_from(self, generator: nn.Module, optimizer: Optimizer) -> None:
        """Become a copy of this generator instead."""
        torch._foreach_copy_(self.tensors, _heritage(generator, optimizer))


class Child:
    """A mutated generator and what became of it.

    Args:
        mutation: By which loss.
        parts: (F_q, F_d).
        diversity_weight: γ.
        log: What its update logged.
    """

    def __init__(self, mutation: str, parts: Tensor, diversity_weight: float, log: dict[str, Tensor]) -> None:
        self.mutation, self.parts, self.log = mutation, parts, log
        f_q, f_d = parts.tolist()
        fitness = f_q + diversity_weight * f_d
        self.fitness = fitness if math.isfinite(fitness) else -math.inf  # a child that diverged never wins
        self.genome: Genome | None = None


def keep_fittest(kept: list[Child], child: Child, generator: nn.Module, optimizer: Optimizer, population: int) -> None:
    """Selection: admit the child whose weights the generator holds if there is room or a less fit one."""
    if len(kept) < population:
        child.genome = Genome(generator, optimizer)
        kept.append(child)
        return
    worst = min(kept, key=lambda other: other.fitness)
    if child.fitness > worst.fitness:
        assert worst.genome is not None
        worst.genome.read_from(generator, optimizer)  # takes over the memory of the one that goes
        child.genome = worst.genome
        kept[kept.index(worst)] = child


def _heritage(generator: nn.Module, optimizer: Optimizer) -> list[Tensor]:
    """The live tensors of a generator and its optimiser, always in the same order."""
    tensors: list[Tensor] = [*generator.parameters(), *generator.buffers()]
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            state = optimizer.state[parameter]
            tensors += [state[name] for name in sorted(state) if isinstance(state[name], Tensor)]
    return tensors


def with_state(optimizer: Optimizer) -> Optimizer:
    """The optimiser with its state there already, as it is before the first step: all zero.

    torch creates it in the first step, which half precision may skip for one child and not for another.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()  # changes no weight: the gradient is zero
    optimizer.zero_grad(set_to_none=True)
    for state in optimizer.state.values():
        for value in state.values():
            value.zero_()
    return optimizer


@contextlib.contextmanager
def without_a_trace(*networks: nn.Module) -> Iterator[None]:
    """Passes inside the block leave buffers (batch statistics, spectral norm's vectors) as they were; no dropout.

    Batch norm goes on taking the batch's own statistics, as in the updates that D's verdicts were trained in.
    """
    buffers = [buffer for network in networks for buffer in network.buffers()]
    saved = [buffer.clone() for buffer in buffers]
    dropouts = [m for network in networks for m in network.modules() if isinstance(m, Dropout) and m.training]
    for layer in dropouts:
        layer.eval()
    try:
        yield
    finally:
        for layer in dropouts:
            layer.train()
        if buffers:
            with torch.no_grad():
                torch._foreach_copy_(buffers, saved)


def full_precision(device: torch.device) -> torch.autocast:
    """Outside autocast: siblings differ by little, and a gradient's norm must not underflow."""
    return torch.autocast(device.type, enabled=False)
