"""One composable image GAN: architecture × loss × penalty × conditioning × regularisation.

Each choice is a name looked up in a table (`ARCHITECTURES` and `OPTIMIZERS` here, `LOSSES`, `PENALTIES`,
`HEADS`, `NORMS` elsewhere); the papers' settings are in `presets.py`. `ImageGAN.step` is the algorithm box.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam, Optimizer, RMSprop

from ganwright.augment import make_augmenter
from ganwright.data.spec import Batch, DataKind, DataSpec
from ganwright.losses import LOSSES, d_accuracy
from ganwright.networks.blocks import NORMS, lent_randomness, mean_over_processes, spectral_normalise
from ganwright.networks.conditional import HEADS, Discriminator, Generator, NetworkPlan, Verdict
from ganwright.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from ganwright.networks.initialise import INITIALISERS, initialise
from ganwright.networks.mlp import MLPDiscriminator, MLPGenerator
from ganwright.networks.resnet import ResNetDiscriminator, ResNetGenerator
from ganwright.penalties import PENALTIES, clip_weights
from ganwright.recipes.base import LatentSpace, Recipe, SampleRequest, StepContext, frozen
from ganwright.recipes.image_settings import ImageGANSettings, check, choose
from ganwright.recipes.sampling import sample_images
from ganwright.samples import ImageSamples


@dataclass(frozen=True)
class Architecture:
    """The two networks of one kind, each built from its plan."""

    generator: Callable[[NetworkPlan], Generator]
    discriminator: Callable[[NetworkPlan], Discriminator]


ARCHITECTURES: dict[str, Architecture] = {
    "mlp": Architecture(MLPGenerator, MLPDiscriminator),
    "dcgan": Architecture(DCGANGenerator, DCGANDiscriminator),
    "resnet": Architecture(ResNetGenerator, ResNetDiscriminator),
}

MakeOptimizer = Callable[[Iterable[nn.Parameter], float, tuple[float, float], torch.device], Optimizer]

OPTIMIZERS: dict[str, MakeOptimizer] = {
    "adam": lambda parameters, lr, betas, device: Adam(parameters, lr, betas, fused=device.type in ("cpu", "cuda")),
    "rmsprop": lambda parameters, lr, betas, device: RMSprop(parameters, lr),
}


class ImageGAN(Recipe):
    """Generator and discriminator for images, with or without classes; see `ImageGANSettings`.

    Args:
        data: Unlabelled or labelled images; labels are used if `conditioning` says so.
        settings: How to train.

    Raises:
        SettingsError: The settings do not fit the data or each other.
    """

    Settings = ImageGANSettings
    accepts: ClassVar[frozenset[DataKind]] = frozenset({DataKind.IMAGES, DataKind.LABELLED_IMAGES})

    def __init__(self, data: DataSpec, settings: ImageGANSettings) -> None:
        super().__init__(data, settings)
        self.settings: ImageGANSettings = settings
        s = settings
        choose(ARCHITECTURES, s.architecture, "architecture")
        self.loss = choose(LOSSES, s.loss, "loss")
        self.penalty = choose({"none": None, "clip": None, **PENALTIES}, s.penalty, "penalty")
        for setting, table in _FURTHER_NAMES.items():
            choose(table, getattr(s, setting), setting)
        check(s, data)

        self.num_classes = data.num_classes if s.conditional else 0
        plan_g, plan_d = network_plans(s, data)
        self.generator = self._build_generator(plan_g)
        self.discriminator = self._build_discriminator(plan_d)
        self.augmenter = make_augmenter(s, data)
        # The last value computed, so that lazy penalties appear in every line of the log.
        self.register_buffer("last_penalty", torch.zeros(()))
        self.last_penalty: Tensor

    def _build_generator(self, plan: NetworkPlan) -> Generator:
        """G with its weights drawn; a subclass may give it further inputs by a larger `plan.latent_dim`."""
        network = ARCHITECTURES[self.settings.architecture].generator(plan)
        return finished(network, self.settings, spectral=self.settings.spectral_g)

    def _build_discriminator(self, plan: NetworkPlan) -> Discriminator:
        """D with its weights drawn."""
        network = ARCHITECTURES[self.settings.architecture].discriminator(plan)
        return finished(network, self.settings, spectral=self.settings.spectral_d)

    def optimizers(self) -> dict[str, Optimizer]:
        """One optimiser a network: "generator" and "discriminator"."""
        s, make = self.settings, OPTIMIZERS[self.settings.optimizer]
        return {
            "generator": make(self.generator.parameters(), s.lr_g, s.betas_g, self.device),
            "discriminator": make(self._discriminator_parameters(), s.lr_d, s.betas_d, self.device),
        }

    def _discriminator_parameters(self) -> Iterable[nn.Parameter]:
        """What the discriminator's optimiser trains; heads that a subclass adds train with D."""
        return self.discriminator.parameters()

    def step(self, batch: Batch, ctx: StepContext) -> dict[str, Tensor]:
        """`d_steps` discriminator updates, then one of the generator (Goodfellow et al. 2014, algorithm 1).

        Returns:
            `loss_discriminator` (without penalty), `loss_generator`, `d_real`, `d_fake` (mean outputs);
            `d_accuracy` for losses with a threshold, `wasserstein` (estimated distance) for critics,
            `penalty` (unweighted), `class_accuracy_real`, `class_accuracy_fake` with an auxiliary classifier,
            `augment_p` and `augment_rt` with ADA.
        """
        s = self.settings
        with lent_randomness(self.discriminator, ctx.uniform):
            for k in range(s.d_steps):
                if k > 0:
                    batch = ctx.next_batch()
                real, labels = batch["images"], batch["labels"] if s.conditional else None
                shared = s.share_fakes and k == s.d_steps - 1
                with torch.set_grad_enabled(shared):
                    fake = self.generator(self._draw_latents(real, ctx), labels)
                due = (ctx.stage_step * s.d_steps + k) % s.penalty_every == 0
                log = self._update_discriminator(real, fake.detach(), labels, ctx, penalise=due)
            if not s.share_fakes:
                fake = self.generator(self._draw_latents(real, ctx), labels)
            return log | self._update_generator(fake, labels, ctx)

    def _draw_latents(self, real: Tensor, ctx: StepContext) -> Tensor:
        """What G makes one fake each from, for as many as there are reals; subclasses join codes to it."""
        return ctx.normal(len(real), self.settings.latent_dim)

    def _update_discriminator(
        self, real: Tensor, fake: Tensor, labels: Tensor | None, ctx: StepContext, *, penalise: bool
    ) -> dict[str, Tensor]:
        s = self.settings
        real, fake = self._with_instance_noise(real, ctx), self._with_instance_noise(fake, ctx)

        def judge(images: Tensor) -> Verdict:
            return self._judge(self.augmenter(images, ctx), labels)

        on_real, on_fake = judge(real), judge(fake)
        log = self._describe(on_real, on_fake, labels)

        loss_d = self.loss.discriminator
        if s.label_smoothing:
            loss_d = partial(loss_d, real_target=1 - s.label_smoothing)
        loss = loss_d(on_real.logits, on_fake.logits)
        loss = loss + self._class_loss(on_real, labels) + self._class_loss(on_fake, labels)
        log["loss_discriminator"] = loss.detach()
        further, further_log = self.discriminator_terms(real, fake, labels, ctx)
        loss, log = loss + further, log | further_log

        if self.penalty is not None:
            # Always drawn, so that the random numbers that follow do not depend on what is due.
            u = ctx.uniform(len(real), 1, 1, 1) if self.penalty.needs_u else real.new_empty(0)
            if penalise:
                penalty = self.penalty.value(lambda x: judge(x).logits, real, fake, u)
                loss = loss + s.penalty_weight * s.penalty_every * penalty
                self.last_penalty.copy_(mean_over_processes(penalty.detach()))
            log["penalty"] = self.last_penalty.clone()
        ctx.minimise(loss, "discriminator")
        if s.penalty == "clip":
            clip_weights(self.discriminator, s.clip)
        self.augmenter.observe(on_real.logits - (self.loss.threshold or 0.0))
        return log | self.augmenter.log()

    def _update_generator(
        self,
        fake: Tensor,
        labels: Tensor | None,
        ctx: StepContext,
        *,
        adversarial: Callable[[Tensor], Tensor] | None = None,
        optimizer: str = "generator",
    ) -> dict[str, Tensor]:
        with frozen(self.discriminator):
            verdict = self._judge(self.augmenter(self._with_instance_noise(fake, ctx), ctx), labels)
            loss = (adversarial or self.loss.generator)(verdict.logits) + self._class_loss(verdict, labels)
            further, further_log = self.generator_terms(fake, labels, ctx)
            ctx.minimise(loss + further, optimizer)
        return {"loss_generator": loss.detach(), **further_log}

    def discriminator_terms(
        self, real: Tensor, fake: Tensor, labels: Tensor | None, ctx: StepContext
    ) -> tuple[Tensor | float, dict[str, Tensor]]:
        """What a subclass adds to D's loss, and scalars to log; called once a D step.

        Args:
            real: Real images as D sees them (N, C, H, W), not augmented.
            fake: As many generated ones, detached.
            labels: Classes (N,) or None.
            ctx: Randomness.
        """
        return 0.0, {}

    def generator_terms(
        self, fake: Tensor, labels: Tensor | None, ctx: StepContext
    ) -> tuple[Tensor | float, dict[str, Tensor]]:
        """What a subclass adds to G's loss, and scalars to log; D's weights need no gradient here."""
        return 0.0, {}

    def _judge(self, images: Tensor, labels: Tensor | None) -> Verdict:
        """D's verdict, in float32 at least: losses are not computed in half precision."""
        logits, class_logits = self.discriminator(images, labels)
        return Verdict(_at_least_float32(logits), None if class_logits is None else _at_least_float32(class_logits))

    def _with_instance_noise(self, images: Tensor, ctx: StepContext) -> Tensor:
        """X + σε, σ falling linearly to 0 over the run (Sønderby et al. 2017)."""
        sigma = self.settings.instance_noise * (1 - ctx.stage_step / ctx.stage_steps)
        return images + sigma * ctx.normal(*images.shape) if sigma > 0 else images

    def _class_loss(self, verdict: Verdict, labels: Tensor | None) -> Tensor | float:
        """-E[log P(C = c | x)] times its weight (Odena et al. 2017, eq. 3); both players minimise it."""
        if verdict.class_logits is None or labels is None:
            return 0.0
        return self.settings.auxiliary_weight * F.cross_entropy(verdict.class_logits, labels)

    @torch.no_grad()
    def _describe(self, on_real: Verdict, on_fake: Verdict, labels: Tensor | None) -> dict[str, Tensor]:
        real, fake = on_real.logits, on_fake.logits
        log = {"d_real": real.mean(), "d_fake": fake.mean()}
        if self.loss.threshold is None:
            log["wasserstein"] = log["d_real"] - log["d_fake"]
        else:
            log["d_accuracy"] = d_accuracy(real, fake, self.loss.threshold)
        for name, verdict in (("real", on_real), ("fake", on_fake)):
            if verdict.class_logits is not None and labels is not None:
                log[f"class_accuracy_{name}"] = (verdict.class_logits.argmax(1) == labels).float().mean()
        return log

    def sample(self, request: SampleRequest) -> ImageSamples:
        """Generated images; with classes as asked for, or in turn (one column of the grid each).

        Raises:
            SettingsError: Labels were asked for that the recipe does not have.
        """
        z = self._requested_latents(request)
        return sample_images(self.generator, request, latents=z, num_classes=self.num_classes, device=self.device)

    def latent_space(self) -> LatentSpace:
        """The latents of `sample`."""
        first = next(m.weight for m in self.generator.modules() if isinstance(m, nn.Linear | nn.ConvTranspose2d))
        weights = first if first.ndim == 2 else first.flatten(1).T  # transposed convolution: (inputs, outputs, k, k)
        z_part = weights[:, : self.settings.latent_dim]  # beside it enters the class embedding
        return LatentSpace(self.settings.latent_dim, self.generator, self.num_classes, z_part.detach())

    def freezable(self) -> Sequence[nn.Module]:
        """The discriminator's blocks or layers with weights, in the order images meet them."""
        blocks = getattr(self.discriminator, "blocks", None)
        if blocks is not None:
            return list(blocks)
        layers = [m for name, m in self.discriminator.named_modules() if not name.startswith("head")]
        return [m for m in layers if isinstance(m, nn.Conv2d | nn.Linear)]

    def _requested_latents(self, request: SampleRequest) -> Tensor:
        """What `sample` makes images from, one row each, on the CPU."""
        return request.normal(self.settings.latent_dim)


_FURTHER_NAMES: dict[str, Mapping[str, object]] = {
    "conditioning": HEADS,
    "norm_g": NORMS,
    "norm_d": NORMS,
    "init": INITIALISERS,
    "optimizer": OPTIMIZERS,
    "conditioning_g": {"latent": None, "norm": None},
    "pooling": {"sum": None, "mean": None},
}
"""Settings that are names, with the table each is looked up in later."""


def network_plans(s: ImageGANSettings, data: DataSpec) -> tuple[NetworkPlan, NetworkPlan]:
    """Sizes of generator and discriminator."""
    by_norm = s.conditional and s.conditioning_g == "norm"
    common = NetworkPlan(
        resolution=data.resolution,
        channels=data.channels,
        width=s.width_g,
        growth=s.growth,
        depth=s.depth,
        num_classes=data.num_classes if s.conditional else 0,
    )
    generator = replace(
        common,
        norm=s.norm_g,
        latent_dim=s.latent_dim,
        class_embedding=s.class_embedding if s.conditional and not by_norm else 0,
        conditional_norm=by_norm,
    )
    discriminator = replace(
        common, width=s.width_d, norm=s.norm_d, head=s.conditioning, dropout=s.dropout_d, pooling=s.pooling
    )
    return generator, discriminator


def _at_least_float32(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


NetworkT = TypeVar("NetworkT", bound=nn.Module)


def finished(network: NetworkT, s: ImageGANSettings, *, spectral: bool) -> NetworkT:
    """The network with its weights drawn, spectral norm attached, and laid out for fast convolutions."""
    initialise(network, s.init)
    if spectral:
        spectral_normalise(network, embeddings=isinstance(network, Discriminator))
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
