"""Residual generator and discriminator of WGAN-GP and SNGAN (Gulrajani et al. 2017; Miyato et al. 2018,
tables 3-6).

With growth 1 at 32x32 these are their CIFAR-10 networks; with growth 16 and width 64 at 128x128 their
ImageNet ones.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganwright.networks.blocks import Dropout, NoNorm
from ganwright.networks.conditional import HEADS, Discriminator, Generator, NetworkPlan, halvings


class PooledConv2d(nn.Conv2d):
    """A 3x3 convolution followed by an average over 2x2 positions, as one 4x4 convolution of stride 2.

    Both are linear, so the average may be taken over the kernel instead of over the map: 16 products for four
    positions instead of 36.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H/2, W/2)."""
        kernel = F.avg_pool2d(self.weight, 2, stride=1, padding=1)  # (outputs, inputs, 4, 4)
        return F.conv2d(x, kernel, self.bias, stride=2, padding=1)


class UpsampledConv2d(nn.Conv2d):
    """Nearest doubling followed by a 3x3 convolution, as one transposed 4x4 convolution of stride 2.

    The four copies of a position meet sums of neighbouring weights: again 16 products instead of 36.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, 2H, 2W)."""
        flipped = self.weight.flip(2, 3).transpose(0, 1)
        kernel = F.avg_pool2d(flipped, 2, stride=1, padding=1, divisor_override=1)  # (inputs, outputs, 4, 4)
        return F.conv_transpose2d(x, kernel, self.bias, stride=2, padding=1)


class UpBlock(nn.Module):
    """norm-ReLU-upsample-conv-norm-ReLU-conv, plus a shortcut; `up` doubles the resolution (nearest)."""

    def __init__(self, inputs: int, outputs: int, plan: NetworkPlan, *, up: bool) -> None:
        super().__init__()
        self.up = up
        self.norm1, self.norm2 = plan.make_norm(inputs), plan.make_norm(outputs)
        self.conv1 = UpsampledConv2d(inputs, outputs) if up else nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if up or inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, labels: Tensor | None) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, 2H, 2W) if `up`."""
        h = self.conv1(F.relu(self.norm1(x, labels)))
        h = self.conv2(F.relu(self.norm2(h, labels), inplace=True))
        shortcut: Tensor = self.shortcut(x)  # 1x1 and nearest commute: convolve the small map
        if self.up:
            shortcut = F.interpolate(shortcut, scale_factor=2.0, mode="nearest")
        y: Tensor = shortcut + h
        return y


class DownBlock(nn.Module):
    """ReLU-conv-ReLU-conv-(average pool), plus a shortcut.

    The `first` block of a network sees raw pixels, so it begins with a convolution.
    """

    def __init__(self, inputs: int, outputs: int, plan: NetworkPlan, *, down: bool, first: bool = False) -> None:
        super().__init__()
        self.down, self.first = down, first
        self.norm1 = NoNorm() if first else plan.make_norm(inputs)
        self.norm2 = plan.make_norm(outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = PooledConv2d(outputs, outputs) if down else nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if down or inputs != outputs else nn.Identity()
        self.dropout = Dropout(plan.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H/2, W/2) if `down`."""
        h = x if self.first else F.relu(self.norm1(x, None))
        h = self.dropout(F.relu(self.norm2(self.conv1(h), None), inplace=True))
        # 1x1 and average commute: convolve the small map.
        shortcut: Tensor = self.shortcut(F.avg_pool2d(x, 2) if self.down else x)
        y: Tensor = self.conv2(h) + shortcut
        return y


class ResNetGenerator(Generator):
    """A linear layer to 4..7 positions a side, then a doubling block a resolution (and `depth` - 1 more)."""

    def __init__(self, plan: NetworkPlan) -> None:
        super().__init__(plan)
        self.base, k = halvings(plan.resolution)
        maps = [plan.maps(i) for i in reversed(range(k + 1))]  # at base, 2·base, …, resolution
        self.first_maps = maps[0]
        self.from_latent = nn.Linear(self.input_size, maps[0] * self.base**2)
        blocks: list[nn.Module] = []
        for before, after in itertools.pairwise(maps):
            blocks.append(UpBlock(before, after, plan, up=True))
            blocks += [UpBlock(after, after, plan, up=False) for _ in range(plan.depth - 1)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = plan.make_norm(maps[-1])
        self.to_image = nn.Conv2d(maps[-1], plan.channels, 3, padding=1)

    def synthesise(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """Images (N, C, H, W) before the final tanh."""
        x = self.from_latent(z).view(-1, self.first_maps, self.base, self.base)
        x = x.contiguous(memory_format=torch.channels_last)
        for block in self.blocks:
            x = block(x, labels)
        return self.to_image(F.relu(self.norm(x, labels), inplace=True))  # type: ignore[no-any-return]


class ResNetDiscriminator(Discriminator):
    """One halving block a resolution and flat ones at the end, pooled over positions.

    As in the papers' tables there are k + 1 stages for an image of base · 2^k pixels: up to 32x32 the last
    two of them keep the resolution (8x8 at 32x32), above only the last does. `depth` - 1 more flat blocks
    follow each stage.
    """

    def __init__(self, plan: NetworkPlan) -> None:
        super().__init__(plan)
        _, k = halvings(plan.resolution)
        downs = k - 1 if plan.resolution <= 32 else k
        inputs = plan.channels + self.label_maps
        blocks: list[nn.Module] = []
        for i in range(k + 1):
            outputs = plan.maps(min(i, k - 1))
            blocks.append(DownBlock(inputs, outputs, plan, down=i < downs, first=i == 0))
            blocks += [DownBlock(outputs, outputs, plan, down=False) for _ in range(plan.depth - 1)]
            inputs = outputs
        self.blocks = nn.ModuleList(blocks)
        self.head = HEADS[plan.head](inputs, plan)

    def features(self, x: Tensor) -> Tensor:
        """Features (N, F): each map's sum or mean over positions."""
        for block in self.blocks:
            x = block(x)
        x = F.relu(x)
        return x.sum((2, 3)) if self.plan.pooling == "sum" else x.mean((2, 3))
