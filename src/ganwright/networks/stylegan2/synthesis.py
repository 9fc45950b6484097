"""The synthesis network: from styles, one a layer, to an image (Karras et al. 2020)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from ganwright.networks.stylegan2.layers import OPERATIONS, Convolution, full_precision
from ganwright.networks.stylegan2.modulation import StyledConvolution, ToRGB
from ganwright.networks.stylegan2.plans import GeneratorPlan
from ganwright.networks.stylegan2.resample import make_filter

Noise = Literal["const", "none"] | Sequence[Tensor]
"""Per-pixel noise: each layer's constant, none, or one tensor (N, 1, H, W) a layer from `Synthesis.draw_noise`."""


class Layer(NamedTuple):
    """What takes one style of w+: a convolution and, below the finest resolution, the next coarser block's image.

    Attributes:
        name: Of the convolution, such as "b8.conv0".
        modules: All that the style goes into.
    """

    name: str
    modules: list[StyledConvolution | ToRGB]


class SynthesisBlock(nn.Module):
    """Two convolutions at one resolution (one at 4x4).

    Args:
        plan: Of the network.
        resolution: Of the block.
    """

    resample_filter: Tensor

    def __init__(self, plan: GeneratorPlan, resolution: int) -> None:
        super().__init__()
        self.resolution, self.first, self.last = resolution, resolution == 4, resolution == plan.resolution
        self.half_precision = resolution > 4 and resolution * 2**plan.half_blocks > plan.resolution
        self.operations = OPERATIONS[plan.operations]
        self.register_buffer("resample_filter", make_filter(plan.resample_filter))
        outputs, w_dim = plan.maps(resolution), plan.w_dim

        def styled(inputs: int, up: int = 1) -> StyledConvolution:
            return StyledConvolution(
                inputs,
                outputs,
                w_dim,
                resolution,
                kernel=plan.kernel,
                up=up,
                use_noise=plan.use_noise,
                activation=plan.activation,
                taps=plan.resample_filter if up == 2 else (1, 3, 3, 1),
                clamp=plan.conv_clamp,
                operations=plan.operations,
            )

        self.conv0: StyledConvolution | None = None
        self.torgb: ToRGB | None = None
        self.skip: Convolution | None = None
        if self.first:
            self.const = nn.Parameter(torch.randn(outputs, resolution, resolution))
        else:
            self.conv0 = styled(plan.maps(resolution // 2), up=2)
        self.conv1 = styled(outputs)
        if self.last or plan.architecture == "skip":
            self.torgb = ToRGB(outputs, plan.channels, w_dim, clamp=plan.conv_clamp, operations=plan.operations)
        if not self.first and plan.architecture == "resnet":
            inputs = plan.maps(resolution // 2)
            taps = plan.resample_filter
            self.skip = Convolution(inputs, outputs, 1, bias=False, up=2, taps=taps, operations=plan.operations)

    @property
    def convolutions(self) -> list[StyledConvolution]:
        """In order."""
        return [self.conv1] if self.conv0 is None else [self.conv0, self.conv1]

    def forward(
        self, x: Tensor | None, image: Tensor | None, ws: Tensor, noise: Sequence[Tensor | None]
    ) -> tuple[Tensor, Tensor | None]:
        """Maps and the image so far, at this block's resolution.

        Args:
            x: Maps of the block before (N, I, H/2, W/2); None at 4x4.
            image: The image so far, at half the resolution; None where there is none.
            ws: A style for each convolution and one for the image (N, 2 or 3, w_dim).
            noise: For each convolution.
        """
        if self.half_precision:
            return self._compute(x, image, ws, noise)
        with full_precision(ws):
            return self._compute(None if x is None else x.to(ws.dtype), image, ws, noise)

    def _compute(
        self, x: Tensor | None, image: Tensor | None, ws: Tensor, noise: Sequence[Tensor | None]
    ) -> tuple[Tensor, Tensor | None]:
        if self.conv0 is None or x is None:
            x = self.const.expand(len(ws), -1, -1, -1).contiguous(memory_format=torch.channels_last)
            x = self.conv1(x, ws[:, 0], noise[0])
        elif self.skip is not None:
            shortcut = self.skip(x, gain=math.sqrt(0.5))
            x = self.conv0(x, ws[:, 0], noise[0])
            x = self.conv1(x, ws[:, 1], noise[1], gain=math.sqrt(0.5)) + shortcut
        else:
            x = self.conv0(x, ws[:, 0], noise[0])
            x = self.conv1(x, ws[:, 1], noise[1])
        assert isinstance(x, Tensor)
        if image is not None:
            with full_precision(image):
                image = self.operations.upsample(image, self.resample_filter)
        if self.torgb is not None:
            y = self.torgb(x, ws[:, len(self.convolutions)]).to(ws.dtype)  # images are summed in full precision
            image = y if image is None else image + y
        return x, image


class Synthesis(nn.Module):
    """From w+ to images. Names of parameters and buffers are those of NVIDIA's stylegan2-ada-pytorch.

    Args:
        plan: Sizes and choices.
    """

    b4: SynthesisBlock

    def __init__(self, plan: GeneratorPlan) -> None:
        super().__init__()
        self.plan = plan
        for resolution in plan.resolutions:
            setattr(self, f"b{resolution}", SynthesisBlock(plan, resolution))

    @property
    def blocks(self) -> list[SynthesisBlock]:
        """Coarse to fine."""
        return [getattr(self, f"b{resolution}") for resolution in self.plan.resolutions]

    @property
    def num_ws(self) -> int:
        """Styles of an image: one a convolution and one for the image at the finest resolution."""
        return 2 * len(self.plan.resolutions)

    @property
    def layers(self) -> list[Layer]:
        """What each style of w+ goes into, coarse to fine."""
        found: list[Layer] = []
        for block in self.blocks:
            for i, conv in enumerate(block.convolutions):
                name = f"b{block.resolution}.conv{i + (block.conv0 is None)}"
                found.append(Layer(name, [conv]))
                if i == 0 and block.resolution > 4 and (before := getattr(self, f"b{block.resolution // 2}").torgb):
                    found[-1].modules.append(before)
        finest = self.blocks[-1]
        assert finest.torgb is not None
        return [*found, Layer(f"b{finest.resolution}.torgb", [finest.torgb])]

    def draw_noise(self, normal: Callable[..., Tensor], rows: int) -> list[Tensor]:
        """Noise (rows, 1, H, W) for each convolution, coarse to fine, from `normal(rows, 1, H, W)`."""
        return [
            normal(rows, 1, block.resolution, block.resolution)
            for block in self.blocks
            for conv in block.convolutions
            if conv.use_noise
        ]

    def forward(self, ws: Tensor, noise: Noise = "const") -> Tensor:
        """Images (N, C, H, W), in about [-1, 1], from styles (N, num_ws, w_dim)."""
        return self.features(ws, noise)[0]

    def features(self, ws: Tensor, noise: Noise = "const") -> tuple[Tensor, list[Tensor]]:
        """Images, and the maps (N, C_i, H_i, W_i) of each resolution, coarse to fine."""
        if ws.shape[1:] != (self.num_ws, self.plan.w_dim):
            raise ValueError(f"styles must be (N, {self.num_ws}, {self.plan.w_dim}), got {tuple(ws.shape)}")
        ws = ws.to(self.b4.const.dtype)
        drawn = iter(noise) if not isinstance(noise, str) else None
        x = image = None
        maps, first = [], 0
        for block in self.blocks:
            of_block: list[Tensor | None] = []
            for conv in block.convolutions:
                if not conv.use_noise or noise == "none":
                    of_block.append(None)
                else:
                    of_block.append(conv.noise_const if drawn is None else next(drawn))
            x, image = block(x, image, ws[:, first : first + 3], of_block)
            maps.append(x)
            first += len(block.convolutions)
        assert image is not None
        return image, maps
