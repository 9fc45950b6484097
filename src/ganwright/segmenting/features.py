"""Feature maps of any resolution as features of the image's pixels.

The convention is `interpolate(mode="bilinear", align_corners=False)`: a coarse pixel's centre stays where it is, so
image pixel Y lies at (Y + 1/2)·h/H − 1/2 of a map of h rows, held at the borders. It is written out here so that the
features of some pixels, or of some rows, can be had without the others: all of a 1024² image would be gigabytes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def taps(coarse: int, fine: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor, Tensor]:
    """The two coarse positions each fine position lies between, and how far it is from the first.

    Args:
        coarse: Positions of the map along one axis.
        fine: Positions of the image.
        device: Where the result is.

    Returns:
        int64 (fine,), int64 (fine,) and float32 (fine,) in [0, 1).
    """
    at = ((torch.arange(fine, device=device, dtype=torch.float32) + 0.5) * (coarse / fine) - 0.5).clamp_min(0)
    low = at.floor().long().clamp(max=coarse - 1)
    return low, (low + 1).clamp(max=coarse - 1), (at - low).to(torch.float32)


def features_at(maps: Sequence[Tensor], size: tuple[int, int], pixels: Tensor) -> Tensor:
    """The features of some pixels of one image.

    Args:
        maps: Of one image, (C_i, H_i, W_i) each.
        size: (height, width) of the image.
        pixels: int64 (P,), positions row by row: y · width + x.

    Returns:
        (P, sum of C_i), float32.
    """
    y, x = pixels // size[1], pixels % size[1]
    parts = []
    for fmap in maps:
        top, bottom, t = (v[y] for v in taps(fmap.shape[1], size[0], fmap.device))
        left, right, s = (v[x] for v in taps(fmap.shape[2], size[1], fmap.device))
        upper = torch.lerp(fmap[:, top, left].float(), fmap[:, top, right].float(), s)
        lower = torch.lerp(fmap[:, bottom, left].float(), fmap[:, bottom, right].float(), s)
        parts.append(torch.lerp(upper, lower, t).T)
    return torch.cat(parts, 1)


def projected_rows(maps: Sequence[Tensor], weights: Sequence[Tensor], size: tuple[int, int], rows: range) -> Tensor:
    """A linear map of the features of some rows of one image.

    Interpolation is linear too, so each map is multiplied at its own resolution and only the products are interpolated:
    equal to the other order, at a fraction of its cost.

    Args:
        maps: Of one image, (C_i, H_i, W_i) each.
        weights: (C_i, outputs) each.
        size: (height, width) of the image.
        rows: Which rows of the image, without gaps.

    Returns:
        (outputs, len(rows), width), float32.
    """
    total: Tensor | None = None
    for fmap, weight in zip(maps, weights, strict=True):
        top, bottom, t = (v[rows.start : rows.stop] for v in taps(fmap.shape[1], size[0], fmap.device))
        left, right, s = taps(fmap.shape[2], size[1], fmap.device)
        first, last = int(top[0]), int(bottom[-1])
        used = fmap[:, first : last + 1].float()
        product = (weight.T @ used.flatten(1)).view(-1, *used.shape[1:])
        vertical = torch.lerp(product[:, top - first], product[:, bottom - first], t.view(-1, 1))
        part = torch.lerp(vertical[..., left], vertical[..., right], s)
        total = part if total is None else total.add_(part)
    if total is None:
        raise ValueError("there are no feature maps")
    return total
