"""Toy recipes that turn pictures into pictures, and runs of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ganwright as gw
from ganwright.data.spec import Batch, DataKind, DataSpec
from ganwright.recipes import registry
from ganwright.recipes.base import Recipe, SampleRequest, StepContext
from ganwright.recipes.registry import RecipeInfo
from ganwright.run import Run
from ganwright.samples import ImageSamples


@dataclass(frozen=True)
class ToySettings:
    """What the toy does."""

    does: str = "blur"


def blur(x: Tensor) -> Tensor:
    return F.avg_pool2d(F.pad(x, (2, 2, 2, 2), mode="replicate"), 5, 1)


DEEDS: dict[str, Callable[[Tensor], Tensor]] = {
    "blur": blur,
    "double": lambda x: x.repeat_interleave(2, 2).repeat_interleave(2, 3),
    "negate": lambda x: -x,
    "nothing": lambda x: x,
}


class Toy(Recipe):
    """Blurs, doubles or negates from A to B; from B to A it negates."""

    Settings: ClassVar[type[Any]] = ToySettings
    accepts: ClassVar = frozenset({DataKind.IMAGES})
    ema_networks = ()
    directions = ("a2b", "b2a")

    def __init__(self, data: DataSpec, settings: ToySettings) -> None:
        super().__init__(data, settings)
        self.weight = nn.Parameter(torch.zeros(1))
        self.scale = 2 if settings.does == "double" else 1

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"weight": torch.optim.SGD([self.weight], 0.1)}

    def step(self, batch: Batch, ctx: StepContext) -> dict[str, Tensor]:
        ctx.minimise(self.weight.square().sum(), "weight")
        return {}

    def sample(self, request: SampleRequest) -> ImageSamples:
        return ImageSamples(np.zeros((1, 8, 8, self.data.channels), np.uint8))

    def translate(self, images: Tensor, direction: str = "a2b") -> Tensor:
        assert images.shape[1] == self.data.channels
        return -images if direction == "b2a" else DEEDS[self.settings.does](images)


INFO = RecipeInfo("toy", Toy, ToySettings(), "none", "plays")


def toy_run(path: Path, does: str, channels: int = 3) -> Run:
    """A run of the toy; the recipe is registered."""
    registry.recipes()["toy"] = INFO
    images = np.zeros((4, 8, 8, channels), np.uint8)
    gw.train(
        INFO, images, out=path, does=does, steps=1, batch_size=2, held_out=0.0, evaluate_every=-1, write_html=False
    )
    return Run(path)
