"""Degradations by name, with the settings that say how strong they are."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ganwright.degrade.ct import low_dose_ct
from ganwright.degrade.draws import Draws
from ganwright.degrade.noise import gaussian, poisson, rician
from ganwright.degrade.stored import jpeg, stored
from ganwright.errors import SettingsError

Range = tuple[float, float]


@dataclass(frozen=True)
class DegradationSettings:
    """How pictures are spoilt. Each level is a range, from which one is drawn for each image; equal ends fix it."""

    degradation: Literal["gaussian", "poisson", "rician", "low-dose-ct", "jpeg"] = "gaussian"
    """What is to be undone: noise of a camera's electronics, of few photons, of MRI, of a CT scan at low dose; JPEG."""
    sigma: Range = (0.1, 0.1)
    """gaussian, rician: standard deviation as a share of the full range (the papers' σ = 25 is 0.098)."""
    peak_photons: Range = (30.0, 30.0)
    """poisson: expected photons of a white pixel."""
    beam_photons: Range = (1e5, 1e5)
    """low-dose-ct: photons in a detector bin where nothing is in the beam."""
    jpeg_quality: Range = (10.0, 40.0)
    """jpeg: quality, 1 to 100."""
    input_bits: Literal["none", "8", "16"] = "none"
    """Spoilt pictures are clipped and rounded as a file of so many bits would; none: they stay as they are."""


@dataclass(frozen=True)
class Kind:
    """One row of `DEGRADATIONS`.

    Attributes:
        apply: (images, levels, draws) -> images.
        setting: The setting that holds its range of levels.
        bounds: Smallest and largest level that makes sense.
        strength: Level to a number that grows with the damage, about the noise's standard deviation at mid-grey: what a
            network that knows the level is told.
        logarithmic: Whether levels are drawn evenly in their logarithm.
    """

    apply: Callable[[Tensor, Tensor, Draws], Tensor]
    setting: str
    bounds: Range
    strength: Callable[[Tensor], Tensor]
    logarithmic: bool = False


DEGRADATIONS: dict[str, Kind] = {
    "gaussian": Kind(gaussian, "sigma", (0.0, 2.0), lambda sigma: sigma),
    "poisson": Kind(poisson, "peak_photons", (0.1, 1e6), lambda peak: (0.5 / peak).sqrt(), logarithmic=True),
    "rician": Kind(rician, "sigma", (0.0, 2.0), lambda sigma: sigma),
    "low-dose-ct": Kind(low_dose_ct, "beam_photons", (10.0, 1e9), lambda i0: 10 / i0.sqrt(), logarithmic=True),
    "jpeg": Kind(lambda x, q, draws: jpeg(x, q), "jpeg_quality", (1.0, 100.0), lambda q: 1 - q / 100),
}
"""All degradations of equal size by the name used in settings; downsampling has functions of its own."""


@dataclass(frozen=True)
class Degradation:
    """A kind of damage and its range of levels.

    Attributes:
        name: A key of `DEGRADATIONS`.
        low: Smallest level.
        high: Largest level.
        bits: Of the files that spoilt pictures are stored in; 0: none.
    """

    name: str
    low: float
    high: float
    bits: int = 0

    @property
    def kind(self) -> Kind:
        """The row of the table."""
        return DEGRADATIONS[self.name]

    @property
    def known(self) -> bool:
        """Whether every image has the same level."""
        return self.low == self.high

    def levels(self, n: int, draws: Draws) -> Tensor:
        """A level for each of n images, (n,)."""
        u = draws.uniform(n)
        if self.kind.logarithmic:
            return torch.exp(math.log(self.low) + (math.log(self.high) - math.log(self.low)) * u)
        return self.low + (self.high - self.low) * u

    def __call__(self, images: Tensor, levels: Tensor, draws: Draws) -> Tensor:
        """Spoil images (N, C, H, W) in [-1, 1]."""
        return stored(self.kind.apply(images, levels, draws), self.bits)

    def strength(self, levels: Tensor) -> Tensor:
        """See `Kind.strength`."""
        return self.kind.strength(levels)


def make_degradation(settings: DegradationSettings) -> Degradation:
    """The degradation that the settings describe.

    Raises:
        SettingsError: See `check_degradation`.
    """
    check_degradation(settings)
    kind = DEGRADATIONS[settings.degradation]
    low, high = getattr(settings, kind.setting)
    bits = 0 if settings.input_bits == "none" else int(settings.input_bits)
    return Degradation(settings.degradation, float(low), float(high), bits)


def check_degradation(settings: DegradationSettings) -> None:
    """Refuse impossible levels.

    Raises:
        SettingsError: A range is upside down or out of bounds.
    """
    kind = DEGRADATIONS[settings.degradation]
    low, high = getattr(settings, kind.setting)
    if not kind.bounds[0] <= low <= high <= kind.bounds[1]:
        raise SettingsError(
            f"{settings.degradation} cannot have levels from {low:g} to {high:g}.",
            where=kind.setting,
            fix=f"give a range within {kind.bounds[0]:g} to {kind.bounds[1]:g}, the smaller first",
        )
