"""Differentiable augmentation (Zhao et al. 2020, arXiv:2006.10738, section 3): every image, always, the same groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ganwright.augment.augmenter import Augmenter, Randomness
from ganwright.augment.settings import DIFFAUGMENT_POLICIES

TRANSLATION, CUTOUT = 0.125, 0.5
"""Largest shift and side of the hole, as shares of the image."""
NUMBERS = ("brightness", "saturation", "contrast", "shift_y", "shift_x", "hole_y", "hole_x")


class DiffAugmenter(Augmenter):
    """Colour jitter, translation and cutout.

    Args:
        policy: Names from `DIFFAUGMENT_POLICIES`, applied in the order given.
    """

    def __init__(self, policy: Sequence[str] = DIFFAUGMENT_POLICIES) -> None:
        super().__init__()
        self.policy = tuple(policy)

    def forward(self, images: Tensor, ctx: Randomness) -> Tensor:
        """Augment images (N, C, H, W), in float32 at least."""
        drawn = ctx.uniform(len(images), len(NUMBERS))
        with torch.autocast(images.device.type, enabled=False):
            x = images if images.dtype == torch.float64 else images.float()
            u = dict(zip(NUMBERS, drawn.to(x).unbind(1), strict=True))
            for group in self.policy:
                x = _GROUPS[group](x, u)
        return x.to(images.dtype)

    def extra_repr(self) -> str:
        """For printing."""
        return ", ".join(self.policy)


def _each(x: Tensor) -> Tensor:
    return x[:, None, None, None]


def color(x: Tensor, u: dict[str, Tensor]) -> Tensor:
    """Brightness + U(-½, ½); saturation × U(0, 2), about the mean of channels; contrast × U(½, 3/2), of the image."""
    x = x + _each(u["brightness"] - 0.5)
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * _each(u["saturation"] * 2)
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + (x - mean) * _each(u["contrast"] + 0.5)


def translation(x: Tensor, u: dict[str, Tensor]) -> Tensor:
    """Shift by whole pixels, an eighth of the size at most, zeros moving in."""
    furthest = [int(size * TRANSLATION + 0.5) for size in x.shape[2:]]
    dy, dx = (_integers(u[f"shift_{axis}"], 2 * most + 1) - most for axis, most in zip("yx", furthest, strict=True))
    shifted: Tensor = _shift(x, dy, dx)
    return shifted


def cutout(x: Tensor, u: dict[str, Tensor]) -> Tensor:
    """Zero a rectangle of half the height and width, its centre anywhere in the image."""
    inside = []
    for axis, size in zip("yx", x.shape[2:], strict=True):
        hole = int(size * CUTOUT + 0.5)
        start = _integers(u[f"hole_{axis}"], size + 1 - hole % 2)[:, None] - hole // 2
        place = torch.arange(size, device=x.device)
        inside.append((place >= start) & (place < start + hole))
    return x * ~(inside[0][:, None, :, None] & inside[1][:, None, None, :])


_GROUPS = {"color": color, "translation": translation, "cutout": cutout}


def _integers(u: Tensor, high: int) -> Tensor:
    """Uniform numbers in [0, 1) -> integers in 0..high-1; products may be rounded up to high itself."""
    return (u * high).long().clamp(max=high - 1)


class _Shift(torch.autograd.Function):
    """Move image i by dy[i] rows and dx[i] columns; the derivative moves back. No scattering, so it is repeatable."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dy: Tensor, dx: Tensor) -> Tensor:
        ctx.save_for_backward(dy, dx)
        n, c, h, w = x.shape
        rows = torch.arange(h, device=x.device) - dy[:, None]
        columns = torch.arange(w, device=x.device) - dx[:, None]
        inside = ((rows >= 0) & (rows < h))[:, :, None] & ((columns >= 0) & (columns < w))[:, None, :]
        source = rows.clamp(0, h - 1)[:, :, None] * w + columns.clamp(0, w - 1)[:, None, :]
        moved = x.reshape(n, c, h * w).gather(2, source.view(n, 1, h * w).expand(-1, c, -1))
        return moved.view(n, c, h, w) * inside[:, None]

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        dy, dx = ctx.saved_tensors
        return _shift(gradients[0], -dy, -dx), None, None


_shift: Any = _Shift.apply
