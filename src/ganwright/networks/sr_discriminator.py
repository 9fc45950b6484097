"""The discriminator of SRGAN (Ledig et al. 2017, figure 4), for images of any size from 16 pixels on."""

from __future__ import annotations

from torch import Tensor, nn

from ganwright.networks.blocks import make_norm


class SRDiscriminator(nn.Module):
    """Convolutions in pairs, the second halving the image, widths doubling; leaky units; then two dense layers.

    The paper flattens 96x96 crops at the end; here features are averaged over positions, so that any size will do.

    Args:
        channels: 1 or 3.
        width: Feature maps of the first pair (the paper: 64).
        levels: Pairs (the paper: 4); the width stops growing at 8 times the first.
        norm: "batch" (the paper), "instance" or "none".
    """

    def __init__(self, channels: int, width: int = 64, levels: int = 4, norm: str = "batch") -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = channels
        for level in range(levels):
            outputs = width * min(2**level, 8)
            for stride in (1, 2):
                first = level == 0 and stride == 1
                layers.append(nn.Conv2d(before, outputs, 3, stride, 1))
                layers += [] if first else [make_norm(norm, outputs)]
                layers.append(nn.LeakyReLU(0.2))
                before = outputs
        self.layers = nn.Sequential(*layers)
        self.dense = nn.Sequential(nn.Linear(before, 2 * before), nn.LeakyReLU(0.2), nn.Linear(2 * before, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) to logits (N,)."""
        features = self.layers(images).mean((2, 3))
        logits: Tensor = self.dense(features)[:, 0]
        return logits
