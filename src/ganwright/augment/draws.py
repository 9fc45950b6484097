"""The random numbers of one call of ADA's pipeline, by name.

Which column belongs to which transform never changes, so that one more transform changes nothing in the others.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ganwright.augment.augmenter import Randomness

BANDS = tuple(f"band{i}" for i in range(4))

# fmt: off
COINS = (
    "xflip", "rotate90", "xint", "scale", "rotate", "aniso", "rotate_after", "xfrac",
    "brightness", "contrast", "lumaflip", "hue", "saturation", *BANDS, "noise", "cutout",
)
"""Uniform numbers that decide whether a transform happens."""
UNIFORMS = (
    "xflip", "rotate90", "xint_x", "xint_y", "rotate", "rotate_after", "lumaflip", "hue", "cutout_x", "cutout_y",
)
"""Uniform numbers that say how."""
NORMALS = ("scale", "aniso", "xfrac_x", "xfrac_y", "brightness", "contrast", "saturation", *BANDS, "noise")
"""Normal numbers that say how."""
# fmt: on


class Draws:
    """Random numbers of N images, float64 on the CPU.

    They are few, and how far images must be padded has to be known there anyway: one exchange with the device instead
    of a hundred tiny operations on it.

    Args:
        uniform: (N, coins and uniform numbers) in [0, 1).
        normal: (N, normal numbers).
        p: The probability of each transform, a scalar.
    """

    def __init__(self, uniform: Tensor, normal: Tensor, p: Tensor) -> None:
        rows = len(uniform)
        together = torch.cat([uniform, normal, p.to(uniform).expand(rows, 1)], 1).cpu().double()
        coins, uniforms, normals, ps = torch.split(together, [len(COINS), len(UNIFORMS), len(NORMALS), 1], 1)
        self.rows = rows
        self.p = float(ps[0, 0]) if rows else 0.0
        self._coins: dict[str, Tensor] = dict(zip(COINS, coins.unbind(1), strict=True))
        self._uniforms: dict[str, Tensor] = dict(zip(UNIFORMS, uniforms.unbind(1), strict=True))
        self._normals: dict[str, Tensor] = dict(zip(NORMALS, normals.unbind(1), strict=True))

    @classmethod
    def of(cls, ctx: Randomness, rows: int, p: Tensor) -> Draws:
        """Draw for `rows` images."""
        return cls(ctx.uniform(rows, len(COINS) + len(UNIFORMS)), ctx.normal(rows, len(NORMALS)), p)

    def uniform(self, name: str) -> Tensor:
        """Numbers in [0, 1), (N,)."""
        return self._uniforms[name]

    def signed(self, name: str) -> Tensor:
        """Numbers in [-1, 1), (N,)."""
        return self._uniforms[name] * 2 - 1

    def normal(self, name: str) -> Tensor:
        """Standard normal numbers, (N,)."""
        return self._normals[name]

    def if_happens(self, name: str, value: Tensor, identity: float, p: float | None = None) -> Tensor:
        """`value` (N,) where the coin says that the transform happens, `identity` elsewhere."""
        happens = self._coins[name] < (self.p if p is None else p)
        return torch.where(happens, value, torch.full_like(value, identity))
