"""Layers of image networks: norms that agree over processes, conditional norms, dropout, spectral norm.

Whole networks live in `mlp.py`, `dcgan.py` and `resnet.py`; how class labels enter them in `conditional.py`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

# What processes share. --------------------------------------------------------------------------------------


def world_size() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _SumOverProcesses(torch.autograd.Function):
    """Σ over processes. Its gradient is the same sum: each process's loss depends on every addend."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return sum_over_processes(gradients[0])


def sum_over_processes(x: Tensor) -> Tensor:
    """Sum of `x` over all processes, differentiable any number of times; `x` itself with one process."""
    if world_size() == 1:
        return x
    return _SumOverProcesses.apply(x)  # type: ignore[no-any-return, no-untyped-call]


def mean_over_processes(x: Tensor) -> Tensor:
    """Mean of `x` over all processes."""
    return sum_over_processes(x) / world_size()


# Norms. All are called as norm(x, labels); unconditional ones ignore the labels. ----------------------------


class SyncedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm over the global batch (Ioffe & Szegedy 2015), for inputs (N, C) or (N, C, H, W).

    With one process and in `eval` mode it is torch's batch norm. With several, mean and variance are those of
    all processes' rows, so that any number of processes train as one does; every process must hold as many
    rows.
    It differentiates twice. Names of parameters and buffers are those of `nn.BatchNorm2d`.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim not in (2, 4):
            raise ValueError(f"expected (N, C) or (N, C, H, W), got {tuple(input.shape)}")

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Normalise x (N, C, …); `labels` are ignored."""
        if not self.training or world_size() == 1:
            return super().forward(x)
        self._check_input_dim(x)
        dims = [0, *range(2, x.ndim)]
        shape = [1, -1] + [1] * (x.ndim - 2)
        n = world_size() * x.numel() // x.shape[1]
        mean = sum_over_processes(x.sum(dims)) / n
        centred = x - mean.view(shape)
        variance = sum_over_processes(centred.square().sum(dims)) / n  # second pass: no cancellation
        if self.running_mean is not None and self.running_var is not None:
            self._update_running(mean.detach(), variance.detach() * n / (n - 1))
        y = centred * (variance + self.eps).rsqrt().view(shape)
        return y * self.weight.view(shape) + self.bias.view(shape) if self.affine else y

    @torch.no_grad()
    def _update_running(self, mean: Tensor, unbiased_variance: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_(unbiased_variance.to(self.running_var.dtype), self.momentum)


class SyncedBatchNorm2d(SyncedBatchNorm):
    """`SyncedBatchNorm` for images (N, C, H, W)."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim != 4:
            raise ValueError(f"expected (N, C, H, W), got {tuple(input.shape)}")


class InstanceNorm(nn.InstanceNorm2d):
    """Instance norm (Ulyanov et al. 2016): each channel of each image by itself, so nothing to share."""

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Normalise x (N, C, H, W); `labels` are ignored."""
        return super().forward(x)


class NoNorm(nn.Identity):
    """No norm, called like one."""

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return x."""
        return x


class ConditionalNorm(nn.Module):
    """A norm whose gain and bias belong to the class (Dumoulin et al. 2017; Miyato & Koyama 2018).

    Args:
        norm: A norm without gain and bias of its own.
        channels: C.
        num_classes: K.
    """

    def __init__(self, norm: nn.Module, channels: int, num_classes: int) -> None:
        super().__init__()
        self.norm = norm
        self.gain = nn.Embedding(num_classes, channels)
        self.bias = nn.Embedding(num_classes, channels)
        nn.init.ones_(self.gain.weight)
        nn.init.zeros_(self.bias.weight)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Normalise x (N, C, …) for classes `labels` (N,)."""
        if labels is None:
            raise ValueError("a conditional norm needs labels")
        shape = [x.shape[0], -1] + [1] * (x.ndim - 2)
        y: Tensor = self.norm(x)
        y = y * self.gain(labels).view(shape) + self.bias(labels).view(shape)
        return y


NORMS: dict[str, Callable[[int, bool], nn.Module]] = {
    "none": lambda channels, affine: NoNorm(),
    "batch": lambda channels, affine: SyncedBatchNorm(channels, affine=affine),
    "instance": lambda channels, affine: InstanceNorm(channels, affine=affine),
}
"""Norm layers by the name used in settings: (channels, affine) -> module."""


def make_norm(name: str, channels: int, num_classes: int = 0) -> nn.Module:
    """A norm by name; with `num_classes` > 0 its gain and bias belong to the class."""
    if num_classes and name != "none":
        return ConditionalNorm(NORMS[name](channels, False), channels, num_classes)
    return NORMS[name](channels, True)


# Dropout with explicit randomness. --------------------------------------------------------------------------


class Uniform(Protocol):
    """Draws uniform numbers in [0, 1) of shape (rows, *shape)."""

    def __call__(self, rows: int, *shape: int) -> Tensor:
        """Draw."""


class Dropout(nn.Module):
    """Dropout (Srivastava et al. 2014) whose masks come from the generator lent by `lent_randomness`.

    So a resumed or a distributed run drops the same units. Outside such a block it uses torch's global
    generator.

    Args:
        p: Probability of dropping a unit, in [0, 1).
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.uniform: Uniform | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Zero a share p of x and scale the rest by 1 / (1 - p); x itself in `eval` mode."""
        if not self.training or self.p == 0:
            return x
        if self.uniform is None:
            return F.dropout(x, self.p)
        return x * ((self.uniform(*x.shape) >= self.p) / (1 - self.p))

    def extra_repr(self) -> str:
        """For printing."""
        return f"p={self.p}"


@contextlib.contextmanager
def lent_randomness(network: nn.Module, uniform: Uniform) -> Iterator[None]:
    """All `Dropout` layers of the network draw from `uniform` inside the block."""
    layers = [module for module in network.modules() if isinstance(module, Dropout)]
    for layer in layers:
        layer.uniform = uniform
    try:
        yield
    finally:
        for layer in layers:
            layer.uniform = None


# Spectral norm. ---------------------------------------------------------------------------------------------


def spectral_normalise(network: nn.Module, *, embeddings: bool = True) -> None:
    """Attach spectral norm to every convolution and linear layer (Miyato et al. 2018, algorithm 1), in place.

    One power iteration at each forward pass in `train` mode, none in `eval` mode; the vectors are buffers,
    follow from weights and seed alone, and so are equal on all processes.

    Args:
        network: An initialised network.
        embeddings: Include class embeddings (Miyato & Koyama 2018 do in D).
    """
    kinds: tuple[type[nn.Module], ...] = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    for module in list(network.modules()):
        if isinstance(module, kinds + ((nn.Embedding,) if embeddings else ())):
            spectral_norm(module)
