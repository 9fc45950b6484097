"""Attribute GAN: attributes computed from the images themselves supervise D, and can be asked of G.

No paper has just this recipe. Its parts are an auxiliary head (Odena et al. 2017, with regressions beside classes) and,
as an option, Projected GAN's discriminator on a frozen network's features (Sauer et al. 2021). Self-labels are those
of `attributes.py`.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from ganwright.data.spec import DataSpec
from ganwright.errors import SettingsError, nearest
from ganwright.networks.conditional import Discriminator, Generator, NetworkPlan
from ganwright.networks.projected import ProjectedDiscriminator
from ganwright.recipes.attribute_codes import AttributeCodes, control
from ganwright.recipes.attributes import ATTRIBUTES, measure
from ganwright.recipes.base import LatentSpace, SampleRequest, StepContext
from ganwright.recipes.image_gan import finished
from ganwright.recipes.image_heads import HeadedImageGAN
from ganwright.recipes.image_settings import ImageGANSettings
from ganwright.recipes.presets import CGAN
from ganwright.recipes.registry import RecipeInfo
from ganwright.samples import ImageSamples

EVALUATED = 256
"""Images that control is measured on."""
_OTHER_NUMBERS = 1_000_003
"""Added to a seed for numbers that are independent of the latents."""


@dataclass(frozen=True)
class AttributeGANSettings(ImageGANSettings):
    """Every knob of `AttributeGAN`."""

    attributes: tuple[str, ...] = ()
    """What D predicts, of brightness, contrast, saturation, colour, edges, orientation, texture; empty: all that the
    images have (grey ones have no colour)."""
    attribute_control: bool = True
    """G is told attributes to make, and rewarded where D's heads find them; otherwise only D learns of them."""
    attribute_weight_d: float = 1.0
    """Weight of the attribute loss of real images in D's loss."""
    attribute_weight_g: float = 1.0
    """Weight of the attribute loss of fakes in G's loss."""
    backbone: Literal["none", "efficientnet-lite0"] = "none"
    """D sees images through this frozen network, pretrained on ImageNet, instead of by layers of its own."""
    backbone_resolution: int = 128
    """Side that images are resized to for the backbone, a multiple of 32, at least 128."""
    backbone_maps: int = 32
    """Feature maps of the random projections at the finest of the backbone's scales."""


class AttributeGAN(HeadedImageGAN):
    """`ImageGAN` whose D also predicts computed attributes, and whose G can be asked for them.

    Args:
        data: Images.
        settings: How to train.

    Raises:
        SettingsError: The settings do not fit the data or each other.
    """

    Settings: ClassVar[type[AttributeGANSettings]] = AttributeGANSettings

    def __init__(self, data: DataSpec, settings: AttributeGANSettings) -> None:
        check(settings, data)
        possible = tuple(name for name, kind in ATTRIBUTES.items() if data.channels == 3 or not kind.coloured)
        self.names = settings.attributes or possible
        super().__init__(data, settings)
        self.settings: AttributeGANSettings = settings
        self.codes = AttributeCodes(self.names)
        self.add_head("attributes", nn.Linear(self.feature_size, self.codes.size))
        if settings.attribute_control:
            self.sample_options = {name: ATTRIBUTES[name].meaning for name in self.names}
        self._asked: Tensor | None = None  # codes of the fakes in hand; drawn anew before each use

    # Networks. ----------------------------------------------------------------------------------------------

    def _build_generator(self, plan: NetworkPlan) -> Generator:
        size = sum(ATTRIBUTES[name].size for name in self.names) if self.settings.attribute_control else 0
        return super()._build_generator(replace(plan, latent_dim=plan.latent_dim + size))

    def _build_discriminator(self, plan: NetworkPlan) -> Discriminator:
        s: AttributeGANSettings = self.settings
        if s.backbone == "none":
            return super()._build_discriminator(plan)
        network = ProjectedDiscriminator(plan, resize_to=s.backbone_resolution, maps=s.backbone_maps)
        return finished(network, s, spectral=True)

    @property
    def feature_size(self) -> int:
        """Numbers in D's features."""
        d = self.discriminator
        return d.feature_size if isinstance(d, ProjectedDiscriminator) else super().feature_size

    # Training. ----------------------------------------------------------------------------------------------

    def _draw_latents(self, real: Tensor, ctx: StepContext) -> Tensor:
        """Noise and the attributes of the real batch, so that they are as frequent among fakes as among reals."""
        z = super()._draw_latents(real, ctx)
        values = measure(real, self.names)
        self.codes.observe(values)
        if not self.settings.attribute_control:
            return z
        self._asked = self.codes.encode(values)
        return torch.cat([z, self._asked.to(z.dtype)], dim=1)

    def discriminator_terms(
        self, real: Tensor, fake: Tensor, labels: Tensor | None, ctx: StepContext
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The attribute loss of real images, on D and its heads; logs `attribute_loss_real`."""
        predicted = self.read("attributes", self.features_of(real, labels), train=True)
        true = self.codes.encode(measure(real, self.names))
        loss = self.codes.loss(predicted, true)
        return self.settings.attribute_weight_d * loss, {"attribute_loss_real": loss.detach()}

    def generator_terms(
        self, fake: Tensor, labels: Tensor | None, ctx: StepContext
    ) -> tuple[Tensor | float, dict[str, Tensor]]:
        """How far D's heads find fakes from what was asked of them; logs `attribute_loss_fake`."""
        if not self.settings.attribute_control:
            return 0.0, {}
        assert self._asked is not None
        predicted = self.read("attributes", self.features_of(fake, labels), train=False)
        loss = self.codes.loss(predicted, self._asked)
        return self.settings.attribute_weight_g * loss, {"attribute_loss_fake": loss.detach()}

    # Sampling. ----------------------------------------------------------------------------------------------

    def asked(self, request: SampleRequest) -> Tensor:
        """The attributes asked of samples (n, A): those of real images met in training, changed by the options.

        Raises:
            SettingsError: An unknown attribute or value, or this GAN's G knows none.
        """
        if request.options and not self.settings.attribute_control:
            raise SettingsError(
                "This GAN's generator was not trained to make attributes.", fix="train with attribute_control"
            )
        chooser = replace(request, seed=request.seed + _OTHER_NUMBERS).normal(1)[:, 0].double()
        u = 0.5 * (1 + torch.erf(chooser / 2**0.5))
        return self.codes.requested(request.n, u, request.options)

    def _requested_latents(self, request: SampleRequest) -> Tensor:
        z = super()._requested_latents(request)
        values = self.asked(request)
        return self.join(z, values) if self.settings.attribute_control else z

    def join(self, z: Tensor, values: Tensor) -> Tensor:
        """What G takes: z (n, latent_dim) and attributes (n, A), on the CPU."""
        code = self.codes.encode(values.to(self.device)).to(z.dtype)
        return torch.cat([z, code.to(z.device)], dim=1)

    def latent_space(self) -> LatentSpace:
        """The noise alone, with the attributes of one typical image: the first met in training."""
        space = super().latent_space()
        if not self.settings.attribute_control:
            return space
        one = self.codes.encode(self.codes.bank[:1])

        def generate(z: Tensor, labels: Tensor | None) -> Tensor:
            images: Tensor = self.generator(torch.cat([z, one.expand(len(z), -1).to(z.dtype)], dim=1), labels)
            return images

        return replace(space, generate=generate)

    def evaluate(self, seed: int) -> dict[str, float]:
        """`control_<attribute>`: asked against measured on the images by the formulas, not by D's heads.

        Correlation for numbers, kappa for classes; `control`: their mean.
        """
        if not self.settings.attribute_control:
            return {}
        request = SampleRequest(n=EVALUATED, seed=seed)
        images = torch.from_numpy(self.sample(request).images).permute(0, 3, 1, 2).float() / 127.5 - 1
        found = control(self.asked(request), measure(images, self.names), self.names)
        return {**found, "control": statistics.fmean(found.values())} if found else {}

    def sweep(self, name: str, values: Iterable[float | str], *, rows: int = 8, seed: int = 0) -> ImageSamples:
        """A grid with one attribute changing from left to right and all else equal along a row.

        Raises:
            SettingsError: An unknown attribute or value.
        """
        steps = list(values)
        request = SampleRequest(n=rows, seed=seed)
        z = request.normal(self.settings.latent_dim).repeat_interleave(len(steps), 0)
        asked = self.asked(request).repeat_interleave(len(steps), 0)
        one = self.codes.requested(len(steps), torch.zeros(len(steps)), {name: steps})
        column = self.names.index(name)
        asked[:, column] = one[:, column].repeat(rows)
        labels = None
        if self.num_classes:
            labels = request.classes(self.num_classes).repeat_interleave(len(steps)).to(self.device)
        images = self.generator(self.join(z, asked).to(self.device), labels)
        return ImageSamples.from_tensor(images, labels, columns=len(steps))


def check(s: AttributeGANSettings, data: DataSpec) -> None:
    """Refuse settings that cannot work.

    Raises:
        SettingsError: The first thing wrong.
    """
    for name in s.attributes:
        if name not in ATTRIBUTES:
            raise SettingsError(
                f"There is no attribute '{name}'.{nearest(name, ATTRIBUTES)}",
                where="attributes",
                fix="choose from " + ", ".join(ATTRIBUTES),
            )
        if ATTRIBUTES[name].coloured and data.channels == 1:
            raise SettingsError(f"Grey images have no {name}.", where="attributes", fix=f"leave {name} out")
    if len(set(s.attributes)) != len(s.attributes):
        raise SettingsError("An attribute is named twice.", where="attributes", fix="name each once")
    for name in ("attribute_weight_d", "attribute_weight_g"):
        if not getattr(s, name) >= 0:
            raise SettingsError(f"{name} is {getattr(s, name)}.", where=name, fix="give 0 or more")
    if s.backbone != "none":
        if s.backbone_resolution < 128 or s.backbone_resolution % 32:
            raise SettingsError(
                f"backbone_resolution is {s.backbone_resolution}.",
                where="backbone_resolution",
                fix="give 128, 160, 192, 224, …",
            )
        if s.conditioning not in ("none", "auxiliary"):
            raise SettingsError(
                f"With a backbone, D cannot take classes by '{s.conditioning}'.",
                where="conditioning",
                fix="set it to auxiliary or none",
            )
        if s.gradient_penalty or s.penalty == "clip":
            raise SettingsError(
                f"With a backbone there is spectral norm, and no penalty '{s.penalty}' (Sauer et al. 2021).",
                where="penalty",
                fix="set penalty to none",
            )


# cgan's networks and optimiser without its classes: no paper, no published result.
_BASE = {field.name: getattr(CGAN, field.name) for field in fields(CGAN)}
ATTRIBUTE_GAN = AttributeGANSettings(**{**_BASE, "conditioning": "none"})

RECIPES = [
    RecipeInfo(
        "attribute-gan",
        AttributeGAN,
        ATTRIBUTE_GAN,
        "This project's; after Odena et al., ICML 2017, arXiv:1610.09585; Sauer et al., NeurIPS 2021, arXiv:2111.01007",
        "Ask for brightness, colour, texture, … learnt from unlabelled images.",
        {"resolution": 32, "steps": 10_000, "batch_size": 32, "lr_schedule": "linear", "lr_decay_from": 0.5},
    ),
]
