"""Random crops from larger pictures at native size, as restorers train on: `--crop random`.

Pictures are decoded once: held in memory where they are few, else laid one after another in a mapped file in the cache,
so that memory stays bounded however large the set is.

    native/<key>/   pixels.raw (all pictures, flat), shapes.npy; key = content + channels
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ganwright.config import DataSettings
from ganwright.data.decode import Pixels, as_uint8, fit
from ganwright.data.groups import by_image, split_groups
from ganwright.data.images import as_images
from ganwright.data.pack import MANY_BYTES, prepare
from ganwright.data.prepared import Prepared
from ganwright.data.probe import choose_resolution, sampled_headers
from ganwright.data.sources import ImageSource, printable
from ganwright.data.spec import Batch, DataKind, Dataset, DataSpec
from ganwright.data.split import SHOW, EpochOrder, duplicates, shuffled
from ganwright.data.stream import over
from ganwright.errors import DataError
from ganwright.files import cache_folder, hash_bytes, write_folder_atomic
from ganwright.samples import ImageSamples

_CROP = 4
"""A stream of random numbers; see `split.ORDER`."""
_THUMBNAIL = 32
_FORMAT = "native size, v1"


@dataclass(frozen=True)
class NativePictures:
    """Pictures of many sizes, one after another.

    Attributes:
        pixels: uint8 or uint16, flat, in memory or memory-mapped.
        shapes: int64 (N, 3): height, width and channels of each.
    """

    pixels: Pixels
    shapes: npt.NDArray[np.int64]

    def crop(self, i: int, top: int, left: int, side: int) -> Pixels:
        """A square (side, side, C) of picture `i`; only its rows are read."""
        height, width, channels = (int(n) for n in self.shapes[i])
        begin = int(self.starts[i])
        whole = self.pixels[begin : begin + height * width * channels].reshape(height, width, channels)
        return np.asarray(whole[top : top + side, left : left + side])

    @cached_property
    def starts(self) -> npt.NDArray[np.int64]:
        """Where each picture begins."""
        sizes = self.shapes.prod(1)
        starts: npt.NDArray[np.int64] = np.cumsum(sizes) - sizes
        return starts


class PatchDataset(Dataset):
    """Random squares of pictures. An epoch is one square of each picture.

    Attributes:
        pictures: All usable pictures, training and held-out together.
        train_index: int64: positions of the training pictures.
        held_out_index: int64: positions of the held-out ones; whole pictures are held out, never parts of one.
        skipped: (name, reason) of each file that could not be used.
        notes: What a person should know about how the set was read.
        duplicates: How many pictures are exact copies of an earlier one.
    """

    def __init__(
        self,
        pictures: NativePictures,
        prepared: Prepared,
        settings: DataSettings,
        *,
        side: int,
        seed: int,
        source: ImageSource,
    ) -> None:
        self.pictures, self.side = pictures, side
        self._flip = settings.flip
        large = (pictures.shapes[:, :2] >= side).all(1)
        self.skipped = list(prepared.skipped)
        for i in np.flatnonzero(~large):
            height, width = pictures.shapes[i, :2]
            name = printable(source.names[int(prepared.positions[i])])
            self.skipped.append((name, f"{width}x{height} pixels are smaller than the crop of {side}"))
        if not large.any():
            raise DataError(
                f"No picture is as large as the crop of {side} pixels.",
                where=source.location,
                fix="choose a smaller --resolution, or --crop centre, which resizes",
            )
        split = split_groups(prepared.grouping or by_image(prepared.hashes), prepared.hashes, settings.held_out, seed)
        self.train_index: npt.NDArray[np.int64] = np.flatnonzero(large & ~split.held_out)
        self.held_out_index: npt.NDArray[np.int64] = np.flatnonzero(large & split.held_out)
        self._order = EpochOrder(self.train_index)
        self.duplicates = duplicates(prepared.hashes)
        self.notes = [*prepared.notes, *split.notes, f"random crops of {side}x{side} pixels at native size"]
        if self.duplicates:
            self.notes.append(f"{self.duplicates} images are exact copies of others")
        self.spec = DataSpec(
            kind=DataKind.IMAGES,
            name=source.name,
            count=len(self.train_index),
            fingerprint=hash_bytes(_FORMAT.encode(), f"{side}".encode(), prepared.fingerprint.encode()),
            resolution=side,
            channels=int(pictures.shapes[0, 2]),
            bits=8 * pictures.pixels.dtype.itemsize,
            extra={**prepared.extra, "split": split.record},
        )

    def batch(self, index: int, size: int, *, seed: int) -> Batch:
        """Batch `index`: `images` float32 (B, C, side, side) in [-1, 1], channels-last."""
        picked = self._order.batch(index, size, seed)
        numbers = np.random.Philox(np.random.SeedSequence([abs(seed), index, _CROP])).random_raw(3 * size)
        rows = self._crops(picked, numbers.reshape(size, 3))
        return {"images": as_images(rows)}

    def _crops(self, picked: npt.NDArray[np.int64], numbers: npt.NDArray[np.uint64], flip: bool = True) -> Pixels:
        """One square of each picture; numbers (B, 3) say where, and whether it is mirrored."""
        rows = []
        for i, (down, right, coin) in zip(picked, numbers, strict=True):
            height, width = (int(n) for n in self.pictures.shapes[i, :2])
            top, left = int(down) % (height - self.side + 1), int(right) % (width - self.side + 1)
            row = self.pictures.crop(int(i), top, left, self.side)
            rows.append(row[:, ::-1] if flip and self._flip and int(coin) >> 63 else row)
        return np.stack(rows)

    @property
    def nothing_held_out(self) -> bool:
        """Whether all pictures are trained on."""
        return len(self.held_out_index) == 0

    def held_out_batch(self, n: int, *, seed: int) -> Batch | None:
        """One square of each of up to `n` held-out pictures (training ones, where nothing is held out)."""
        return {"images": as_images(self._shown(n, seed, not self.nothing_held_out))}

    def real_samples(self, n: int, *, seed: int, held_out: bool = False) -> ImageSamples | None:
        """One square of each of up to `n` training or held-out pictures; None where there are none."""
        if held_out and self.nothing_held_out:
            return None
        return ImageSamples(as_uint8(self._shown(n, seed, held_out)))

    def _shown(self, n: int, seed: int, held_out: bool) -> Pixels:
        pool = self.held_out_index if held_out else self.train_index
        picked = pool[shuffled(len(pool), seed, SHOW)[:n]]
        numbers = np.random.Philox(np.random.SeedSequence([abs(seed), _CROP])).random_raw(3 * len(picked))
        return self._crops(picked, numbers.reshape(-1, 3), flip=False)


def open_patches(source: ImageSource, settings: DataSettings, *, seed: int) -> PatchDataset:
    """Open pictures for random crops of `settings.resolution` pixels (by default 32 or 64).

    Raises:
        DataError: See `pack.prepare`; or all pictures are smaller than the crop.
    """
    side = choose_resolution(source, settings)
    # Small copies go through the common way, which finds broken files, copies, patients and groups.
    prepared = prepare(source, replace(settings, resolution=_THUMBNAIL))
    pictures = native_pictures(source, prepared)
    return PatchDataset(pictures, prepared, settings, side=side, seed=seed, source=source)


def native_pictures(source: ImageSource, prepared: Prepared) -> NativePictures:
    """All usable pictures at native size: in memory, or from the cache where they are many.

    Raises:
        DataError: The cache cannot be written, or the pictures changed while they were read.
    """
    sizes = [header.width * header.height for _, header in sampled_headers(source)]
    channels = int(prepared.images.shape[-1])
    if np.mean(sizes) * len(prepared.positions) * channels * (source.bits // 8) <= MANY_BYTES:
        rows = list(_decoded(source, prepared, channels))
        return NativePictures(np.concatenate([row.ravel() for row in rows]), _shapes([row.shape for row in rows]))
    folder = cache_folder() / "native" / hash_bytes(_FORMAT.encode(), prepared.fingerprint.encode())
    if not folder.is_dir():
        try:
            write_folder_atomic(folder, lambda into: _write(into, source, prepared, channels))
        except OSError as error:
            if not folder.is_dir():  # another process may have been quicker
                raise DataError(
                    f"The cache of pictures cannot be written: {error.strerror or error}.",
                    where=folder,
                    fix="make room on the disk, or name another folder in the environment variable GANWRIGHT_CACHE",
                ) from error
    shapes = np.load(folder / "shapes.npy", allow_pickle=False)
    kind = np.dtype(np.uint8 if source.bits == 8 else np.uint16)
    pixels = np.memmap(folder / "pixels.raw", kind, "r").view(np.ndarray)
    if len(pixels) != int(shapes.prod(1).sum()):
        raise DataError("The cache of pictures is damaged.", where=folder, fix="delete this folder, and start again")
    return NativePictures(pixels, shapes)


def _decoded(source: ImageSource, prepared: Prepared, channels: int) -> Iterator[Pixels]:
    usable = set(prepared.positions.tolist())

    def work(i: int) -> Pixels | None:
        return fit(source.picture(i).pixels, 0, channels) if i in usable else None

    for row in over(source, work, f"decoding {source.name}"):
        if row is not None:
            yield row


def _write(into: Path, source: ImageSource, prepared: Prepared, channels: int) -> None:
    shapes = []
    with (into / "pixels.raw").open("wb") as file:
        for row in _decoded(source, prepared, channels):
            file.write(np.ascontiguousarray(row).data)
            shapes.append(row.shape)
    np.save(into / "shapes.npy", _shapes(shapes))


def _shapes(shapes: list[tuple[int, ...]]) -> npt.NDArray[np.int64]:
    return np.array(shapes, np.int64).reshape(-1, 3)
