"""The small residual classifier that a domain extractor is made of, and how its training images are varied.

How it is trained is in `metrics/domain_training.py`, how its file is read in `metrics/extractor_domain.py`.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

ARCHITECTURE = "resnet-12"
"""Names the layers below; a file with other layers needs another name."""
FEATURES = 256
_STEM = 32
_STAGES = ((32, 2), (64, 2), (160, 1))
"""Width and blocks of each stage, whose first block halves the map; the widths add up to `FEATURES`."""
_SHIFT, _TURN, _SCALE, _CONTRAST = 0.08, 10.0, 0.1, 0.15
"""Augmentation, each uniform within ±: share of the side, degrees, share of the size, share of the contrast."""


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm beside a shortcut (He et al. 2016), which averages where it halves."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        nn.init.zeros_(self.bn2.weight)  # a block begins as its shortcut (Goyal et al. 2017)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            # ceil_mode: an odd side is halved upwards, as the strided convolution does.
            pool = nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False) if stride > 1 else nn.Identity()
            self.shortcut = nn.Sequential(pool, nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, ceil(H / stride), ceil(W / stride))."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y)) + self.shortcut(x)
        return F.relu(y, inplace=True)


class DomainClassifier(nn.Module):
    """Images (N, C, S, S), normalised, to features (N, 256) and class logits (N, K).

    The features are every stage's map averaged over positions, not the last one's alone: a last stage keeps little
    but the class, and would not see blur or noise. Each is standardised over the training images, so that all count
    alike in a distance.

    Args:
        channels: C.
        num_classes: K.
        resolution: S; from 48 pixels the first convolution halves it already, for speed.
    """

    def __init__(self, channels: int, num_classes: int, resolution: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, _STEM, 3, 2 if resolution >= 48 else 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(_STEM)
        stages: list[nn.Module] = []
        inputs = _STEM
        for width, count in _STAGES:
            blocks = [ResidualBlock(inputs if i == 0 else width, width, 2 if i == 0 else 1) for i in range(count)]
            stages.append(nn.Sequential(*blocks))
            inputs = width
        self.stages = nn.ModuleList(stages)
        # A feature that hardly varies over real images is not blown up by more than 10.
        self.standardise = nn.BatchNorm1d(FEATURES, eps=0.01, affine=False)
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(FEATURES, num_classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features and logits; dropout, while training, is on the logits' side only."""
        x = F.relu(self.norm(self.stem(x)), inplace=True)
        pooled = []
        for stage in self.stages:
            x = stage(x)
            pooled.append(x.mean(dim=(2, 3)))
        features = self.standardise(torch.cat(pooled, 1))
        return features, self.head(self.dropout(features))


def augmented(images: Tensor, generator: np.random.Generator, flip: bool = False) -> Tensor:
    """Each image shifted, turned, scaled and changed in contrast a little, as one affine map; mirrored if `flip`.

    Args:
        images: Float (N, C, H, W), normalised.
        generator: Draws the changes.
        flip: Mirror half of them left to right.

    Returns:
        The same shape; beyond the border its pixels are repeated.
    """
    n = len(images)
    draw = generator.uniform(-1, 1, (6, n)).astype(np.float32)
    scale, turn = 1 + _SCALE * draw[0], np.deg2rad(_TURN) * draw[1]
    mirror = np.where(draw[5] < 0, -1, 1) if flip else np.ones(n)
    theta = np.zeros((n, 2, 3), np.float32)
    theta[:, 0, 0], theta[:, 0, 1] = mirror * scale * np.cos(turn), -scale * np.sin(turn)
    theta[:, 1, 0], theta[:, 1, 1] = mirror * scale * np.sin(turn), scale * np.cos(turn)
    theta[:, :, 2] = 2 * _SHIFT * draw[2:4].T  # the grid's side is 2
    grid = F.affine_grid(torch.from_numpy(theta).to(images.device), list(images.shape), align_corners=False)
    contrast = torch.from_numpy(1 + _CONTRAST * draw[4]).to(images.device).view(-1, 1, 1, 1)
    moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return (moved * contrast).contiguous(memory_format=torch.channels_last)
