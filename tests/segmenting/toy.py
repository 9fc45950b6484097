"""A tiny style-based recipe whose pictures have known parts: a disc and a bar on a ground, of any place and colour.

Its features hold, beside much noise, maps from which the parts can be read, at several resolutions.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganwright.data.spec import Batch, DataKind, DataSpec
from ganwright.recipes.base import LatentSpace, Recipe, SampleRequest, StepContext, StyleSpace
from ganwright.recipes.registry import RecipeInfo, recipes
from ganwright.samples import ImageSamples
from ganwright.segmenting import SegmentClasses
from ganwright.segmenting.masks import Mask, write_mask

SIDE, DIM = 16, 8
CLASSES = SegmentClasses(("ground", "disc", "bar"), ((0, 0, 0), (230, 25, 75), (60, 180, 75)))


def shapes(w: Tensor) -> tuple[Tensor, Tensor]:
    """Signed distances inside disc and bar, (n, SIDE, SIDE) each: positive within."""
    y, x = torch.meshgrid(torch.arange(SIDE) + 0.5, torch.arange(SIDE) + 0.5, indexing="ij")
    p = w.sigmoid()[:, :, None, None]
    disc = 2.5 + 1.5 * p[:, 2] - torch.hypot(y - (4 + 8 * p[:, 0]), x - (4 + 8 * p[:, 1]))
    bar = 1.5 - (x - (2 + 12 * p[:, 3])).abs()
    return disc, bar


def truth(w: Tensor) -> Mask:
    """The true parts, uint8 (n, SIDE, SIDE): the disc lies over the bar."""
    disc, bar = shapes(w)
    return torch.where(disc > 0, 1, torch.where(bar > 0, 2, 0)).to(torch.uint8).numpy()


@dataclass(frozen=True)
class Nothing:
    """No settings."""


class ToyStyle(Recipe):
    """Nothing is learnt; there is a parameter for the optimiser's sake, and fixed random mixing of the features."""

    Settings = Nothing
    accepts: ClassVar = frozenset({DataKind.IMAGES})

    def __init__(self, data: DataSpec, settings: Any) -> None:
        super().__init__(data, settings)
        self.generator = nn.Linear(DIM, DIM)
        with torch.no_grad():
            self.generator.weight.copy_(torch.eye(DIM))
            self.generator.bias.zero_()
        for i, (rows, side) in enumerate(((12, 4), (10, 8), (6, SIDE))):
            self.register_buffer(f"mix{i}", torch.randn(rows, 4, generator=torch.Generator().manual_seed(side)))

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"generator": torch.optim.SGD(self.generator.parameters(), 1e-6)}

    def step(self, batch: Batch, ctx: StepContext) -> dict[str, Tensor]:
        loss = self.generator(ctx.normal(len(batch["images"]), DIM)).square().mean()
        ctx.minimise(loss, "generator")
        return {"loss_generator": loss.detach()}

    def _features(self, w_plus: Tensor) -> tuple[Tensor, list[Tensor]]:
        w = w_plus[:, 0]
        disc, bar = shapes(w)
        parts = torch.stack([disc.tanh(), bar.tanh(), (disc + bar).sin(), torch.ones_like(disc)], 1)
        maps = []
        for i, side in enumerate((4, 8, SIDE)):
            pooled = F.adaptive_avg_pool2d(parts, side)
            maps.append(torch.einsum("oc,nchw->nohw", getattr(self, f"mix{i}"), pooled) + w[:, :1, None, None])
        label = torch.from_numpy(truth(w)).long()
        ground, front, back = (w[:, i : i + 3].tanh()[:, :, None, None] for i in (4, 5, 2))
        over, under = (label == 1)[:, None], (label == 2)[:, None]
        image = torch.where(
            over, front.abs() * 0.3 + 0.6, torch.where(under, back.abs() * 0.3 - 0.2, ground * 0.2 - 0.7)
        )
        return image, maps

    def latent_space(self) -> LatentSpace:
        styles = StyleSpace(
            DIM,
            ("a", "b"),
            lambda z, labels: self.generator(z),
            lambda w: self._features(w)[0],
            self._features,
            torch.zeros(DIM),
            {},
        )
        return LatentSpace(DIM, lambda z, labels: self._features(styles.spread(self.generator(z)))[0], styles=styles)

    def sample(self, request: SampleRequest) -> ImageSamples:
        styles = ToyStyle.latent_space(self).styles
        assert styles is not None
        return ImageSamples.from_tensor(styles.synthesise(styles.spread(styles.mapping(request.normal(DIM), None))))


class Styleless(ToyStyle):
    """The same without a latent space."""

    def latent_space(self) -> None:  # type: ignore[override]
        return None


TOYS = [
    RecipeInfo(name, recipe, Nothing(), "none", "a test", {"batch_size": 4, "evaluate_every": -1, "held_out": 0.0})
    for name, recipe in (("toy-style", ToyStyle), ("toy-styleless", Styleless))
]


def install() -> None:
    """Add the toys to the registry of this process."""
    for info in TOYS:
        recipes().setdefault(info.name, info)


def trained(folder: Path, name: str = "toy-style") -> Path:
    """A run of a toy recipe."""
    import ganwright as gw

    data = np.random.default_rng(0).integers(0, 256, (8, SIDE, SIDE, 3), dtype=np.uint8)
    run = gw.train(name, data, out=folder, steps=1, log_every=1, accelerator="cpu", write_html=False)
    return run.path


def paint(pictures: Path, only: int | None = None) -> None:
    """Be the annotator who knows the truth."""
    from ganwright.segmenting.pictures import read_record

    CLASSES.save(pictures)
    record = read_record(pictures)
    for name, mask in list(zip(record.names, truth(record.w), strict=True))[:only]:
        write_mask(pictures / f"{name}.mask.png", mask, CLASSES)


def write_real(folder: Path, n: int, seed: int = 99) -> Path:
    """ "Real" labelled pictures: of the same world, from other latents, with noise."""
    from ganwright.samples import save_png

    folder.mkdir()
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(n, DIM, generator=generator)
    toy = ToyStyle(DataSpec(DataKind.IMAGES, "toy", 8, "", SIDE, 3), Nothing())
    images, _ = toy._features(w[:, None])
    images = images + 0.1 * torch.randn(images.shape, generator=generator)
    for i, (image, mask) in enumerate(zip(ImageSamples.from_tensor(images).images, truth(w), strict=True)):
        save_png(folder / f"{i:03d}.png", image)
        write_mask(folder / f"{i:03d}.mask.png", mask, CLASSES)
    return folder


if __name__ == "__main__":  # a process that is there to be killed
    from ganwright.segmenting import make_dataset

    install()
    make_dataset(sys.argv[1], sys.argv[2], n=int(sys.argv[3]), batch_size=4, device="cpu", quiet=True)
