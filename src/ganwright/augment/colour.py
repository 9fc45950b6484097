"""Colour transforms of ADA (Karras et al. 2020, appendix B), as one affine map of colours."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

import torch
from torch import Tensor

from ganwright.augment.draws import Draws
from ganwright.augment.matrices import matched

BRIGHTNESS_STD, CONTRAST_STD, SATURATION_STD = 0.2, 0.5, 1.0
_LUMA = torch.ones(3, dtype=torch.float64) / math.sqrt(3)
"""The axis of greys, v."""
_ON_LUMA = torch.outer(_LUMA, _LUMA)
_EYE = torch.eye(3, dtype=torch.float64)


def _affine(linear: Tensor, offset: Tensor | None = None) -> Tensor:
    """(N, 3, 3) and (N, 3) -> (N, 4, 4)."""
    c = torch.eye(4, dtype=torch.float64).repeat(len(linear), 1, 1)
    c[:, :3, :3] = linear
    if offset is not None:
        c[:, :3, 3] = offset
    return c


def _each(x: Tensor) -> Tensor:
    return x[:, None, None]


def _brightness(d: Draws) -> Tensor:
    b = d.if_happens("brightness", d.normal("brightness") * BRIGHTNESS_STD, 0)
    return _affine(_EYE.expand(d.rows, 3, 3), b[:, None].expand(-1, 3))


def _contrast(d: Draws) -> Tensor:
    return _affine(_each(d.if_happens("contrast", (d.normal("contrast") * CONTRAST_STD).exp2(), 1)) * _EYE)


def _lumaflip(d: Draws) -> Tensor:
    """I - 2vvᵀ: light and dark change places, hue stays."""
    return _affine(_EYE - 2 * _ON_LUMA * _each(d.if_happens("lumaflip", (d.uniform("lumaflip") * 2).floor(), 0)))


def _hue(d: Draws) -> Tensor:
    """Rotation about v (Rodrigues): vvᵀ + cos θ (I - vvᵀ) + sin θ [v]ₓ."""
    angle = _each(d.if_happens("hue", d.signed("hue") * math.pi, 0))
    v = _LUMA.tolist()
    cross = _EYE.new_tensor([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])
    rotation = _ON_LUMA + angle.cos() * (_EYE - _ON_LUMA) + angle.sin() * cross
    return _affine(torch.where(angle == 0, _EYE, rotation))


def _saturation(d: Draws) -> Tensor:
    s = _each(d.if_happens("saturation", (d.normal("saturation") * SATURATION_STD).exp2(), 1))
    return _affine(torch.where(s == 1, _EYE, _ON_LUMA + (_EYE - _ON_LUMA) * s))


_ORDER: tuple[tuple[str, Callable[[Draws], Tensor]], ...] = (
    ("brightness", _brightness),
    ("contrast", _contrast),
    ("lumaflip", _lumaflip),
    ("hue", _hue),
    ("saturation", _saturation),
)
_COLOURED_ONLY = ("hue", "saturation")


def colour_matrix(transforms: Collection[str], draws: Draws, channels: int) -> Tensor:
    """C of each image, float64 (N, channels, channels + 1): old colour and 1 -> new colour.

    A grey image is one whose three channels are equal; its hue and saturation are left alone.
    """
    c = torch.eye(4, dtype=torch.float64).expand(draws.rows, 4, 4)
    for name, matrix in _ORDER:
        if name in transforms and not (channels == 1 and name in _COLOURED_ONLY):
            c = matrix(draws) @ c
    if channels == 3:
        return c[:, :3]
    grey = c[:, :3].mean(1, keepdim=True)
    return torch.cat([grey[..., :3].sum(2, keepdim=True), grey[..., 3:]], 2)


def recolour(images: Tensor, c: Tensor) -> Tensor:
    """Apply colour matrices (N, C, C + 1), on the CPU, to images (N, C, H, W)."""
    c = matched(c, images)
    flat = images.flatten(2)
    return torch.baddbmm(c[:, :, -1:], c[:, :, :-1], flat).view_as(images)
