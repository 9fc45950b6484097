"""Paths through latent space: along the arc, along the line, and smooth closed loops through keyframes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

from ganwright.errors import SettingsError


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Spherical interpolation (Shoemake 1985): direction along the great circle, length linearly.

    Normal latents of many numbers lie near a sphere; the straight line between two passes inside it, where the
    generator was hardly trained (White 2016). Opposite points have no unique circle: one through them is chosen. A
    point at 0 has no direction, so from or to it the way is straight.

    Args:
        a: (..., D), D at least 2.
        b: The same shape.
        t: Positions that broadcast to (..., 1): 0 at a, 1 at b.

    Returns:
        float64 (..., D).
    """
    a, b, t = a.double(), b.double(), t.double()
    length_a, length_b = a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True)
    straight = a + t * (b - a)
    u, v = a / length_a.clamp_min(1e-300), b / length_b.clamp_min(1e-300)
    cosine = (u * v).sum(-1, keepdim=True).clamp(-1, 1)
    across = v - cosine * u
    sine = across.norm(dim=-1, keepdim=True)
    across = torch.where(sine > 1e-9, across / sine.clamp_min(1e-300), _orthogonal(u))
    angle = t * torch.atan2(sine, cosine)
    arc = (torch.cos(angle) * u + torch.sin(angle) * across) * (length_a + t * (length_b - length_a))
    return torch.where((length_a > 0) & (length_b > 0), arc, straight)


def between(a: Tensor, b: Tensor, steps: int, kind: str) -> Tensor:
    """Points from a to b, both included: along the arc in z, along the line in W (whose points are not normal).

    Args:
        a: One point (...,).
        b: The other.
        steps: How many, at least 2.
        kind: "z" or "w+".

    Returns:
        float32 (steps, ...).
    """
    t = torch.linspace(0, 1, steps, dtype=torch.float64).view(-1, *[1] * a.ndim)
    one, two = a.double().unsqueeze(0), b.double().unsqueeze(0)
    points = slerp(one, two, t) if kind == "z" else one + t * (two - one)
    return points.float()


def closed_loop(keyframes: Tensor, frames: int, kind: str) -> Tensor:
    """A smooth loop through all keyframes, at equal times, whose last frame is one step before its first.

    In W a periodic cubic spline. In z a cubic Bezier curve on the sphere with great arcs for lines (Shoemake 1985), and
    a spline of its own for lengths: smooth, where a chain of great arcs would turn sharply at each keyframe.

    Args:
        keyframes: (K, ...), K at least 2.
        frames: Frames of the loop.
        kind: "z" or "w+".

    Returns:
        float32 (frames, ...); frame round(k · frames / K) is keyframe k where that is a whole number.

    Raises:
        SettingsError: Too few keyframes or frames.
    """
    count = len(keyframes)
    if count < 2 or frames < 1:
        raise SettingsError(
            f"A loop needs at least 2 keyframes and 1 frame, not {count} and {frames}.", where="keyframes, seconds, fps"
        )
    points = keyframes.double().reshape(count, -1)
    at = torch.arange(frames, dtype=torch.float64) * (count / frames)
    if kind == "z":
        lengths = points.norm(dim=1, keepdim=True)
        found = _on_sphere(points / lengths, at) * _periodic(lengths.log(), at).exp()
    else:
        found = _periodic(points, at)
    loop: Tensor = found.float().view(frames, *keyframes.shape[1:])
    return loop


def _on_sphere(keys: Tensor, at: Tensor) -> Tensor:
    """A smooth closed curve through unit vectors keys (K, D), at positions `at` in [0, K)."""
    before, after = keys.roll(1, 0), keys.roll(-1, 0)
    half, third = torch.tensor(0.5), torch.tensor(1 / 3)
    beyond = 2 * (before * keys).sum(1, keepdim=True) * keys - before  # as far past the key as the one before lies back
    leaving = slerp(keys, slerp(beyond, after, half), third)
    arriving = 2 * (leaving * keys).sum(1, keepdim=True) * keys - leaving  # its mirror image: no corner at the key
    i = at.long()
    t = (at - i).unsqueeze(1)
    corners = [keys[i], leaving[i], arriving.roll(-1, 0)[i], after[i]]
    while len(corners) > 1:  # de Casteljau
        corners = [slerp(a, b, t) for a, b in pairwise(corners)]
    return corners[0]


def _periodic(points: Tensor, at: Tensor) -> Tensor:
    closed = torch.cat([points, points[:1]]).numpy()
    return torch.from_numpy(CubicSpline(np.arange(len(closed)), closed, bc_type="periodic")(at.numpy()))


def _orthogonal(u: Tensor) -> Tensor:
    """A unit vector at right angles to each unit vector u (..., D)."""
    axis = torch.zeros_like(u).scatter_(-1, u.abs().argmin(-1, keepdim=True), 1.0)
    across = axis - (axis * u).sum(-1, keepdim=True) * u
    unit: Tensor = across / across.norm(dim=-1, keepdim=True).clamp_min(1e-300)
    return unit
