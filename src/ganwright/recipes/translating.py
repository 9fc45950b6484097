"""What recipes that turn images into images share: settings, networks, objectives, and samples from given inputs.

The recipes are `pix2pix.py` and `cyclegan.py`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from ganwright.data.spec import DataSpec
from ganwright.errors import SettingsError
from ganwright.losses import LOSSES, d_accuracy
from ganwright.networks.initialise import initialise
from ganwright.networks.patchgan import PatchDiscriminator, PixelDiscriminator, smallest_side
from ganwright.networks.translating import NormName, dropout_at_test
from ganwright.networks.translator import Translator
from ganwright.networks.unet import DEEPEST, SHALLOWEST, UNet
from ganwright.recipes.base import Recipe


@dataclass(frozen=True)
class TranslationSettings:
    """Knobs of networks and optimisers that all translators have."""

    # Networks
    generator: Literal["unet", "resnet"] = "unet"
    """Kind of generator: a U-Net with skips (aligned pairs), or residual blocks at a quarter of the resolution."""
    width_g: int = 64
    """Generator: maps of its first convolution."""
    width_d: int = 64
    """Discriminator: maps of its first convolution."""
    unet_depth: int = 0
    """`generator unet`: halvings; 0: down to one position, at most 8 (the papers' U-Nets 256 and 128 have 8 and 7)."""
    resnet_blocks: int = 0
    """`generator resnet`: residual blocks; 0: 9 from 256 pixels on, else 6."""
    patch_layers: int = 3
    """Discriminator: a patch is 16, 34, 70, 142 or 286 pixels wide for 1 to 5, one pixel for 0."""
    norm: Literal["batch", "instance", "none"] = "batch"
    """Norm in all networks."""
    dropout: float = 0.5
    """Share dropped in the inner layers of the generator, in [0, 1); a U-Net of depth 5 or less has no such layer."""
    test_dropout: bool = True
    """Whether the generator also drops when it is used: its noise, by which one input has several outputs."""
    test_statistics: Literal["image", "running"] = "image"
    """`norm batch`: what images are normalised by when the generator is used: their own mean and variance, or running
    ones of training."""
    average: bool = True
    """Whether samples, evaluation and use are those of the generator's moving average."""

    # Objective
    loss: Literal["non-saturating", "least-squares", "hinge"] = "non-saturating"
    """Adversarial loss: logistic ("vanilla"), least squares ("lsgan") or hinge."""

    # Optimisation
    lr: float = 2e-4
    """Adam's learning rate of all networks, before the loop's `lr_schedule`."""
    betas: tuple[float, float] = (0.5, 0.999)
    """Adam's β₁ and β₂."""


def check(s: TranslationSettings, data: DataSpec) -> None:
    """Refuse settings that make no sense, or do not fit the data.

    Raises:
        SettingsError: Names the setting.
    """
    least: Mapping[str, int] = {"width_g": 1, "width_d": 1, "unet_depth": 0, "resnet_blocks": 0, "patch_layers": 0}
    for name, bound in least.items():
        if getattr(s, name) < bound:
            raise SettingsError(f"'{name}' must be at least {bound}, not {getattr(s, name)}.", where=name)
    if not 0 <= s.dropout < 1:
        raise SettingsError(f"A dropout of {s.dropout} is impossible.", where="dropout", fix="choose 0 to 0.9")
    if s.generator == "unet" and not (s.unet_depth == 0 or SHALLOWEST <= s.unet_depth <= deepest(data.resolution)):
        raise SettingsError(
            f"A U-Net of depth {s.unet_depth} does not fit {data.resolution} pixels.",
            where="unet_depth",
            fix=f"choose {SHALLOWEST} to {deepest(data.resolution)}, or 0 for the deepest that fits",
        )
    side = smallest_side(s.patch_layers)
    if data.resolution < side:
        raise SettingsError(
            f"A discriminator with {s.patch_layers} patch layers needs images of {side} pixels, not {data.resolution}.",
            where="patch_layers",
            fix=f"choose fewer, or --resolution {side}",
        )


def deepest(resolution: int) -> int:
    """The depth at which a U-Net's innermost layer sees one position of such images, within what is sensible."""
    return max(SHALLOWEST, min(DEEPEST, int(math.log2(max(resolution, 1)))))


def make_generator(s: TranslationSettings, channels_in: int, channels_out: int, resolution: int) -> nn.Module:
    """A generator with its weights drawn from N(0, 0.02²)."""
    own = s.test_statistics == "image"
    network: nn.Module
    if s.generator == "unet":
        depth = s.unet_depth or deepest(resolution)
        network = UNet(
            channels_in,
            channels_out,
            width=s.width_g,
            depth=depth,
            norm=s.norm,
            dropout=s.dropout,
            own_statistics=own,
        )
    else:
        blocks = s.resnet_blocks or (9 if resolution >= 256 else 6)
        network = Translator(
            channels_in,
            channels_out,
            width=s.width_g,
            blocks=blocks,
            norm=s.norm,
            dropout=s.dropout,
            own_statistics=own,
        )
    initialise(network, "normal")
    return network


def make_discriminator(s: TranslationSettings, channels: int) -> nn.Module:
    """A discriminator of patches (or pixels) with its weights drawn from N(0, 0.02²)."""
    norm: NormName = s.norm
    network: nn.Module
    if s.patch_layers == 0:
        network = PixelDiscriminator(channels, width=s.width_d, norm=norm)
    else:
        network = PatchDiscriminator(channels, width=s.width_d, layers=s.patch_layers, norm=norm)
    initialise(network, "normal")
    return network


def make_optimizer(s: TranslationSettings, *networks: nn.Module) -> Optimizer:
    """Adam over all weights of these networks."""
    parameters = [p for network in networks for p in network.parameters()]
    return Adam(parameters, s.lr, s.betas, fused=parameters[0].device.type in ("cpu", "cuda"))


# Objectives. ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Objective:
    """An adversarial loss as papers on translation weigh it.

    Both "divide the objective by 2 while optimizing D" (Isola et al. 2017, section 3.3; Zhu et al. 2017, appendix 7.1),
    and least squares have no factor ½ there: E[(D(y) - 1)²] + E[D(G(x))²] for D, E[(D(G(x)) - 1)²] for G.

    Attributes:
        name: A key of `LOSSES`.
        d_weight: Factor on D's loss.
        g_weight: Factor on G's loss.
    """

    name: str
    d_weight: float
    g_weight: float

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """What D minimises, a scalar; logits (N, 1, h, w), one for each patch."""
        return self.d_weight * LOSSES[self.name].discriminator(_wide(real_logits), _wide(fake_logits))

    def generator(self, fake_logits: Tensor) -> Tensor:
        """What G minimises, a scalar."""
        return self.g_weight * LOSSES[self.name].generator(_wide(fake_logits))

    @torch.no_grad()
    def describe(self, real_logits: Tensor, fake_logits: Tensor) -> dict[str, Tensor]:
        """`d_real`, `d_fake` (means) and `d_accuracy`."""
        accuracy = d_accuracy(real_logits, fake_logits, LOSSES[self.name].threshold or 0.0)
        return {"d_real": real_logits.float().mean(), "d_fake": fake_logits.float().mean(), "d_accuracy": accuracy}


OBJECTIVES = {
    "non-saturating": Objective("non-saturating", 0.5, 1.0),
    "least-squares": Objective("least-squares", 1.0, 2.0),  # `LOSSES` has Mao et al.'s ½ in both already
    "hinge": Objective("hinge", 0.5, 1.0),
}
"""Adversarial losses of translators by the name used in settings."""


def _wide(x: Tensor) -> Tensor:
    """Float32 at least: losses are not computed in half precision."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


# Samples from given inputs. ---------------------------------------------------------------------------------


def in_batches(function: Callable[[Tensor, int], Tensor], images: Tensor, size: int, device: torch.device) -> Tensor:
    """Apply a function to rows of images, `size` at a time on the device; the result is on the CPU.

    Args:
        function: (rows, number of the first row) to as many rows.
        images: (N, C, H, W), on the CPU.
        size: Rows at a time.
        device: Where to compute.
    """
    parts = [function(images[i : i + size].to(device), i).cpu() for i in range(0, len(images), size)]
    return torch.cat(parts)


@contextlib.contextmanager
def in_use(network: nn.Module, *, dropout: bool, seed: int, first_row: int) -> Iterator[None]:
    """A generator (in `eval` mode) as it is used: it drops if `dropout`, as a function of seed and row."""
    if not dropout:
        yield
        return
    with dropout_at_test(network, seed, first_row):
        yield


def check_direction(recipe: Recipe, direction: str, images: Tensor, channels: int) -> None:
    """Refuse a direction that a recipe does not have, and images of other channels than it was trained on.

    Raises:
        SettingsError: Says which there are.
    """
    if direction not in recipe.directions:
        raise SettingsError(
            f"This translator has no direction '{direction}'.",
            where="direction",
            fix="choose from " + ", ".join(recipe.directions),
        )
    if images.ndim != 4 or images.shape[1] != channels:
        raise SettingsError(
            f"This translator takes images (N, {channels}, H, W), not {tuple(images.shape)}.",
            where=direction,
            fix="convert them to as many channels as it was trained on",
        )
