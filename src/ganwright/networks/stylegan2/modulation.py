"""Layers of the generator whose weights follow the style (Karras et al. 2020, section 2.2), and per-pixel noise.

Names and shapes of parameters and buffers are those of NVIDIA's stylegan2-ada-pytorch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ganwright.networks.stylegan2.layers import ACTIVATIONS, OPERATIONS, FullyConnected, finish, full_precision
from ganwright.networks.stylegan2.reference import modulated_conv
from ganwright.networks.stylegan2.resample import Taps, make_filter

EPSILON = 1e-8
"""ε of demodulation (Karras et al. 2020, eq. 3)."""


def demodulation(weight: Tensor, styles: Tensor) -> Tensor:
    """1 / sqrt(Σᵢₖ (sᵢ·wᵢⱼₖ)² + ε), (N, O), without making each image's weights (Karras et al. 2020, eq. 3)."""
    return (styles.square() @ weight.square().sum((2, 3)).t() + EPSILON).rsqrt()


def in_half_precision(x: Tensor) -> bool:
    """Whether a convolution of x is computed in float16, whose largest number is 65504."""
    if torch.is_autocast_enabled(x.device.type):
        return torch.get_autocast_dtype(x.device.type) == torch.float16
    return x.dtype == torch.float16


def rescale_for_half(weight: Tensor, styles: Tensor) -> tuple[Tensor, Tensor]:
    """Factors that demodulation cancels again, chosen so that no sum of a convolution leaves float16's range."""
    largest = weight.abs().amax((1, 2, 3), keepdim=True)
    return weight / (largest * math.sqrt(weight[0].numel())), styles / styles.abs().amax(1, keepdim=True)


class StyledConvolution(nn.Module):
    """Modulated 3x3 convolution, noise, bias, activation.

    Args:
        inputs: I.
        outputs: O.
        w_dim: Length of a style.
        resolution: Of the output.
        kernel: Side of the kernel, odd.
        up: 1 or 2.
        use_noise: Whether noise is added.
        activation: A key of `ACTIVATIONS`.
        taps: Low-pass filter.
        clamp: Outputs are kept within ± this times the gain; None: not.
        operations: A key of `OPERATIONS`.
    """

    resample_filter: Tensor
    noise_const: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        w_dim: int,
        resolution: int,
        *,
        kernel: int = 3,
        up: int = 1,
        use_noise: bool = True,
        activation: str = "lrelu",
        taps: Taps = (1, 3, 3, 1),
        clamp: float | None = None,
        operations: str = "fast",
    ) -> None:
        super().__init__()
        self.resolution, self.up, self.use_noise = resolution, up, use_noise
        self.activation, self.clamp, self.operations = ACTIVATIONS[activation], clamp, OPERATIONS[operations]
        self.register_buffer("resample_filter", make_filter(taps))
        self.affine = FullyConnected(w_dim, inputs, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        if use_noise:
            self.register_buffer("noise_const", torch.randn(resolution, resolution))
            self.noise_strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None, gain: float = 1.0) -> Tensor:
        """Maps at the layer's resolution.

        Args:
            x: (N, I, H, W).
            w: Styles (N, w_dim).
            noise: Standard normal numbers that broadcast to (N, 1, H', W'), or None.
            gain: Factor on the output.
        """
        with full_precision(w):
            styles = self.affine(w.to(self.weight.dtype))
        if noise is not None:
            noise = noise * self.noise_strength
        convolve = self._scale_activations if self.operations.fused else self._modulate_weights
        clamp = None if self.clamp is None else self.clamp * gain
        return convolve(x, styles, noise, self.activation.gain * gain, clamp)

    def _modulate_weights(
        self, x: Tensor, styles: Tensor, noise: Tensor | None, gain: float, clamp: float | None
    ) -> Tensor:
        """As the paper defines it."""
        y = modulated_conv(x, self.weight, styles, self.resample_filter, up=self.up)
        if noise is not None:
            y = y + noise
        return finish(y + self.bias.view(-1, 1, 1), self.activation, gain, clamp)

    def _scale_activations(
        self, x: Tensor, styles: Tensor, noise: Tensor | None, gain: float, clamp: float | None
    ) -> Tensor:
        """The same with one convolution for all images: sᵢ scales its inputs and demodulation its outputs."""
        inner = gain if self.activation.homogeneous else 1.0  # small tensors take the factor instead of maps
        weight: Tensor = self.weight
        half = in_half_precision(x)
        with full_precision(x):
            if half:
                weight, styles = rescale_for_half(weight, styles)
            scale = demodulation(weight, styles) * inner
        x = x * styles.to(x.dtype)[:, :, None, None]
        y: Tensor = self.operations.resampled_conv(x, weight, self.resample_filter, up=self.up)
        bias = (self.bias * inner).to(y.dtype).view(1, -1, 1, 1)
        y = torch.addcmul(bias, y, scale.to(y.dtype)[:, :, None, None])
        if noise is not None:
            y.add_((noise * inner).to(y.dtype))
        return finish(y, self.activation, gain / inner, clamp)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to the image's channels, not demodulated.

    Args:
        inputs: I.
        channels: Of images.
        w_dim: Length of a style.
        clamp: Outputs are kept within ± this; None: not.
        operations: A key of `OPERATIONS`.
    """

    def __init__(
        self, inputs: int, channels: int, w_dim: int, *, clamp: float | None = None, operations: str = "fast"
    ) -> None:
        super().__init__()
        self.clamp, self.operations = clamp, OPERATIONS[operations]
        self.affine = FullyConnected(w_dim, inputs, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(channels, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.weight_gain = 1 / math.sqrt(inputs)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Maps (N, I, H, W) and styles (N, w_dim) -> (N, channels, H, W)."""
        with full_precision(w):
            styles = self.affine(w.to(self.weight.dtype)) * self.weight_gain
        if self.operations.fused:
            n, _, h, width = x.shape
            # Few outputs: each image's weights are small, and its maps need no copy that is scaled.
            weight = (self.weight.flatten(1) * styles[:, None, :]).to(x.dtype)  # (N, channels, I)
            pixels = x.permute(0, 2, 3, 1).reshape(n, h * width, -1)
            y = (pixels @ weight.transpose(1, 2)).view(n, h, width, -1).permute(0, 3, 1, 2)
        else:
            y = modulated_conv(x, self.weight, styles, make_filter(None), demodulate=False)
        y = y + self.bias.to(y.dtype).view(-1, 1, 1)
        return finish(y, ACTIVATIONS["linear"], 1.0, self.clamp)
