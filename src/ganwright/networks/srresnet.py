"""SRResNet, the generator of SRGAN (Ledig et al. 2017), and its later form without batch norm (MSRResNet).

Both take images in [-1, 1] and return images in [-1, 1], scale times as large; inside they use the ranges of the
published networks, so that published weights fit.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from ganwright.networks.blocks import SyncedBatchNorm2d


class ResidualBlock(nn.Module):
    """x + norm(conv(PReLU(norm(conv(x))))) on (N, width, H, W) (figure 4 of the paper)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.norm1 = SyncedBatchNorm2d(width)
        self.act = nn.PReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.norm2 = SyncedBatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        y = self.act(self.norm1(self.conv1(x)))
        out: Tensor = x + self.norm2(self.conv2(y))
        return out


class PixelShuffleUp(nn.Module):
    """(N, width, H, W) to (N, width, factor · H, factor · W): convolution, pixel shuffle (Shi et al. 2016), PReLU."""

    def __init__(self, width: int, factor: int = 2) -> None:
        super().__init__()
        self.factor = factor
        self.conv = nn.Conv2d(width, width * factor**2, 3, padding=1)
        self.act = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge."""
        y: Tensor = self.act(F.pixel_shuffle(self.conv(x), self.factor))
        return y


class SRResNet(nn.Module):
    """The paper's generator: low-resolution images in [0, 1] inside, results in [-1, 1] (section 3.2).

    Args:
        channels: 1 or 3.
        scale: 2, 4 or 8.
        width: Feature maps (the paper: 64).
        blocks: Residual blocks (the paper: 16).
        trunk: What follows the convolution after the blocks: "norm" (the paper) or "prelu" (some published weights).
        final: "linear" (the paper) or "tanh".
    """

    def __init__(
        self,
        channels: int,
        scale: int,
        width: int = 64,
        blocks: int = 16,
        trunk: Literal["norm", "prelu"] = "norm",
        final: Literal["linear", "tanh"] = "linear",
    ) -> None:
        super().__init__()
        self.scale, self.final = scale, final
        self.head = nn.Conv2d(channels, width, 9, padding=4)
        self.head_act = nn.PReLU()
        self.blocks = nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))
        self.trunk = nn.Conv2d(width, width, 3, padding=1)
        self.trunk_end: nn.Module = SyncedBatchNorm2d(width) if trunk == "norm" else nn.PReLU()
        self.ups = nn.Sequential(*(PixelShuffleUp(width) for _ in range(scale.bit_length() - 1)))
        self.tail = nn.Conv2d(width, channels, 9, padding=4)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, scale · H, scale · W), both in [-1, 1]; the linear end is not clipped."""
        shallow = self.head_act(self.head((images + 1) / 2))
        deep = self.trunk_end(self.trunk(self.blocks(shallow)))
        y: Tensor = self.tail(self.ups(shallow + deep))
        return y.tanh() if self.final == "tanh" else y


class PlainResidualBlock(nn.Module):
    """x + conv(ReLU(conv(x))), as in EDSR (Lim et al. 2017)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        y: Tensor = x + self.conv2(F.relu(self.conv1(x)))
        return y


class MSRResNet(nn.Module):
    """SRResNet without norms, adding what it finds to a bilinear enlargement (Wang et al. 2018's baseline, as BasicSR
    publishes it). Parameter names are BasicSR's; inside, images are in [0, 1].

    Args:
        channels: 1 or 3.
        scale: 2, 3, 4 or 8.
        width: Feature maps.
        blocks: Residual blocks.
    """

    def __init__(self, channels: int, scale: int, width: int = 64, blocks: int = 16) -> None:
        super().__init__()
        self.scale = scale
        self.conv_first = nn.Conv2d(channels, width, 3, padding=1)
        self.body = nn.Sequential(*(PlainResidualBlock(width) for _ in range(blocks)))
        self.factors = (3,) if scale == 3 else (2,) * (scale.bit_length() - 1)
        for i, factor in enumerate(self.factors, start=1):
            self.add_module(f"upconv{i}", nn.Conv2d(width, width * factor**2, 3, padding=1))
        self.conv_hr = nn.Conv2d(width, width, 3, padding=1)
        self.conv_last = nn.Conv2d(width, channels, 3, padding=1)
        small_weights(self, 0.1)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, scale · H, scale · W), both in [-1, 1], not clipped."""
        x = (images + 1) / 2
        y = self.body(F.leaky_relu(self.conv_first(x), 0.1))
        for i, factor in enumerate(self.factors, start=1):
            y = F.leaky_relu(F.pixel_shuffle(self.get_submodule(f"upconv{i}")(y), factor), 0.1)
        y = self.conv_last(F.leaky_relu(self.conv_hr(y), 0.1))
        base = F.interpolate(x, scale_factor=float(self.scale), mode="bilinear", align_corners=False)
        out: Tensor = (y + base) * 2 - 1
        return out


def small_weights(network: nn.Module, factor: float) -> None:
    """Draw convolutions He normal times `factor`, biases 0.

    It lets deep residual networks without norms train (Wang et al. 2018, section 3.1).
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            module.weight.data.mul_(factor)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
