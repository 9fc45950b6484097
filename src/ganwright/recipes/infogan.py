"""InfoGAN: part of the latent is a code that must be readable from the image (Chen et al. 2016).

With `encoder`, G also takes features of a real image and must reconstruct it: a conditional autoencoder with InfoGAN's
codes and a GAN's loss (`docs/self-supervised.md` says what that is and is not).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ganwright.data.spec import DataSpec
from ganwright.errors import SettingsError
from ganwright.networks.conditional import RESOLUTIONS, Generator, NetworkPlan
from ganwright.networks.encoder import BackboneEncoder, ConvEncoder
from ganwright.recipes.base import LatentSpace, SampleRequest, StepContext
from ganwright.recipes.image_gan import finished, network_plans
from ganwright.recipes.image_heads import HeadedImageGAN
from ganwright.recipes.image_settings import ImageGANSettings
from ganwright.recipes.latent_codes import LatentCodes
from ganwright.recipes.presets import DCGAN
from ganwright.recipes.registry import RecipeInfo
from ganwright.samples import ImageSamples

EVALUATED = 256
"""Images that the evaluation's figures are measured on."""
BANK_ROWS = 256
"""Real images whose features are remembered, to sample without a picture."""
_OTHER_NUMBERS = 1_000_003
"""Added to a seed for numbers that are independent of the latents."""


@dataclass(frozen=True)
class InfoGANSettings(ImageGANSettings):
    """Every knob of `InfoGAN`."""

    categorical_codes: int = 1
    """Categorical codes, each uniform over `categories`."""
    categories: int = 10
    """Categories of each categorical code."""
    continuous_codes: int = 2
    """Continuous codes, each uniform in [-1, 1]."""
    info_weight: float = 1.0
    """λ of the categorical codes' part of the mutual information."""
    info_weight_continuous: float = 0.1
    """λ of the continuous codes' part."""
    encoder: Literal["none", "learned", "efficientnet-lite0"] = "none"
    """G also takes features of a real image, by an encoder trained with it or over a frozen network."""
    encoder_features: int = 64
    """`encoder`: numbers in a feature vector."""
    reconstruction_weight: float = 10.0
    """`encoder`: weight of the mean absolute difference between a real image and what G makes of its features."""


class InfoGAN(HeadedImageGAN):
    """`ImageGAN` with latent codes c and a bound on their mutual information with the image.

    L_I(G, Q) = E[log Q(c | G(z, c))] + H(c) (Chen et al. 2016, equation 5) is added, weighted, to what both players
    maximise; Q shares D's layers and learns with it.

    Args:
        data: Images.
        settings: How to train.

    Raises:
        SettingsError: The settings do not fit the data or each other.
    """

    Settings: ClassVar[type[InfoGANSettings]] = InfoGANSettings

    def __init__(self, data: DataSpec, settings: InfoGANSettings) -> None:
        _check(settings, data)
        s = settings
        self.codes = LatentCodes(s.categorical_codes, s.categories, s.continuous_codes)
        super().__init__(data, settings)
        self.settings: InfoGANSettings = settings
        # As in the paper's appendix: one hidden layer of 128 on D's features (batch norm left out: D may have none).
        q = nn.Sequential(nn.Linear(self.feature_size, 128), nn.LeakyReLU(0.1), nn.Linear(128, self.codes.readings))
        self.add_head("codes", q)
        self.sample_options = self.codes.meanings
        if s.encoder != "none":
            self.sample_options = {**self.codes.meanings, "images": "from Python: uint8 images whose features to use"}
        if s.encoder != "none":
            self.register_buffer("bank", torch.zeros(BANK_ROWS, s.encoder_features))
            self.register_buffer("rows", torch.zeros((), dtype=torch.int64))
        self.bank: Tensor
        self.rows: Tensor
        # Codes of the fakes in hand and the images they were to reconstruct; drawn anew before each use.
        self._drawn: Tensor | None = None
        self._real: Tensor | None = None

    def _build_generator(self, plan: NetworkPlan) -> Generator:
        """G, with the encoder as its part: they train, and are averaged, together."""
        s: InfoGANSettings = self.settings
        further = self.codes.size + (s.encoder_features if s.encoder != "none" else 0)
        generator = super()._build_generator(replace(plan, latent_dim=plan.latent_dim + further))
        if s.encoder == "learned":
            plan_e = replace(network_plans(s, self.data)[1], norm="batch")
            generator.encoder = finished(ConvEncoder(plan_e, s.encoder_features), s, spectral=False)
        elif s.encoder != "none":
            generator.encoder = BackboneEncoder(s.encoder_features)
        return generator

    # Training. ----------------------------------------------------------------------------------------------

    def _draw_latents(self, real: Tensor, ctx: StepContext) -> Tensor:
        """Noise z, codes c and, with an encoder, the features of the real images."""
        z = super()._draw_latents(real, ctx)
        self._drawn = self.codes.draw(len(real), ctx)
        parts = [z, self._drawn]
        if self.settings.encoder != "none":
            features = self.encode(real)
            self._remember(features.detach())
            self._real = real
            parts.append(features)
        return torch.cat(parts, dim=1)

    def discriminator_terms(
        self, real: Tensor, fake: Tensor, labels: Tensor | None, ctx: StepContext
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """-λ L_I on fakes, for Q and the layers it shares with D; logs the bound `mutual_information` in nats."""
        return self._information(fake, labels, train_head=True)

    def generator_terms(
        self, fake: Tensor, labels: Tensor | None, ctx: StepContext
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """-λ L_I, for G; with an encoder the reconstruction, logged as `reconstruction_mae` (0..1) and `_psnr` (dB)."""
        loss, _ = self._information(fake, labels, train_head=False)
        if self.settings.encoder == "none":
            return loss, {}
        assert self._real is not None
        difference = fake.float() - self._real.float()  # in units of half the range
        mae, mse = difference.abs().mean(), difference.detach().square().mean() / 4
        log = {"reconstruction_mae": mae.detach() / 2, "reconstruction_psnr": -10 * mse.log10()}
        return loss + self.settings.reconstruction_weight * mae, log

    def _information(
        self, fake: Tensor, labels: Tensor | None, *, train_head: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        assert self._drawn is not None
        s = self.settings
        readings = self.read("codes", self.features_of(fake, labels), train=train_head)
        categorical, continuous = self.codes.log_likelihoods(readings, self._drawn)
        loss = -s.info_weight * categorical - s.info_weight_continuous * continuous
        entropy = s.categorical_codes * math.log(s.categories) + s.continuous_codes * math.log(2)
        return loss, {"mutual_information": (categorical + continuous).detach() + entropy}

    # The encoder. -------------------------------------------------------------------------------------------

    def encode(self, images: Tensor) -> Tensor:
        """Features (N, encoder_features) of images (N, C, H, W) in [-1, 1]."""
        encoder = self.generator.encoder
        assert isinstance(encoder, nn.Module)
        features: Tensor = encoder(images)
        return features

    @torch.no_grad()
    def _remember(self, features: Tensor) -> None:
        features = features[-BANK_ROWS:].to(self.bank.dtype)
        places = (self.rows + torch.arange(len(features), device=features.device)) % BANK_ROWS
        self.bank[places] = features
        self.rows.add_(len(features))

    # Sampling. ----------------------------------------------------------------------------------------------

    def sample(self, request: SampleRequest) -> ImageSamples:
        """Generated images; without classes, one column of the grid for each category of the first code.

        Options: a code by name (`category`, `category2`, …, `code1`, …), one value or one a sample; with an encoder
        `images`, uint8 (1 or n, H, W, C), whose features to use.
        """
        samples = super().sample(request)
        in_turn = self.codes.categorical > 0 and "category" not in request.options
        if samples.columns is None and in_turn and 4 <= self.codes.categories <= 20:
            return replace(samples, columns=self.codes.categories)
        return samples

    def _requested_latents(self, request: SampleRequest) -> Tensor:
        options = {name: value for name, value in request.options.items() if name != "images"}
        parts = [super()._requested_latents(request), self._requested_codes(request, options)]
        if self.settings.encoder != "none":
            parts.append(self._requested_features(request))
        elif "images" in request.options:
            raise SettingsError(
                "This GAN has no encoder that could look at images.", where="images", fix="train with encoder learned"
            )
        return torch.cat(parts, dim=1)

    def _requested_codes(self, request: SampleRequest, options: dict[str, object]) -> Tensor:
        count = max(1, self.codes.categorical + self.codes.continuous)
        normal = replace(request, seed=request.seed + _OTHER_NUMBERS).normal(count)
        u = 0.5 * (1 + torch.erf(normal.double() / 2**0.5))
        return self.codes.requested(request.n, u.float()[:, : self.codes.categorical + self.codes.continuous], options)

    def _requested_features(self, request: SampleRequest) -> Tensor:
        if "images" not in request.options:
            met = max(1, min(int(self.rows), BANK_ROWS))
            chosen = replace(request, seed=request.seed + 2 * _OTHER_NUMBERS).normal(1)[:, 0].double()
            u = 0.5 * (1 + torch.erf(chosen / 2**0.5))
            return self.bank[:met].float().cpu()[(u * met).long().clamp(max=met - 1)]
        given = torch.as_tensor(np.asarray(request.options["images"])).permute(0, 3, 1, 2)
        wanted = (self.data.channels, self.data.resolution, self.data.resolution)
        if tuple(given.shape[1:]) != wanted or len(given) not in (1, request.n) or given.dtype != torch.uint8:
            raise SettingsError(
                f"The images are {given.dtype} (n, C, H, W) = {tuple(given.shape)}.",
                where="images",
                fix=f"give uint8 (1 or {request.n}, {wanted[1]}, {wanted[2]}, {wanted[0]})",
            )
        features = self.encode((given.float() / 127.5 - 1).to(self.device)).float().cpu()
        return features.expand(request.n, -1)

    def latent_space(self) -> LatentSpace:
        """The noise z alone: codes of the first sample of seed 0, continuous ones at 0."""
        space, dim = super().latent_space(), self.settings.latent_dim
        zeros = {f"code{i + 1}": 0.0 for i in range(self.codes.continuous)}
        rest = self._requested_latents(SampleRequest(n=1, options=zeros))[:, dim:].to(self.device)

        def generate(z: Tensor, labels: Tensor | None) -> Tensor:
            images: Tensor = self.generator(torch.cat([z, rest.expand(len(z), -1).to(z.dtype)], dim=1), labels)
            return images

        return replace(space, generate=generate)

    def evaluate(self, seed: int) -> dict[str, float]:
        """How readable the codes are, and how much they change.

        `category_accuracy` and `code_correlation`: the codes as Q reads them from samples (Q was trained for that, so
        this is no independent judgement). `code_effect`: the codes' total-effect (Sobol) index over pixels, the share
        of the samples' variance that is left when all but the codes is fixed; it is computed from images alone.
        """
        request = SampleRequest(n=EVALUATED, seed=seed)
        latents, dim = self._requested_latents(request), self.settings.latent_dim
        codes = latents[:, dim : dim + self.codes.size]
        drawn = np.random.default_rng(seed).integers(self.codes.categories, size=EVALUATED)
        options = {"category": drawn.tolist()} if self.codes.categorical else {}
        other = self._requested_codes(replace(request, seed=seed + 1), options)
        changed = torch.cat([latents[:, :dim], other, latents[:, dim + self.codes.size :]], dim=1)
        labels = request.classes(self.num_classes).to(self.device) if self.num_classes else None
        x, y = (self.generator(rows.to(self.device), labels).float() for rows in (latents, changed))
        effect = ((x - y).square().mean() / 2 / x.var(0, correction=0).mean().clamp(min=1e-12)).clamp(max=1)
        readings = self.read("codes", self.discriminator.embed(x, labels), train=False).cpu()
        found_categories, found = self.codes.read(readings)
        categories, continuous = self.codes.split(codes)
        scalars = {"code_effect": float(effect)}
        if self.codes.categorical:
            scalars["category_accuracy"] = float((found_categories == categories).double().mean())
        if self.codes.continuous:
            a, b = continuous.double() - continuous.double().mean(0), found.double() - found.double().mean(0)
            norm = (a.square().sum(0) * b.square().sum(0)).sqrt().clamp(min=1e-12)
            scalars["code_correlation"] = float(((a * b).sum(0) / norm).mean())
        return scalars


def _check(s: InfoGANSettings, data: DataSpec) -> None:
    for name, least in (
        ("categorical_codes", 0),
        ("continuous_codes", 0),
        ("categories", 2),
        ("encoder_features", 1),
        ("info_weight", 0),
        ("info_weight_continuous", 0),
        ("reconstruction_weight", 0),
    ):
        if not getattr(s, name) >= least:
            raise SettingsError(f"{name} is {getattr(s, name)}.", where=name, fix=f"give {least} or more")
    if s.categorical_codes + s.continuous_codes == 0:
        raise SettingsError("There is no code.", where="categorical_codes", fix="give categorical or continuous codes")
    if s.encoder == "learned" and data.resolution not in RESOLUTIONS:
        raise SettingsError(
            f"The learned encoder cannot take images of {data.resolution} pixels.",
            where="resolution",
            fix="choose a resolution that is 4, 5, 6 or 7 times a power of two, 16 to 256, or another encoder",
        )


# Chen et al. 2016, appendix (MNIST): 62 numbers of noise, one code of ten categories and two continuous ones; Adam 2e-4
# for D and 1e-3 for G, β₁ 0.5; λ 1, smaller for continuous codes. Networks are DCGAN's. Published: 5 % error of the
# categorical code as a classifier of MNIST's digits, matched to the classes afterwards (section 7.2).
_BASE = {field.name: getattr(DCGAN, field.name) for field in fields(DCGAN)}
INFOGAN = InfoGANSettings(**{**_BASE, "latent_dim": 62, "lr_g": 1e-3, "share_fakes": False})

RECIPES = [
    RecipeInfo(
        "infogan",
        InfoGAN,
        INFOGAN,
        "Chen et al., InfoGAN, NeurIPS 2016, arXiv:1606.03657",
        "Codes for categories and variations found without labels; with an encoder, variations of a real image.",
        {"resolution": 32, "steps": 20_000, "batch_size": 128},
    ),
]
