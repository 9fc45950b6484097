"""Fully connected generator and discriminator, for images of any size (Goodfellow et al. 2014)."""

from __future__ import annotations

import itertools

import torch.nn.functional as F
from torch import Tensor, nn

from ganwright.networks.blocks import Dropout
from ganwright.networks.conditional import HEADS, Discriminator, Generator, NetworkPlan


class MLPGenerator(Generator):
    """`depth` hidden layers of `width` rectified units."""

    def __init__(self, plan: NetworkPlan) -> None:
        super().__init__(plan)
        sizes = [self.input_size] + [plan.width] * plan.depth
        self.layers = nn.ModuleList(nn.Linear(a, b, bias=plan.bias) for a, b in itertools.pairwise(sizes))
        self.norms = nn.ModuleList(plan.make_norm(plan.width) for _ in range(plan.depth))
        self.to_image = nn.Linear(plan.width, plan.channels * plan.resolution**2)

    def synthesise(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """Images (N, C, H, W) before the final tanh."""
        for layer, norm in zip(self.layers, self.norms, strict=True):
            z = F.relu(norm(layer(z), labels))
        return self.to_image(z).view(-1, self.plan.channels, self.plan.resolution, self.plan.resolution)  # type: ignore[no-any-return]


class MLPDiscriminator(Discriminator):
    """`depth` hidden layers of `width` leaky rectified units (Goodfellow et al. had maxout units)."""

    def __init__(self, plan: NetworkPlan) -> None:
        super().__init__(plan)
        inputs = plan.channels * plan.resolution**2 + self.label_maps
        sizes = [inputs] + [plan.width] * plan.depth
        self.layers = nn.ModuleList(nn.Linear(a, b, bias=plan.bias) for a, b in itertools.pairwise(sizes))
        self.norms = nn.ModuleList(plan.make_norm(plan.width) for _ in range(plan.depth))
        self.dropout = Dropout(plan.dropout)
        self.head = HEADS[plan.head](plan.width, plan)

    def prepare(self, images: Tensor) -> Tensor:
        """Images as vectors (N, C·H·W)."""
        return images.flatten(1)

    def features(self, x: Tensor) -> Tensor:
        """Features (N, width)."""
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = self.dropout(F.leaky_relu(norm(layer(x), None), 0.2))
        return x
