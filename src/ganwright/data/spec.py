"""What the rest of the house knows about data: its kind, its shape, and how to draw training batches from it."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from ganwright.samples import Samples

Batch = dict[str, Tensor]
"""Named tensors, row i of each belonging together. Images: `images` float32 (B, C, H, W) in [-1, 1],
channels-last in memory; labels: `labels` int64 (B,); text: `tokens` int64 (B, T). Pairs: `inputs` float32
(B, Cin, H, W) and `targets` float32 (B, Cout, H', W'), both in [-1, 1]; domains: `images_a`, `images_b`."""


class DataKind(enum.StrEnum):
    """The kinds of data recipes are written for."""

    IMAGES = "images"
    LABELLED_IMAGES = "labelled images"
    PAIRS = "pairs"
    DOMAINS = "domains"
    TEXT = "text"
    SINGLE_IMAGE = "single image"


@dataclass(frozen=True)
class DataSpec:
    """What a recipe may know about its data when it builds its networks.

    Attributes:
        kind: The kind of data.
        name: A short name for people and for run folders.
        count: Number of training samples.
        fingerprint: Hash of the content and preprocessing; equal data has equal fingerprints.
        resolution: Height and width of images, in pixels (0 where it does not apply).
        channels: 1 (grey) or 3 (RGB) (0 where it does not apply); of pairs and domains, those of the input (A).
        class_names: Names of the classes, empty for unlabelled data.
        bits: Bits of the images trained on: 8, or 16 for medical ones. What evaluation sees has 8.
        extra: What one data kind alone needs (a text's vocabulary size and length, say).
    """

    kind: DataKind
    name: str
    count: int
    fingerprint: str
    resolution: int = 0
    channels: int = 0
    class_names: tuple[str, ...] = ()
    bits: int = 8
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 for unlabelled data."""
        return len(self.class_names)

    @property
    def channels_out(self) -> int:
        """Channels of targets, of domain B; those of the images themselves where there is but one kind of image."""
        return int(self.extra.get("channels_out", self.channels))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `run.yaml`."""
        return {**asdict(self), "kind": self.kind.value, "class_names": list(self.class_names)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DataSpec:
        """The inverse of `to_dict`."""
        return cls(**{**values, "kind": DataKind(values["kind"]), "class_names": tuple(values["class_names"])})


class Dataset(ABC):
    """Data a recipe trains on. A batch is a pure function of (seed, index), so a run resumes exactly."""

    spec: DataSpec

    @abstractmethod
    def batch(self, index: int, size: int, *, seed: int) -> Batch:
        """The `index`-th training batch of a run.

        The same arguments always give the same batch, whatever was drawn before; epochs are reshuffled.

        Args:
            index: Position in the stream of batches, from 0.
            size: Rows in the batch (the global batch, before it is shared out among processes).
            seed: The run's seed.

        Returns:
            CPU tensors of `size` rows.
        """

    @property
    def nothing_held_out(self) -> bool:
        """Whether `held_out_batch` has to show training samples; whoever measures on them says so."""
        return False

    def held_out_batch(self, n: int, *, seed: int) -> Batch | None:
        """Up to `n` samples to show a translator or restorer working on: rows as `batch` has them, never augmented.

        They are held-out ones, or training ones where nothing is held out (see `nothing_held_out`), without
        replacement; the first k of n rows are the k rows. None for kinds of data that are not translated.
        """
        return None

    def real_samples(self, n: int, *, seed: int, held_out: bool = False) -> Samples | None:
        """Up to `n` real samples, without replacement, to look at or compare with; None where there are none."""
        return None


def slice_batch(batch: Batch, rank: int, world_size: int) -> Batch:
    """The contiguous rows of a global batch that belong to one process."""
    if world_size == 1:
        return batch
    rows = next(iter(batch.values())).shape[0]
    if rows % world_size:
        raise ValueError(f"a batch of {rows} rows cannot be shared among {world_size} processes")
    local = rows // world_size
    return {name: tensor[rank * local : (rank + 1) * local] for name, tensor in batch.items()}


def move_batch(batch: Batch, device: torch.device) -> Batch:
    """The batch on `device`, keeping each tensor's memory format."""
    if device.type == "cpu":
        return batch
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
