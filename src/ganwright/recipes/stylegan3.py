"""StyleGAN3 (Karras et al. 2021, "Alias-free generative adversarial networks"): StyleGAN2's game with a generator whose
details move with what they belong to, because no layer lets frequencies alias.

The step is StyleGAN2's, without style mixing and path length regularisation; here is only what differs. Knobs are in
`stylegan3_settings.py`, the networks in `networks.stylegan3` and `networks.stylegan2`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Adam, Optimizer

from ganwright.data.spec import DataSpec
from ganwright.networks.stylegan2 import Discriminator
from ganwright.networks.stylegan3 import Generator
from ganwright.recipes.base import StepContext
from ganwright.recipes.registry import RecipeInfo
from ganwright.recipes.stylegan2 import StyleGAN2
from ganwright.recipes.stylegan2_settings import learning_rate
from ganwright.recipes.stylegan3_settings import (
    StyleGAN3Settings,
    check_stylegan3,
    discriminator_plan,
    generator_plan,
)


class StyleGAN3(StyleGAN2):
    """Alias-free generator and StyleGAN2's discriminator; see `StyleGAN3Settings`.

    Args:
        data: Unlabelled or labelled images of a power of two pixels, from 16; labels are used if `conditional`.
        settings: How to train.

    Raises:
        SettingsError: The settings do not fit the data or each other.
    """

    Settings = StyleGAN3Settings
    settings: StyleGAN3Settings
    generator: Generator  # type: ignore[assignment]

    def __init__(self, data: DataSpec, settings: StyleGAN3Settings) -> None:
        check_stylegan3(settings)
        super().__init__(data, settings)

    def make_networks(self, data: DataSpec) -> tuple[Generator, Discriminator]:  # type: ignore[override]
        """StyleGAN3's generator and StyleGAN2's discriminator."""
        return Generator(generator_plan(self.settings, data)), Discriminator(discriminator_plan(self.settings, data))

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam for "generator" and "discriminator"; without a lazy regulariser of G its values are the plain ones."""
        optimizers = super().optimizers()
        if not self.settings.pl_weight:
            lr = learning_rate(self.settings.lr_g, self.data.resolution)
            fused = self.device.type in ("cpu", "cuda")
            optimizers["generator"] = Adam(self.generator.parameters(), lr, self.settings.betas_g, fused=fused)
        return optimizers

    def _update_discriminator(self, real: Tensor, labels: Tensor | None, ctx: StepContext) -> dict[str, Tensor]:
        # Once a step, as the mean of w is, the running magnitudes follow the generator.
        with self.generator.synthesis.tracking():
            return super()._update_discriminator(real, labels, ctx)

    def _judge(self, images: Tensor, labels: Tensor | None, ctx: StepContext) -> Tensor:
        fading = max(0.0, 1 - ctx.stage_step / self.settings.blur_steps)
        return super()._judge(blurred(images, fading * self.settings.blur_sigma), labels, ctx)


def blurred(images: Tensor, sigma: float) -> Tensor:
    """Images (N, C, H, W) after a filter of weights 2^-(x/σ)² to ±⌊3σ⌋ pixels, with zeros around them.

    It keeps the discriminator from judging high frequencies before the generator has learned the low ones; NVIDIA's
    script uses it for configuration R, against an early collapse.
    """
    reach = math.floor(3 * sigma)
    if reach < 1:
        return images
    x = torch.arange(-reach, reach + 1, device=images.device, dtype=torch.float32)
    f = torch.exp2(-(x / sigma).square())
    f = (f / f.sum()).to(images.dtype)
    channels = images.shape[1]
    columns, rows = f.view(1, 1, -1, 1).expand(channels, 1, -1, 1), f.view(1, 1, 1, -1).expand(channels, 1, 1, -1)
    y = F.conv2d(images, columns, padding=(reach, 0), groups=channels)
    return F.conv2d(y, rows, padding=(0, reach), groups=channels)


# `--cfg=stylegan3-t` of NVIDIA's stylegan3 (batch 32, average over 10,000 images, 25 million images in all); γ is to be
# searched for each data set (6.6 for FFHQ-U at 256 pixels, 32.8 at 1024), the default here is StyleGAN2's heuristic.
# Published (the paper's FID): FFHQ at 1024 pixels 2.79, AFHQv2 at 512 pixels with ADA 4.04.
CONFIG_T = StyleGAN3Settings(channel_base=32768)

# `--cfg=stylegan3-r`: 1x1 kernels, radial filters and twice the maps in G, and D's blur at the start.
# Published (the same): FFHQ 3.07, AFHQv2 4.40.
CONFIG_R = StyleGAN3Settings(
    channel_base=65536,
    channel_max=1024,
    channel_base_d=32768,
    channel_max_d=512,
    conv_kernel=1,
    radial_filters=True,
    blur_sigma=10.0,
)

_PAPER = "Karras et al., Alias-Free Generative Adversarial Networks, NeurIPS 2021, arXiv:2106.12423"
_LENGTH = {"resolution": 64, "steps": 781_250, "batch_size": 32, "ema_half_life": 312.5}

RECIPES = [
    RecipeInfo(
        "stylegan3",
        StyleGAN3,
        CONFIG_T,
        _PAPER,
        "StyleGAN2's quality with details that move along: video and animation. Slower: it wants a GPU and days.",
        _LENGTH,
    ),
    RecipeInfo(
        "stylegan3-r",
        StyleGAN3,
        CONFIG_R,
        _PAPER,
        "StyleGAN3 whose images turn as well as they move: textures, satellite and microscope pictures.",
        _LENGTH,
    ),
]
"""StyleGAN3's recipes."""
