"""What every image generator and discriminator shares: its plan, and how class labels enter it.

A network of one architecture subclasses `Generator` or `Discriminator` and adds its layers; conditioning is
the same for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganwright.networks.blocks import make_norm


@dataclass(frozen=True)
class NetworkPlan:
    """The size of one network, generator or discriminator.

    Attributes:
        resolution: Height and width of images, in pixels.
        channels: 1 or 3.
        width: Feature maps at the image's own resolution (units of a hidden layer for an mlp).
        growth: Feature maps double with each halving of the resolution, up to `growth` · `width`.
        depth: Layers a resolution (dcgan: convolutions, resnet: residual blocks); hidden layers of an mlp.
        norm: A key of `blocks.NORMS`.
        num_classes: K, or 0 for an unconditional network.
        latent_dim: Generator: numbers in a latent vector.
        class_embedding: Generator: numbers of the class embedding joined to the latent; 0: none.
        conditional_norm: Generator: whether gain and bias of its norms belong to the class.
        head: Discriminator: a key of `HEADS`.
        dropout: Discriminator: probability of dropping a unit after each activation.
        pooling: Discriminator: "sum" or "mean" over positions before the head (resnet).
    """

    resolution: int
    channels: int
    width: int
    growth: int = 8
    depth: int = 1
    norm: str = "none"
    num_classes: int = 0
    latent_dim: int = 100
    class_embedding: int = 0
    conditional_norm: bool = False
    head: str = "none"
    dropout: float = 0.0
    pooling: str = "sum"

    @property
    def bias(self) -> bool:
        """Layers have biases where no norm follows that would cancel them."""
        return self.norm == "none"

    def maps(self, halvings: int) -> int:
        """Feature maps after the resolution was halved so many times."""
        return self.width * min(1 << halvings, self.growth)

    def make_norm(self, channels: int) -> nn.Module:
        """A norm layer for this network, called as norm(x, labels)."""
        return make_norm(self.norm, channels, self.num_classes if self.conditional_norm else 0)


RESOLUTIONS = tuple(sorted(base * 2**k for base in (4, 5, 6, 7) for k in range(1, 7) if 16 <= base * 2**k <= 256))
"""What convolutional networks can make: 4 to 7 pixels, doubled again and again, from 16 to 256."""


def halvings(resolution: int) -> tuple[int, int]:
    """(base, k) with resolution = base · 2^k and base in 4..7: where convolutional networks begin or end.

    Raises:
        ValueError: The resolution is not in `RESOLUTIONS`.
    """
    if resolution not in RESOLUTIONS:
        raise ValueError(f"no convolutional network makes {resolution} pixels")
    k = 0
    while resolution >= 8:
        resolution, k = resolution // 2, k + 1
    return resolution, k


class Generator(nn.Module):
    """Latent vectors (N, latent_dim) and classes (N,) -> images (N, C, H, W) in [-1, 1].

    Subclasses implement `synthesise`. Classes enter by an embedding joined to the latent (Mirza & Osindero
    2014), by conditional norms (Miyato & Koyama 2018), or not at all.
    """

    def __init__(self, plan: NetworkPlan) -> None:
        super().__init__()
        self.plan = plan
        self.embedding = nn.Embedding(plan.num_classes, plan.class_embedding) if plan.class_embedding else None

    @property
    def input_size(self) -> int:
        """Numbers that enter the first layer."""
        return self.plan.latent_dim + self.plan.class_embedding

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] from z (N, latent_dim) and, if conditional, labels (N,)."""
        if self.plan.num_classes and labels is None:
            raise ValueError("a conditional generator needs labels")
        if self.embedding is not None:
            z = torch.cat([z, self.embedding(labels)], dim=1)
        return torch.tanh(self.synthesise(z, labels))

    def synthesise(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """Images before the final tanh."""
        raise NotImplementedError


class Verdict(NamedTuple):
    """What a discriminator says.

    Attributes:
        logits: Raw outputs (N,): how real.
        class_logits: (N, K): which class, from an auxiliary classifier; None otherwise.
    """

    logits: Tensor
    class_logits: Tensor | None = None


class Discriminator(nn.Module):
    """Images (N, C, H, W) and classes (N,) -> `Verdict`.

    Subclasses set `self.head = HEADS[plan.head](features, plan)` and implement `features`.
    """

    head: nn.Module

    def __init__(self, plan: NetworkPlan) -> None:
        super().__init__()
        self.plan = plan

    @property
    def label_maps(self) -> int:
        """Maps (or units, for an mlp) joined to the image: one a class if labels are concatenated."""
        return self.plan.num_classes if self.plan.head == "concat" else 0

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Verdict:
        """How real images (N, C, H, W) in [-1, 1] are, as members of classes `labels` (N,) if conditional."""
        verdict: Verdict = self.head(self.embed(images, labels), labels)
        return verdict

    def embed(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Features (N, F) of images (N, C, H, W) in [-1, 1]: what the head sees; labels matter for `concat` alone."""
        x = self.prepare(images)
        if self.label_maps:
            if labels is None:
                raise ValueError("a conditional discriminator needs labels")
            planes = F.one_hot(labels, self.plan.num_classes).to(x.dtype)
            planes = planes.view(*planes.shape, *[1] * (x.ndim - 2)).expand(-1, -1, *x.shape[2:])
            x = torch.cat([x, planes], dim=1)
        return self.features(x)

    def prepare(self, images: Tensor) -> Tensor:
        """Images as the first layer wants them."""
        return images

    def features(self, x: Tensor) -> Tensor:
        """Features (N, F) from the prepared images and label maps."""
        raise NotImplementedError


# Heads: from features to a verdict, called as head(features, labels). ---------------------------------------


class LinearHead(nn.Module):
    """One number an image."""

    def __init__(self, features: int, plan: NetworkPlan) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 1, bias=plan.bias)

    def forward(self, features: Tensor, labels: Tensor | None = None) -> Verdict:
        """Verdict on features (N, F); labels are ignored."""
        return Verdict(self.linear(features).squeeze(1))


class ProjectionHead(nn.Module):
    """ψ(φ(x)) + yᵀVφ(x) (Miyato & Koyama 2018, eq. 3)."""

    def __init__(self, features: int, plan: NetworkPlan) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 1, bias=plan.bias)
        self.embedding = nn.Embedding(plan.num_classes, features)
        nn.init.normal_(self.embedding.weight, 0.0, 0.02)  # classes begin as almost no evidence

    def forward(self, features: Tensor, labels: Tensor | None = None) -> Verdict:
        """Verdict on features (N, F) as members of classes `labels` (N,)."""
        if labels is None:
            raise ValueError("a projection discriminator needs labels")
        return Verdict(self.linear(features).squeeze(1) + (self.embedding(labels) * features).sum(1))


class AuxiliaryHead(nn.Module):
    """How real, and which class (Odena et al. 2017, eq. 2-3); the class asked for is not shown to it."""

    def __init__(self, features: int, plan: NetworkPlan) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 1, bias=plan.bias)
        self.classifier = nn.Linear(features, plan.num_classes)

    def forward(self, features: Tensor, labels: Tensor | None = None) -> Verdict:
        """Verdict on features (N, F); labels are ignored."""
        return Verdict(self.linear(features).squeeze(1), self.classifier(features))


HEADS: dict[str, Callable[[int, NetworkPlan], nn.Module]] = {
    "none": LinearHead,
    "concat": LinearHead,
    "projection": ProjectionHead,
    "auxiliary": AuxiliaryHead,
}
"""Discriminators' last layers by the name of the conditioning."""
