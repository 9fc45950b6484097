"""R3GAN's networks (Huang et al. 2024, section 4 and figure 2): residual blocks of grouped convolutions, no norm.

Their weights are those of the official release, one to one; the names are mapped in `interop/r3gan.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.2
GAIN = math.sqrt(2 / (1 + SLOPE**2))
"""What keeps the variance through a leaky rectifier of this slope (He et al. 2015)."""


@dataclass(frozen=True)
class R3GANPlan:
    """The size of both networks; sequences go from the coarsest stage to the finest.

    Attributes:
        resolution: Height and width of images: 4, 5, 6 or 7 pixels, doubled once for each further stage.
        channels: 1 or 3.
        widths: Maps of each stage.
        groups: Groups of each stage's 3x3 convolutions (the cardinality of Xie et al. 2017).
        blocks: Residual blocks of each stage.
        expansion: Maps inside a block, as a multiple of the stage's.
        latent_dim: Numbers in a latent vector.
        num_classes: K; 0: without classes.
        class_embedding: Numbers of the class embedding joined to the latent; 0 without classes.
        class_embedding_d: Numbers of the discriminator's class embedding; 0 without classes.
        half_stages: How many of the finest stages follow autocast to bfloat16 or float16; the others, and all
            without autocast, compute in the weights' own precision.
    """

    resolution: int
    channels: int
    widths: tuple[int, ...]
    groups: tuple[int, ...]
    blocks: tuple[int, ...]
    expansion: int = 2
    latent_dim: int = 64
    num_classes: int = 0
    class_embedding: int = 0
    class_embedding_d: int = 0
    half_stages: int = 3

    @property
    def base(self) -> int:
        """Height and width of the coarsest stage."""
        return self.resolution >> (len(self.widths) - 1)

    def in_half(self, stage: int) -> bool:
        """Whether a stage, counted from the coarsest, follows autocast."""
        return stage >= len(self.widths) - self.half_stages


def initialise(weight: Tensor, gain: float = 1.0) -> None:
    """Draw N(0, gain² / fan-in) in place, from torch's global generator (He et al. 2015)."""
    fan_in = weight[0].numel()
    with torch.no_grad():
        weight.normal_(0.0, gain / math.sqrt(fan_in))


class Convolution(nn.Conv2d):
    """A convolution that keeps the size and computes in its input's precision.

    Args:
        inputs: Maps it takes.
        outputs: Maps it makes.
        size: Height and width of the kernel, odd.
        groups: Groups of maps that see only each other.
        gain: Scale of the initial weights; 0: zeros.
        bias: Whether it has a bias, zero at first.
    """

    def __init__(
        self, inputs: int, outputs: int, size: int = 1, *, groups: int = 1, gain: float = 1.0, bias: bool = False
    ) -> None:
        super().__init__(inputs, outputs, size, padding=size // 2, groups=groups, bias=bias)
        initialise(self.weight, gain)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, inputs, H, W) -> (N, outputs, H, W)."""
        bias = None if self.bias is None else self.bias.to(x.dtype)
        weight = self.weight.to(x.dtype)
        return F.conv2d(x, weight, bias, padding=self.kernel_size[0] // 2, groups=self.groups)


class ResidualBlock(nn.Module):
    """X + project(φ(grouped(φ(expand(x))))), φ a leaky rectifier: at first the identity (Fixup, Zhang et al. 2019).

    Args:
        width: Maps in and out.
        groups: Groups of the 3x3 convolution.
        expansion: The block works on expansion · width maps.
        depth: Residual blocks of the whole network, by which the initial weights are scaled down.
    """

    def __init__(self, width: int, groups: int, expansion: int, depth: int) -> None:
        super().__init__()
        inner = width * expansion
        gain = GAIN * depth ** (-1 / 4)  # L^(-1/(2m-2)) with m = 3 layers a block
        self.expand = Convolution(width, inner, gain=gain, bias=True)
        self.grouped = Convolution(inner, inner, 3, groups=groups, gain=gain, bias=True)
        self.project = Convolution(inner, width, gain=0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, width, H, W) -> the same shape."""
        y: Tensor = F.leaky_relu(self.expand(x), SLOPE)
        y = F.leaky_relu(self.grouped(y), SLOPE)
        y = self.project(y)
        return x + y


def smoothing_filter() -> Tensor:
    """[1, 2, 1] convolved with the two pixels of a doubling, in both directions, (4, 4); its sum is 1."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    return torch.outer(taps, taps)


class Resampler(nn.Module):
    """Twice or half the size, by the smoothing filter [1, 3, 3, 1] / 8 in each direction; zero beyond the border.

    Args:
        inputs: Maps it takes.
        outputs: Maps it makes; where they differ, by a 1x1 convolution at the smaller size.
    """

    kernel: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.mix = Convolution(inputs, outputs) if inputs != outputs else None
        self.register_buffer("kernel", smoothing_filter()[None, None], persistent=False)

    def kernels(self, x: Tensor) -> Tensor:
        """The filter for each map of x, (C, 1, 4, 4)."""
        return self.kernel.to(x.dtype).expand(x.shape[1], 1, 4, 4)


class Upsampler(Resampler):
    """(N, inputs, H, W) -> (N, outputs, 2H, 2W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Mix maps, then interpolate."""
        x = x if self.mix is None else self.mix(x)
        # Zeros between pixels take three quarters of the filter's sum; hence 4.
        return F.conv_transpose2d(x, 4 * self.kernels(x), stride=2, padding=1, groups=x.shape[1])


class Downsampler(Resampler):
    """(N, inputs, 2H, 2W) -> (N, outputs, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Smooth and take every second pixel, then mix maps."""
        x = F.conv2d(x, self.kernels(x), stride=2, padding=1, groups=x.shape[1])
        return x if self.mix is None else self.mix(x)


class GenerativeBasis(nn.Module):
    """Learned maps, scaled by a linear function of the latent: the generator's first layer.

    Args:
        inputs: Numbers in the latent and class embedding.
        outputs: Maps.
        size: Their height and width.
    """

    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__()
        self.basis = nn.Parameter(torch.randn(outputs, size, size))
        self.linear = nn.Linear(inputs, outputs, bias=False)
        initialise(self.linear.weight)

    def forward(self, z: Tensor) -> Tensor:
        """Latents (N, inputs) -> maps (N, outputs, size, size)."""
        x: Tensor = self.basis * self.linear(z)[:, :, None, None]
        return x.contiguous(memory_format=torch.channels_last)


class DiscriminativeBasis(nn.Module):
    """One learned filter a map, as large as the map, then a linear layer: the discriminator's last layer.

    Args:
        inputs: Maps.
        outputs: Numbers out.
        size: Height and width of the maps.
    """

    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__()
        self.basis = nn.Conv2d(inputs, inputs, size, groups=inputs, bias=False)
        self.linear = nn.Linear(inputs, outputs, bias=False)
        initialise(self.basis.weight)
        initialise(self.linear.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, inputs, size, size) -> (N, outputs)."""
        # The convolution covers the whole map, so it is a product and a sum, which differentiate twice quickly.
        features = (x * self.basis.weight[:, 0]).sum((2, 3))
        y: Tensor = self.linear(features)
        return y


class Generator(nn.Module):
    """Latents (N, latent_dim) and classes (N,) -> images (N, C, H, W), about [-1, 1] and not bounded.

    Args:
        plan: The sizes.
    """

    def __init__(self, plan: R3GANPlan) -> None:
        super().__init__()
        self.plan = plan
        self.embedding = _embedding(plan.num_classes, plan.class_embedding)
        stages = []
        for i, width in enumerate(plan.widths):
            first = (
                GenerativeBasis(plan.latent_dim + plan.class_embedding, width, plan.base)
                if i == 0
                else Upsampler(plan.widths[i - 1], width)
            )
            stages.append(nn.Sequential(first, *_blocks(plan, i)))
        self.stages = nn.ModuleList(stages)
        self.to_image = Convolution(plan.widths[-1], plan.channels)

    @property
    def first_layer(self) -> Tensor:
        """Weights (maps, latent_dim + class_embedding) of the layer that the latent enters."""
        return self.get_parameter("stages.0.0.linear.weight")

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images from latents and, if conditional, labels."""
        half = _autocast_dtype(z)
        with torch.autocast(z.device.type, enabled=False):
            full = self.to_image.weight.dtype
            x = z.to(full)
            if self.embedding is not None:
                x = torch.cat([x, _embed(self.embedding, labels)], dim=1)
            for i, stage in enumerate(self.stages):
                x = stage(x.to(half if half and self.plan.in_half(i) else full))
            image: Tensor = self.to_image(x.to(full))  # in half precision it would be coarser than 8 bits
        return image


class Discriminator(nn.Module):
    """Images (N, C, H, W) and classes (N,) -> logits (N,).

    With classes, the logit is the inner product of features and a class embedding (Miyato & Koyama 2018, without its
    unconditional term).

    Args:
        plan: The sizes.
    """

    def __init__(self, plan: R3GANPlan) -> None:
        super().__init__()
        self.plan = plan
        self.from_image = Convolution(plan.channels, plan.widths[-1])
        stages = []
        for i in reversed(range(len(plan.widths))):
            last = (
                DiscriminativeBasis(plan.widths[0], plan.class_embedding_d or 1, plan.base)
                if i == 0
                else Downsampler(plan.widths[i], plan.widths[i - 1])
            )
            stages.append(nn.Sequential(*_blocks(plan, i), last))
        self.stages = nn.ModuleList(stages)
        self.embedding = _embedding(plan.num_classes, plan.class_embedding_d)
        if self.embedding is not None:
            initialise(self.embedding.weight, 1 / math.sqrt(plan.class_embedding_d))

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits of images, as members of classes `labels` if conditional."""
        half = _autocast_dtype(images)
        with torch.autocast(images.device.type, enabled=False):
            full = self.from_image.weight.dtype
            last = len(self.stages) - 1
            x = self.from_image(images.to(half if half and self.plan.in_half(last) else full))
            for i, stage in enumerate(self.stages):
                x = stage(x.to(half if half and self.plan.in_half(last - i) else full))
            x = x.to(full)
            if self.embedding is not None:
                x = (x * _embed(self.embedding, labels)).sum(1, keepdim=True)
        logits: Tensor = x.squeeze(1)
        return logits


def _blocks(plan: R3GANPlan, stage: int) -> Sequence[ResidualBlock]:
    depth = sum(plan.blocks)
    width, groups = plan.widths[stage], plan.groups[stage]
    return [ResidualBlock(width, groups, plan.expansion, depth) for _ in range(plan.blocks[stage])]


def _embedding(num_classes: int, numbers: int) -> nn.Linear | None:
    """A linear layer of one-hot classes, or None without classes."""
    if not num_classes:
        return None
    layer = nn.Linear(num_classes, numbers, bias=False)
    initialise(layer.weight)
    return layer


def _embed(layer: nn.Linear, labels: Tensor | None) -> Tensor:
    if labels is None:
        raise ValueError("a network with classes needs labels")
    y: Tensor = layer(F.one_hot(labels, layer.in_features).to(layer.weight.dtype))
    return y


def _autocast_dtype(x: Tensor) -> torch.dtype | None:
    """The precision asked for by autocast, if it is on."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
