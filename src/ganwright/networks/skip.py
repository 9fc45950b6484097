"""The hourglass with skip connections of Deep Image Prior (Ulyanov et al. 2018, fig. 21), for pictures of any size.

One picture is all it is ever fitted to, so its batch normalisation always uses the statistics of what it is given, in
`eval` mode too. Convolutions before a normalisation have no bias, which the normalisation would take out again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SLOPE = 0.2


@dataclass(frozen=True)
class SkipPlan:
    """Sizes of a skip network, one entry of each tuple a scale, from the picture's own size downwards.

    Attributes:
        channels_in: Channels of the code that is put in.
        channels_out: Channels of the picture: 1 or 3.
        down: Channels on the way down, n_d.
        up: Channels on the way up, n_u.
        skip: Channels of the skip connections, n_s; 0: none at that scale.
        padding: "reflection" as in the paper, or "zeros", which is faster on a CPU.
        upsampling: Filter on the way up.
        mix: Whether each scale ends in a convolution of 1x1.
    """

    channels_in: int = 32
    channels_out: int = 3
    down: tuple[int, ...] = (128,) * 5
    up: tuple[int, ...] = (128,) * 5
    skip: tuple[int, ...] = (4,) * 5
    padding: Literal["reflection", "zeros"] = "reflection"
    upsampling: Literal["nearest", "bilinear"] = "bilinear"
    mix: bool = True

    def __post_init__(self) -> None:
        if not len(self.down) == len(self.up) == len(self.skip) > 0:
            raise ValueError("down, up and skip must have one entry a scale")

    def at_most(self, scales: int) -> SkipPlan:
        """The same with only the first `scales` scales (for small pictures)."""
        scales = max(1, scales)
        return replace(self, down=self.down[:scales], up=self.up[:scales], skip=self.skip[:scales])


PLANS: Mapping[str, SkipPlan] = {
    # 2.2 million weights: "denoising.ipynb", "super-resolution.ipynb" and "restoration.ipynb" of the authors.
    "official": SkipPlan(),
    # As wide in the skips as in the trunk: text inpainting (kate) in "inpainting.ipynb", 3 million weights.
    "wide-skip": SkipPlan(skip=(128,) * 5, upsampling="nearest"),
    # No skips, six scales: large holes (library) in "inpainting.ipynb"; its filters of 5x5 are 3x3 here.
    "hourglass": SkipPlan(
        1,
        down=(16, 32, 64, 128, 128, 128),
        up=(16, 32, 64, 128, 128, 128),
        skip=(0,) * 6,
        upsampling="nearest",
        mix=False,
    ),
    # For CPUs: zero padding, and half the width throughout.
    "half": SkipPlan(down=(64,) * 5, up=(64,) * 5, padding="zeros"),
    # For CPUs: narrow where the picture is large. The authors' default widths in `skip()`.
    "small": SkipPlan(down=(16, 32, 64, 128, 128), up=(16, 32, 64, 128, 128), padding="zeros"),
}
"""Skip networks by name; a new one is a row."""


def scales_for(height: int, width: int) -> int:
    """How many times a picture can be halved so that 2 pixels are left for the deepest convolutions to pad."""
    return max(1, min(height, width).bit_length() - 2)


class SkipNetwork(nn.Module):
    """From a code (N, channels_in, H, W) to a picture (N, channels_out, H, W) in [0, 1]; any H, W of 4 and more.

    Args:
        plan: Sizes.
    """

    def __init__(self, plan: SkipPlan) -> None:
        super().__init__()
        self.plan = plan
        self.trunk = _Scale(plan, 0, plan.channels_in)
        self.to_picture = nn.Conv2d(plan.up[0], plan.channels_out, 1)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, code: Tensor) -> Tensor:
        """The picture, through a sigmoid."""
        picture: Tensor = torch.sigmoid(self.to_picture(self.trunk(code)))
        return picture


class _Scale(nn.Module):
    """One scale and, inside it, all coarser ones: (N, C, H, W) -> (N, up[i], H, W)."""

    def __init__(self, plan: SkipPlan, i: int, channels: int) -> None:
        super().__init__()
        deepest = i == len(plan.down) - 1
        self.upsampling = plan.upsampling
        self.skip = _Layer(channels, plan.skip[i], 1, plan.padding) if plan.skip[i] else None
        self.down = _Layer(channels, plan.down[i], 3, plan.padding, stride=2)
        self.refine = _Layer(plan.down[i], plan.down[i], 3, plan.padding)
        self.inner = None if deepest else _Scale(plan, i + 1, plan.down[i])
        merged = plan.skip[i] + (plan.down[i] if deepest else plan.up[i + 1])
        self.merge = _norm(merged)
        self.up = _Layer(merged, plan.up[i], 3, plan.padding)
        self.mix = _Layer(plan.up[i], plan.up[i], 1, plan.padding) if plan.mix else None

    def forward(self, x: Tensor) -> Tensor:
        """Down, through the coarser scales, up again; the skip joins, and everything is merged."""
        deep = self.refine(self.down(x))
        if self.inner is not None:
            deep = self.inner(deep)
        deep = _doubled(deep, self.upsampling)[..., : x.shape[2], : x.shape[3]]  # odd sizes come back a pixel larger
        merged = deep if self.skip is None else torch.cat([self.skip(x), deep], 1)
        out: Tensor = self.up(self.merge(merged))
        return out if self.mix is None else self.mix(out)


class _Layer(nn.Module):
    """Convolution, normalisation, leaky ReLU."""

    def __init__(self, channels: int, outputs: int, kernel: int, padding: str, stride: int = 1) -> None:
        super().__init__()
        margin = kernel // 2
        self.reflected = margin if padding == "reflection" else 0
        self.conv = nn.Conv2d(channels, outputs, kernel, stride, margin - self.reflected, bias=False)
        self.norm = _norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        if self.reflected:
            x = F.pad(x, (self.reflected,) * 4, mode="reflect")
        return F.leaky_relu(self.norm(self.conv(x)), _SLOPE, inplace=True)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, track_running_stats=False)


def _doubled(x: Tensor, filter_: str) -> Tensor:
    align = None if filter_ == "nearest" else False
    return F.interpolate(x, scale_factor=2, mode=filter_, align_corners=align)
