"""Inception-v3 as the 2015 TensorFlow graph of the Inception score and of FID has it (Szegedy et al. 2016).

It differs from the usual Inception-v3: average pooling leaves padding out of the mean, the last block pools by
maximum, and there are 1008 logits. The state dict has the keys of `pt_inception-2015-12-05-6726825d.pth`, so that file
loads as is.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganwright.networks.folded import ConvNorm

SPATIAL_CHANNELS = 7


def _conv(inputs: int, outputs: int, kernel: int | tuple[int, int], stride: int = 1, pad: bool = False) -> ConvNorm:
    size = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = (size[0] // 2, size[1] // 2) if pad else (0, 0)
    return ConvNorm(inputs, outputs, size, stride=stride, padding=padding)


def _average_pool(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


class InceptionA(nn.Module):
    """35x35 blocks (Mixed_5b to 5d)."""

    def __init__(self, inputs: int, pool_features: int) -> None:
        super().__init__()
        self.branch1x1 = _conv(inputs, 64, 1)
        self.branch5x5_1 = _conv(inputs, 48, 1)
        self.branch5x5_2 = _conv(48, 64, 5, pad=True)
        self.branch3x3dbl_1 = _conv(inputs, 64, 1)
        self.branch3x3dbl_2 = _conv(64, 96, 3, pad=True)
        self.branch3x3dbl_3 = _conv(96, 96, 3, pad=True)
        self.branch_pool = _conv(inputs, pool_features, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, 35, 35) to (N, 224 + pool_features, 35, 35)."""
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        five = self.branch5x5_2(self.branch5x5_1(x))
        return torch.cat([self.branch1x1(x), five, double, self.branch_pool(_average_pool(x))], 1)


class InceptionB(nn.Module):
    """35x35 to 17x17 (Mixed_6a)."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3 = _conv(inputs, 384, 3, stride=2)
        self.branch3x3dbl_1 = _conv(inputs, 64, 1)
        self.branch3x3dbl_2 = _conv(64, 96, 3, pad=True)
        self.branch3x3dbl_3 = _conv(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 288, 35, 35) to (N, 768, 17, 17)."""
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, F.max_pool2d(x, 3, stride=2)], 1)


class InceptionC(nn.Module):
    """17x17 blocks with 1x7 and 7x1 convolutions (Mixed_6b to 6e)."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.branch1x1 = _conv(inputs, 192, 1)
        self.branch7x7_1 = _conv(inputs, width, 1)
        self.branch7x7_2 = _conv(width, width, (1, 7), pad=True)
        self.branch7x7_3 = _conv(width, 192, (7, 1), pad=True)
        self.branch7x7dbl_1 = _conv(inputs, width, 1)
        self.branch7x7dbl_2 = _conv(width, width, (7, 1), pad=True)
        self.branch7x7dbl_3 = _conv(width, width, (1, 7), pad=True)
        self.branch7x7dbl_4 = _conv(width, width, (7, 1), pad=True)
        self.branch7x7dbl_5 = _conv(width, 192, (1, 7), pad=True)
        self.branch_pool = _conv(inputs, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 768, 17, 17) to (N, 768, 17, 17)."""
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(_average_pool(x))], 1)


class InceptionD(nn.Module):
    """17x17 to 8x8 (Mixed_7a)."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3_1 = _conv(inputs, 192, 1)
        self.branch3x3_2 = _conv(192, 320, 3, stride=2)
        self.branch7x7x3_1 = _conv(inputs, 192, 1)
        self.branch7x7x3_2 = _conv(192, 192, (1, 7), pad=True)
        self.branch7x7x3_3 = _conv(192, 192, (7, 1), pad=True)
        self.branch7x7x3_4 = _conv(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 768, 17, 17) to (N, 1280, 8, 8)."""
        three = self.branch3x3_2(self.branch3x3_1(x))
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([three, seven, F.max_pool2d(x, 3, stride=2)], 1)


class InceptionE(nn.Module):
    """8x8 blocks (Mixed_7b pools by average, Mixed_7c by maximum)."""

    def __init__(self, inputs: int, *, max_pool: bool) -> None:
        super().__init__()
        self.max_pool = max_pool
        self.branch1x1 = _conv(inputs, 320, 1)
        self.branch3x3_1 = _conv(inputs, 384, 1)
        self.branch3x3_2a = _conv(384, 384, (1, 3), pad=True)
        self.branch3x3_2b = _conv(384, 384, (3, 1), pad=True)
        self.branch3x3dbl_1 = _conv(inputs, 448, 1)
        self.branch3x3dbl_2 = _conv(448, 384, 3, pad=True)
        self.branch3x3dbl_3a = _conv(384, 384, (1, 3), pad=True)
        self.branch3x3dbl_3b = _conv(384, 384, (3, 1), pad=True)
        self.branch_pool = _conv(inputs, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, 8, 8) to (N, 2048, 8, 8)."""
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = F.max_pool2d(x, 3, stride=1, padding=1) if self.max_pool else _average_pool(x)
        return torch.cat(
            [
                self.branch1x1(x),
                self.branch3x3_2a(three),
                self.branch3x3_2b(three),
                self.branch3x3dbl_3a(double),
                self.branch3x3dbl_3b(double),
                self.branch_pool(pooled),
            ],
            1,
        )


class InceptionV3(nn.Module):
    """Images (N, 3, 299, 299) in [-1, 1] to features (N, 2048), logits (N, 1008) and spatial features (N, 2023).

    The logits leave out the last layer's bias, as the Inception score of Salimans et al. 2016 does. The spatial ones
    are the first 7 channels of the 17x17 map that the graph calls `mixed_6/conv`, as sFID has them (Nash et al. 2021).
    """

    feature_dim = 2048

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _conv(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = _conv(32, 32, 3)
        self.Conv2d_2b_3x3 = _conv(32, 64, 3, pad=True)
        self.Conv2d_3b_1x1 = _conv(64, 80, 1)
        self.Conv2d_4a_3x3 = _conv(80, 192, 3)
        self.Mixed_5b = InceptionA(192, 32)
        self.Mixed_5c = InceptionA(256, 64)
        self.Mixed_5d = InceptionA(288, 64)
        self.Mixed_6a = InceptionB(288)
        self.Mixed_6b = InceptionC(768, 128)
        self.Mixed_6c = InceptionC(768, 160)
        self.Mixed_6d = InceptionC(768, 160)
        self.Mixed_6e = InceptionC(768, 192)
        self.Mixed_7a = InceptionD(768)
        self.Mixed_7b = InceptionE(1280, max_pool=False)
        self.Mixed_7c = InceptionE(2048, max_pool=True)
        self.fc = nn.Linear(2048, 1008)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pooled features (N, 2048), logits without bias (N, 1008), spatial features (N, 2023), channels last."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = F.max_pool2d(x, 3, stride=2)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))
        x = F.max_pool2d(x, 3, stride=2)
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))
        x = self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x))))
        spatial = x[:, :SPATIAL_CHANNELS].permute(0, 2, 3, 1).flatten(1)  # the 1x1 branch comes first
        x = self.Mixed_6e(x)
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        features = x.mean(dim=(2, 3))
        return features, F.linear(features, self.fc.weight), spatial
