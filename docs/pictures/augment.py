"""Draws docs/pictures/ada.png: what each augmentation makes of coloured digits.

usage: python docs/pictures/augment.py     (needs matplotlib; a few seconds)
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

import ganwright
from ganwright.augment import Augmenter
from ganwright.augment.ada import AdaptiveAugmenter
from ganwright.augment.diffaugment import DiffAugmenter
from ganwright.augment.settings import ADA_POLICIES

HERE = Path(__file__).parent
DIGITS = Path(ganwright.__file__).parent / "data" / "assets" / "mnist10k.npz"
COLUMNS, SIZE = 10, 64


class Seeded:
    """Random numbers of one picture."""

    def __init__(self, seed: int = 0) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def uniform(self, rows: int, *shape: int) -> Tensor:
        return torch.rand(rows, *shape, generator=self.generator)

    def normal(self, rows: int, *shape: int) -> Tensor:
        return torch.randn(rows, *shape, generator=self.generator)


def coloured_digits() -> Tensor:
    """Digits in one colour on a gradient of two others, (COLUMNS, 3, SIZE, SIZE) in [-1, 1]."""
    with np.load(DIGITS, allow_pickle=False) as stored:
        images, labels = (stored[name] for name in sorted(stored.files, key=lambda name: -stored[name].ndim)[:2])
    first = [int(np.flatnonzero(labels == digit)[0]) for digit in range(COLUMNS)]
    shapes = torch.from_numpy(images[first].reshape(COLUMNS, 1, *images.shape[1:3])).float() / 255
    shapes = F.interpolate(F.pad(shapes, (2, 2, 2, 2)), SIZE, mode="bicubic").clamp(0, 1)
    random = Seeded(3)
    ink, left, right = (random.uniform(COLUMNS, 3, 1, 1) for _ in range(3))
    across = torch.linspace(0, 1, SIZE)
    background = 0.6 * (left * (1 - across) + right * across)
    return (shapes * (0.4 + 0.6 * ink) + (1 - shapes) * background).expand(-1, 3, -1, -1) * 2 - 1


def ada(policy: str, p: float) -> Augmenter:
    return AdaptiveAugmenter(ADA_POLICIES[policy], p=p)


ROWS: list[tuple[str, Augmenter]] = [
    ("real images", Augmenter()),
    ("diffaugment", DiffAugmenter()),
    *((f"ada {policy}, p = 1", ada(policy, 1.0)) for policy in ("blit", "geom", "color", "filter", "noise", "cutout")),
    *((f"ada bgc, p = {p}", ada("bgc", p)) for p in (0.2, 0.6, 1.0)),
]


def as_pixels(images: Tensor) -> npt.NDArray[np.float32]:
    return np.concatenate(list(((images.clamp(-1, 1) + 1) / 2).permute(0, 2, 3, 1).numpy()), axis=1)


def main() -> None:
    images = coloured_digits()
    figure, axes = plt.subplots(len(ROWS), 1, figsize=(9.6, len(ROWS) * 0.81))
    for axis, (name, augmenter) in zip(axes, ROWS, strict=True):
        axis.imshow(as_pixels(augmenter(images, Seeded(1))))
        axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
        for side in axis.spines.values():
            side.set_visible(False)
    figure.subplots_adjust(left=0.17, right=0.995, top=0.995, bottom=0.005, hspace=0.06)
    figure.savefig(HERE / "ada.png", dpi=80)


if __name__ == "__main__":
    main()
