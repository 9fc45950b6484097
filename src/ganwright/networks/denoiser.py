"""Networks that take damage out of images of any size: a small U-Net, and DnCNN.

Both predict the damage and subtract it (Zhang et al. 2017, section III-A). A network that knows the strength of the
damage gets it as one more channel, constant over the image (Zhang et al. 2018, "FFDNet").
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganwright.networks.blocks import SyncedBatchNorm2d


class Denoiser(nn.Module):
    """Images (N, C, H, W) in about [-1, 1], and perhaps the damage's strength (N,), to restored images, not clipped.

    Args:
        channels: C.
        informed: Whether it is told the strength.
    """

    def __init__(self, channels: int, informed: bool) -> None:
        super().__init__()
        self.inputs = channels + int(informed)
        self.informed = informed

    def damage(self, x: Tensor) -> Tensor:
        """What is to be subtracted, (N, C, H, W), from images and strength (N, inputs, H, W)."""
        raise NotImplementedError

    def forward(self, images: Tensor, strength: Tensor | None = None) -> Tensor:
        """Restore.

        Raises:
            ValueError: It needs to be told the strength.
        """
        x = images
        if self.informed:
            if strength is None:
                raise ValueError("this denoiser must be told the strength of the damage")
            plane = strength.to(images).view(-1, 1, 1, 1).expand(-1, 1, *images.shape[2:])
            x = torch.cat([images, plane], 1)
        return images - self.damage(x)


class _Two(nn.Sequential):
    """Two 3x3 convolutions with leaky rectified units."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(outputs, outputs, 3, padding=1),
            nn.LeakyReLU(0.1),
        )


class UNetDenoiser(Denoiser):
    """A U-Net (Ronneberger et al. 2015) without norms; widths are width · 1, 2, 4, … at each halving.

    Images whose sides are no multiple of 2^depth are padded by repetition inside, and the result is cropped.

    Args:
        channels: C.
        informed: See `Denoiser`.
        width: Feature maps at full size; 16 with depth 2 are 0.12 million parameters.
        depth: Halvings.
    """

    def __init__(self, channels: int, informed: bool = False, width: int = 32, depth: int = 2) -> None:
        super().__init__(channels, informed)
        widths = [width * 2**i for i in range(depth + 1)]
        self.down = nn.ModuleList(_Two(a, b) for a, b in zip([self.inputs, *widths], widths, strict=False))
        self.up = nn.ModuleList(_Two(b + a, a) for a, b in itertools.pairwise(widths))
        self.last = nn.Conv2d(width, channels, 3, padding=1)
        nn.init.zeros_(self.last.weight)  # it begins as the identity
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def damage(self, x: Tensor) -> Tensor:
        """What is to be subtracted."""
        height, width = x.shape[-2:]
        multiple = 2 ** len(self.up)
        x = F.pad(x, (0, -width % multiple, 0, -height % multiple), mode="replicate")
        kept = []
        for i, block in enumerate(self.down):
            x = block(x if i == 0 else F.avg_pool2d(x, 2))
            kept.append(x)
        for i in reversed(range(len(self.up))):
            x = self.up[i](torch.cat([F.interpolate(x, scale_factor=2.0), kept[i]], 1))
        y: Tensor = self.last(x)[..., :height, :width]
        return y


class DnCNN(Denoiser):
    """DnCNN (Zhang et al. 2017, section III): convolutions at full size with batch norm.

    Args:
        channels: C.
        informed: See `Denoiser`.
        width: Feature maps (the paper: 64).
        depth: Convolutions (the paper: 17 for a known level, 20 for a blind one).
    """

    def __init__(self, channels: int, informed: bool = False, width: int = 64, depth: int = 17) -> None:
        super().__init__(channels, informed)
        layers: list[nn.Module] = [nn.Conv2d(self.inputs, width, 3, padding=1), nn.ReLU()]
        for _ in range(depth - 2):
            layers += [nn.Conv2d(width, width, 3, padding=1, bias=False), SyncedBatchNorm2d(width), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, channels, 3, padding=1))

    def damage(self, x: Tensor) -> Tensor:
        """What is to be subtracted."""
        y: Tensor = self.layers(x)
        return y
