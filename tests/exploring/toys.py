"""A style-based generator so simple that the truth about it is known, and one of z alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ganwright.data.spec import Batch, DataKind, DataSpec
from ganwright.recipes.base import LatentSpace, Recipe, SampleRequest, StepContext, StyleSpace
from ganwright.recipes.registry import RecipeInfo, recipes, register
from ganwright.samples import ImageSamples

LAYERS = ("b4.conv1", "b8.conv0", "b8.conv1", "b16.conv0", "b16.conv1", "b16.torgb")
SIDE, STYLE, LATENT = 16, 5, 7


@dataclass(frozen=True)
class Nothing:
    """No settings."""


class StyleToy(Recipe):
    """w is linear in z; layer i writes a linear image of its style into rows of its own."""

    Settings = Nothing
    accepts: ClassVar = frozenset({DataKind.IMAGES, DataKind.LABELLED_IMAGES})
    conditional = False

    def __init__(self, data: DataSpec, settings: Any) -> None:
        super().__init__(data, settings)
        draw = torch.Generator().manual_seed(0)
        self.classes = data.num_classes if self.conditional else 0
        self.generator = nn.Module()
        mixing = torch.randn(STYLE, LATENT, generator=draw) * torch.tensor([3.0, 1.5, 1.0, 0.5, 0.2])[:, None]
        self.generator.register_parameter("mapping", nn.Parameter(mixing))
        self.generator.register_buffer("w_avg", torch.arange(STYLE) / 2 - 1)
        self.generator.register_buffer("of_class", torch.arange(float(max(1, self.classes))))
        affine = torch.randn(len(LAYERS), 9, STYLE, generator=draw)
        self.generator.register_parameter("affine", nn.Parameter(affine))
        basis = torch.linalg.qr(torch.randn(SIDE * SIDE * data.channels, len(LAYERS) * 9, generator=draw)).Q
        self.generator.register_buffer("basis", basis)
        self.generator.register_buffer("noise_const", torch.randn(SIDE, SIDE, generator=draw))

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"generator": torch.optim.SGD(self.generator.parameters(), 0.0)}

    def step(self, batch: Batch, ctx: StepContext) -> dict[str, Tensor]:
        ctx.minimise(self.generator.mapping.square().sum(), "generator")
        return {"loss_generator": torch.zeros(())}

    def mapping(self, z: Tensor, labels: Tensor | None) -> Tensor:
        w = z @ self.generator.mapping.T + self.generator.w_avg
        return w if not self.classes else w + self.generator.of_class[labels][:, None]

    def synthesise(self, w_plus: Tensor) -> Tensor:
        written = torch.einsum("lod,nld->nlo", self.generator.affine, w_plus).flatten(1)
        images = 0.3 * (written @ self.generator.basis.T).view(-1, self.data.channels, SIDE, SIDE)
        return images + 0.01 * self.generator.noise_const

    def latent_space(self) -> LatentSpace:
        affines = {name: self.generator.affine[i].detach() for i, name in enumerate(LAYERS)}
        styles = StyleSpace(
            STYLE,
            LAYERS,
            self.mapping,
            self.synthesise,
            lambda w: (self.synthesise(w), []),
            self.generator.w_avg,
            affines,
        )

        def generate(z: Tensor, labels: Tensor | None) -> Tensor:
            return self.synthesise(styles.spread(self.mapping(z, labels)))

        return LatentSpace(LATENT, generate, self.classes, self.generator.mapping.detach(), styles)

    def sample(self, request: SampleRequest) -> ImageSamples:
        z, labels = request.normal(LATENT), request.classes(self.classes) if self.classes else None
        return ImageSamples.from_tensor(self.latent_space().generate(z, labels))


class ConditionalStyleToy(StyleToy):
    conditional = True


class PlainToy(Recipe):
    """Images linear in z; no W."""

    Settings = Nothing
    accepts: ClassVar = frozenset({DataKind.IMAGES})
    scale = 0.3

    def __init__(self, data: DataSpec, settings: Any) -> None:
        super().__init__(data, settings)
        draw = torch.Generator().manual_seed(1)
        self.generator = nn.Linear(LATENT, SIDE * SIDE * data.channels, bias=False)
        with torch.no_grad():
            wide = torch.randn(SIDE * SIDE * data.channels, LATENT, generator=draw)
            strengths = torch.arange(1, LATENT + 1) / LATENT
            self.generator.weight.copy_(self.scale * wide * strengths)

    optimizers = StyleToy.optimizers

    def step(self, batch: Batch, ctx: StepContext) -> dict[str, Tensor]:
        ctx.minimise(self.generator.weight.square().sum(), "generator")
        return {"loss_generator": torch.zeros(())}

    def generate(self, z: Tensor, labels: Tensor | None) -> Tensor:
        return self.generator(z).view(-1, self.data.channels, SIDE, SIDE)

    def latent_space(self) -> LatentSpace:
        return LatentSpace(LATENT, self.generate, 0, self.generator.weight.detach())

    def sample(self, request: SampleRequest) -> ImageSamples:
        return ImageSamples.from_tensor(self.generate(request.normal(LATENT), None))


def register_toys() -> None:
    """Make the toys known by name, once."""
    for name, kind in (("style-toy", StyleToy), ("style-toy-c", ConditionalStyleToy), ("plain-toy", PlainToy)):
        if name not in recipes():
            register(RecipeInfo(name, kind, Nothing(), "none", "A toy."))


def spec(classes: int = 0, channels: int = 3) -> DataSpec:
    kind = DataKind.LABELLED_IMAGES if classes else DataKind.IMAGES
    return DataSpec(kind, "toy", 10, "0", SIDE, channels, tuple(f"kind {i}" for i in range(classes)))
