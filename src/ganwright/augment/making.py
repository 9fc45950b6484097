"""From settings to an augmenter."""

from __future__ import annotations

from ganwright.augment.ada import AdaptiveAugmenter
from ganwright.augment.augmenter import Augmenter
from ganwright.augment.diffaugment import DiffAugmenter
from ganwright.augment.settings import COLOR, AugmentSettings, check_augment, policy_of
from ganwright.data.spec import DataSpec
from ganwright.errors import SettingsError


def make_augmenter(settings: AugmentSettings, data: DataSpec) -> Augmenter:
    """The augmenter that the settings ask for; one that does nothing for `augment none`.

    Args:
        settings: Method, policy and ADA's constants.
        data: The images it is for.

    Raises:
        SettingsError: The settings do not fit each other or the images.
    """
    check_augment(settings)
    if settings.augment == "none":
        return Augmenter()
    policy = policy_of(settings)
    if settings.augment == "diffaugment":
        return DiffAugmenter(policy)
    if data.channels not in (1, 3) and set(policy) & {*COLOR}:
        raise SettingsError(
            f"Colour transforms are for grey and RGB images; these have {data.channels} channels.",
            where="augment_policy",
            fix="leave colour out: bg",
        )
    return AdaptiveAugmenter(policy, p=settings.augment_p, target=settings.ada_target, kimg=settings.ada_kimg)
