"""A perceptual loss over the maps inside a registered extractor, for projection.

It is built like LPIPS (Zhang et al. 2018), without its learned weights and not over VGG16: distances cannot be set
beside LPIPS, and are always named with the extractor.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganwright.errors import SettingsError
from ganwright.metrics.extractor_base import Extractor, full_precision

_ENLARGED = 4
"""Images are enlarged at most so many times on their way to the extractor: more costs time and tells nothing."""
_SMALLEST_INPUT = 64
_SMALLEST_MAP = 4


class PerceptualLoss:
    """Distance of images in an extractor's feature maps.

    For each resolution of maps from 4x4 on, the last maps of that resolution, each position's channels at unit length;
    the squared difference, summed over channels, averaged over positions, summed over resolutions.

    Args:
        extractor: A registered one that is a network of torch modules.
        resolution: Side of the images.

    Attributes:
        name: What it is called in results.

    Raises:
        SettingsError: The extractor's maps cannot be reached or differentiated.
    """

    def __init__(self, extractor: Extractor, resolution: int) -> None:
        network = getattr(extractor, "network", None)
        if not isinstance(network, nn.Module) or isinstance(network, torch.jit.ScriptModule):
            raise SettingsError(
                f"The maps inside the extractor {extractor.name} cannot be reached, so it gives no perceptual loss.",
                where="extractor",
                fix="use efficientnet-lite0, inception, a domain extractor, or none (pixels alone)",
            )
        self.extractor, self.network = extractor, network
        self.side = min(extractor.size, max(_SMALLEST_INPUT, _ENLARGED * resolution))
        self.name = f"{extractor.name} maps at {self.side}x{self.side} + pixels"
        self._maps: dict[tuple[int, int], Tensor] = {}

    def features(self, images: Tensor) -> list[Tensor]:
        """Maps of float images (N, 1 or 3, H, W) in [-1, 1]: a list of (N, C_i, H_i, W_i), fine to coarse."""
        x = (images.to(self.extractor.device).float() + 1) * 127.5
        if x.shape[-1] != self.side:
            small = x.shape[-1] < self.side
            x = F.interpolate(x, (self.side,) * 2, mode="bicubic", antialias=not small, align_corners=False)
        x = x.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        with self._watched(), full_precision(self.extractor.device):
            self.extractor.forward(x)
        maps = [m for size, m in self._maps.items() if min(size) >= _SMALLEST_MAP]
        self._maps = {}
        if not maps:
            raise SettingsError(
                f"The extractor {self.extractor.name} has no maps to compare.", where="extractor", fix="choose another"
            )
        return [F.normalize(m.float(), dim=1, eps=1e-8) for m in maps]

    def distance(self, features: list[Tensor], target: list[Tensor]) -> Tensor:
        """(N,), from 0, for features of N images and of one target."""
        parts = [(f - t).square().sum(1).mean((1, 2)) for f, t in zip(features, target, strict=True)]
        return torch.stack(parts).sum(0)

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        def keep(module: nn.Module, inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and output.ndim == 4:
                self._maps[(output.shape[2], output.shape[3])] = output

        hooks = [module.register_forward_hook(keep) for module in self.network.modules()]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
