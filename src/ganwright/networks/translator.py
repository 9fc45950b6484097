"""CycleGAN's generator: two halvings, residual blocks, two doublings (Johnson et al. 2016; Zhu et al. 2017,
appendix 7.2).

With 9 and 6 blocks, width 64 and instance norm it is the authors' `resnet_9blocks` and `resnet_6blocks`: 11,378,179
and 7,837,699 parameters from RGB to RGB.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganwright.networks.blocks import Dropout
from ganwright.networks.translating import NormName, norm_maker, norm_takes_bias, on_padded

_HALVINGS = 2


class ResidualBlock(nn.Module):
    """x plus two 3x3 convolutions of it, padded by reflection, each with its norm.

    Args:
        channels: C.
        norm: Name of the norm.
        dropout: Share dropped between the two.
        own_statistics: See `OwnStatisticsBatchNorm`.
    """

    def __init__(self, channels: int, norm: NormName, dropout: float, own_statistics: bool) -> None:
        super().__init__()
        make_norm, bias = norm_maker(norm, own_statistics=own_statistics), norm_takes_bias(norm)
        self.conv1 = nn.Conv2d(channels, channels, 3, 1, 1, bias=bias, padding_mode="reflect")
        self.norm1 = make_norm(channels)
        self.dropout = Dropout(dropout)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=bias, padding_mode="reflect")
        self.norm2 = make_norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        return x + self.norm2(self.conv2(self.dropout(y)))  # type: ignore[no-any-return]


class Translator(nn.Module):
    """Residual generator for any size of image.

    Args:
        channels_in: C of the images it is given.
        channels_out: C of the images it makes.
        width: Maps at full resolution; they double with each halving.
        blocks: Residual blocks at a quarter of the resolution.
        norm: After every convolution but the last.
        dropout: Share dropped inside each block.
        own_statistics: See `OwnStatisticsBatchNorm`.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        width: int = 64,
        blocks: int = 9,
        norm: NormName = "instance",
        dropout: float = 0.0,
        own_statistics: bool = False,
    ) -> None:
        super().__init__()
        make_norm, bias = norm_maker(norm, own_statistics=own_statistics), norm_takes_bias(norm)
        maps = [width * 2**i for i in range(_HALVINGS + 1)]
        self.stem = nn.Conv2d(channels_in, width, 7, 1, 3, bias=bias, padding_mode="reflect")
        self.stem_norm = make_norm(width)
        self.down = nn.ModuleList(nn.Conv2d(c, 2 * c, 3, 2, 1, bias=bias) for c in maps[:-1])
        self.down_norms = nn.ModuleList(make_norm(c) for c in maps[1:])
        self.blocks = nn.ModuleList(ResidualBlock(maps[-1], norm, dropout, own_statistics) for _ in range(blocks))
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(c, c // 2, 3, 2, 1, output_padding=1, bias=bias) for c in reversed(maps[1:])
        )
        self.up_norms = nn.ModuleList(make_norm(c // 2) for c in reversed(maps[1:]))
        self.head = nn.Conv2d(width, channels_out, 7, 1, 3, padding_mode="reflect")

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) in [-1, 1], of any size, to (N, C', H, W) in [-1, 1]."""
        # a quarter of the resolution has no mirror image below two pixels
        return on_padded(self._forward, images, 2**_HALVINGS, least=2 ** (_HALVINGS + 1))

    def _forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem_norm(self.stem(x)), inplace=True)
        for conv, norm in zip(self.down, self.down_norms, strict=True):
            x = F.relu(norm(conv(x)), inplace=True)
        for block in self.blocks:
            x = block(x)
        for conv, norm in zip(self.up, self.up_norms, strict=True):
            x = F.relu(norm(conv(x)), inplace=True)
        return torch.tanh(self.head(x))


def released_names(blocks: int, *, dropout: bool = False) -> dict[str, str]:
    """Our module names to those in the authors' released checkpoints (`net_G`, `net_G_A`), without `.weight` ….

    There all layers stand in one sequence, activations and paddings counted: convolutions at 1, 4, 7, blocks from 10.
    """
    names = {"stem": "model.1", "stem_norm": "model.2"}
    for i in range(_HALVINGS):
        names |= {f"down.{i}": f"model.{4 + 3 * i}", f"down_norms.{i}": f"model.{5 + 3 * i}"}
    second = 6 if dropout else 5
    for i in range(blocks):
        block = f"model.{10 + i}.conv_block"
        names |= {f"blocks.{i}.conv1": f"{block}.1", f"blocks.{i}.norm1": f"{block}.2"}
        names |= {f"blocks.{i}.conv2": f"{block}.{second}", f"blocks.{i}.norm2": f"{block}.{second + 1}"}
    start = 10 + blocks
    for i in range(_HALVINGS):
        names |= {f"up.{i}": f"model.{start + 3 * i}", f"up_norms.{i}": f"model.{start + 1 + 3 * i}"}
    return names | {"head": f"model.{start + 3 * _HALVINGS + 1}"}
