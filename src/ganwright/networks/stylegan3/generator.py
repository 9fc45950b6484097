"""StyleGAN3's generator: mapping and synthesis (Karras et al. 2021). The discriminator is StyleGAN2's."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from ganwright.networks.stylegan2.layers import full_precision
from ganwright.networks.stylegan2.mapping import Mapping
from ganwright.networks.stylegan3.layers import FourierFeatures, SynthesisLayer
from ganwright.networks.stylegan3.plan import StyleGAN3Plan


class StyledLayer(NamedTuple):
    """What takes one style of w+.

    Attributes:
        name: Of the layer, such as "L3_52_512".
        modules: The layer, in a list: StyleGAN2's styles go into several.
    """

    name: str
    modules: list[FourierFeatures | SynthesisLayer]


class Synthesis(nn.Module):
    """From w+ to images. Names of parameters and buffers are those of NVIDIA's stylegan3.

    Args:
        plan: Sizes and choices.
    """

    def __init__(self, plan: StyleGAN3Plan) -> None:
        super().__init__()
        self.plan = plan
        signals = plan.signals()
        self.tracks = False
        self.input = FourierFeatures(plan.w_dim, signals[0])
        self.names = [f"L{i}_{signal.size}_{signal.channels}" for i, signal in enumerate(signals)]
        for i, name in enumerate(self.names):
            setattr(self, name, SynthesisLayer(plan, i))

    @property
    def num_ws(self) -> int:
        """Styles of an image: one for the Fourier features and one a layer."""
        return self.plan.layers + 2

    @property
    def layers(self) -> list[StyledLayer]:
        """What each style of w+ goes into, coarse to fine."""
        return [StyledLayer("input", [self.input]), *(StyledLayer(name, [getattr(self, name)]) for name in self.names)]

    def draw_noise(self, normal: Callable[..., Tensor], rows: int) -> list[Tensor]:
        """StyleGAN3 has no per-pixel noise: an empty list."""
        return []

    @contextlib.contextmanager
    def tracking(self) -> Iterator[None]:
        """Inside the block the layers' running magnitudes follow what passes through, once a call of the network."""
        self.tracks = True
        try:
            yield
        finally:
            self.tracks = False

    def forward(self, ws: Tensor, noise: str | Sequence[Tensor] = "const") -> Tensor:
        """Images (N, C, H, W), in about [-1, 1], from styles (N, num_ws, w_dim); `noise` is there for StyleGAN2's
        callers, and ignored.
        """
        return self._run(ws)[0]

    def features(self, ws: Tensor, noise: str | Sequence[Tensor] = "const") -> tuple[Tensor, list[Tensor]]:
        """Images, and the maps (N, C_i, H_i, W_i) of each sampling rate's last layer, with margins, coarse to fine."""
        image, maps = self._run(ws)
        rates = [signal.sampling_rate for signal in self.plan.signals()][:-1]
        return image, [maps[i] for i in range(len(rates)) if i + 1 == len(rates) or rates[i + 1] != rates[i]]

    def _run(self, ws: Tensor) -> tuple[Tensor, list[Tensor]]:
        if ws.shape[1:] != (self.num_ws, self.plan.w_dim):
            raise ValueError(f"styles must be (N, {self.num_ws}, {self.plan.w_dim}), got {tuple(ws.shape)}")
        styles = ws.to(self.input.weight.dtype).unbind(1)
        maps = []
        with full_precision(ws):
            x = self.input(styles[0])
        for name, w in zip(self.names, styles[1:], strict=True):
            layer = getattr(self, name)
            if layer.runs_half:
                x = layer(x, w, self.tracks)
            else:
                with full_precision(ws):
                    x = layer(x.to(w.dtype), w, self.tracks)
            maps.append(x)
        image = maps.pop().to(styles[0].dtype) * self.plan.output_scale
        return image, maps


class Generator(nn.Module):
    """Mapping and synthesis.

    Args:
        plan: Sizes and choices.
    """

    def __init__(self, plan: StyleGAN3Plan) -> None:
        super().__init__()
        self.plan = plan
        self.synthesis = Synthesis(plan)
        self.mapping = Mapping(plan.z_dim, plan.c_dim, plan.w_dim, plan.mapping)

    def styles(
        self, z: Tensor, labels: Tensor | None = None, *, truncation: float = 1.0, cutoff: int | None = None
    ) -> Tensor:
        """w+ (N, num_ws, w_dim): the same style for every layer, truncated; see `Mapping.truncate`."""
        ws = self.mapping(z, labels).unsqueeze(1).expand(-1, self.synthesis.num_ws, -1)
        return self.mapping.truncate(ws, truncation, cutoff)

    def forward(
        self,
        z: Tensor,
        labels: Tensor | None = None,
        *,
        truncation: float = 1.0,
        cutoff: int | None = None,
        noise: str | Sequence[Tensor] = "const",
    ) -> Tensor:
        """Images (N, C, H, W), in about [-1, 1].

        Args:
            z: Standard normal (N, z_dim).
            labels: Classes int64 (N,), or vectors (N, c_dim).
            truncation: ψ: 1 for none.
            cutoff: Truncate only the first so many layers; None: all.
            noise: Ignored; there for StyleGAN2's callers.
        """
        images: Tensor = self.synthesis(self.styles(z, labels, truncation=truncation, cutoff=cutoff))
        return images
