"""What the loop lends a recipe for one step; implements `recipes.base.StepContext`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.distributed
from lightning_fabric import Fabric
from torch import Tensor
from torch.optim import Optimizer

from ganwright.data.spec import Batch
from ganwright.recipes.base import Stage
from ganwright.training.randomness import StepRandomness


class LoopContext:
    """Randomness, further batches and updates.

    Args:
        fabric: Device, precision and processes.
        optimizers: As Fabric has set them up, by name.
        randomness: Numbers for each step.
        next_batch: Draws this process's rows of the next batch.
        stages: The run's stages.
        clip_grad_norm: Largest gradient norm; 0: no clipping.
    """

    def __init__(
        self,
        fabric: Fabric,
        optimizers: dict[str, Optimizer],
        randomness: StepRandomness,
        next_batch: Callable[[], Batch],
        stages: Sequence[Stage],
        clip_grad_norm: float = 0.0,
    ) -> None:
        self.fabric, self.optimizers, self.stages = fabric, optimizers, stages
        self.clip_grad_norm = clip_grad_norm
        self.device = fabric.device
        self.normal = randomness.normal
        self.uniform = randomness.uniform
        self.integers = randomness.integers
        self.next_batch = next_batch
        self._begin_randomness = randomness.begin_step
        self.step = self.stage_step = self.stage_steps = 0
        self.stage = stages[0].name
        self.logging = False
        self.grad_norms: dict[str, Tensor] = {}

    def begin_step(self, step: int, *, logging: bool) -> None:
        """Turn to a step: its randomness and its stage."""
        self.step, self.logging = step, logging
        self.grad_norms = {}
        self._begin_randomness(step)
        start = 0
        for stage in self.stages:
            if step < start + stage.steps or stage is self.stages[-1]:
                self.stage, self.stage_step, self.stage_steps = stage.name, step - start, stage.steps
                return
            start += stage.steps

    def minimise(self, loss: Tensor, optimizer: str) -> None:
        """One update: clear this optimiser's gradients, back-propagate, average over processes, step."""
        self.optimizers[optimizer].zero_grad(set_to_none=True)
        self.backward(loss)
        self.apply(optimizer)

    def backward(self, loss: Tensor) -> None:
        """Back-propagate; outside autocast, as PyTorch advises."""
        with torch.autocast(self.device.type, enabled=False):
            self.fabric.backward(loss)

    def apply(self, optimizer: str) -> None:
        """Average this optimiser's gradients over processes, clip, step and clear them."""
        target = self.optimizers[optimizer]
        parameters = [p for group in target.param_groups for p in group["params"] if p.grad is not None]
        average_over_processes([p.grad for p in parameters if p.grad is not None], self.fabric.world_size)
        if (self.logging or self.clip_grad_norm) and parameters:
            norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
            scaler = getattr(self.fabric.strategy.precision, "scaler", None)
            if scaler is not None:  # fp16 gradients are scaled up, and stay so until the optimiser's step
                norm = norm / scaler.get_scale()
            self.grad_norms[optimizer] = norm.detach()
            if self.clip_grad_norm:
                torch.nn.utils.clip_grads_with_norm_(parameters, self.clip_grad_norm, norm)
        target.step()
        torch.clear_autocast_cache()  # it holds the old weights in half precision, to the end of the autocast block
        target.zero_grad(set_to_none=True)


def average_over_processes(tensors: Sequence[Tensor], world_size: int) -> None:
    """Replace each tensor by its mean over processes, in one exchange; nothing to do for a single process.

    Gradients are averaged here and not by wrapping networks in DDP: its hooks do not survive frozen networks,
    several backward passes a step and `autograd.grad(create_graph=True)`.
    """
    if world_size == 1 or not tensors:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    torch.distributed.all_reduce(flat)
    flat /= world_size
    start = 0
    for tensor in tensors:
        tensor.copy_(flat[start : start + tensor.numel()].view(tensor.shape))
        start += tensor.numel()
