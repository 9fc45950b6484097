"""Flags of augmentation, and which of them make no sense."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from ganwright.errors import SettingsError, nearest

DIFFAUGMENT_POLICIES = ("color", "translation", "cutout")
"""DiffAugment's groups (Zhao et al. 2020, section 3)."""

BLIT = ("xflip", "rotate90", "xint")
GEOM = ("scale", "rotate", "aniso", "xfrac")
COLOR = ("brightness", "contrast", "lumaflip", "hue", "saturation")

ADA_POLICIES: dict[str, tuple[str, ...]] = {
    "blit": BLIT,
    "geom": GEOM,
    "color": COLOR,
    "filter": ("imgfilter",),
    "noise": ("noise",),
    "cutout": ("cutout",),
    "bg": BLIT + GEOM,
    "bgc": BLIT + GEOM + COLOR,
    "bgcf": (*BLIT, *GEOM, *COLOR, "imgfilter"),
    "bgcfn": (*BLIT, *GEOM, *COLOR, "imgfilter", "noise"),
    "bgcfnc": (*BLIT, *GEOM, *COLOR, "imgfilter", "noise", "cutout"),
}
"""ADA's sets of transforms by their usual names (Karras et al. 2020, section 3.1 and appendix B)."""

ADA_TRANSFORMS = ADA_POLICIES["bgcfnc"]
"""All single transforms, in the order they are applied."""


@dataclass(frozen=True)
class AugmentSettings:
    """Augmentation of what the discriminator sees; settings of image recipes inherit these."""

    augment: Literal["none", "diffaugment", "ada"] = "none"
    """Augment all images the discriminator sees, for small data sets: always (diffaugment), or with a probability
    p that rises while the discriminator overfits (ada)."""
    augment_policy: str = "auto"
    """What may happen to an image, names with commas between them. diffaugment: color, translation, cutout (auto:
    all). ada: blit, geom, color, filter, noise, cutout, bg, bgc, bgcf, bgcfn, bgcfnc, or single transforms such as
    xflip or hue (auto: bgc)."""
    augment_p: float = 0.0
    """ada: the probability p at the start, in [0, 1]; with `ada_target 0`, that of the whole run."""
    ada_target: float = 0.6
    """ada: the mean sign of the discriminator's outputs on real images at which p is left alone; above it p rises. 0:
    p never changes."""
    ada_kimg: float = 500.0
    """ada: thousands of real images it takes p to get from 0 to 1 at the fastest."""


def check_augment(s: AugmentSettings) -> None:
    """Refuse settings that cannot work.

    Raises:
        SettingsError: With what is wrong, which setting it is, and what to set instead; the first one found.
    """
    for what, where, fix in _complaints(s):
        raise SettingsError(what, where=where, fix=fix)


def policy_of(s: AugmentSettings) -> tuple[str, ...]:
    """What `augment_policy` names: DiffAugment's groups as given, or ADA's single transforms in their order.

    Raises:
        SettingsError: A name is unknown or missing.
    """
    given = [name.strip() for name in s.augment_policy.split(",")]
    if s.augment == "ada":
        if given == ["auto"]:
            given = ["bgc"]
        known = {**ADA_POLICIES, **{name: (name,) for name in ADA_TRANSFORMS}}
        wanted = {transform for name in given for transform in _looked_up(known, name)}
        return tuple(name for name in ADA_TRANSFORMS if name in wanted)
    if given == ["auto"]:
        return DIFFAUGMENT_POLICIES
    groups = {name: (name,) for name in DIFFAUGMENT_POLICIES}
    return tuple(dict.fromkeys(group for name in given for group in _looked_up(groups, name)))


def _looked_up(known: Mapping[str, tuple[str, ...]], name: str) -> tuple[str, ...]:
    if name not in known:
        raise SettingsError(
            f"There is no augmentation '{name}'.{nearest(name, known)}",
            where="augment_policy",
            fix="auto, or one or more of " + ", ".join(known) + ", with commas between them",
        )
    return known[name]


def _complaints(s: AugmentSettings) -> Iterator[tuple[str, str, str]]:
    """(what, where, fix) of each thing wrong."""
    methods = ("none", "diffaugment", "ada")
    if s.augment not in methods:
        yield f"There is no augment '{s.augment}'.{nearest(s.augment, methods)}", "augment", ", ".join(methods)
    if not 0 <= s.augment_p <= 1:
        yield f"augment_p is {s.augment_p}; it is a probability.", "augment_p", "give 0 to 1"
    if not 0 <= s.ada_target < 1:
        yield (
            f"ada_target is {s.ada_target}; the mean of signs it is compared with never exceeds 1.",
            "ada_target",
            "give a number in [0, 1): 0.6 is the paper's, 0 keeps p as it is",
        )
    if not s.ada_kimg > 0:
        yield f"ada_kimg is {s.ada_kimg}.", "ada_kimg", "give more than 0; 500 is the paper's"
    if s.augment == "ada" and s.ada_target == 0 and s.augment_p == 0:
        yield (
            "With ada_target 0 and augment_p 0 nothing would ever be augmented.",
            "augment_p",
            "give the fixed probability, such as 0.3, or set ada_target to 0.6",
        )
