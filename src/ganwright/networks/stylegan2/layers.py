"""Layers of StyleGAN2 with equalised learning rates (Karras et al. 2018, section 4.1): weights are stored with
variance 1 and scaled when used.

Names and shapes of parameters and buffers are those of NVIDIA's stylegan2-ada-pytorch, so that its state dicts load.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganwright.networks.stylegan2 import reference, resample
from ganwright.networks.stylegan2.resample import Taps, make_filter


@dataclass(frozen=True)
class Activation:
    """A non-linearity and the gain that keeps the variance of its input.

    Attributes:
        function: Elementwise; may overwrite its argument.
        gain: Factor on its output.
        homogeneous: f(g·x) = g·f(x) for g > 0: factors may then go into weights and bias, which are small.
    """

    function: Callable[[Tensor], Tensor]
    gain: float
    homogeneous: bool = False


ACTIVATIONS: dict[str, Activation] = {
    "linear": Activation(lambda x: x, 1.0, homogeneous=True),
    "relu": Activation(lambda x: F.relu(x, inplace=True), math.sqrt(2), homogeneous=True),
    "lrelu": Activation(lambda x: F.leaky_relu(x, 0.2, inplace=True), math.sqrt(2), homogeneous=True),
    "tanh": Activation(torch.tanh, 1.0),
    "sigmoid": Activation(torch.sigmoid, 1.0),
    "elu": Activation(F.elu, 1.0),
    "selu": Activation(F.selu, 1.0),
    "softplus": Activation(F.softplus, 1.0),
    "swish": Activation(F.silu, math.sqrt(2)),
}
"""By the name used in plans."""


@dataclass(frozen=True)
class Operations:
    """One way to compute: all forms give equal numbers.

    Attributes:
        resampled_conv: See `resample.resampled_conv`.
        upsample: See `resample.upsample`.
        downsample: See `resample.downsample`.
        fused: Whether styles scale activations and gains scale weights; otherwise each image has weights of its own, as
            the paper defines it, and every factor stands where the paper has it.
    """

    resampled_conv: Callable[..., Tensor]
    upsample: Callable[[Tensor, Tensor], Tensor]
    downsample: Callable[[Tensor, Tensor], Tensor]
    fused: bool


OPERATIONS: dict[str, Operations] = {
    "fast": Operations(resample.resampled_conv, resample.upsample, resample.downsample, fused=True),
    "reference": Operations(reference.resampled_conv, reference.upsample, reference.downsample, fused=False),
}
"""By the name used in plans."""


def full_precision(x: Tensor) -> contextlib.AbstractContextManager[object]:
    """No autocast inside the block, on the device of x."""
    return torch.autocast(x.device.type, enabled=False)


class FullyConnected(nn.Module):
    """A linear layer with an activation.

    Args:
        inputs: I.
        outputs: O.
        activation: A key of `ACTIVATIONS`.
        lr_multiplier: How much slower (or faster) its weights learn.
        bias_init: The bias begins with this.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        activation: str = "linear",
        lr_multiplier: float = 1.0,
        bias_init: float = 0.0,
    ) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((outputs,), bias_init))
        self.weight_gain, self.bias_gain = lr_multiplier / math.sqrt(inputs), lr_multiplier

    def forward(self, x: Tensor) -> Tensor:
        """(N, I) -> (N, O)."""
        y = F.linear(x, self.weight * self.weight_gain, self.bias * self.bias_gain)
        y = self.activation.function(y)
        return y * self.activation.gain if self.activation.gain != 1 else y


class Convolution(nn.Module):
    """A convolution with zero padding that may double or halve the resolution, with an activation.

    Args:
        inputs: I.
        outputs: O.
        kernel: Side of the kernel, odd.
        bias: Whether it has one.
        activation: A key of `ACTIVATIONS`.
        up: 1 or 2.
        down: 1 or 2.
        taps: Low-pass filter.
        clamp: Outputs are kept within ± this times the gain; None: not.
        operations: A key of `OPERATIONS`.
    """

    resample_filter: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        bias: bool = True,
        activation: str = "linear",
        up: int = 1,
        down: int = 1,
        taps: Taps = (1, 3, 3, 1),
        clamp: float | None = None,
        operations: str = "fast",
    ) -> None:
        super().__init__()
        self.activation, self.clamp = ACTIVATIONS[activation], clamp
        self.up, self.down, self.operations = up, down, OPERATIONS[operations]
        self.register_buffer("resample_filter", make_filter(taps))
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.weight_gain = 1 / math.sqrt(inputs * kernel**2)

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        """(N, I, H, W) -> (N, O, up·H/down, up·W/down), times `gain`."""
        act = self.activation
        outer = act.gain * gain
        inner = outer if self.operations.fused and act.homogeneous else 1.0  # weights are smaller than maps
        weight = self.weight * (self.weight_gain * inner)
        bias = None if self.bias is None else self.bias * inner
        y = self.operations.resampled_conv(x, weight, self.resample_filter, bias, up=self.up, down=self.down)
        return finish(y, act, outer / inner, None if self.clamp is None else self.clamp * gain)


def finish(x: Tensor, activation: Activation, gain: float, clamp: float | None) -> Tensor:
    """Activation of x (overwritten), then a factor, then a clamp to ± `clamp`."""
    x = activation.function(x)
    if gain != 1:
        x = x * gain
    return x if clamp is None else x.clamp(-clamp, clamp)
