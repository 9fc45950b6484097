"""Settings of R3GAN, what they change in the course of a run, and which of them make no sense.

The recipe is in `r3gan.py`, with the paper's values.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ganwright.augment import AugmentSettings
from ganwright.data.spec import DataSpec
from ganwright.errors import SettingsError
from ganwright.networks.conditional import RESOLUTIONS, halvings
from ganwright.networks.r3gan import R3GANPlan
from ganwright.recipes.image_settings import nearest_resolutions


@dataclass(frozen=True)
class R3GANSettings(AugmentSettings):
    """Every knob of `R3GAN`."""

    # Networks
    latent_dim: int = 64
    """Numbers in a latent vector, standard normal."""
    width: int = 256
    """Maps of both networks at coarse resolutions (the paper: 768, on ImageNet 1536; on a CPU try 32 to 64)."""
    taper_after: int = 32
    """Finest resolution, in pixels, with `width` maps; with each doubling beyond it they are halved."""
    expansion: int = 2
    """Maps inside a residual block, as a multiple of those outside."""
    group_width: int = 16
    """Maps that see each other in a block's 3x3 convolution (the cardinality is width · expansion / this)."""
    blocks: int = 2
    """Residual blocks a resolution."""
    half_stages: int = 4
    """`precision bf16` or `fp16`: how many of the finest resolutions use it; the coarsest never does."""
    conditional: bool = False
    """Whether labels are used."""

    # Objective
    gamma: float | None = None
    """Weight γ of both penalties at the start. The paper's best: 0.05 to 0.5 at 32 pixels, 1 to 2 at 64, 150 at 256.
    None: 2 · (resolution / 64)³, but at least 5, since in short runs a smaller one lets the discriminator win."""
    gamma_decay: float = 0.1
    """γ falls to this share of itself during the burn-in."""

    # Optimisation
    lr: float = 2e-4
    """Adam's learning rate at the start, for both networks."""
    lr_end: float = 5e-5
    """Learning rate after the burn-in (the loop's `lr_schedule` comes on top)."""
    beta2: float = 0.9
    """Adam's β₂ at the start; β₁ is 0."""
    beta2_end: float = 0.99
    """β₂ after the burn-in."""
    burn_in: float = 0.5
    """Share of the run in which γ, learning rate, β₂ and the probability of augmentation go from their first to their
    last value, along half a cosine; in [0, 1]. The paper: 20 million images (ImageNet: 200)."""

    # Augmentation: the paper's, by a schedule
    augment: Literal["none", "diffaugment", "ada"] = "ada"
    """Augment all images the discriminator sees: with a probability p (ada), always (diffaugment), or never."""
    augment_policy: str = "auto"
    """What may happen to an image, names with commas between them; auto: bgc,cutout for ada, all for diffaugment."""
    augment_p: float = 0.3
    """ada: the probability p of each transform after the burn-in, from 0 at the start; with an `ada_target`, the first
    p."""
    ada_target: float = 0.0
    """ada: 0: p follows the schedule, as in the paper. Otherwise p adapts to the discriminator: the mean sign of
    D(real) - D(fake) at which it is left alone (0.6)."""

    @property
    def scheduled_augmentation(self) -> bool:
        """Whether p is set by the schedule."""
        return self.augment == "ada" and self.ada_target == 0


@dataclass(frozen=True)
class Moment:
    """What changes in the course of a run, at one step.

    Attributes:
        lr_factor: On the learning rate the optimisers were made with.
        beta2: Adam's β₂.
        gamma: Weight of the penalties.
        augment_p: Probability of augmentation.
    """

    lr_factor: float
    beta2: float
    gamma: float
    augment_p: float


def moment(s: R3GANSettings, resolution: int, done: float) -> Moment:
    """The values after a share `done` of the run, in [0, 1)."""
    through = min(1.0, done / s.burn_in) if s.burn_in > 0 else 1.0
    gamma = gamma_at_start(s, resolution)
    return Moment(
        lr_factor=cosine(through, 1.0, s.lr_end / s.lr),
        beta2=cosine(through, s.beta2, s.beta2_end),
        gamma=cosine(through, gamma, gamma * s.gamma_decay),
        augment_p=cosine(through, 0.0, s.augment_p),
    )


def cosine(through: float, start: float, end: float) -> float:
    """From `start` at 0 to `end` at 1 along half a cosine: slow, quick, slow."""
    left = 0.5 * (1 + math.cos(math.pi * through))
    return end + left * (start - end)


def gamma_at_start(s: R3GANSettings, resolution: int) -> float:
    """The weight γ as set, or by the rule of `R3GANSettings.gamma`."""
    return max(5.0, 2 * (resolution / 64) ** 3) if s.gamma is None else s.gamma


def network_plan(s: R3GANSettings, data: DataSpec) -> R3GANPlan:
    """The sizes of both networks, for data and settings that `check` lets pass."""
    base, doublings = halvings(data.resolution)
    widths = tuple(_width_at(s, base << i) for i in range(doublings + 1))
    classes = data.num_classes if s.conditional else 0
    return R3GANPlan(
        resolution=data.resolution,
        channels=data.channels,
        widths=widths,
        groups=tuple(_groups(s, width) for width in widths),
        blocks=(s.blocks,) * len(widths),
        expansion=s.expansion,
        latent_dim=s.latent_dim,
        num_classes=classes,
        class_embedding=s.latent_dim if classes else 0,
        class_embedding_d=widths[0] if classes else 0,
        half_stages=min(s.half_stages, len(widths) - 1),
    )


def _width_at(s: R3GANSettings, resolution: int) -> int:
    width = s.width
    while resolution > s.taper_after:
        width, resolution = width // 2, resolution // 2
    return width


def _groups(s: R3GANSettings, width: int) -> int:
    """One group where there are fewer maps than make a group."""
    return max(1, width * s.expansion // s.group_width)


def check(s: R3GANSettings, data: DataSpec) -> None:
    """Refuse settings that cannot work.

    Raises:
        SettingsError: With what is wrong, which setting it is, and what to set instead; the first one found.
    """
    for what, where, fix in _complaints(s, data):
        raise SettingsError(what, where=where, fix=fix)


def _complaints(s: R3GANSettings, data: DataSpec) -> Iterator[tuple[str, str, str]]:
    """(what, where, fix) of each thing wrong; those of augmentation are found when the augmenter is made."""
    for name in ("latent_dim", "width", "taper_after", "expansion", "group_width", "blocks"):
        if getattr(s, name) < 1:
            yield f"{name} is {getattr(s, name)}; it counts something.", name, "give 1 or more"
    if s.half_stages < 0:
        yield f"half_stages is {s.half_stages}.", "half_stages", "give 0 or more"
    if s.gamma is not None and not s.gamma >= 0:
        yield f"gamma is {s.gamma}; it cannot be negative.", "gamma", "give 0 or more, or leave it out"
    for name in ("lr", "lr_end"):
        if not getattr(s, name) > 0:
            yield f"{name} is {getattr(s, name)}.", name, "give more than 0, such as 2e-4"
    for name in ("beta2", "beta2_end"):
        if not 0 <= getattr(s, name) < 1:
            yield f"{name} is {getattr(s, name)}.", name, "give a number in [0, 1), such as 0.9"
    for name in ("gamma_decay", "burn_in"):
        if not 0 <= getattr(s, name) <= 1:
            yield f"{name} is {getattr(s, name)}; it is a share.", name, "give 0 to 1"
    if data.channels not in (1, 3):
        yield f"Images have {data.channels} channels.", "channels", "use grey (1) or RGB (3) images"
    if data.resolution not in RESOLUTIONS:
        possible = " or ".join(map(str, nearest_resolutions(data.resolution)))
        yield (
            f"R3GAN's networks cannot make images of {data.resolution} pixels.",
            "resolution",
            f"set resolution to {possible} (possible: 16 to 256, as 4, 5, 6 or 7 times a power of two)",
        )
    if s.conditional and not data.num_classes:
        yield (
            f"conditional is set, but the data '{data.name}' has no class labels.",
            "conditional",
            "put each class in a folder of its own, or set conditional to false",
        )
    yield from _misfits(s, data)


def _misfits(s: R3GANSettings, data: DataSpec) -> Iterator[tuple[str, str, str]]:
    """Widths that cannot be halved or shared out in groups as asked for."""
    base, doublings = halvings(data.resolution)
    for width in {_width_at(s, base << i) for i in range(doublings + 1)}:
        inner = width * s.expansion
        if width < 1 or (inner > s.group_width and inner % s.group_width):
            yield (
                f"{s.width} maps cannot be halved beyond {s.taper_after} pixels and shared out in groups of "
                f"{s.group_width}.",
                "width",
                "give a multiple of 64, such as 64 or 256, or a group_width that divides it",
            )
