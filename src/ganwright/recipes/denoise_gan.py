"""`denoise-gan`: takes noise and other damage out of images, by pixels first and then against a discriminator.

This project's; after the adversarial restorers of Ledig et al. 2017 and Yang et al. 2018 ("Low-dose CT image denoising
using a GAN with Wasserstein distance and perceptual loss"), with the residual networks of Zhang et al. 2017.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ganwright.console import console
from ganwright.data.spec import DataKind, DataSpec
from ganwright.degrade import DegradationSettings, Draws, make_degradation
from ganwright.degrade.classical import CLASSICAL, available, classical, estimated_sigma
from ganwright.errors import SettingsError
from ganwright.networks.denoiser import Denoiser, DnCNN, UNetDenoiser
from ganwright.recipes.registry import RecipeInfo
from ganwright.recipes.restoration import Damaged, RestorationSettings, Restorer


@dataclass(frozen=True)
class DenoiseGANSettings(DegradationSettings, RestorationSettings):
    """Every knob of `DenoiseGAN`."""

    network: Literal["unet", "dncnn"] = "unet"
    """G: a small U-Net, or DnCNN."""
    width_g: int = 32
    """G's feature maps (at full size)."""
    depth: int = 2
    """unet: halvings; dncnn: convolutions."""
    informed: bool = False
    """G is told the noise level; of a picture it is estimated (gaussian and rician only, unless the level is fixed)."""


class DenoiseGAN(Restorer):
    """Restoration of images that keep their size; see `DenoiseGANSettings`.

    On plain images it does the damage itself, anew at each step. On pairs, inputs are what they are, and the settings
    of the degradation say nothing.

    Args:
        data: Images, or pairs of one size and as many channels.
        settings: How to train.

    Raises:
        SettingsError: The settings do not fit the data or each other.
    """

    Settings = DenoiseGANSettings
    accepts: ClassVar[frozenset[DataKind]] = frozenset({DataKind.IMAGES, DataKind.PAIRS})

    def __init__(self, data: DataSpec, settings: DenoiseGANSettings) -> None:
        self.degradation = make_degradation(settings)
        check_denoising(settings, data)
        network = make_denoiser(settings, data.channels)
        super().__init__(data, settings, network, data.channels)
        self.settings: DenoiseGANSettings = settings

    def damaged(self, batch: Mapping[str, Tensor], draws: Draws) -> Damaged:
        """Images spoilt at levels drawn for each; pairs as they are."""
        if "images" not in batch:
            return Damaged(batch["inputs"], batch["targets"])
        clean = batch["images"]
        levels = self.degradation.levels(len(clean), draws).to(clean.device)
        spoilt = self.degradation(clean, levels, draws)
        return Damaged(spoilt, clean, self.degradation.strength(levels) if self.settings.informed else None)

    def restore(self, inputs: Tensor, strength: Tensor | None = None) -> Tensor:
        """Restored, not clipped."""
        y: Tensor = self.generator(inputs, strength)
        return y

    def estimated_strength(self, images: Tensor) -> Tensor | None:
        """The fixed level's strength, or the noise level of each picture, estimated."""
        if not self.settings.informed:
            return None
        if self.degradation.known:
            return self.degradation.strength(torch.full((len(images),), self.degradation.low, device=images.device))
        pictures = ((images.float().cpu() + 1) / 2).permute(0, 2, 3, 1).numpy()
        sigmas = [estimated_sigma(picture) for picture in pictures]
        return self.degradation.strength(torch.tensor(sigmas, device=images.device))

    def baselines(self, inputs: Tensor) -> Mapping[str, Tensor]:
        """`input` as it is; `tv` and `nlm`, told as much of the noise as G, where scikit-image is installed."""
        found = {"input": inputs.clamp(-1, 1)}
        if self.data.kind == DataKind.PAIRS or self.degradation.name == "jpeg":
            return found  # no noise level, which both need
        if not available():
            console.print("[yellow]no classical baselines: pip install 'ganwright\\[restore]' brings scikit-image")
            return found
        return found | {name: classical(name, inputs, self.degradation) for name in CLASSICAL}


class RestorationGAN(DenoiseGAN):
    """`DenoiseGAN` for pairs alone, so that a folder of pairs is taken for what it is."""

    accepts: ClassVar[frozenset[DataKind]] = frozenset({DataKind.PAIRS})


def make_denoiser(s: DenoiseGANSettings, channels: int) -> Denoiser:
    """G as the settings say."""
    make = {"unet": UNetDenoiser, "dncnn": DnCNN}[s.network]
    return make(channels, s.informed, s.width_g, s.depth)


def check_denoising(s: DenoiseGANSettings, data: DataSpec) -> None:
    """Refuse settings that cannot work.

    Raises:
        SettingsError: The first thing wrong.
    """
    if data.channels_out != data.channels:
        raise SettingsError(
            f"Inputs have {data.channels} channels and targets {data.channels_out}; what is restored keeps its own.",
            where=data.name,
            fix="choose pix2pix, which translates between kinds of image",
        )
    if data.kind == DataKind.PAIRS and s.informed:
        raise SettingsError("Pairs say nothing of noise levels.", where="informed", fix="leave it out")
    if s.informed and s.degradation not in ("gaussian", "rician") and not make_degradation(s).known:
        raise SettingsError(
            f"How strong {s.degradation} is cannot be told from a picture.",
            where="informed",
            fix="leave it out (G then works blindly), or fix the level",
        )
    least = 3 if s.network == "dncnn" else 0
    if s.depth < least:
        raise SettingsError(f"depth is {s.depth}.", where="depth", fix=f"give {least} or more for a {s.network}")
    if data.kind == DataKind.IMAGES and s.degradation == "jpeg" and data.channels not in (1, 3):
        raise SettingsError("JPEG has 1 or 3 channels.", where="degradation", fix="choose another")


# No paper's preset: sizes that a CPU trains in minutes. Published by a relative, not measured here: DnCNN on BSD68,
# σ = 15, 25, 50: 31.73, 29.23, 26.23 dB (Zhang et al. 2017, table II).
DENOISE_GAN = DenoiseGANSettings(
    pretrain_share=0.7,
    pretrain_loss="l1",
    pixel_loss="l1",
    adversarial_weight=1e-3,
    width_d=32,
    lr_pretrain=1e-3,
    lr_g=2e-4,
    lr_d=2e-4,
)

_LENGTH = {"steps": 20_000, "batch_size": 16, "flip": True, "lr_schedule": "cosine", "eval_samples": 100}

RECIPES = [
    RecipeInfo(
        "denoise-gan",
        DenoiseGAN,
        DENOISE_GAN,
        "This project's; after Yang et al., TMI 2018, arXiv:1708.00961; Zhang et al., TIP 2017, arXiv:1608.03981",
        "Take noise out of photos, MRI and CT, or undo JPEG.",
        {"resolution": 64, "crop": "random", **_LENGTH},
    ),
    RecipeInfo(
        "restoration-gan",
        RestorationGAN,
        DENOISE_GAN,
        "This project's; see denoise-gan",
        "Learn any restoration from pairs of equal size, damaged and clean.",
        _LENGTH,
    ),
]
