"""Images as training data: `ImageDataset` splits, shuffles and scales what `pack.py` prepared."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ganwright.config import DataSettings
from ganwright.data.decode import Pixels
from ganwright.data.groups import by_image, split_groups
from ganwright.data.jitter import Jitter
from ganwright.data.pack import prepare
from ganwright.data.prepared import Prepared
from ganwright.data.sources import ImageSource
from ganwright.data.spec import Batch, DataKind, Dataset, DataSpec
from ganwright.data.split import SHOW, EpochOrder, duplicates, shuffled
from ganwright.errors import DataError
from ganwright.samples import ImageSamples, Uint8Array


class ImageDataset(Dataset):
    """Images, with labels or without.

    Attributes:
        images: uint8 (N, H, W, C), training and held-out together, in memory or memory-mapped.
        values: uint16 (N, H, W, C), the same images with 16 bits, or None; batches are made of them where they are.
        hashes: uint8 (N, 16): hash of each image's content.
        grouping: Which images the split kept together.
        labels: int64 (N,), or None.
        train_index: int64: positions of the training images.
        held_out_index: int64: positions of the held-out ones.
        skipped: (name, reason) of each file that could not be used.
        notes: What a person should know about how the set was read.
        duplicates: How many images are exact copies of an earlier one.
    """

    def __init__(self, prepared: Prepared, settings: DataSettings, *, seed: int, name: str) -> None:
        self.images: Uint8Array = prepared.images
        self.values = prepared.values
        self.grouping = prepared.grouping or by_image(prepared.hashes)
        self.labels = prepared.labels
        self.hashes = prepared.hashes
        self.skipped, self.notes = prepared.skipped, list(prepared.notes)
        self.duplicates = duplicates(prepared.hashes)
        split = split_groups(self.grouping, prepared.hashes, settings.held_out, seed)
        self.train_index: npt.NDArray[np.int64] = np.flatnonzero(~split.held_out)
        self.held_out_index: npt.NDArray[np.int64] = np.flatnonzero(split.held_out)
        self.notes += split.notes
        self._jitter = Jitter(settings.jitter, settings.flip)
        self._order = EpochOrder(self.train_index)
        if self.duplicates:
            self.notes.append(f"{self.duplicates} images are exact copies of others")
        for k, class_name in enumerate(prepared.class_names):
            if self.labels is not None and not (self.labels == k).any():
                self.notes.append(f"class {class_name!r} has no usable image")
        self.spec = DataSpec(
            kind=DataKind.IMAGES if self.labels is None else DataKind.LABELLED_IMAGES,
            name=name,
            count=len(self.train_index),
            fingerprint=prepared.fingerprint,
            resolution=int(self.images.shape[1]),
            channels=int(self.images.shape[-1]),
            class_names=prepared.class_names,
            bits=8 if self.values is None else 16,
            extra={**prepared.extra, "split": split.record},
        )

    def without_labels(self) -> ImageDataset:
        """The same images as unlabelled data. The fingerprint stays: it is the same data."""
        twin = object.__new__(ImageDataset)
        twin.__dict__.update(self.__dict__)
        twin.labels = None
        twin.spec = replace(self.spec, kind=DataKind.IMAGES, class_names=())
        return twin

    def batch(self, index: int, size: int, *, seed: int) -> Batch:
        """Batch `index`: `images` float32 (B, C, H, W) in [-1, 1], channels-last; `labels` int64 (B,)."""
        picked = self._order.batch(index, size, seed)
        draws = self._jitter.draw(size, self.spec.resolution, seed, index)
        rows = self._jitter.apply(self._stored[picked], draws)
        batch = {"images": as_images(rows)}
        if self.labels is not None:
            batch["labels"] = torch.from_numpy(self.labels[picked])
        return batch

    @property
    def _stored(self) -> Pixels:
        """What training sees: (N, H, W, C), uint16 where there are 16 bits."""
        return self.images if self.values is None else self.values

    @property
    def nothing_held_out(self) -> bool:
        """Whether all images are trained on."""
        return len(self.held_out_index) == 0

    def held_out_batch(self, n: int, *, seed: int) -> Batch | None:
        """Up to `n` held-out images (training ones, where nothing is held out), as `batch` has them, not mirrored."""
        pool = self.train_index if self.nothing_held_out else self.held_out_index
        picked = pool[shuffled(len(pool), seed, SHOW)[:n]]
        batch = {"images": as_images(self._stored[picked])}
        if self.labels is not None:
            batch["labels"] = torch.from_numpy(self.labels[picked])
        return batch

    def real_samples(self, n: int, *, seed: int, held_out: bool = False) -> ImageSamples | None:
        """Up to `n` training or held-out images without replacement; None where there are none."""
        pool = self.held_out_index if held_out else self.train_index
        if len(pool) == 0:
            return None
        picked = pool[shuffled(len(pool), seed, SHOW)[:n]]
        return ImageSamples(self.images[picked], None if self.labels is None else self.labels[picked])


def as_images(rows: Pixels) -> Tensor:
    """uint8 or uint16 (B, H, W, C) to float32 (B, C, H, W) in [-1, 1], channels-last in memory."""
    middle = np.iinfo(rows.dtype).max / 2
    # torch computes little with uint16
    stored = torch.from_numpy(rows if rows.dtype == np.uint8 else rows.astype(np.float32))
    # the permuted view is channels-last already
    images = stored.permute(0, 3, 1, 2).to(torch.float32).div_(middle).sub_(1.0)
    return images.contiguous(memory_format=torch.channels_last)


def image_dataset(source: ImageSource, settings: DataSettings, *, seed: int) -> ImageDataset:
    """Decode, or find in the cache, all images of a source, and split them.

    Raises:
        DataError: See `prepare`.
    """
    prepared = prepare(source, settings)
    name = prepared.extra.get("medical", {}).get("name", source.name)
    return ImageDataset(prepared, settings, seed=seed, name=name)


def require_enough(dataset: Dataset, min_count: int) -> None:
    """Check that there is at least one batch of training samples.

    Raises:
        DataError: There are fewer.
    """
    count = dataset.spec.count
    if count < min_count:
        held_out = len(getattr(dataset, "held_out_index", ()))
        raise DataError(
            f"There are {count} training samples, fewer than the {min_count} that are needed (one batch).",
            where=f"{dataset.spec.name}: {count} for training, {held_out} held out",
            fix="choose a smaller --batch-size or --held-out, or give more data",
        )
