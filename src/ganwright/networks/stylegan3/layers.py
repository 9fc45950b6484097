"""Layers of StyleGAN3's synthesis network. Parameters and buffers have the names and shapes of NVIDIA's stylegan3."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganwright.networks.blocks import mean_over_processes
from ganwright.networks.stylegan2.layers import FullyConnected, full_precision
from ganwright.networks.stylegan3.filters import (
    Padding,
    filtered_leaky_relu,
    low_pass_filter,
    reference_filtered_leaky_relu,
)
from ganwright.networks.stylegan3.plan import LayerPlan, StyleGAN3Plan


class FourierFeatures(nn.Module):
    """The input: sines of random frequencies within the first layer's band, moved and turned by the style.

    Karras et al. 2021, section 3.1.

    Args:
        w_dim: Length of a style.
        signal: The first layer's.
    """

    transform: Tensor
    freqs: Tensor
    phases: Tensor

    def __init__(self, w_dim: int, signal: LayerPlan) -> None:
        super().__init__()
        self.signal = signal
        channels = signal.channels
        # Uniform on a disc of radius f_c: a normal direction, and a radius whose square is uniform.
        freqs = torch.randn(channels, 2)
        radii = freqs.square().sum(1, keepdim=True).sqrt()
        freqs = freqs / (radii * radii.square().exp().pow(0.25)) * signal.cutoff
        self.weight = nn.Parameter(torch.randn(channels, channels))
        self.affine = FullyConnected(w_dim, 4)
        nn.init.zeros_(self.affine.weight)
        with torch.no_grad():
            self.affine.bias.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0]))
        self.register_buffer("transform", torch.eye(3))  # a user's own inverse transform of the image
        self.register_buffer("freqs", freqs)
        self.register_buffer("phases", torch.rand(channels) - 0.5)

    def forward(self, w: Tensor) -> Tensor:
        """Styles (N, w_dim) -> maps (N, C, size, size)."""
        s = self.signal
        transform = self.transform_of(w)  # (N, 3, 3)
        phases = self.phases + (self.freqs @ transform[:, :2, 2:]).squeeze(2)  # (N, C)
        freqs = self.freqs @ transform[:, :2, :2]  # (N, C, 2)
        # Frequencies that the transform has taken out of the band are damped.
        beyond = (freqs.norm(dim=2) - s.cutoff) / (s.sampling_rate / 2 - s.cutoff)
        amplitudes = (1 - beyond).clamp(0, 1)
        # Sample positions in units of the image, from the centre; margins reach beyond ±1/2.
        steps = (torch.arange(s.size, device=w.device, dtype=w.dtype) + 0.5) / s.sampling_rate
        steps = steps - s.size / (2 * s.sampling_rate)
        along_x, along_y = (freqs[:, :, axis, None] * steps for axis in (0, 1))  # (N, C, size)
        angles = along_x[:, :, None, :] + along_y[:, :, :, None] + phases[:, :, None, None]
        x = torch.sin(2 * math.pi * angles) * amplitudes[:, :, None, None]
        weight = self.weight / math.sqrt(s.channels)
        return torch.einsum("oc,nchw->nohw", weight, x)

    def transform_of(self, w: Tensor) -> Tensor:
        """The inverse transform (N, 3, 3): turn and shift as the style says, then `transform`."""
        t = self.affine(w)
        t = t / t[:, :2].norm(dim=1, keepdim=True)
        cos, sin, x, y = t.unbind(1)
        zero, one = torch.zeros_like(cos), torch.ones_like(cos)
        rotation = torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], 1).view(-1, 3, 3)
        shift = torch.stack([one, zero, -x, zero, one, -y, zero, zero, one], 1).view(-1, 3, 3)
        return rotation @ shift @ self.transform


class SynthesisLayer(nn.Module):
    """Modulated convolution, bias and filtered leaky ReLU; the last one makes the image, unfiltered and linear.

    Args:
        plan: Of the network.
        index: Of the layer, from 0; `plan.layers` is the image's.
    """

    magnitude_ema: Tensor
    up_filter: Tensor | None
    down_filter: Tensor | None

    def __init__(self, plan: StyleGAN3Plan, index: int) -> None:
        super().__init__()
        signals = plan.signals()
        before, after = signals[max(index - 1, 0)], signals[index]
        self.last = index == plan.layers
        self.runs_half = after.sampling_rate * 2**plan.half_blocks > plan.resolution
        self.reference, self.clamp, self.beta = plan.operations == "reference", plan.conv_clamp, plan.magnitude_beta
        self.kernel = 1 if self.last else plan.kernel
        self.affine = FullyConnected(plan.w_dim, before.channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(after.channels, before.channels, self.kernel, self.kernel))
        self.bias = nn.Parameter(torch.zeros(after.channels))
        self.register_buffer("magnitude_ema", torch.ones(()))

        between = max(before.sampling_rate, after.sampling_rate) * (1 if self.last else plan.lrelu_upsampling)
        self.up, self.down = between // before.sampling_rate, between // after.sampling_rate
        up_taps = plan.filter_size * self.up if self.up > 1 and not self.last else 1
        down_taps = plan.filter_size * self.down if self.down > 1 and not self.last else 1
        radial = plan.radial_filters and index < plan.layers - plan.critical
        self.register_buffer(
            "up_filter",
            low_pass_filter(up_taps, cutoff=before.cutoff, width=2 * before.half_width, sampling_rate=between),
        )
        self.register_buffer(
            "down_filter",
            low_pass_filter(
                down_taps, cutoff=after.cutoff, width=2 * after.half_width, sampling_rate=between, radial=radial
            ),
        )
        self.padding = self._padding(before.size, after.size, up_taps, down_taps)

    def _padding(self, before: int, after: int, up_taps: int, down_taps: int) -> Padding:
        """So that the output has its size, and samples stay where they are in the image (appendix C.3)."""
        wanted = (after - 1) * self.down + 1
        total = wanted - (before + self.kernel - 1) * self.up + up_taps + down_taps - 2
        low = (total + self.up) // 2
        return low, total - low, low, total - low

    def forward(self, x: Tensor, w: Tensor, track: bool = False) -> Tensor:
        """Maps (N, I, H, W) and styles (N, w_dim) -> maps (N, O, H', W').

        Args:
            x: Maps.
            w: Styles.
            track: Whether the running magnitude of inputs is updated first.
        """
        with full_precision(w):
            if track:
                self.track(x)
            gain = self.magnitude_ema.rsqrt()  # a constant: inputs have unit magnitude on average (section 3.2)
            styles = self.affine(w)
        y = self._per_image(x, styles, gain) if self.reference else self._convolve(x, styles, gain)
        activate = reference_filtered_leaky_relu if self.reference else filtered_leaky_relu
        return activate(
            y,
            self.bias.to(y.dtype),
            self.up_filter,
            self.down_filter,
            up=self.up,
            down=self.down,
            padding=self.padding,
            gain=1.0 if self.last else math.sqrt(2),
            slope=1.0 if self.last else 0.2,
            clamp=self.clamp,
        )

    @torch.no_grad()
    def track(self, x: Tensor) -> None:
        """Move the running magnitude towards that of x, over all processes."""
        magnitude = mean_over_processes(x.detach().float().square().mean()).to(self.magnitude_ema.dtype)
        self.magnitude_ema.copy_(magnitude.lerp(self.magnitude_ema, self.beta))

    def _weights(self, styles: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(weight, styles, demodulation (N, O)), the first two brought to magnitude 1, which demodulation cancels."""
        weight: Tensor = self.weight
        if self.last:
            return weight, styles / math.sqrt(weight[0].numel()), styles.new_ones(len(styles), len(weight))
        weight = weight * weight.square().mean((1, 2, 3), keepdim=True).rsqrt()
        styles = styles * styles.square().mean().rsqrt()
        norms = styles.square() @ weight.square().sum((2, 3)).t()
        return weight, styles, (norms + 1e-8).rsqrt()

    def _convolve(self, x: Tensor, styles: Tensor, gain: Tensor) -> Tensor:
        """One convolution for all images: styles scale its inputs, demodulation its outputs."""
        with full_precision(styles):
            weight, styles, demodulation = self._weights(styles)
            scale = (styles * gain)[:, :, None, None]
        y = F.conv2d(x * scale.to(x.dtype), weight, padding=self.kernel - 1)
        return y if self.last else y * demodulation.to(y.dtype)[:, :, None, None]

    def _per_image(self, x: Tensor, styles: Tensor, gain: Tensor) -> Tensor:
        """As the paper defines it: each image has weights of its own."""
        weight, styles, demodulation = self._weights(styles)
        own = weight * styles[:, None, :, None, None] * demodulation[:, :, None, None, None] * gain
        return torch.cat([F.conv2d(row[None], k, padding=self.kernel - 1) for row, k in zip(x, own, strict=True)])
