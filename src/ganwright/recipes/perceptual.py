"""A perceptual loss for training restorers: distance in the maps of a frozen network (Johnson et al. 2016)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ganwright.networks.projected import FrozenFeatures

_SMALLEST = 64
_STRIDE = 32


class PerceptualLoss(nn.Module):
    """Distance of images in EfficientNet-Lite0's maps at strides 4, 8, 16 and 32.

    At each stride, each position's channels at unit length; the squared difference, summed over channels, averaged over
    positions; summed over strides. Built like LPIPS (Zhang et al. 2018) without its learned weights, and over another
    network than the VGG of SRGAN and ESRGAN, whose weights no package registry has: so weights of the loss in papers do
    not carry over as they are.

    It has no parameters and no state: the network's weights are loaded, not saved.

    Args:
        side: Side of the images in training, which are enlarged to the next multiple of 32 from 64 on.

    Raises:
        SettingsError: The package with the weights is not installed.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.features = FrozenFeatures(max(_SMALLEST, -(-side // _STRIDE) * _STRIDE))

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """The mean distance of images from targets, both (N, 1 or 3, H, W) in about [-1, 1]; a scalar.

        Gradients flow to the images alone.
        """
        found, wanted = self.features(images), self.features(targets.detach())
        parts = [
            (F.normalize(a.float(), dim=1) - F.normalize(b.float(), dim=1)).square().sum(1).mean()
            for a, b in zip(found, wanted, strict=True)
        ]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total
