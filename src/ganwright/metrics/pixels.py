"""Small images and distances between them in pixel space, for whatever compares samples with real images.

Distances are in pixel space: root-mean-square difference in grey levels (0..255) over images of at most
32x32, reduced with antialiasing. They see composition, not fine texture.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ganwright.console import track
from ganwright.data.split import shuffled
from ganwright.files import hash_bytes
from ganwright.samples import Uint8Array

MAX_SIDE = 32
"""Longest side of the images that are compared, in pixels."""
_CHUNK = 1024
"""Images handled at a time; bounds memory to about 100 MB."""


@runtime_checkable
class ImageData(Protocol):
    """A data set with images in (memory-mapped) memory, as `ImageDataset` is."""

    images: Uint8Array
    labels: npt.NDArray[np.int64] | None
    train_index: npt.NDArray[np.int64]
    held_out_index: npt.NDArray[np.int64]


def data_key(dataset: ImageData, fingerprint: str) -> str:
    """Names the data and its split; equal keys may share what was computed from them."""
    return fingerprint + hash_bytes(dataset.train_index.tobytes(), dataset.held_out_index.tobytes())


def pick(index: npt.NDArray[np.int64], n: int, stream: int) -> npt.NDArray[np.int64]:
    """Up to `n` entries of `index`, always the same ones, in an order that looks random."""
    return index[shuffled(len(index), stream)[:n]]


def small(images: Uint8Array, index: npt.NDArray[np.int64] | None = None, *, note: str = "") -> Tensor:
    """Reduce images to at most 32x32.

    Args:
        images: uint8 (N, H, W, C), perhaps memory-mapped.
        index: Which of them; None: all.
        note: What this is for: shows progress.

    Returns:
        uint8 (n, C, h, w).
    """
    index = np.arange(len(images)) if index is None else index
    _, height, width, channels = images.shape
    scale = min(1.0, MAX_SIDE / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    out = torch.empty((len(index), channels, *size), dtype=torch.uint8)
    starts = range(0, len(index), _CHUNK)
    for start in track(starts, note, quiet=not note or len(starts) < 20):
        rows = np.ascontiguousarray(images[index[start : start + _CHUNK]])
        chunk = torch.from_numpy(rows).permute(0, 3, 1, 2)
        if size != (height, width):
            chunk = F.interpolate(chunk.float(), size=size, mode="bilinear", antialias=True, align_corners=False)
            chunk = chunk.round_().clamp_(0, 255).byte()
        out[start : start + _CHUNK] = chunk
    return out


def rms_distances(a: Tensor, b: Tensor) -> Tensor:
    """Root-mean-square difference in grey levels between each image of `a` and each of `b`.

    Args:
        a: uint8 (N, C, h, w).
        b: uint8 (M, C, h, w).

    Returns:
        float32 (N, M), 0..255.
    """
    x, y = a.flatten(1).float(), b.flatten(1).float()
    # Centred, so that the matrix form |x|^2 + |y|^2 - 2xy loses little to cancellation.
    centre = y.mean(0)
    distances: Tensor = torch.cdist(x - centre, y - centre)
    return distances.div(x.shape[1] ** 0.5)


def nearest(
    images: Tensor, train: Tensor, k: int, *, skip_self: npt.NDArray[np.int64] | None = None
) -> tuple[Tensor, Tensor]:
    """The `k` nearest training images of each image or of its mirror image.

    Args:
        images: uint8 (N, C, h, w).
        train: uint8 (M, C, h, w), M > k.
        k: How many.
        skip_self: Position of each image in `train`, where it comes from there and must not find itself.

    Returns:
        (distances float32 (N, k) in grey levels, ascending; positions int64 (N, k) in `train`).
    """
    mirrored = images.flip(-1)
    best = torch.full((len(images), 0), torch.inf)
    place = torch.zeros((len(images), 0), dtype=torch.int64)
    for start in range(0, len(train), _CHUNK):
        chunk = train[start : start + _CHUNK]
        distances = torch.minimum(rms_distances(images, chunk), rms_distances(mirrored, chunk))
        if skip_self is not None:
            own = torch.from_numpy(skip_self) - start
            here = ((own >= 0) & (own < len(chunk))).nonzero()[:, 0]
            distances[here, own[here]] = torch.inf
        positions = torch.arange(start, start + len(chunk)).expand(len(images), -1)
        best, order = torch.cat([best, distances], 1).topk(min(k, best.shape[1] + len(chunk)), largest=False)
        place = torch.cat([place, positions], 1).gather(1, order)
    return best, place
