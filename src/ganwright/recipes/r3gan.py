"""R3GAN: the relativistic pairing loss with R1 and R2 on modern residual networks, without further tricks.

Huang et al. 2024, "The GAN is dead; long live the GAN! A modern GAN baseline". The presets hold the values of the
authors' code; published results are the paper's own, and none was measured here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from ganwright.augment import make_augmenter
from ganwright.augment.ada import AdaptiveAugmenter
from ganwright.data.spec import Batch, DataKind, DataSpec
from ganwright.losses import pair_accuracy, relativistic_d, relativistic_g
from ganwright.networks.r3gan import Discriminator, Generator
from ganwright.penalties import outputs_and_gradients
from ganwright.recipes.base import LatentSpace, Recipe, SampleRequest, StepContext, frozen
from ganwright.recipes.r3gan_settings import Moment, R3GANSettings, check, moment, network_plan
from ganwright.recipes.registry import RecipeInfo
from ganwright.recipes.sampling import sample_images
from ganwright.samples import ImageSamples


class R3GAN(Recipe):
    """Generator and discriminator of R3GAN; see `R3GANSettings`.

    Args:
        data: Unlabelled or labelled images; labels are used if `conditional` says so.
        settings: How to train.

    Raises:
        SettingsError: The settings do not fit the data or each other.
    """

    Settings = R3GANSettings
    accepts: ClassVar[frozenset[DataKind]] = frozenset({DataKind.IMAGES, DataKind.LABELLED_IMAGES})

    def __init__(self, data: DataSpec, settings: R3GANSettings) -> None:
        super().__init__(data, settings)
        self.settings: R3GANSettings = settings
        check(settings, data)
        plan = network_plan(settings, data)
        self.num_classes = plan.num_classes
        self.generator = Generator(plan)
        self.discriminator = Discriminator(plan)
        for network in (self.generator, self.discriminator):
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        policy = settings.augment_policy
        if settings.augment == "ada" and policy == "auto":
            policy = "bgc,cutout"
        self.augmenter = make_augmenter(replace(settings, augment_policy=policy), data)
        self._optimizers: list[Optimizer] = []

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam with β₁ = 0 for each network: "generator" and "discriminator"."""
        s, fused = self.settings, self.device.type in ("cpu", "cuda")
        networks: dict[str, nn.Module] = {"generator": self.generator, "discriminator": self.discriminator}
        made: dict[str, Optimizer] = {
            name: Adam([p for p in network.parameters() if p.requires_grad], s.lr, (0.0, s.beta2), fused=fused)
            for name, network in networks.items()
        }
        self._optimizers = list(made.values())
        return made

    def learning_rate_factor(self, done: float) -> float:
        """Along half a cosine from 1 to `lr_end` / `lr` over the burn-in."""
        return moment(self.settings, self.data.resolution, done).lr_factor

    def step(self, batch: Batch, ctx: StepContext) -> dict[str, Tensor]:
        """One update of the discriminator, one of the generator, each on a batch of its own.

        Returns:
            `loss_discriminator` (without penalties), `loss_generator`, `d_real`, `d_fake` (mean outputs),
            `d_accuracy` (share of pairs whose real looks more real), `penalty_r1` and `penalty_r2` (without γ),
            `gamma`, and `augment_p` with ADA.
        """
        now = moment(self.settings, self.data.resolution, ctx.stage_step / ctx.stage_steps)
        self._turn_to(now)
        log = self._update_discriminator(batch, now.gamma, ctx)
        log |= self._update_generator(ctx.next_batch(), ctx) | self.augmenter.log()
        if self.settings.scheduled_augmentation:
            del log["augment_rt"]  # nothing was observed
        return log

    def _update_discriminator(self, batch: Batch, gamma: float, ctx: StepContext) -> dict[str, Tensor]:
        real, labels = self._images_and_labels(batch)
        with torch.no_grad():
            fake = self.generator(ctx.normal(len(real), self.settings.latent_dim), labels)
        judge = self._judge(labels, ctx)
        on_real, real_gradients = outputs_and_gradients(judge, real)
        on_fake, fake_gradients = outputs_and_gradients(judge, fake)
        # ½ E‖∇D‖², at reals (R1) and at fakes (R2)
        r1, r2 = (0.5 * gradients.square().sum(1).mean() for gradients in (real_gradients, fake_gradients))
        loss = relativistic_d(on_real, on_fake)
        ctx.minimise(loss + gamma * (r1 + r2), "discriminator")

        on_real, on_fake = on_real.detach(), on_fake.detach()
        if not self.settings.scheduled_augmentation:
            self.augmenter.observe(on_real - on_fake)
        return {
            "loss_discriminator": loss.detach(),
            "d_real": on_real.mean(),
            "d_fake": on_fake.mean(),
            "d_accuracy": pair_accuracy(on_real, on_fake),
            "penalty_r1": r1.detach(),
            "penalty_r2": r2.detach(),
            "gamma": torch.full_like(loss, gamma),
        }

    def _update_generator(self, batch: Batch, ctx: StepContext) -> dict[str, Tensor]:
        real, labels = self._images_and_labels(batch)
        fake = self.generator(ctx.normal(len(real), self.settings.latent_dim), labels)
        judge = self._judge(labels, ctx)
        with frozen(self.discriminator):
            with torch.no_grad():
                on_real = judge(real)
            loss = relativistic_g(on_real, judge(fake))
            ctx.minimise(loss, "generator")
        return {"loss_generator": loss.detach()}

    def _judge(self, labels: Tensor | None, ctx: StepContext) -> Callable[[Tensor], Tensor]:
        """D's logits (N,) on augmented images, as members of these classes."""
        return lambda images: self.discriminator(self.augmenter(images, ctx), labels)

    def _images_and_labels(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        return batch["images"], batch["labels"] if self.num_classes else None

    def _turn_to(self, now: Moment) -> None:
        """Put the schedule into effect, but for the learning rates, which the loop sets."""
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["betas"] = (0.0, now.beta2)
        if self.settings.scheduled_augmentation and isinstance(self.augmenter, AdaptiveAugmenter):
            self.augmenter.p.fill_(now.augment_p)

    def sample(self, request: SampleRequest) -> ImageSamples:
        """Generated images; with classes as asked for, or in turn (one column of the grid each).

        Raises:
            SettingsError: Labels were asked for that the recipe does not have.
        """
        z = request.normal(self.settings.latent_dim)
        return sample_images(self.generator, request, latents=z, num_classes=self.num_classes, device=self.device)

    def latent_space(self) -> LatentSpace:
        """The latents of `sample`."""
        size = self.settings.latent_dim
        first = self.generator.first_layer[:, :size]  # beside it enters the class embedding
        return LatentSpace(size, self.generator, self.num_classes, first.detach())

    def freezable(self) -> Sequence[nn.Module]:
        """The discriminator's layers from the image on: one that takes it in, then a stage a resolution."""
        return [self.discriminator.from_image, *self.discriminator.stages]


# The values below are those of the authors' train.py. Their γ, learning rate, β₂, length of the moving average and
# probability of augmentation move along half a cosine over the first 20 million images (ImageNet: 200 million), here
# `burn_in` of the run; the moving average's half-life grows in a straight line instead, to the same value at the same
# time. Colour transforms are half as likely there as the others.

# On a GPU, for 32 to 64 pixels and more: a third of the published width, which is about nine times quicker.
# γ by the rule in `R3GANSettings.gamma`.
DEFAULT = R3GANSettings()

# Published: FID 1.96 on CIFAR-10, one step of sampling. 250 million images.
CIFAR10 = R3GANSettings(width=768, conditional=True, gamma=0.05, augment_p=0.55, burn_in=0.08)

# Published: FID 1.95 on FFHQ 64x64.
FFHQ_64 = R3GANSettings(width=768, gamma=2.0, augment_p=0.3, burn_in=0.2)

# Published: FID 2.75 on FFHQ 256x256.
FFHQ_256 = R3GANSettings(width=768, gamma=150.0, augment_p=0.3, burn_in=0.2)

# Published: FID 1.27 on ImageNet 32x32. A billion images.
IMAGENET_32 = R3GANSettings(width=1536, group_width=32, conditional=True, gamma=0.5, augment_p=0.5, burn_in=0.2)

# Published: FID 2.09 on ImageNet 64x64. A billion images.
IMAGENET_64 = R3GANSettings(
    width=1536, group_width=32, taper_after=64, conditional=True, gamma=1.0, augment_p=0.4, burn_in=0.2
)

# Also published: all 1,000 modes of StackedMNIST, for which train.py has no values.

PAPER = "Huang et al., The GAN is dead; long live the GAN! A Modern GAN Baseline, NeurIPS 2024, arXiv:2501.05441"


def _length(images: float, batch_size: int, half_life: float, burn_in: float, **others: object) -> dict[str, object]:
    """`TrainSettings` for a run of so many images, with a moving average of `half_life` images from the burn-in on."""
    return {
        "steps": round(images / batch_size),
        "batch_size": batch_size,
        "ema_half_life": half_life / batch_size,
        "ema_ramp_up": half_life / (burn_in * images),
        **others,
    }


# Lengths: 250 million images for CIFAR-10 and a billion for ImageNet are the paper's (table 9). Those of FFHQ are not
# known to us, and the code sets no end: 100 million is our choice.
RECIPES = [
    RecipeInfo(
        "r3gan",
        R3GAN,
        DEFAULT,
        PAPER,
        "The first choice on a GPU, for natural images of 32 to 64 pixels and more: stable, diverse, without tricks.",
        _length(5e6, 64, 2.5e5, DEFAULT.burn_in),
    ),
    RecipeInfo(
        "r3gan-cifar10",
        R3GAN,
        CIFAR10,
        PAPER,
        "R3GAN as published for CIFAR-10: 32 pixels, classes; eight GPUs for days.",
        _length(2.5e8, 512, 5e6, CIFAR10.burn_in, resolution=32, flip=True),
    ),
    RecipeInfo(
        "r3gan-ffhq-64",
        R3GAN,
        FFHQ_64,
        PAPER,
        "R3GAN as published for faces of 64 pixels: one kind of object, seen from the front.",
        _length(1e8, 256, 5e5, FFHQ_64.burn_in, resolution=64, flip=True),
    ),
    RecipeInfo(
        "r3gan-ffhq-256",
        R3GAN,
        FFHQ_256,
        PAPER,
        "R3GAN as published for faces of 256 pixels; eight GPUs.",
        _length(1e8, 256, 5e5, FFHQ_256.burn_in, resolution=256, flip=True),
    ),
    RecipeInfo(
        "r3gan-imagenet-32",
        R3GAN,
        IMAGENET_32,
        PAPER,
        "R3GAN as published for ImageNet at 32 pixels: many classes; dozens of GPUs.",
        _length(1e9, 4096, 5e7, IMAGENET_32.burn_in, resolution=32, flip=True),
    ),
    RecipeInfo(
        "r3gan-imagenet-64",
        R3GAN,
        IMAGENET_64,
        PAPER,
        "R3GAN as published for ImageNet at 64 pixels: many classes; dozens of GPUs.",
        _length(1e9, 4096, 5e7, IMAGENET_64.burn_in, resolution=64, flip=True),
    ),
]
"""R3GAN's presets."""
