"""An encoder of images: a short vector of features, learned from nothing or read off a frozen pretrained network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganwright.networks.blocks import SyncedBatchNorm
from ganwright.networks.conditional import NetworkPlan, halvings
from ganwright.networks.projected import SCALES, FrozenFeatures


class ConvEncoder(nn.Module):
    """Images (N, C, H, W) to features (N, outputs) in (-1, 1): 4x4 convolutions of stride 2, then a linear layer.

    Args:
        plan: Resolution, channels, width and growth, as for a discriminator.
        outputs: Numbers in a feature vector.
    """

    def __init__(self, plan: NetworkPlan, outputs: int) -> None:
        super().__init__()
        base, k = halvings(plan.resolution)
        inputs, layers = plan.channels, list[nn.Module]()
        for i in range(k):
            layers += [nn.Conv2d(inputs, plan.maps(i), 4, 2, 1), SyncedBatchNorm(plan.maps(i)), nn.LeakyReLU(0.2)]
            inputs = plan.maps(i)
        self.layers = nn.Sequential(*layers)
        self.to_features = nn.Linear(inputs * base**2, outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Features of images in [-1, 1]."""
        return torch.tanh(self.to_features(self.layers(images).flatten(1)))


class BackboneEncoder(nn.Module):
    """The same from a frozen EfficientNet-Lite0: its four scales, 2x2 averages each, and one learned linear layer.

    Args:
        outputs: Numbers in a feature vector.
        resize_to: See `FrozenFeatures`.
    """

    def __init__(self, outputs: int, resize_to: int = 128) -> None:
        super().__init__()
        self.backbone = FrozenFeatures(resize_to)
        self.norm = nn.LayerNorm(4 * sum(channels for _, channels in SCALES))
        self.to_features = nn.Linear(4 * sum(channels for _, channels in SCALES), outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Features of images in [-1, 1]."""
        pooled = [F.adaptive_avg_pool2d(x, 2).flatten(1) for x in self.backbone(images)]
        return torch.tanh(self.to_features(self.norm(torch.cat(pooled, dim=1))))
