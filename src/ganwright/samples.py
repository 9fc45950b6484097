"""What a recipe makes: `Samples`, which every view (grids, reports, the judging room) treats alike."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
        return cls(to_uint8(images), None if labels is None else labels.cpu().numpy().astype(np.int64), columns)

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


@dataclass(frozen=True)
class PairSamples(Samples):
    """What a translator or restorer made of some inputs, beside the targets where they are known.

    All arrays are uint8 (N, H, W, C), C = 1 to 4; inputs may be smaller than outputs, and have other channels.

    Attributes:
        inputs: What it was shown.
        outputs: What it made.
        targets: What it should have made, or None.
        baselines: What simple methods made of the same inputs, by name.
        cycled: The outputs translated back, or None.
    """

    inputs: Uint8Array
    outputs: Uint8Array
    targets: Uint8Array | None = None
    baselines: Mapping[str, Uint8Array] = field(default_factory=dict)
    cycled: Uint8Array | None = None
    suffix = "png"

    def __post_init__(self) -> None:
        for name, images in self._columns().items():
            if images.dtype != np.uint8 or images.ndim != 4 or not 1 <= images.shape[-1] <= 4:
                raise ValueError(f"{name} must be uint8 (N, H, W, 1 to 4), got {images.dtype} {images.shape}")
            if len(images) != len(self.inputs):
                raise ValueError(f"{len(self.inputs)} inputs, but {len(images)} of the {name}s")

    def __len__(self) -> int:
        return len(self.outputs)

    def _columns(self) -> dict[str, Uint8Array]:
        columns = {"input": self.inputs, "output": self.outputs, "back again": self.cycled, "target": self.targets}
        return {name: images for name, images in columns.items() if images is not None}

    @property
    def columns(self) -> tuple[str, ...]:
        """What stands in each column of the grid, from the left: "input", "output", …."""
        return tuple(self._columns())

    def grid(self) -> Uint8Array:
        """One row a pair on one RGB sheet, input | output | target; more than 8 pairs stand in two blocks of rows."""
        columns = [_viewable(images, self.outputs.shape[1:3]) for images in self._columns().values()]
        blocks = 2 if len(self) > 8 else 1
        rows = math.ceil(len(self) / blocks)
        parts = []
        for start in range(0, max(len(self), 1), max(rows, 1)):
            block = np.stack([column[start : start + rows] for column in columns], axis=1)  # (rows, columns, H, W, 3)
            sheet = ImageSamples(block.reshape(-1, *block.shape[2:]), columns=len(columns)).grid()
            missing = rows * (block.shape[2] + 2) + 2 - len(sheet)
            parts.append(np.pad(sheet, ((0, missing), (0, 6), (0, 0)), constant_values=255))
        return np.concatenate(parts, axis=1)

    def save_overview(self, path: Path) -> None:
        """Write the grid as a PNG."""
        save_png(path, self.grid())

    def save_each(self, folder: Path) -> list[Path]:
        """Write the outputs: `000000.png`, `000001.png`, …."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{i:06d}.png" for i in range(len(self))]
        for path, image in zip(paths, self.outputs, strict=True):
            save_png(path, image)
        return paths


@dataclass(frozen=True)
class DomainSamples(Samples):
    """What a translator between two domains made in each direction.

    Attributes:
        directions: By direction ("a2b", "b2a"), inputs of one domain, their translations, and these translated back.
    """

    directions: Mapping[str, PairSamples]
    suffix = "png"

    def __len__(self) -> int:
        return sum(map(len, self.directions.values()))

    def grid(self) -> Uint8Array:
        """The directions side by side on one RGB sheet, in each one row an image: input | output | back again."""
        sheets = [samples.grid() for samples in self.directions.values()]
        height = max(map(len, sheets))
        padded = [np.pad(s, ((0, height - len(s)), (0, 12), (0, 0)), constant_values=255) for s in sheets]
        return np.concatenate(padded, axis=1)

    def save_overview(self, path: Path) -> None:
        """Write the grid as a PNG."""
        save_png(path, self.grid())

    def save_each(self, folder: Path) -> list[Path]:
        """Write the translations of each direction into a folder of its name."""
        return [path for name, samples in self.directions.items() for path in samples.save_each(folder / name)]


def to_uint8(images: Tensor) -> Uint8Array:
    """A network's images, float (N, C, H, W) in [-1, 1], as uint8 (N, H, W, C), rounded to the nearest of 0..255."""
    scaled = (images.detach().float().clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def _viewable(images: Uint8Array, size: tuple[int, ...]) -> Uint8Array:
    """RGB of at least `size`: grey repeated, alpha left out, two bands as red and green; small ones in larger dots."""
    channels = images.shape[-1]
    if channels == 1:
        images = np.repeat(images, 3, axis=-1)
    elif channels == 2:
        images = np.concatenate([images, np.zeros_like(images[..., :1])], axis=-1)
    images = images[..., :3]
    if images.shape[1:3] == size:
        return images
    rows = np.arange(size[0]) * images.shape[1] // size[0]
    columns = np.arange(size[1]) * images.shape[2] // size[1]
    return images[:, rows][:, :, columns]


def save_png(path: Path, image: Uint8Array) -> None:
    """Write one uint8 image (H, W, 1 to 4) as a PNG, whole or not at all: grey, grey and alpha, RGB or RGBA."""
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG")
