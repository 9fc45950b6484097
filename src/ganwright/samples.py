"""What a recipe makes: `Samples`, which every view (grids, reports, the judging room) treats alike."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from ganwright.files import atomic_path, write_atomic

Uint8Array = npt.NDArray[np.uint8]


class Samples(ABC):
    """A batch of results of one kind, with the one way to draw it and to save it."""

    suffix: str
    """File ending of what `save_overview` writes: "png" or "txt"."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def save_overview(self, path: Path) -> None:
        """Write all samples as one file to look at: a grid of images, or lines of text."""

    @abstractmethod
    def save_each(self, folder: Path) -> list[Path]:
        """Write each sample to a file of its own; returns the paths."""


@dataclass(frozen=True)
class ImageSamples(Samples):
    """Images as people and metrics see them.

    Attributes:
        images: uint8 array of shape (N, H, W, C), C = 1 or 3, in 0..255.
        labels: int64 array (N,): the class asked for, or None.
        columns: Columns of the grid; None: about square, or one column per class where labels are known.
    """

    images: Uint8Array
    labels: npt.NDArray[np.int64] | None = None
    columns: int | None = None
    suffix = "png"

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4 or self.images.shape[-1] not in (1, 3):
            raise ValueError(f"images must be uint8 (N, H, W, 1 or 3), got {self.images.dtype} {self.images.shape}")

    def __len__(self) -> int:
        return len(self.images)

    @classmethod
    def from_tensor(cls, images: Tensor, labels: Tensor | None = None, columns: int | None = None) -> ImageSamples:
        """From a network's output: float (N, C, H, W) in [-1, 1], rounded to the nearest of 0..255."""
        scaled = (images.detach().float().clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8)
        array = scaled.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        return cls(array, None if labels is None else labels.cpu().numpy().astype(np.int64), columns)

    def grid(self) -> Uint8Array:
        """All images on one sheet, (H', W', C), row by row, separated by 2 white pixels."""
        n, h, w, c = self.images.shape
        columns = self.columns or max(1, math.ceil(math.sqrt(n)))
        rows = math.ceil(n / columns)
        gap = 2
        sheet = np.full((rows * (h + gap) + gap, columns * (w + gap) + gap, c), 255, np.uint8)
        for i, image in enumerate(self.images):
            top, left = gap + (i // columns) * (h + gap), gap + (i % columns) * (w + gap)
            sheet[top : top + h, left : left + w] = image
        return sheet

    def save_overview(self, path: Path) -> None:
        """Write the grid as a PNG."""
        save_png(path, self.grid())

    save = save_overview

    def save_each(self, folder: Path) -> list[Path]:
        """Write `000000.png`, `000001.png`, …; where labels are known the name ends in `-class<k>`."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for i, image in enumerate(self.images):
            suffix = "" if self.labels is None else f"-class{self.labels[i]}"
            paths.append(folder / f"{i:06d}{suffix}.png")
            save_png(paths[-1], image)
        return paths


@dataclass(frozen=True)
class TextSamples(Samples):
    """Lines of generated text."""

    texts: Sequence[str]
    suffix = "txt"

    def __len__(self) -> int:
        return len(self.texts)

    def save_overview(self, path: Path) -> None:
        """Write one sample a line."""
        write_atomic(path, "".join(text.replace("\n", " ") + "\n" for text in self.texts))

    save = save_overview

    def save_each(self, folder: Path) -> list[Path]:
        """Write `000000.txt`, `000001.txt`, …."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{i:06d}.txt" for i in range(len(self.texts))]
        for path, text in zip(paths, self.texts, strict=True):
            write_atomic(path, text + "\n")
        return paths


def save_png(path: Path, image: Uint8Array) -> None:
    """Write one uint8 image (H, W, 1 or 3) as a PNG, whole or not at all."""
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG")
