"""What image GANs with further heads on D's features share: the heads' place, and one pass through D for all heads.

A subclass adds heads with `add_head`, reads `features_of` in its terms, and lists its own loss; see `ss_gan.py`.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ganwright.data.spec import Batch, DataSpec
from ganwright.recipes.base import StepContext, frozen
from ganwright.recipes.image_gan import ImageGAN, finished
from ganwright.recipes.image_settings import ImageGANSettings


class HeadedImageGAN(ImageGAN):
    """`ImageGAN` whose discriminator has further heads; they train with D and are fixed while G trains."""

    def __init__(self, data: DataSpec, settings: ImageGANSettings) -> None:
        super().__init__(data, settings)
        self.heads = nn.ModuleDict()
        # The last two passes through D: (images, features). Heads on the same images need no pass of their own.
        self._passes: deque[tuple[Tensor, Tensor]] = deque(maxlen=2)
        self._entering: Tensor | None = None
        self.discriminator.register_forward_pre_hook(self._note_images)
        self.discriminator.head.register_forward_pre_hook(self._note_features)

    @property
    def feature_size(self) -> int:
        """Numbers in D's features."""
        linear = self.discriminator.head.linear
        assert isinstance(linear, nn.Linear)
        return linear.in_features

    def add_head(self, name: str, head: nn.Module) -> None:
        """Add a head on D's features, drawn and normalised as D's own layers are."""
        self.heads[name] = finished(head, self.settings, spectral=self.settings.spectral_d)

    def step(self, batch: Batch, ctx: StepContext) -> dict[str, Tensor]:
        """`ImageGAN.step`, with the scalars of `discriminator_terms` and `generator_terms`."""
        log = super().step(batch, ctx)
        self._passes.clear()
        return log

    def _discriminator_parameters(self) -> Iterable[nn.Parameter]:
        return itertools.chain(super()._discriminator_parameters(), self.heads.parameters())

    def features_of(self, images: Tensor, labels: Tensor | None) -> Tensor:
        """D's features (N, F) of images; those that D has just judged are not passed through it again."""
        for seen, features in self._passes:
            if seen is images:
                return features
        return self.discriminator.embed(images, labels)

    def read(self, head: str, features: Tensor, *, train: bool) -> Tensor:
        """What a head says of features, in float32 at least; without `train` its weights get no gradient."""
        if train:
            return at_least_float32(self.heads[head](features))
        with frozen(self.heads):
            return at_least_float32(self.heads[head](features))

    def _note_images(self, module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        self._entering = arguments[0]

    def _note_features(self, module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        if self._entering is not None:
            self._passes.append((self._entering, arguments[0]))
            self._entering = None


def at_least_float32(x: Tensor) -> Tensor:
    """Losses are not computed in half precision."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
