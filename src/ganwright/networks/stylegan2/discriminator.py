"""StyleGAN2's discriminator (Karras et al. 2020), with minibatch standard deviation and projection of labels."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ganwright.networks.stylegan2.layers import OPERATIONS, Convolution, FullyConnected, full_precision
from ganwright.networks.stylegan2.mapping import Mapping
from ganwright.networks.stylegan2.plans import DiscriminatorPlan
from ganwright.networks.stylegan2.resample import make_filter


class DiscriminatorBlock(nn.Module):
    """Two convolutions, the second of which halves the resolution.

    Args:
        plan: Of the network.
        resolution: Of its input.
    """

    resample_filter: Tensor

    def __init__(self, plan: DiscriminatorPlan, resolution: int) -> None:
        super().__init__()
        self.plan, self.first = plan, resolution == plan.resolution
        self.half_precision = resolution * 2**plan.half_blocks > plan.resolution
        self.operations = OPERATIONS[plan.operations]
        self.register_buffer("resample_filter", make_filter(plan.resample_filter))
        maps, outputs = plan.maps(resolution), plan.maps(resolution // 2)
        taps, act, clamp, ops = plan.resample_filter, plan.activation, plan.conv_clamp, plan.operations
        self.fromrgb: Convolution | None = None
        self.skip: Convolution | None = None
        if self.first or plan.architecture == "skip":
            self.fromrgb = Convolution(plan.channels, maps, 1, activation=act, clamp=clamp, operations=ops)
        self.conv0 = Convolution(maps, maps, 3, activation=act, clamp=clamp, operations=ops)
        self.conv1 = Convolution(maps, outputs, 3, activation=act, down=2, taps=taps, clamp=clamp, operations=ops)
        if plan.architecture == "resnet":
            self.skip = Convolution(maps, outputs, 1, bias=False, down=2, taps=taps, operations=ops)

    def forward(self, x: Tensor | None, image: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Maps at half the resolution, and the image at it (architecture skip) or None.

        Args:
            x: Maps (N, I, H, W); None in the first block.
            image: (N, C, H, W), where this block sees the image.
        """
        if self.half_precision:
            return self._compute(x, image)
        dtype = self.conv0.weight.dtype
        with full_precision(self.conv0.weight):
            return self._compute(None if x is None else x.to(dtype), None if image is None else image.to(dtype))

    def _compute(self, x: Tensor | None, image: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if self.fromrgb is not None and image is not None:
            y = self.fromrgb(image)
            x = y if x is None else x + y
            image = (
                self.operations.downsample(image, self.resample_filter) if self.plan.architecture == "skip" else None
            )
        assert x is not None
        if self.skip is not None:
            shortcut = self.skip(x, gain=math.sqrt(0.5))
            return self.conv1(self.conv0(x), gain=math.sqrt(0.5)) + shortcut, image
        return self.conv1(self.conv0(x)), image


class MinibatchStd(nn.Module):
    """Adds maps with the standard deviation over a group of images (Karras et al. 2018, section 3).

    With several processes groups are formed among each process's images.

    Args:
        group: Images in a group; None: all. Where the batch is no multiple, the next smaller divisor of it.
        channels: Maps it adds, each from its share of the channels.
    """

    def __init__(self, group: int | None, channels: int = 1) -> None:
        super().__init__()
        self.group, self.channels = group, channels

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C + channels, H, W); image i is in the group of i modulo their number."""
        n, c, h, w = x.shape
        size = n if self.group is None else max(g for g in range(1, min(self.group, n) + 1) if n % g == 0)
        y = x.reshape(size, n // size, self.channels, c // self.channels, h, w)
        spread = (y - y.mean(0)).square().mean(0).add(1e-8).sqrt()  # (groups, channels, C / channels, H, W)
        spread = spread.mean((2, 3, 4)).repeat(size, 1)[:, :, None, None]  # (N, channels, 1, 1)
        return torch.cat([x, spread.expand(-1, -1, h, w)], dim=1)


class Epilogue(nn.Module):
    """From 4x4 maps to a number an image.

    Args:
        plan: Of the network.
        cmap_dim: Numbers of a mapped label; 0: unconditional.
    """

    def __init__(self, plan: DiscriminatorPlan, cmap_dim: int) -> None:
        super().__init__()
        maps, act, ops = plan.maps(4), plan.epilogue_activation, plan.operations
        self.cmap_dim = cmap_dim
        self.fromrgb: Convolution | None = None
        self.mbstd: MinibatchStd | None = None
        if plan.architecture == "skip":
            self.fromrgb = Convolution(plan.channels, maps, 1, activation=act, operations=ops)
        if plan.mbstd_channels:
            self.mbstd = MinibatchStd(plan.mbstd_group, plan.mbstd_channels)
        inputs = maps + plan.mbstd_channels
        self.conv = Convolution(inputs, maps, 3, activation=act, clamp=plan.conv_clamp, operations=ops)
        self.fc = FullyConnected(maps * 16, maps, activation=act)
        self.out = FullyConnected(maps, cmap_dim or 1)

    def forward(self, x: Tensor, image: Tensor | None, cmap: Tensor | None) -> Tensor:
        """Logits (N,) from maps (N, I, 4, 4), the image (N, C, 4, 4) if it is seen, and mapped labels (N, cmap_dim)."""
        dtype = self.fc.weight.dtype
        with full_precision(self.fc.weight):
            x = x.to(dtype)
            if self.fromrgb is not None and image is not None:
                x = x + self.fromrgb(image.to(dtype))
            if self.mbstd is not None:
                x = self.mbstd(x)
            x = self.out(self.fc(self.conv(x).flatten(1)))
            if cmap is not None:  # projection (Miyato & Koyama 2018)
                x = (x * cmap).sum(1, keepdim=True) / math.sqrt(self.cmap_dim)
        return x.squeeze(1)


class Discriminator(nn.Module):
    """From images and labels to logits. Its state dict is that of `D` in NVIDIA's stylegan2-ada-pytorch.

    Args:
        plan: Sizes and choices.
    """

    b4: Epilogue

    def __init__(self, plan: DiscriminatorPlan) -> None:
        super().__init__()
        self.plan = plan
        cmap_dim = 0 if plan.c_dim == 0 else plan.maps(4) if plan.cmap_dim is None else plan.cmap_dim
        for resolution in plan.resolutions:
            setattr(self, f"b{resolution}", DiscriminatorBlock(plan, resolution))
        self.mapping: Mapping | None = None
        if plan.c_dim:
            self.mapping = Mapping(0, plan.c_dim, cmap_dim, plan.mapping, track=False)
        self.b4 = Epilogue(plan, cmap_dim)

    @property
    def blocks(self) -> list[nn.Module]:
        """From the image's side on; the last one gives the logits."""
        return [*(getattr(self, f"b{resolution}") for resolution in self.plan.resolutions), self.b4]

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits (N,): how real images (N, C, H, W) in [-1, 1] are, as members of their classes.

        Args:
            images: Real or generated.
            labels: Classes int64 (N,) or vectors (N, c_dim), for conditional networks.
        """
        x: Tensor | None = None
        image: Tensor | None = images
        for block in self.blocks[:-1]:
            x, image = block(x, image)
        assert x is not None
        logits: Tensor = self.b4(x, image, None if self.mapping is None else self.mapping(None, labels))
        return logits
