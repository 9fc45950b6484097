"""pix2pix: image-to-image translation from aligned pairs (Isola et al. 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Optimizer

from ganwright.data.spec import Batch, DataKind, DataSpec
from ganwright.errors import SettingsError
from ganwright.networks.blocks import lent_randomness
from ganwright.recipes.base import Recipe, SampleRequest, StepContext, frozen
from ganwright.recipes.registry import RecipeInfo
from ganwright.recipes.translating import (
    OBJECTIVES,
    TranslationSettings,
    check,
    check_direction,
    in_batches,
    in_use,
    make_discriminator,
    make_generator,
    make_optimizer,
)
from ganwright.samples import PairSamples, to_uint8


@dataclass(frozen=True)
class Pix2PixSettings(TranslationSettings):
    """Every knob of `Pix2Pix`."""

    lambda_l1: float = 100.0
    """Weight λ of the L1 distance to the target, beside the adversarial loss."""
    lambda_gan: float = 1.0
    """Weight of the adversarial loss; 0: no discriminator, L1 alone (the paper's first baseline)."""


class Pix2Pix(Recipe):
    """A generator that turns inputs into targets, and a discriminator that judges patches of (input, output) pairs.

    Args:
        data: Pairs.
        settings: How to train.

    Raises:
        SettingsError: The settings do not fit the data.
    """

    Settings = Pix2PixSettings
    accepts: ClassVar[frozenset[DataKind]] = frozenset({DataKind.PAIRS})
    directions: ClassVar[tuple[str, ...]] = ("a2b",)
    sample_options: Mapping[str, str] = {
        "dropout": "True or False: whether the generator drops units, in place of the run's test_dropout"
    }

    def __init__(self, data: DataSpec, settings: Pix2PixSettings) -> None:
        super().__init__(data, settings)
        self.settings: Pix2PixSettings = settings
        check(settings, data)
        if settings.lambda_l1 < 0 or settings.lambda_gan < 0 or settings.lambda_l1 + settings.lambda_gan == 0:
            raise SettingsError(
                f"Weights of {settings.lambda_l1} (L1) and {settings.lambda_gan} (adversarial) train nothing sensible.",
                where="lambda_l1, lambda_gan",
                fix="give weights of at least 0, one of them above 0",
            )
        self.objective = OBJECTIVES[settings.loss]
        self.ema_networks = ("generator",) if settings.average else ()  # type: ignore[misc]
        self.generator = make_generator(settings, data.channels, data.channels_out, data.resolution)
        self.discriminator = make_discriminator(settings, data.channels + data.channels_out)

    def optimizers(self) -> dict[str, Optimizer]:
        """One a network: "generator" and "discriminator"."""
        return {
            "generator": make_optimizer(self.settings, self.generator),
            "discriminator": make_optimizer(self.settings, self.discriminator),
        }

    def step(self, batch: Batch, ctx: StepContext) -> dict[str, Tensor]:
        """One update of D, then one of G against it, both on the same outputs (Isola et al. 2017, section 3.3).

        Returns:
            `loss_discriminator`, `loss_generator` (its adversarial part, not weighted), `loss_l1` (not weighted),
            `d_real`, `d_fake`, `d_accuracy`.
        """
        # The data's channels-last layout makes instance norm and transposed convolutions slower.
        x, y = batch["inputs"].contiguous(), batch["targets"].contiguous()
        with lent_randomness(self.generator, ctx.uniform):
            fake = self.generator(x)
        if self.settings.lambda_gan == 0:
            return self._update_generator(x, y, fake, ctx)
        log = self._update_discriminator(x, y, fake.detach(), ctx)
        return log | self._update_generator(x, y, fake, ctx)

    def _update_discriminator(self, x: Tensor, y: Tensor, fake: Tensor, ctx: StepContext) -> dict[str, Tensor]:
        on_real, on_fake = self.discriminator(_pair(x, y)), self.discriminator(_pair(x, fake))
        loss = self.objective.discriminator(on_real, on_fake)
        ctx.minimise(loss, "discriminator")
        return {"loss_discriminator": loss.detach(), **self.objective.describe(on_real, on_fake)}

    def _update_generator(self, x: Tensor, y: Tensor, fake: Tensor, ctx: StepContext) -> dict[str, Tensor]:
        """G* = arg min max L_cGAN(G, D) + λ L_L1(G) (eq. 4)."""
        s = self.settings
        l1 = F.l1_loss(fake.float(), y)
        log = {"loss_l1": l1.detach()}
        loss = s.lambda_l1 * l1
        with frozen(self.discriminator):
            if s.lambda_gan > 0:
                adversarial = self.objective.generator(self.discriminator(_pair(x, fake)))
                log["loss_generator"] = adversarial.detach()
                loss = loss + s.lambda_gan * adversarial
            ctx.minimise(loss, "generator")
        return log

    def translate(self, images: Tensor, direction: str = "a2b") -> Tensor:
        """Inputs (N, C, H, W) in [-1, 1], of any size, to outputs (N, C', H, W).

        A U-Net of full depth was trained on whole images: it does best at the resolution of training.

        Raises:
            SettingsError: Another direction, or other channels than in training.
        """
        check_direction(self, direction, images, self.data.channels)
        return self._use(images, 0, 0, self.settings.test_dropout)

    def _use(self, images: Tensor, first_row: int, seed: int, dropout: bool) -> Tensor:
        with in_use(self.generator, dropout=dropout, seed=seed, first_row=first_row):
            return self.generator(images.contiguous()).float()  # type: ignore[no-any-return]

    def baselines(self, inputs: Tensor) -> dict[str, Tensor]:
        """`unchanged`: the inputs themselves, where they may be compared with targets."""
        return {"unchanged": inputs} if self.data.channels == self.data.channels_out else {}

    def sample(self, request: SampleRequest) -> PairSamples:
        """The requested inputs with what the generator makes of them, and the targets.

        Raises:
            SettingsError: There are no inputs.
        """
        if request.inputs is None or "inputs" not in request.inputs:
            raise SettingsError("pix2pix makes images from inputs, and was given none.", where="inputs")
        inputs, targets = request.inputs["inputs"], request.inputs.get("targets")
        dropout = bool(request.options.get("dropout", self.settings.test_dropout))
        size = max(1, min(request.batch_size, 16))
        outputs = in_batches(lambda x, row: self._use(x, row, request.seed, dropout), inputs, size, self.device)
        simple = self.baselines(inputs) if request.baselines else {}
        return PairSamples(
            to_uint8(inputs),
            to_uint8(outputs),
            None if targets is None else to_uint8(targets),
            {name: to_uint8(images) for name, images in simple.items()},
        )


def _pair(x: Tensor, y: Tensor) -> Tensor:
    """What the discriminator judges: input and output in one image (N, C + C', H, W)."""
    return torch.cat([x, y], 1)


# Isola et al. 2017, section 3.3 and appendix 6: U-Net 256, 70x70 PatchGAN, λ 100, Adam 2e-4 (0.5, 0.999), batch 1,
# dropout 0.5 (kept at test time), 256² after a random crop of 286² and mirroring; facades: 400 pairs, 200 epochs. The
# learning rate is constant for 100 epochs and then falls to 0 in the authors' PyTorch code; the paper has none.
# The moving average is ours (`--average False`).
# Published: Cityscapes labels -> photos, FCN score of L1 + cGAN: per-pixel accuracy 0.66, per-class 0.23, class IoU
# 0.17 (L1 alone 0.42, 0.15, 0.11; real photos 0.80, 0.26, 0.21; table 1); of patches 1, 16, 70, 286 pixels wide: 0.39,
# 0.65, 0.66, 0.42 per pixel (table 3). Maps -> aerial photos: 18.9 % ± 2.5 % of judges fooled (table 4). Of facades the
# paper shows pictures and no figure.
PIX2PIX = Pix2PixSettings()

_LENGTH = {
    "resolution": 256,
    "batch_size": 1,
    "steps": 80_000,  # 200 epochs of facades
    "lr_schedule": "linear",
    "lr_decay_from": 0.5,
    "flip": True,
    "jitter": 286 / 256,
    "metrics": ["psnr", "ssim", "ms-ssim", "mae", "feature-distance"],
    "best_by": "feature-distance",
    "eval_samples": 200,
}

RECIPES = [
    RecipeInfo(
        "pix2pix",
        Pix2Pix,
        PIX2PIX,
        "Isola, Zhu, Zhou & Efros 2017, Image-to-Image Translation with Conditional Adversarial Networks",
        "Turn one kind of image into another, learnt from aligned pairs.",
        _LENGTH,
    ),
]
