"""Pixel blitting and general geometric transforms of ADA (Karras et al. 2020, appendix B), as one affine map.

Images are padded by reflection, doubled in size by an orthogonal wavelet's low-pass filter (sym6), sampled bilinearly,
and halved by the same filter, which avoids both blurring and aliasing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

import torch
import torch.nn.functional as F
from torch import Tensor

from ganwright.augment.draws import Draws
from ganwright.augment.matrices import matched, reflected
from ganwright.augment.warp import warp

SYM6 = (
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633,
    0.4910559419267466, 0.787641141030194, 0.3379294217276218, -0.07263752278646252,
    -0.021060292512300564, 0.04472490177066578, 0.0017677118642428036, -0.007800708325034148,
)  # fmt: skip
"""Low-pass filter of the symlet with six vanishing moments (Daubechies 1992)."""
CENTRE = 5
"""The tap of SYM6 that lies on a pixel."""
REACH = 3
"""Pixels around the image that are sampled too, for the filter that halves."""

XINT_MAX, SCALE_STD, ANISO_STD, XFRAC_STD = 0.125, 0.2, 0.2, 0.125


def _affine(rows: int, *entries: float | Tensor) -> Tensor:
    """Matrices (N, 3, 3) from the six entries of their first two rows, numbers or (N,)."""
    full = [torch.as_tensor(x, dtype=torch.float64).expand(rows) for x in (*entries, 0, 0, 1)]
    return torch.stack(full, 1).reshape(rows, 3, 3)


def _translation(tx: Tensor, ty: Tensor) -> Tensor:
    return _affine(len(tx), 1, 0, tx, 0, 1, ty)


def _scaling(sx: Tensor, sy: Tensor) -> Tensor:
    return _affine(len(sx), sx, 0, 0, 0, sy, 0)


def _rotation(angle: Tensor) -> Tensor:
    return _affine(len(angle), angle.cos(), -angle.sin(), 0, angle.sin(), angle.cos(), 0)


# The inverse of each transform: a place in the output -> its place in the input, pixels from the centre. -----


def _xflip(d: Draws, h: int, w: int) -> Tensor:
    i = d.if_happens("xflip", (d.uniform("xflip") * 2).floor(), 0)
    return _scaling(1 - 2 * i, torch.ones_like(i))


def _rotate90(d: Draws, h: int, w: int) -> Tensor:
    return _rotation(d.if_happens("rotate90", (d.uniform("rotate90") * 4).floor(), 0) * (math.pi / 2))


def _xint(d: Draws, h: int, w: int) -> Tensor:
    tx, ty = (d.if_happens("xint", d.signed(f"xint_{axis}") * XINT_MAX, 0) for axis in "xy")
    return _translation(-(tx * w).round(), -(ty * h).round())


def _scale(d: Draws, h: int, w: int) -> Tensor:
    s = d.if_happens("scale", (d.normal("scale") * SCALE_STD).exp2(), 1)
    return _scaling(1 / s, 1 / s)


def _rotate(d: Draws, h: int, w: int) -> Tensor:
    return _rotation(d.if_happens("rotate", d.signed("rotate") * math.pi, 0, _half_rotation(d.p)))


def _aniso(d: Draws, h: int, w: int) -> Tensor:
    s = d.if_happens("aniso", (d.normal("aniso") * ANISO_STD).exp2(), 1)
    return _scaling(1 / s, s)


def _rotate_after(d: Draws, h: int, w: int) -> Tensor:
    return _rotation(d.if_happens("rotate_after", d.signed("rotate_after") * math.pi, 0, _half_rotation(d.p)))


def _half_rotation(p: float) -> float:
    """The probability of each of the two rotations, so that one or both happen with probability p."""
    return 1 - math.sqrt(1 - min(max(p, 0.0), 1.0))


def _xfrac(d: Draws, h: int, w: int) -> Tensor:
    tx, ty = (d.if_happens("xfrac", d.normal(f"xfrac_{axis}") * XFRAC_STD, 0) for axis in "xy")
    return _translation(-tx * w, -ty * h)


_ORDER: tuple[tuple[str, Callable[[Draws, int, int], Tensor]], ...] = (
    ("xflip", _xflip),
    ("rotate90", _rotate90),
    ("xint", _xint),
    ("scale", _scale),
    ("rotate", _rotate),
    ("aniso", _aniso),
    ("rotate", _rotate_after),
    ("xfrac", _xfrac),
)


def inverse_transform(transforms: Collection[str], draws: Draws, height: int, width: int) -> Tensor:
    """G⁻¹ of each image, float64 (N, 3, 3): output place -> input place, in pixels from the centre, x then y."""
    g_inv = torch.eye(3, dtype=torch.float64).expand(draws.rows, 3, 3)
    for name, inverse in _ORDER:
        if name in transforms:
            g_inv = g_inv @ inverse(draws, height, width)
    return g_inv


# Carrying it out. ---------------------------------------------------------------------------------------------


def transform(images: Tensor, g_inv: Tensor) -> Tensor:
    """Apply geometric transforms.

    Args:
        images: Float32 or float64 (N, C, H, W).
        g_inv: Their inverses (N, 3, 3) on the CPU, as `inverse_transform` gives them.

    Returns:
        Images of the same size; what lies beyond the image and its one reflection is 0.
    """
    h, w = images.shape[2:]
    left, right, top, bottom = _margins(g_inv, h, w)
    up_x = matched(_doubling(w, left, right), images)
    up_y = matched(_doubling(h, top, bottom), images)
    x = (up_y @ images) @ up_x.t()

    # Between pixels from the centre and the doubled image's own coordinates u = 2·x - ½.
    n = len(g_inv)
    shift = torch.tensor([(left - right) / 2, (top - bottom) / 2], dtype=torch.float64)
    to_doubled = _affine(n, 2, 0, 2 * shift[0] - 0.5, 0, 2, 2 * shift[1] - 0.5)
    from_doubled = _affine(n, 0.5, 0, 0.25, 0, 0.5, 0.25)
    out_h, out_w = 2 * (h + 2 * REACH), 2 * (w + 2 * REACH)
    to_unit = _affine(n, 2 / x.shape[3], 0, 0, 0, 2 / x.shape[2], 0)
    from_unit = _affine(n, out_w / 2, 0, 0, 0, out_h / 2, 0)
    theta = to_unit @ to_doubled @ g_inv @ from_doubled @ from_unit
    grid = F.affine_grid(matched(theta[:, :2], images), [n, x.shape[1], out_h, out_w], align_corners=False)

    x = warp(x, grid)
    return (matched(_halving(h), images) @ x) @ matched(_halving(w), images).t()


def _margins(g_inv: Tensor, h: int, w: int) -> tuple[int, int, int, int]:
    """How far to pad left, right, top and bottom so that all images find what they sample, within one reflection."""
    cx, cy = (w - 1) / 2, (h - 1) / 2
    corners = g_inv.new_tensor([[-cx, cx, cx, -cx], [-cy, -cy, cy, cy], [1, 1, 1, 1]])
    x, y = ((g_inv @ corners)[:, axis] for axis in (0, 1))
    needed = ((-x).max() - cx, x.max() - cx, (-y).max() - cy, y.max() - cy)
    most = (w - 1, w - 1, h - 1, h - 1)
    return tuple(  # type: ignore[return-value]
        math.ceil(min(max(float(n) + 2 * REACH, 0), m)) for n, m in zip(needed, most, strict=True)
    )


def _filter() -> Tensor:
    taps = torch.tensor(SYM6, dtype=torch.float64)
    return taps / taps.sum()


def _doubling(size: int, before: int, after: int) -> Tensor:
    """Pad by reflection and double: the matrix (2·(before + size + after), size) of both."""
    padded = before + size + after
    tap = torch.arange(2 * padded)[:, None] - 2 * torch.arange(padded) + CENTRE
    banded = 2 * _taps_at(tap)
    sources = reflected(torch.arange(-before, size + after), size)
    return banded.new_zeros(2 * padded, size).index_add(1, sources, banded)


def _halving(size: int) -> Tensor:
    """Halve and crop by `REACH`: the matrix (size, 2·(size + 2·REACH))."""
    tap = torch.arange(2 * (size + 2 * REACH)) - 2 * (torch.arange(size)[:, None] + REACH) + CENTRE
    return _taps_at(tap)


def _taps_at(tap: Tensor) -> Tensor:
    """The filter's taps by number, 0 beyond its ends."""
    taps = _filter()
    inside = (tap >= 0) & (tap < len(taps))
    return torch.where(inside, taps[tap.clamp(0, len(taps) - 1)], torch.zeros((), dtype=taps.dtype))
