"""Helpers of ADA's transforms: reflection at edges, and work on some of the images only."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def reflected(places: Tensor, size: int) -> Tensor:
    """Pixel numbers inside 0..size-1 for any places, reflected about the outermost pixels as often as it takes."""
    if size == 1:
        return torch.zeros_like(places)
    period = 2 * (size - 1)
    places = places % period
    return torch.minimum(places, period - places)


def matched(x: Tensor, images: Tensor) -> Tensor:
    """`x` in the dtype and on the device of the images; in this order, since some devices know no float64."""
    return x.to(images.dtype).to(images.device)


def where_changed(images: Tensor, changed: Tensor, apply: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Apply a transform to some of the images and leave the rest exactly as they are.

    Args:
        images: (N, C, H, W).
        changed: Which, bool (N,) on the CPU.
        apply: (those images, their numbers (on the CPU)) -> what becomes of them.
    """
    rows = changed.nonzero()[:, 0]
    if len(rows) == 0:
        return images
    if len(rows) == len(images):
        return apply(images, rows)
    there = rows.to(images.device)
    return images.index_copy(0, there, apply(images.index_select(0, there), rows))
