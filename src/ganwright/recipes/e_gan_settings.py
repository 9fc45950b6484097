"""Settings of E-GAN: those of the image GAN family, and how its population evolves."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ganwright.errors import SettingsError
from ganwright.losses import LOSSES, cross_entropy_d
from ganwright.recipes.image_settings import ImageGANSettings

MutationName = Literal["minimax", "heuristic", "least-squares"]


@dataclass(frozen=True)
class EGANSettings(ImageGANSettings):
    """Every knob of `EGAN`. `loss` is the discriminator's alone; what generators minimise is in `mutations`."""

    # Evolution
    population: int = 1
    """Generators that survive a step: μ."""
    mutations: tuple[MutationName, ...] = ("minimax", "heuristic", "least-squares")
    """Losses by which each survivor is mutated, one child each. A single name is that mutation alone, the paper's
    baseline; a name given three times is selection among three children of one loss."""
    diversity_weight: float = 0.01
    """Weight of diversity in a child's fitness: γ. 0: quality alone, which saves most of the evaluation."""
    fitness_batch: int = 256
    """Images each child is evaluated on, over all processes; rounded up to whole batches."""

    @property
    def selects(self) -> bool:
        """Whether there are more children than survive, or survivors to put in order."""
        return self.population > 1 or len(self.mutations) > 1


def check_evolution(s: EGANSettings) -> None:
    """Refuse settings of the evolution that cannot work; the rest is checked by `image_settings.check`.

    Raises:
        SettingsError: With what is wrong, which setting it is, and what to set instead; the first one found.
    """
    for what, where, fix in _complaints(s):
        raise SettingsError(what, where=where, fix=fix)


def _complaints(s: EGANSettings) -> Iterator[tuple[str, str, str]]:
    """(what, where, fix) of each thing wrong."""
    if s.population < 1:
        yield f"population is {s.population}; it counts survivors.", "population", "give 1 or more"
    if not s.mutations:
        yield "Without a mutation no generator learns.", "mutations", "give one or more of the names"
    if s.fitness_batch < 2:
        yield f"fitness_batch is {s.fitness_batch}.", "fitness_batch", "give 2 or more; the paper's code has 256"
    if not 0 <= s.diversity_weight < math.inf:
        yield f"diversity_weight is {s.diversity_weight}.", "diversity_weight", "give 0 or more; 0.01 is usual"
    if s.loss in LOSSES and LOSSES[s.loss].discriminator is not cross_entropy_d:
        yield (
            f"E-GAN reads the discriminator's output as a probability; the {s.loss} loss does not make it one.",
            "loss",
            "set loss to minimax; what generators minimise is in mutations",
        )
    if s.share_fakes:
        yield (
            "Each child is mutated on images of its own, so there are none to share with the discriminator's step.",
            "share_fakes",
            "set it to false",
        )
