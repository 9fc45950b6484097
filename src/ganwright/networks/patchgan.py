"""Discriminators that judge patches: one logit for each overlapping patch of an image (Isola et al. 2017,
section 3.2.2 and appendix 6.1.2).

With 3 layers and width 64 it is the authors' 70x70 PatchGAN; `PixelDiscriminator` is their 1x1 "PixelGAN".
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ganwright.networks.translating import NormName, norm_maker, norm_takes_bias


class PatchDiscriminator(nn.Module):
    """`layers` 4x4 convolutions of stride 2, one more of stride 1, and one to logits.

    Args:
        channels: C of what it judges; for a conditional discriminator, of input and output together.
        width: Maps after the first convolution; they double to 8 times that.
        layers: Convolutions of stride 2; a logit sees 16, 34, 70, 142, 286 pixels a side for 1, 2, 3, 4, 5 of them.
        norm: After every convolution but the first and the last.
    """

    def __init__(self, channels: int, *, width: int = 64, layers: int = 3, norm: NormName = "batch") -> None:
        super().__init__()
        make_norm, bias = norm_maker(norm), norm_takes_bias(norm)
        maps = [width * min(2**i, 8) for i in range(layers + 1)]
        first = nn.Conv2d(channels, width, 4, 2, 1)
        strides = [2] * (layers - 1) + [1]
        rest = [nn.Conv2d(maps[i], maps[i + 1], 4, stride, 1, bias=bias) for i, stride in enumerate(strides)]
        self.convs = nn.ModuleList([first, *rest])
        self.norms = nn.ModuleList(make_norm(c) for c in maps[1:])
        self.head = nn.Conv2d(maps[-1], 1, 4, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] to logits (N, 1, h, w)."""
        x = F.leaky_relu(self.convs[0](images), 0.2, inplace=True)
        for conv, norm in zip(self.convs[1:], self.norms, strict=True):
            x = F.leaky_relu(norm(conv(x)), 0.2, inplace=True)
        return self.head(x)  # type: ignore[no-any-return]


class PixelDiscriminator(nn.Module):
    """Three 1x1 convolutions: judges each pixel by itself.

    Args:
        channels: C of what it judges.
        width: Maps after the first convolution, half of those after the second.
        norm: After the second convolution.
    """

    def __init__(self, channels: int, *, width: int = 64, norm: NormName = "batch") -> None:
        super().__init__()
        bias = norm_takes_bias(norm)
        self.conv1 = nn.Conv2d(channels, width, 1)
        self.conv2 = nn.Conv2d(width, 2 * width, 1, bias=bias)
        self.norm = norm_maker(norm)(2 * width)
        self.head = nn.Conv2d(2 * width, 1, 1, bias=bias)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] to logits (N, 1, H, W)."""
        x = F.leaky_relu(self.conv1(images), 0.2, inplace=True)
        x = F.leaky_relu(self.norm(self.conv2(x)), 0.2, inplace=True)
        return self.head(x)  # type: ignore[no-any-return]


def smallest_side(layers: int) -> int:
    """Smallest side, in pixels, of images that a `PatchDiscriminator` of so many layers can judge.

    Its two convolutions of stride 1 each take one position away, and one must be left.
    """
    return 3 * 2**layers if layers else 1


def released_names(layers: int) -> dict[str, str]:
    """Our module names to those in the authors' released checkpoints (`net_D`), without `.weight`, `.bias` …."""
    if layers == 0:
        return {"conv1": "net.0", "conv2": "net.2", "norm": "net.3", "head": "net.5"}
    names = {"convs.0": "model.0"}
    for i in range(1, layers + 1):
        names |= {f"convs.{i}": f"model.{3 * i - 1}", f"norms.{i - 1}": f"model.{3 * i}"}
    return names | {"head": f"model.{3 * layers + 2}"}
