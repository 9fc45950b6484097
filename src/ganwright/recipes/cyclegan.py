"""CycleGAN: image-to-image translation between two sets of images that are not aligned (Zhu et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Optimizer

from ganwright.data.spec import Batch, DataKind, DataSpec
from ganwright.errors import SettingsError
from ganwright.networks.blocks import lent_randomness
from ganwright.recipes.base import Recipe, SampleRequest, StepContext, frozen
from ganwright.recipes.image_pool import ImagePool
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
from ganwright.samples import DomainSamples, PairSamples, to_uint8


@dataclass(frozen=True)
class CycleGANSettings(TranslationSettings):
    """Every knob of `CycleGAN`."""

    generator: Literal["unet", "resnet"] = "resnet"
    """Kind of generator: residual blocks at a quarter of the resolution, or a U-Net with skips."""
    norm: Literal["batch", "instance", "none"] = "instance"
    """Norm in all networks."""
    dropout: float = 0.0
    """Share dropped in the inner layers of the generators, in [0, 1)."""
    test_dropout: bool = False
    """Whether the generators also drop when they are used."""
    loss: Literal["non-saturating", "least-squares", "hinge"] = "least-squares"
    """Adversarial loss: logistic ("vanilla"), least squares ("lsgan") or hinge."""
    lambda_a: float = 10.0
    """Weight λ of the cycle A -> B -> A."""
    lambda_b: float = 10.0
    """Weight λ of the cycle B -> A -> B."""
    lambda_identity: float = 0.5
    """Weight of the identity loss, as a share of λ: what is of the wanted domain already should stay as it is."""
    pool_size: int = 50
    """Earlier translations from which each discriminator is shown some; 0: the newest only."""


class CycleGAN(Recipe):
    """Two generators, A -> B and B -> A, that undo each other, and a discriminator for each domain.

    Args:
        data: Two domains.
        settings: How to train.

    Raises:
        SettingsError: The settings do not fit the data.
    """

    Settings = CycleGANSettings
    accepts: ClassVar[frozenset[DataKind]] = frozenset({DataKind.DOMAINS})
    directions: ClassVar[tuple[str, ...]] = ("a2b", "b2a")

    def __init__(self, data: DataSpec, settings: CycleGANSettings) -> None:
        super().__init__(data, settings)
        s = settings
        self.settings: CycleGANSettings = settings
        check(s, data)
        _check_weights(s, data)
        self.objective = OBJECTIVES[s.loss]
        self.ema_networks = ("generator_a2b", "generator_b2a") if s.average else ()  # type: ignore[misc]
        a, b, size = data.channels, data.channels_out, data.resolution
        self.generator_a2b, self.generator_b2a = make_generator(s, a, b, size), make_generator(s, b, a, size)
        self.discriminator_a, self.discriminator_b = make_discriminator(s, a), make_discriminator(s, b)
        self.pool_a, self.pool_b = ImagePool(s.pool_size, a, size), ImagePool(s.pool_size, b, size)

    def optimizers(self) -> dict[str, Optimizer]:
        """One for both generators, one for both discriminators."""
        return {
            "generators": make_optimizer(self.settings, self.generator_a2b, self.generator_b2a),
            "discriminators": make_optimizer(self.settings, self.discriminator_a, self.discriminator_b),
        }

    def step(self, batch: Batch, ctx: StepContext) -> dict[str, Tensor]:
        """One update of both generators, then one of both discriminators (Zhu et al. 2017, eq. 3).

        Returns:
            `loss_generator_a2b` and `loss_generator_b2a` (adversarial), `loss_cycle_a` and `loss_cycle_b`,
            `loss_identity_a` and `loss_identity_b` where they are used (none of these weighted),
            `loss_discriminator_a` and `loss_discriminator_b`, `d_accuracy` (mean of the two).
        """
        # The data's channels-last layout makes instance norm and reflection slower.
        a, b = batch["images_a"].contiguous(), batch["images_b"].contiguous()
        with lent_randomness(self, ctx.uniform):
            fake_a, fake_b, log = self._update_generators(a, b, ctx)
        return log | self._update_discriminators(a, b, fake_a, fake_b, ctx)

    def _update_generators(self, a: Tensor, b: Tensor, ctx: StepContext) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        s = self.settings
        fake_b, fake_a = self.generator_a2b(a), self.generator_b2a(b)
        terms = {
            "loss_cycle_a": (s.lambda_a, F.l1_loss(self.generator_b2a(fake_b).float(), a)),
            "loss_cycle_b": (s.lambda_b, F.l1_loss(self.generator_a2b(fake_a).float(), b)),
        }
        if s.lambda_identity > 0:
            of_a, of_b = self.generator_b2a(a).float(), self.generator_a2b(b).float()
            terms["loss_identity_a"] = (s.lambda_identity * s.lambda_a, F.l1_loss(of_a, a))
            terms["loss_identity_b"] = (s.lambda_identity * s.lambda_b, F.l1_loss(of_b, b))
        with frozen(self.discriminator_a, self.discriminator_b):
            terms["loss_generator_a2b"] = (1.0, self.objective.generator(self.discriminator_b(fake_b)))
            terms["loss_generator_b2a"] = (1.0, self.objective.generator(self.discriminator_a(fake_a)))
            ctx.minimise(torch.stack([weight * loss for weight, loss in terms.values()]).sum(), "generators")
        return fake_a.detach(), fake_b.detach(), {name: loss.detach() for name, (_, loss) in terms.items()}

    def _update_discriminators(
        self, a: Tensor, b: Tensor, fake_a: Tensor, fake_b: Tensor, ctx: StepContext
    ) -> dict[str, Tensor]:
        log, total, accuracy = {}, a.new_zeros(()), a.new_zeros(())
        sides = (
            ("a", self.discriminator_a, self.pool_a, a, fake_a),
            ("b", self.discriminator_b, self.pool_b, b, fake_b),
        )
        for name, discriminator, pool, real, fake in sides:
            on_real, on_fake = discriminator(real), discriminator(pool.exchange(fake, ctx))
            loss = self.objective.discriminator(on_real, on_fake)
            total = total + loss
            log[f"loss_discriminator_{name}"] = loss.detach()
            accuracy = accuracy + self.objective.describe(on_real, on_fake)["d_accuracy"] / 2
        ctx.minimise(total, "discriminators")
        return {**log, "d_accuracy": accuracy}

    def translate(self, images: Tensor, direction: str = "a2b") -> Tensor:
        """Images (N, C, H, W) in [-1, 1] of one domain, of any size, to the other's (N, C', H, W).

        Raises:
            SettingsError: An unknown direction, or other channels than in training.
        """
        channels = self.data.channels_out if direction == "b2a" else self.data.channels
        check_direction(self, direction, images, channels)
        return self._use(images, direction, 0, 0)

    def _use(self, images: Tensor, direction: str, first_row: int, seed: int) -> Tensor:
        network = self.generator_b2a if direction == "b2a" else self.generator_a2b
        with in_use(network, dropout=self.settings.test_dropout, seed=seed, first_row=first_row):
            return network(images.contiguous()).float()  # type: ignore[no-any-return]

    def sample(self, request: SampleRequest) -> DomainSamples:
        """The requested images of each domain, translated, and translated back.

        Raises:
            SettingsError: There are no inputs.
        """
        if request.inputs is None or not {"images_a", "images_b"} <= request.inputs.keys():
            raise SettingsError("CycleGAN makes images from images of two domains, and was given none.", where="inputs")
        size, found = max(1, min(request.batch_size, 8)), {}
        for there, back, name in (("a2b", "b2a", "images_a"), ("b2a", "a2b", "images_b")):

            def use(x: Tensor, direction: str) -> Tensor:
                return in_batches(lambda rows, i: self._use(rows, direction, i, request.seed), x, size, self.device)

            inputs = request.inputs[name]
            outputs = use(inputs, there)
            found[there] = PairSamples(to_uint8(inputs), to_uint8(outputs), cycled=to_uint8(use(outputs, back)))
        return DomainSamples(found)


def _check_weights(s: CycleGANSettings, data: DataSpec) -> None:
    for name in ("lambda_a", "lambda_b", "lambda_identity", "pool_size"):
        if getattr(s, name) < 0:
            raise SettingsError(f"'{name}' must be at least 0, not {getattr(s, name)}.", where=name)
    if s.lambda_identity > 0 and data.channels != data.channels_out:
        raise SettingsError(
            f"Domain A has {data.channels} channels and domain B {data.channels_out}: an image of one cannot stay as "
            "it is in the other.",
            where="lambda_identity",
            fix="--lambda-identity 0 leaves that loss out",
        )


# Zhu et al. 2017, section 4 and appendix 7: 9 residual blocks at 256² (6 below), 70x70 PatchGAN, instance norm, least
# squares, λ 10, pools of 50, Adam 2e-4 (β₁ 0.5), batch 1, 100 epochs at a constant rate and 100 more falling to 0.
# Identity loss 0.5 λ is the paper's for paintings -> photos (section 5.2) and the authors' code's for everything.
# The moving average is ours (`--average False`).
# Published: Cityscapes labels -> photos, FCN score: per-pixel accuracy 0.52, per-class 0.17, class IoU 0.11 (pix2pix,
# which is given the pairs: 0.71, 0.25, 0.18; CoGAN 0.40, 0.10, 0.06; table 2). Photos -> labels: 0.58, 0.22, 0.16
# (table 3). Maps -> aerial photos: 26.8 % ± 2.8 % of judges fooled (table 1).
CYCLEGAN = CycleGANSettings()

_LENGTH = {
    "resolution": 256,
    "batch_size": 1,
    "steps": 200_000,  # 200 epochs of about 1,000 images
    "lr_schedule": "linear",
    "lr_decay_from": 0.5,
    "flip": True,
    "jitter": 286 / 256,
    "metrics": ["fd", "kid", "cycle-mae"],
    "best_by": "fd/a2b",
    "eval_samples": 200,
}

RECIPES = [
    RecipeInfo(
        "cyclegan",
        CycleGAN,
        CYCLEGAN,
        "Zhu, Park, Isola & Efros 2017, Unpaired Image-to-Image Translation using Cycle-Consistent "
        "Adversarial Networks",
        "Translate between two sets of images that are not paired, in both directions.",
        _LENGTH,
    ),
]
