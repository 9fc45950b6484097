"""pix2pix's U-Net: an encoder that halves, a decoder that doubles, and a skip at every resolution
(Isola et al. 2017, section 3.2.1 and appendix 6.1.1).

With `depth` 8 and 7 and width 64 it is the authors' `unet_256` and `unet_128`: 54,413,955 and 41,828,995 parameters
from RGB to RGB with batch norm.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganwright.networks.blocks import Dropout
from ganwright.networks.translating import NormName, norm_maker, norm_takes_bias, on_padded

SHALLOWEST, DEEPEST = 2, 8


class UNet(nn.Module):
    """U-Net with 4x4 convolutions of stride 2; maps double from `width` to 8 times that.

    Args:
        channels_in: C of the images it is given.
        channels_out: C of the images it makes.
        width: Maps at half the resolution.
        depth: Halvings, so that at 2^depth pixels the innermost layer sees one position.
        norm: After every convolution but the first and the innermost; and after every doubling but the last.
        dropout: Share dropped after the doublings between maps of 8 times the width (all but the innermost).
        own_statistics: Batch norm at test time uses each image's own statistics.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        width: int = 64,
        depth: int = 8,
        norm: NormName = "batch",
        dropout: float = 0.5,
        own_statistics: bool = False,
    ) -> None:
        super().__init__()
        self.depth = depth
        make_norm, bias = norm_maker(norm, own_statistics=own_statistics), norm_takes_bias(norm)
        maps = [width * min(2**i, 8) for i in range(depth)]
        inputs = [channels_in, *maps[:-1]]
        self.down = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1, bias=bias) for a, b in zip(inputs, maps, strict=True))
        self.down_norms = nn.ModuleList(make_norm(c) for c in maps[1:-1])
        # From the innermost out; each but the innermost is given its encoder's maps beside the decoder's.
        outputs = [channels_out, *maps[:-1]]
        up = [
            nn.ConvTranspose2d(maps[i] * (2 if i < depth - 1 else 1), outputs[i], 4, 2, 1, bias=bias or i == 0)
            for i in reversed(range(depth))
        ]
        self.up = nn.ModuleList(up)
        self.up_norms = nn.ModuleList(make_norm(outputs[i]) for i in reversed(range(1, depth)))
        # The doublings that neither begin at the innermost position nor change the number of maps.
        self.drops = frozenset(depth - 1 - i for i in range(4, depth - 1))
        self.dropout = Dropout(dropout)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) in [-1, 1], of any size, to (N, C', H, W) in [-1, 1]."""
        return on_padded(self._forward, images, 2**self.depth)

    def _forward(self, x: Tensor) -> Tensor:
        skips = []
        for i, conv in enumerate(self.down):
            # In place, which skips may suffer: they are rectified before they are used.
            x = conv(x if i == 0 else F.leaky_relu(x, 0.2, inplace=True))
            if 0 < i < self.depth - 1:
                x = self.down_norms[i - 1](x)
            skips.append(x)
        x = skips.pop()
        for k, conv in enumerate(self.up):
            if k > 0:
                x = torch.cat([skips.pop(), x], 1)
            x = conv(F.relu(x, inplace=True))
            if k < self.depth - 1:
                x = self.up_norms[k](x)
            if k in self.drops:
                x = self.dropout(x)
        return torch.tanh(x)


def released_names(depth: int) -> dict[str, str]:
    """Our module names to those in the authors' released checkpoints (`net_G`), without `.weight`, `.bias` ….

    There each level of the U-Net is nested in the one outside it: level i's layers stand in the sequence
    `model.model` followed by i times its inner level, and are numbered down (LeakyReLU 0, convolution 1, norm 2), inner
    level, up (ReLU, transposed convolution, norm); the outermost has neither norm nor activation on its way down, the
    innermost no norm and no inner level.
    """
    names = {}
    prefix = "model.model"
    for i in range(depth):
        outermost, innermost = i == 0, i == depth - 1
        names[f"down.{i}"] = f"{prefix}.{0 if outermost else 1}"
        if not outermost and not innermost:
            names[f"down_norms.{i - 1}"] = f"{prefix}.2"
        inner = 1 if outermost else 3
        up = 3 if outermost or innermost else 5
        k = depth - 1 - i
        names[f"up.{k}"] = f"{prefix}.{up}"
        if not outermost:
            names[f"up_norms.{k}"] = f"{prefix}.{up + 1}"
        prefix = f"{prefix}.{inner}.model"
    return names
