"""SS-GAN: a discriminator that must also tell how an image is rotated (Chen et al. 2019).

Networks and adversarial loss are SNGAN's. D's rotation loss is on real images alone and G's on its own fakes, so the
two play no game about rotations: both are better off when fakes have a recognisable upright.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganwright.console import console
from ganwright.data.spec import DataSpec
from ganwright.errors import SettingsError
from ganwright.recipes.base import StepContext
from ganwright.recipes.image_heads import HeadedImageGAN
from ganwright.recipes.image_settings import ImageGANSettings
from ganwright.recipes.presets import SNGAN
from ganwright.recipes.registry import RecipeInfo

ROTATIONS = 4
"""0, 90, 180 and 270 degrees."""


@dataclass(frozen=True)
class SSGANSettings(ImageGANSettings):
    """Every knob of `SSGAN`."""

    rotation_weight_d: float = 1.0
    """β: weight of the rotation loss of real images in D's loss."""
    rotation_weight_g: float = 0.2
    """α: weight of the rotation loss of fakes in G's loss."""
    rotated_share: float = 0.25
    """Share of the batch that is rotated, each image in all four directions; in (0, 1]."""
    rotation_warning: bool = True
    """Say so at the start if class names suggest that rotated images look like others (6 and 9, say)."""


class SSGAN(HeadedImageGAN):
    """`ImageGAN` with the auxiliary rotation loss of Chen et al. 2019, equations 4 and 5.

    Every fourth image of the batch (by default) is shown in all four directions; the released code takes as many, from
    the end of the batch. Strided rows share out evenly among processes.

    Args:
        data: Images.
        settings: How to train.

    Raises:
        SettingsError: The settings do not fit the data or each other.
    """

    Settings: ClassVar[type[SSGANSettings]] = SSGANSettings

    def __init__(self, data: DataSpec, settings: SSGANSettings) -> None:
        for name in ("rotation_weight_d", "rotation_weight_g"):
            if not getattr(settings, name) >= 0:
                raise SettingsError(f"{name} is {getattr(settings, name)}.", where=name, fix="give 0 or more")
        if not 0 < settings.rotated_share <= 1:
            raise SettingsError(
                f"rotated_share is {settings.rotated_share}.", where="rotated_share", fix="give a share in (0, 1]"
            )
        super().__init__(data, settings)
        self.settings: SSGANSettings = settings
        self.add_head("rotation", nn.Linear(self.feature_size, ROTATIONS))
        ambiguous = rotation_ambiguous(data.class_names)
        if ambiguous and settings.rotation_warning:
            _warn(ambiguous)

    def discriminator_terms(
        self, real: Tensor, fake: Tensor, labels: Tensor | None, ctx: StepContext
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """β times the rotation loss of real images; logs `rotation_accuracy_real` (chance: 0.25)."""
        loss, accuracy = self._rotation_loss(real, labels, train_head=True)
        return self.settings.rotation_weight_d * loss, {"rotation_accuracy_real": accuracy}

    def generator_terms(
        self, fake: Tensor, labels: Tensor | None, ctx: StepContext
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """α times the rotation loss of fakes; logs `rotation_accuracy_fake`."""
        loss, accuracy = self._rotation_loss(fake, labels, train_head=False)
        return self.settings.rotation_weight_g * loss, {"rotation_accuracy_fake": accuracy}

    def _rotation_loss(self, images: Tensor, labels: Tensor | None, *, train_head: bool) -> tuple[Tensor, Tensor]:
        """-E_r[log Q_D(R = r | x^r)] over the four rotations of some of the images, and the share found right."""
        stride = max(1, round(1 / self.settings.rotated_share))
        rotated, r = rotations(images[::stride])
        of_rotated = None if labels is None else labels[::stride].repeat(ROTATIONS)
        features = self.discriminator.embed(rotated, of_rotated)
        logits = self.read("rotation", features, train=train_head)
        return F.cross_entropy(logits, r), (logits.detach().argmax(1) == r).float().mean()


def rotations(images: Tensor) -> tuple[Tensor, Tensor]:
    """Square images (N, C, S, S) by 0, 90, 180 and 270 degrees counter-clockwise.

    Returns:
        The images (4N, C, S, S), all of one rotation together, and the rotations 0..3 (4N,).
    """
    rotated = torch.cat([torch.rot90(images, k, (2, 3)) for k in range(ROTATIONS)])
    r = torch.arange(ROTATIONS, device=images.device).repeat_interleave(len(images))
    return rotated.contiguous(memory_format=torch.channels_last), r


_AMBIGUOUS = frozenset("01689HINOSXZdpbqnu") | {"zero", "one", "six", "eight", "nine"}
"""Characters that some rotation turns into themselves or into another one."""


def rotation_ambiguous(class_names: tuple[str, ...]) -> tuple[str, ...]:
    """The classes whose names say that they are single characters of ambiguous rotation; empty for other data."""
    found = tuple(name for name in class_names if name in _AMBIGUOUS)
    return found if len(found) >= 2 else ()


@cache
def _warn(ambiguous: tuple[str, ...]) -> None:
    """Say so, once a process: a run builds its recipe several times."""
    console.print(
        f"[yellow]The classes are named {', '.join(ambiguous)}. If they are such characters, some look like "
        "others or like themselves when rotated, and the rotation loss asks for what cannot be known.[/] "
        "The recipe sngan does not ask; --no-rotation-warning silences this."
    )


# Chen et al. 2019: α 0.2, β 1, a quarter of the batch rotated; networks and optimiser are those of the preset `sngan`.
# Published: FID 15.65 on CIFAR-10, 43.87 on ImageNet and 13.30 on LSUN bedrooms at 128x128, with self-modulated batch
# norm in G (Chen et al. 2019, arXiv:1810.01365), where this preset has plain batch norm.
SS_GAN = SSGANSettings(**{field.name: getattr(SNGAN, field.name) for field in fields(SNGAN)})

RECIPES = [
    RecipeInfo(
        "ss-gan",
        SSGAN,
        SS_GAN,
        "Chen et al., Self-Supervised GANs via Auxiliary Rotation Loss, CVPR 2019, arXiv:1811.11212",
        "sngan whose discriminator also learns rotations: unlabelled natural images with an upright.",
        {
            "resolution": 32,
            "steps": 100_000,
            "batch_size": 64,
            "lr_schedule": "linear",
            "lr_decay_from": 0.0,
        },
    ),
]
