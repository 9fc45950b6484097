"""StyleGAN2 (Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN"), with or without classes, and
with adaptive discriminator augmentation (Karras et al. 2020, "Training GANs with limited data") on request.

`StyleGAN2.step` is the algorithm box; the networks are in `networks.stylegan2`, the knobs in `stylegan2_settings.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from ganwright.augment import make_augmenter
from ganwright.data.spec import Batch, DataKind, DataSpec
from ganwright.errors import SettingsError
from ganwright.losses import LOSSES, d_accuracy
from ganwright.networks.blocks import mean_over_processes, world_size
from ganwright.networks.second_derivatives import QuickSecondDerivatives
from ganwright.networks.stylegan2 import Discriminator, Generator
from ganwright.penalties import r1_penalty
from ganwright.recipes.base import LatentSpace, Recipe, SampleRequest, StepContext, StyleSpace, frozen
from ganwright.recipes.registry import RecipeInfo
from ganwright.recipes.sampling import sample_images
from ganwright.recipes.stylegan2_settings import StyleGAN2Settings, check, gamma, learning_rate, network_plans
from ganwright.samples import ImageSamples

LOSS = LOSSES["non-saturating"]


class StyleGAN2(Recipe):
    """Style-based generator and residual discriminator; see `StyleGAN2Settings`.

    Args:
        data: Unlabelled or labelled images of a power of two pixels; labels are used if `conditional`.
        settings: How to train.

    Raises:
        SettingsError: The settings do not fit the data or each other.
    """

    Settings = StyleGAN2Settings
    accepts: ClassVar[frozenset[DataKind]] = frozenset({DataKind.IMAGES, DataKind.LABELLED_IMAGES})
    sample_options: Mapping[str, str] = {
        "truncation": "1 (default): as trained; towards 0: nearer to the mean image, less varied",
        "truncation_cutoff": "truncate only so many of the first (coarsest) layers",
    }

    def __init__(self, data: DataSpec, settings: StyleGAN2Settings) -> None:
        super().__init__(data, settings)
        self.settings: StyleGAN2Settings = settings
        check(settings, data)
        self.num_classes = data.num_classes if settings.conditional else 0
        self.generator, self.discriminator = self.make_networks(data)
        for network in (self.generator, self.discriminator):
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.augmenter = make_augmenter(settings, data)
        # `pl_mean` is a in the path length penalty; the others are what lazy regularisers gave last, for the log.
        for name in ("pl_mean", "last_path_length", "last_pl_penalty", "last_r1"):
            self.register_buffer(name, torch.zeros(()))
        self.pl_mean: Tensor
        self.last_path_length: Tensor
        self.last_pl_penalty: Tensor
        self.last_r1: Tensor

    def make_networks(self, data: DataSpec) -> tuple[Generator, Discriminator]:
        """The two networks; recipes with another generator override this."""
        plan_g, plan_d = network_plans(self.settings, data)
        return Generator(plan_g), Discriminator(plan_d)

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam for "generator" and "discriminator", corrected for lazy regularisation."""
        s, resolution = self.settings, self.data.resolution
        return {
            "generator": self._adam(self.generator, learning_rate(s.lr_g, resolution), s.betas_g, s.pl_every),
            "discriminator": self._adam(self.discriminator, learning_rate(s.lr_d, resolution), s.betas_d, s.r1_every),
        }

    def _adam(self, network: nn.Module, lr: float, betas: tuple[float, float], every: int) -> Adam:
        # k + 1 updates for every k steps: c = k / (k + 1), λ' = c·λ, β' = β^c (StyleGAN2, appendix B).
        c = every / (every + 1)
        fused = self.device.type in ("cpu", "cuda")
        return Adam(network.parameters(), c * lr, (betas[0] ** c, betas[1] ** c), fused=fused)

    def step(self, batch: Batch, ctx: StepContext) -> dict[str, Tensor]:
        """One update of G and one of D, and every few steps one more of each by its regulariser.

        Returns:
            `loss_generator`, `loss_discriminator`, `d_real`, `d_fake`, `d_accuracy`; the last values of `r1` (‖∇D‖²,
            unweighted), `path_length` and `pl_penalty` (unweighted); the augmenter's state.
        """
        s = self.settings
        real, labels = batch["images"], batch["labels"] if self.num_classes else None
        log = self._update_generator(len(real), labels, ctx)
        if s.pl_weight and ctx.stage_step % s.pl_every == 0:
            self._regularise_path_length(len(real), labels, ctx)
        log |= self._update_discriminator(real, labels, ctx)
        if s.r1_gamma != 0 and ctx.stage_step % s.r1_every == 0:
            self._regularise_gradients(real, labels, ctx)
        log["r1"] = self.last_r1.clone()
        if s.pl_weight:
            log |= {"path_length": self.last_path_length.clone(), "pl_penalty": self.last_pl_penalty.clone()}
        return log | self.augmenter.log()

    def _update_generator(self, rows: int, labels: Tensor | None, ctx: StepContext) -> dict[str, Tensor]:
        with frozen(self.discriminator):
            fake, _ = self._generate(rows, labels, ctx)
            loss = LOSS.generator(self._judge(fake, labels, ctx))
            ctx.minimise(loss, "generator")
        return {"loss_generator": loss.detach()}

    def _regularise_path_length(self, rows: int, labels: Tensor | None, ctx: StepContext) -> None:
        """E[(‖Jᵀy‖₂ - a)²], J = ∂G/∂w, y normal, a the running mean of the norm (StyleGAN2, eq. 4)."""
        s = self.settings
        n = max(1, rows // s.pl_batch_shrink)
        # Strided rows, so that processes together have the rows that one process would have.
        some = None if labels is None else labels[:: s.pl_batch_shrink][:n]
        lengths = self._path_lengths(n, some, ctx)
        a = self.pl_mean.lerp(mean_over_processes(lengths.mean()), s.pl_decay)
        penalty = (lengths - a).square().mean()
        self.pl_mean.copy_(a.detach())
        self.last_path_length.copy_(mean_over_processes(lengths.detach().mean()))
        self.last_pl_penalty.copy_(mean_over_processes(penalty.detach()))
        ctx.minimise(s.pl_weight * s.pl_every * penalty, "generator")

    def _path_lengths(self, rows: int, labels: Tensor | None, ctx: StepContext) -> Tensor:
        """‖Jᵀy‖₂ (rows,), root mean square over layers, differentiable with respect to G's weights."""
        ws = self._draw_styles(rows, labels, ctx)
        with QuickSecondDerivatives(ws) as layers:
            images = self.generator.synthesis(ws, self.generator.synthesis.draw_noise(ctx.normal, rows))
            y = ctx.normal(*images.shape) / (images.shape[2] * images.shape[3]) ** 0.5
            layers.only_images = True  # no weight's gradient is wanted yet
            with torch.autocast(ws.device.type, enabled=False):  # that is for forward passes
                (gradient,) = torch.autograd.grad((images * y).sum(), ws, create_graph=True)
            layers.only_images = False
        return gradient.to(ws.dtype).square().sum(2).mean(1).sqrt()

    def _update_discriminator(self, real: Tensor, labels: Tensor | None, ctx: StepContext) -> dict[str, Tensor]:
        with torch.no_grad():
            fake, w = self._generate(len(real), labels, ctx)
            self.generator.mapping.track(w)
        on_fake, on_real = self._judge(fake, labels, ctx), self._judge(real, labels, ctx)
        loss = LOSS.discriminator(on_real, on_fake)
        ctx.minimise(loss, "discriminator")
        on_real, on_fake = on_real.detach(), on_fake.detach()
        self.augmenter.observe(on_real)
        return {
            "loss_discriminator": loss.detach(),
            "d_real": on_real.mean(),
            "d_fake": on_fake.mean(),
            "d_accuracy": d_accuracy(on_real, on_fake, 0.0),
        }

    def _regularise_gradients(self, real: Tensor, labels: Tensor | None, ctx: StepContext) -> None:
        """γ/2 · E[‖∇D(x)‖²] on reals, through their augmentation (Mescheder et al. 2018, eq. 9)."""
        s = self.settings
        r1 = r1_penalty(lambda x: self._judge(x, labels, ctx), real)
        self.last_r1.copy_(mean_over_processes(2 * r1.detach()))
        weight = gamma(s, self.data.resolution, len(real) * world_size())
        ctx.minimise(weight * s.r1_every * r1, "discriminator")

    def _generate(self, rows: int, labels: Tensor | None, ctx: StepContext) -> tuple[Tensor, Tensor]:
        """Images, and the styles w (rows, w_dim) of their first layer."""
        ws = self._draw_styles(rows, labels, ctx)
        noise = self.generator.synthesis.draw_noise(ctx.normal, rows)
        return self.generator.synthesis(ws, noise), ws[:, 0]

    def _draw_styles(self, rows: int, labels: Tensor | None, ctx: StepContext) -> Tensor:
        """w+ (rows, num_ws, w_dim) of random latents, mixed (Karras et al. 2019, section 3.1).

        Each image has a crossover of its own; NVIDIA's code draws one for the batch.
        """
        s, num_ws = self.settings, self.generator.synthesis.num_ws
        ws = self.generator.styles(ctx.normal(rows, s.z_dim), labels)
        if not s.style_mixing:
            return ws
        crossover = 1 + ctx.integers(num_ws - 1, rows)  # the first layer that takes the other style
        mixed = ctx.uniform(rows) < s.style_mixing
        others = self.generator.styles(ctx.normal(rows, s.z_dim), labels)
        layers = torch.arange(num_ws, device=ws.device)
        from_other = mixed[:, None] & (layers >= crossover[:, None])
        return torch.where(from_other[:, :, None], others, ws)

    def _judge(self, images: Tensor, labels: Tensor | None, ctx: StepContext) -> Tensor:
        """D's logits (N,) on augmented images."""
        logits: Tensor = self.discriminator(self.augmenter(images, ctx), labels)
        return logits

    def sample(self, request: SampleRequest) -> ImageSamples:
        """Generated images with constant per-pixel noise; with classes as asked for, or in turn.

        Raises:
            SettingsError: Labels that the recipe does not have, or a truncation that is no number.
        """
        psi = _number(request, "truncation", 1.0)
        cutoff = _number(request, "truncation_cutoff", -1.0)
        generate = partial(self.generator, truncation=psi, cutoff=int(cutoff) if cutoff >= 0 else None)
        z = request.normal(self.settings.z_dim)
        return sample_images(generate, request, latents=z, num_classes=self.num_classes, device=self.device)

    def latent_space(self) -> LatentSpace:
        """Z, W and W+, without truncation and with constant per-pixel noise."""
        generator, s = self.generator, self.settings
        synthesis, mapping = generator.synthesis, generator.mapping
        affines = {
            layer.name: torch.cat([m.affine.weight.detach() * m.affine.weight_gain for m in layer.modules])
            for layer in synthesis.layers
        }
        styles = StyleSpace(
            style_dim=s.w_dim,
            layers=tuple(affines),
            mapping=mapping,
            synthesise=synthesis,
            features=synthesis.features,
            mean=mapping.w_avg,
            affines=affines,
        )
        first_layer = mapping.fc0.weight.detach()[:, : s.z_dim]  # beside z enters the class embedding
        return LatentSpace(s.z_dim, generator, self.num_classes, first_layer, styles)

    def freezable(self) -> Sequence[nn.Module]:
        """The discriminator's blocks from the image on, for FreezeD (Mo et al. 2020)."""
        return self.discriminator.blocks


def _number(request: SampleRequest, option: str, default: float) -> float:
    value = request.options.get(option, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SettingsError(f"{option} must be a number, not {value!r}.", where=option, fix="0.7, say")
    return float(value)


# `--cfg=auto` of stylegan2-ada-pytorch on one GPU, to 256 pixels: 2 mapping layers, channel_base 16384, learning rate
# 0.0025, γ = 0.0002 · resolution² / batch, batch 32 (16 at 256 pixels), average over 312.5 steps; 25 million images.
# Configuration F of the paper has 8 mapping layers, channel_base 32768, learning rate 0.002, γ 10, batch 32. Published
# for it (StyleGAN2, table 1): FID 2.84 on FFHQ 1024x1024, 2.32 on LSUN Car 512x384.
AUTO = StyleGAN2Settings(mapping_layers=2)

# `--cfg=cifar`: no style mixing, no path length regularisation, plain blocks in D, wide networks, γ 0.01, batch 64,
# groups of 32, average over 500,000 images; 100 million images. Published on CIFAR-10 with ADA (StyleGAN2-ADA, figure
# 11): FID 2.92 unconditional, 2.42 with classes (set `conditional`).
CIFAR = StyleGAN2Settings(
    mapping_layers=2,
    channel_base=32768,
    architecture_d="orig",
    style_mixing=0.0,
    pl_weight=0.0,
    r1_gamma=0.01,
    mbstd_group=32,
    lr_g=0.0025,
    lr_d=0.0025,
    augment="ada",
)

PAPER = (
    "Karras et al., Analyzing and Improving the Image Quality of StyleGAN, CVPR 2020, arXiv:1912.04958; "
    "Karras et al., Training Generative Adversarial Networks with Limited Data, NeurIPS 2020, arXiv:2006.06676"
)

RECIPES = [
    RecipeInfo(
        "stylegan2",
        StyleGAN2,
        AUTO,
        PAPER,
        "Style control, projection and truncation: photos of one kind (faces, animals, scenes), given a GPU and days.",
        {"resolution": 64, "steps": 150_000, "batch_size": 32, "ema_half_life": 312.5},
    ),
    RecipeInfo(
        "stylegan2-cifar",
        StyleGAN2,
        CIFAR,
        PAPER,
        "StyleGAN2 with ADA as published on CIFAR-10: small images of many kinds.",
        {"resolution": 32, "steps": 1_562_500, "batch_size": 64, "ema_half_life": 7812.5},
    ),
]
"""StyleGAN2's recipes."""
