"""What recipes that restore images share: damage, then two stages, pixels first and the discriminator after.

`Restorer.step` is the algorithm box; what is damaged and by which network it is restored, subclasses say.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from ganwright.data.spec import Batch, DataSpec
from ganwright.degrade import Draws, SeededDraws
from ganwright.errors import SettingsError
from ganwright.losses import LOSSES, d_accuracy, pair_accuracy, relativistic_average_d, relativistic_average_g
from ganwright.networks.sr_discriminator import SRDiscriminator
from ganwright.recipes.base import Recipe, SampleRequest, Stage, StepContext, frozen
from ganwright.recipes.perceptual import PerceptualLoss
from ganwright.samples import PairSamples, to_uint8

PixelLoss = Literal["mse", "l1"]
PIXEL_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mse": F.mse_loss, "l1": F.l1_loss}
AVERAGE = "relativistic-average"
"""The adversarial loss of ESRGAN, beside those of `LOSSES`."""


@dataclass(frozen=True)
class RestorationSettings:
    """Knobs that all restorers have."""

    pretrain_share: float = 0.5
    """Share of the steps in which G learns from pixels alone, before D joins in; 1: no GAN at all."""
    pretrain_loss: PixelLoss = "mse"
    """What G minimises in those steps."""
    pixel_loss: PixelLoss = "mse"
    """The pixel part of G's loss beside D."""
    pixel_weight: float = 1.0
    """Its weight; images are in [-1, 1]."""
    perceptual_weight: float = 0.0
    """Weight of the distance in the maps of EfficientNet-Lite0; 0: none."""
    adversarial_weight: float = 1e-3
    """Weight of the adversarial part. Higher: sharper, and further from the truth pixel by pixel."""
    loss: str = "non-saturating"
    """Adversarial loss: non-saturating, least-squares, hinge, wasserstein, minimax, or relativistic-average."""
    width_d: int = 64
    """Feature maps of D's first layer."""
    levels_d: int = 4
    """Halvings in D."""
    norm_d: Literal["batch", "instance", "none"] = "batch"
    """Norm in D."""
    lr_pretrain: float = 1e-4
    """Learning rate of the first stage."""
    lr_g: float = 1e-4
    """Learning rate of G beside D."""
    lr_d: float = 1e-4
    """Learning rate of D."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Adam's β₁ and β₂, of all three optimisers."""


@dataclass(frozen=True)
class Damaged:
    """Images as the restorer gets them.

    Attributes:
        inputs: (N, C, h, w).
        targets: What they were, (N, C', H, W).
        strength: How strong the damage is, (N,), where the network is told; or None.
    """

    inputs: Tensor
    targets: Tensor
    strength: Tensor | None = None


class Restorer(Recipe):
    """G undoes a damage that the recipe itself does to clean images; D tells restored images from clean ones.

    Args:
        data: What it trains on.
        settings: How.
        generator: The restoring network.

    Raises:
        SettingsError: The settings do not fit the data or each other.
    """

    directions: ClassVar[tuple[str, ...]] = ("a2b",)
    measured_as: ClassVar[str] = "pairs"

    def __init__(self, data: DataSpec, settings: RestorationSettings, generator: nn.Module, channels: int) -> None:
        super().__init__(data, settings)
        check(settings, data)
        self.s = settings
        self.generator = generator
        self.discriminator = SRDiscriminator(channels, settings.width_d, settings.levels_d, settings.norm_d)
        for network in (self.generator, self.discriminator):
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._held: list[PerceptualLoss] = []  # loaded when first needed, and never saved

    @abstractmethod
    def damaged(self, batch: Mapping[str, Tensor], draws: Draws) -> Damaged:
        """Inputs and targets of a batch, on its device."""

    @abstractmethod
    def restore(self, inputs: Tensor, strength: Tensor | None = None) -> Tensor:
        """G's work on inputs (N, C, h, w), not clipped."""

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam for each: "pretraining", "generator" and "discriminator".

        The first two are both of G: one stage's moments would mislead the next.
        """
        s, fused = self.s, self.device.type in ("cpu", "cuda")

        def adam(network: nn.Module, lr: float) -> Optimizer:
            return Adam(network.parameters(), lr, s.betas, fused=fused)

        return {
            "pretraining": adam(self.generator, s.lr_pretrain),
            "generator": adam(self.generator, s.lr_g),
            "discriminator": adam(self.discriminator, s.lr_d),
        }

    def stages(self, steps: int) -> Sequence[Stage]:
        """`pretraining` for a share of the steps, then `adversarial`."""
        first = round(self.s.pretrain_share * steps)
        both = (Stage("pretraining", first), Stage("adversarial", steps - first))
        return tuple(stage for stage in both if stage.steps)

    def step(self, batch: Batch, ctx: StepContext) -> dict[str, Tensor]:
        """One update of G on pixels; or, in the second stage, one of D and one of G, on the same restored images.

        Returns:
            `loss_generator`, `pixel` (unweighted); in the second stage also `loss_discriminator`, `adversarial`,
            `perceptual` (unweighted), `d_real`, `d_fake` (mean outputs), and `d_accuracy` where the loss has one.
        """
        spoilt = self.damaged(batch, ctx)
        restored = self.restore(spoilt.inputs, spoilt.strength)
        if ctx.stage == "pretraining":
            loss = PIXEL_LOSSES[self.s.pretrain_loss](at_least_float32(restored), spoilt.targets)
            ctx.minimise(loss, "pretraining")
            return {"loss_generator": loss.detach(), "pixel": loss.detach()}
        log = self._update_discriminator(spoilt.targets, restored.detach(), ctx)
        return log | self._update_generator(spoilt.targets, restored, ctx)

    def _update_discriminator(self, clean: Tensor, restored: Tensor, ctx: StepContext) -> dict[str, Tensor]:
        real, fake = self._judge(clean), self._judge(restored)
        accuracy: Tensor | None
        if self.s.loss == AVERAGE:
            loss, accuracy = relativistic_average_d(real, fake), pair_accuracy(real.detach(), fake.detach())
        else:
            chosen = LOSSES[self.s.loss]
            loss = chosen.discriminator(real, fake)
            accuracy = None if chosen.threshold is None else d_accuracy(real.detach(), fake.detach(), chosen.threshold)
        ctx.minimise(loss, "discriminator")
        log = {"loss_discriminator": loss, "d_real": real.mean(), "d_fake": fake.mean()}
        log |= {} if accuracy is None else {"d_accuracy": accuracy}
        return {name: value.detach() for name, value in log.items()}

    def _update_generator(self, clean: Tensor, restored: Tensor, ctx: StepContext) -> dict[str, Tensor]:
        s = self.s
        with frozen(self.discriminator):
            fake = self._judge(restored)
            if s.loss == AVERAGE:
                with torch.no_grad():
                    real = self._judge(clean)
                adversarial = relativistic_average_g(real, fake)
            else:
                adversarial = LOSSES[s.loss].generator(fake)
            pixel = PIXEL_LOSSES[s.pixel_loss](at_least_float32(restored), clean)
            loss = s.pixel_weight * pixel + s.adversarial_weight * adversarial
            log = {"pixel": pixel, "adversarial": adversarial}
            if s.perceptual_weight:
                log["perceptual"] = self._perceptual(restored)(restored, clean)
                loss = loss + s.perceptual_weight * log["perceptual"]
            ctx.minimise(loss, "generator")
        return {"loss_generator": loss.detach(), **{name: value.detach() for name, value in log.items()}}

    def _judge(self, images: Tensor) -> Tensor:
        return at_least_float32(self.discriminator(images))

    def _perceptual(self, like: Tensor) -> PerceptualLoss:
        if not self._held:
            self._held.append(PerceptualLoss(self.data.resolution).to(self.device, next(self.parameters()).dtype))
        return self._held[0]

    # Use. ---------------------------------------------------------------------------------------------------

    def translate(self, images: Tensor, direction: str = "a2b") -> Tensor:
        """Damaged pictures of any size, (N, C, h, w) in about [-1, 1], restored and clipped to [-1, 1].

        Raises:
            SettingsError: The direction is not "a2b".
        """
        if direction not in self.directions:
            raise SettingsError(f"A restorer has no direction '{direction}'.", where="direction", fix="leave it out")
        return self.restore(images, self.estimated_strength(images)).clamp(-1, 1)

    def estimated_strength(self, images: Tensor) -> Tensor | None:
        """How strong the damage of pictures is, (N,), for a network that is told; else None."""
        return None

    def sample(self, request: SampleRequest) -> PairSamples:
        """The request's images damaged, restored, and as they were.

        Raises:
            SettingsError: The request has no images.
        """
        if request.inputs is None:
            raise SettingsError(
                "A restorer needs pictures to work on.", where="inputs", fix="give the data it was trained on"
            )
        parts: dict[str, list[np.ndarray[Any, Any]]] = {}
        for start in range(0, request.n, request.batch_size):
            rows = {k: v[start : start + request.batch_size].to(self.device) for k, v in request.inputs.items()}
            spoilt = self.damaged(rows, SeededDraws(request.seed, self.device, first_row=start))
            made = {"inputs": spoilt.inputs, "outputs": self.restore(spoilt.inputs, spoilt.strength)}
            made["targets"] = spoilt.targets
            baselines = self.baselines(spoilt.inputs) if request.baselines else {}
            for name, images in {**made, **{f"+{name}": image for name, image in baselines.items()}}.items():
                parts.setdefault(name, []).append(to_uint8(images))
        whole = {name: np.concatenate(arrays) for name, arrays in parts.items()}
        simple = {name[1:]: images for name, images in whole.items() if name.startswith("+")}
        return PairSamples(whole["inputs"], whole["outputs"], whole["targets"], baselines=simple)

    def freezable(self) -> Sequence[nn.Module]:
        """D's convolutions, in the order images meet them."""
        return [module for module in self.discriminator.layers if isinstance(module, nn.Conv2d)]


def check(s: RestorationSettings, data: DataSpec) -> None:
    """Refuse settings that cannot work.

    Raises:
        SettingsError: The first thing wrong.
    """
    if s.loss not in (*LOSSES, AVERAGE):
        raise SettingsError(
            f"There is no loss '{s.loss}' for a restorer.",
            where="loss",
            fix="choose from " + ", ".join([*LOSSES, AVERAGE]),
        )
    if not 0 <= s.pretrain_share <= 1:
        raise SettingsError(
            f"pretrain_share is {s.pretrain_share}.", where="pretrain_share", fix="give a share of the steps, 0 to 1"
        )
    for name in ("pixel_weight", "perceptual_weight", "adversarial_weight"):
        if not getattr(s, name) >= 0:
            raise SettingsError(f"{name} is {getattr(s, name)}.", where=name, fix="give 0 or more")
    if s.levels_d < 1 or data.resolution < 2**s.levels_d:
        raise SettingsError(
            f"Images of {data.resolution} pixels cannot be halved {s.levels_d} times.",
            where="levels_d",
            fix="train on larger images, or with fewer levels_d",
        )
    if s.perceptual_weight and data.channels not in (1, 3):
        raise SettingsError(
            f"The perceptual loss sees images of 1 or 3 channels, not {data.channels}.",
            where="perceptual_weight",
            fix="set perceptual_weight to 0",
        )


def at_least_float32(x: Tensor) -> Tensor:
    """Losses are not computed in half precision."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
