"""RRDBNet, the generator of ESRGAN (Wang et al. 2018): residual-in-residual dense blocks without norms.

Parameter names are those of BasicSR's published weights.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganwright.networks.srresnet import small_weights

_SCALING = 0.2  # β, of each residual (section 3.1)


class DenseBlock(nn.Module):
    """Five convolutions, each of which sees all before it; x + 0.2 of the last (Huang et al. 2017; figure 4)."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        for i in range(1, 6):
            outputs = growth if i < 5 else width
            self.add_module(f"conv{i}", nn.Conv2d(width + (i - 1) * growth, outputs, 3, padding=1))
        small_weights(self, 0.1)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        seen = [x]
        for i in range(1, 5):
            seen.append(F.leaky_relu(self.get_submodule(f"conv{i}")(torch.cat(seen, 1)), 0.2))
        y: Tensor = x + _SCALING * self.get_submodule("conv5")(torch.cat(seen, 1))
        return y


class RRDB(nn.Module):
    """Three dense blocks in a residual of their own."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.rdb1 = DenseBlock(width, growth)
        self.rdb2 = DenseBlock(width, growth)
        self.rdb3 = DenseBlock(width, growth)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        y: Tensor = x + _SCALING * self.rdb3(self.rdb2(self.rdb1(x)))
        return y


class RRDBNet(nn.Module):
    """Images in [-1, 1] to images in [-1, 1], scale times as large; inside they are in [0, 1].

    Args:
        channels: 1 or 3.
        scale: 1, 2 or 4: the enlargement; for 2 and 1, pixels are first folded into channels, twice or four times, as
            in BasicSR, so that the network always enlarges four times.
        width: Feature maps (the paper: 64).
        blocks: RRDBs (the paper: 23).
        growth: Maps that each dense convolution adds (the paper: 32).
        upsamplings: Doublings; 2, but for some old weights that double `scale`'s logarithm times without folding.

    Raises:
        ValueError: The scale cannot be reached.
    """

    def __init__(
        self,
        channels: int,
        scale: int,
        width: int = 64,
        blocks: int = 23,
        growth: int = 32,
        upsamplings: int = 2,
    ) -> None:
        super().__init__()
        self.scale, self.folding = scale, 2**upsamplings // scale
        if self.folding < 1 or self.folding * scale != 2**upsamplings:
            raise ValueError(f"{upsamplings} doublings cannot give a scale of {scale}")
        self.upsamplings = upsamplings
        self.conv_first = nn.Conv2d(channels * self.folding**2, width, 3, padding=1)
        self.body = nn.Sequential(*(RRDB(width, growth) for _ in range(blocks)))
        self.conv_body = nn.Conv2d(width, width, 3, padding=1)
        for i in range(1, upsamplings + 1):
            self.add_module(f"conv_up{i}", nn.Conv2d(width, width, 3, padding=1))
        self.conv_hr = nn.Conv2d(width, width, 3, padding=1)
        self.conv_last = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, scale · H, scale · W), not clipped.

        Sides that do not fold are padded by repetition, and the result is cropped.
        """
        height, width = images.shape[-2:]
        x = (images + 1) / 2
        down, right = -height % self.folding, -width % self.folding
        if down or right:
            x = F.pad(x, (0, right, 0, down), mode="replicate")
        shallow = self.conv_first(F.pixel_unshuffle(x, self.folding) if self.folding > 1 else x)
        y = shallow + self.conv_body(self.body(shallow))
        for i in range(1, self.upsamplings + 1):
            y = F.leaky_relu(self.get_submodule(f"conv_up{i}")(F.interpolate(y, scale_factor=2.0)), 0.2)
        y = self.conv_last(F.leaky_relu(self.conv_hr(y), 0.2))
        out: Tensor = (y * 2 - 1)[..., : height * self.scale, : width * self.scale]
        return out
