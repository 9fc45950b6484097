"""The label head's networks: an ensemble of small MLPs that read a class from the features of one pixel.

Its members are stacked in one set of tensors, so that all train in one pass; nothing is shared among them but the
scaling of the features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganwright.segmenting.features import projected_rows

_BAND_FLOATS = 1 << 25
"""Numbers of the first layer held at a time when an image is labelled (128 MiB)."""


class _StackedLinear(nn.Module):
    """One linear layer a member: (M, B, inputs) to (M, B, outputs)."""

    def __init__(self, members: int, inputs: int, outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        draw = torch.randn(members, inputs, outputs, generator=generator)
        self.weight = nn.Parameter(draw * math.sqrt(2 / inputs))  # He et al. 2015
        self.bias = nn.Parameter(torch.zeros(members, 1, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


class _StackedNorm(nn.BatchNorm1d):
    """Batch norm of each member by itself, (M, B, H)."""

    def __init__(self, members: int, features: int) -> None:
        super().__init__(members * features)

    def forward(self, x: Tensor) -> Tensor:
        m, b, h = x.shape
        flat = super().forward(x.transpose(0, 1).reshape(b, m * h))
        return flat.view(b, m, h).transpose(0, 1)


class PixelEnsemble(nn.Module):
    """M networks of three linear layers with ReLU and batch norm between (Zhang et al. 2021 and their code).

    Args:
        members: M.
        widths: Channels of each feature map; their sum is the number of inputs.
        num_classes: K.
        hidden: Units of the two hidden layers.
        seed: Of the weights.
    """

    mean: Tensor
    scale: Tensor
    seen: Tensor

    def __init__(
        self,
        members: int,
        widths: Sequence[int],
        num_classes: int,
        *,
        hidden: tuple[int, int] = (128, 32),
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.members, self.widths, self.num_classes, self.hidden = members, tuple(widths), num_classes, hidden
        generator = torch.Generator().manual_seed(seed)
        inputs = sum(widths)
        self.first = _StackedLinear(members, inputs, hidden[0], generator)
        self.norm1 = _StackedNorm(members, hidden[0])
        self.second = _StackedLinear(members, *hidden, generator)
        self.norm2 = _StackedNorm(members, hidden[1])
        self.third = _StackedLinear(members, hidden[1], num_classes, generator)
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("scale", torch.ones(inputs))
        self.register_buffer("seen", torch.ones(num_classes, dtype=torch.bool))

    @torch.no_grad()
    def scale_like(self, features: Tensor) -> None:
        """Take mean and standard deviation of each input from features (P, inputs); constant ones become 0."""
        deviation = features.std(0, correction=0)
        # A constant input has rounding noise for a deviation: dividing by that would make it loud.
        floor = 1e-5 * features.abs().amax(0).clamp_min(1e-30)
        self.mean.copy_(features.mean(0))
        self.scale.copy_(torch.where(deviation > floor, 1 / deviation.clamp_min(1e-30), 0.0))

    def rule_out_unseen(self, classes: Tensor) -> None:
        """Never say a class that is not among these, int64 (P,): nothing was learnt about it."""
        self.seen.copy_(torch.bincount(classes, minlength=self.num_classes) > 0)

    def forward(self, features: Tensor) -> Tensor:
        """Features (M, B, inputs) of pixels, each member its own, to logits (M, B, K)."""
        return self.from_scaled((features - self.mean) * self.scale)

    def from_scaled(self, features: Tensor) -> Tensor:
        """The same from features that are scaled already."""
        return self._rest(self.first(features))

    def _rest(self, x: Tensor) -> Tensor:
        x = self.norm1(F.relu(x))
        x = self.norm2(F.relu(self.second(x)))
        logits: Tensor = self.third(x)
        return logits.masked_fill(~self.seen, -1e4)

    @torch.no_grad()
    def probabilities(self, maps: Sequence[Tensor], size: tuple[int, int], rows: range) -> Tensor:
        """What each member says of some rows of one image; in `eval` mode.

        Args:
            maps: Feature maps of one image, (C_i, H_i, W_i) each.
            size: (height, width) of the image.
            rows: Which rows, without gaps.

        Returns:
            (M, K, len(rows), width).
        """
        weight = self.first.weight * self.scale[:, None]  # (M, inputs, H): the scaling is linear too
        bias = self.first.bias[:, 0] - self.mean @ weight  # (M, H)
        split = torch.split(weight.transpose(0, 1).flatten(1), list(self.widths))  # (C_i, M·H) each
        pixels = projected_rows(maps, split, size, rows).view(self.members, self.hidden[0], -1)
        logits = self._rest((pixels + bias[..., None]).transpose(1, 2))
        return logits.softmax(-1).transpose(1, 2).reshape(self.members, self.num_classes, len(rows), size[1])

    def bands(self, size: tuple[int, int]) -> list[range]:
        """The rows of an image in parts that fit in memory."""
        at_a_time = max(1, _BAND_FLOATS // (self.members * self.hidden[0] * size[1]))
        return [range(y, min(y + at_a_time, size[0])) for y in range(0, size[0], at_a_time)]
