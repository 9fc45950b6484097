"""Films and sheets of moving through latent space."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from ganwright.errors import SettingsError
from ganwright.exploring.latents import Latents
from ganwright.exploring.paths import between, closed_loop
from ganwright.exploring.sheet import Sheet
from ganwright.exploring.space import Space
from ganwright.exploring.truncation import truncate
from ganwright.exploring.video import SMALLEST_SIDE, Clip
from ganwright.samples import ImageSamples, Uint8Array

_FRAMES_AT_A_TIME = 8
_SMALLEST_IN_GRID = 128
"""Side of each of several walks, in pixels."""


def walk(
    space: Space,
    seed: int = 0,
    *,
    walks: int = 1,
    keyframes: int = 6,
    seconds: float = 12.0,
    fps: float = 30.0,
    psi: float = 1.0,
    labels: Sequence[int] | int | None = None,
) -> Clip:
    """A film of smooth closed loops through random keyframes: played again and again, it never jumps.

    Args:
        space: The generator.
        seed: Keyframe k of walk i is the latent of the seed `seed + i · keyframes + k`.
        walks: Loops shown side by side.
        keyframes: Random points on each loop.
        seconds: How long a round takes.
        fps: Frames a second.
        psi: Truncation in W.
        labels: The class of each walk, one for all or in turn; None: all classes in turn.

    Raises:
        SettingsError: Impossible numbers.
    """
    if walks < 1:
        raise SettingsError(f"{walks} walks cannot be shown.", where="walks", fix="choose 1 or more")
    frames = round(seconds * fps) if math.isfinite(seconds * fps) else 0
    classes = space.classes(walks, labels)
    loops, of_walks = [], []
    for i in range(walks):
        of_walk = None if classes is None else int(classes[i])
        points = truncate(space, space.seeds([seed + i * keyframes + k for k in range(keyframes)], of_walk), psi)
        loops.append(closed_loop(points.values, frames, points.kind))
        of_walks.append(points.labels)
    paths = torch.stack(loops, dim=1)  # (frames, walks, ...)
    labels_of = None if of_walks[0] is None else torch.stack([part[0] for part in of_walks if part is not None])
    return _clip(space, paths, labels_of, fps)


def interpolation_sheet(space: Space, points: Latents, steps: int = 8) -> Sheet:
    """From each point to the next, one row each: along the arc in z, along the line in W.

    Args:
        space: The generator.
        points: At least 2.
        steps: Images in a row, both ends included.

    Raises:
        SettingsError: Too few points or steps.
    """
    ways = _ways(points, steps)
    images = np.stack([space.images(way) for way in ways])
    columns = [f"{100 * i / (steps - 1):.0f} %" for i in range(steps)]
    pairs = zip(points.names, points.names[1:], strict=False)
    along = "the great circle in z" if points.kind == "z" else "the straight line in W"
    rows = [f"{a}\nto {b}" for a, b in pairs]
    return Sheet(images, rows, columns, f"interpolation: {space.name}", [f"along {along}"])


def interpolation_film(space: Space, points: Latents, seconds: float = 6.0, fps: float = 30.0) -> Clip:
    """A film from point to point and back the same way, so that it can be played again and again.

    Raises:
        SettingsError: Too few points, or impossible numbers.
    """
    each = max(2, round(seconds * fps / 2 / max(1, len(points) - 1)) + 1) if math.isfinite(seconds * fps) else 0
    ways = _ways(points, each)
    there = torch.cat([ways[0].values, *(way.values[1:] for way in ways[1:])])
    path = torch.cat([there, there[1:-1].flip(0)]).unsqueeze(1)
    return _clip(space, path, None if points.labels is None else points.labels[:1], fps)


def _ways(points: Latents, steps: int) -> list[Latents]:
    if len(points) < 2 or steps < 2:
        raise SettingsError(
            f"An interpolation needs at least 2 points and 2 steps, not {len(points)} and {steps}.",
            where="between, steps",
        )
    labels = points.labels
    if labels is not None and (labels != labels[0]).any():
        raise SettingsError(
            "Points of different classes cannot be interpolated in z: there is nothing between two classes.",
            where="label",
            fix="give one class",
        )
    ways = []
    for i in range(len(points) - 1):
        values = between(points.values[i], points.values[i + 1], steps, points.kind)
        of_way = None if labels is None else labels[:1].expand(steps)
        ways.append(Latents(values, points.kind, (points.names[i],) * steps, of_way))
    return ways


def _clip(space: Space, paths: torch.Tensor, labels: torch.Tensor | None, fps: float) -> Clip:
    """A film of paths (frames, walks, ...), the walks in a grid; rendered a few frames at a time."""
    count, walks = paths.shape[:2]
    columns = math.ceil(math.sqrt(walks))

    def render() -> Iterator[Uint8Array]:
        for start in range(0, count, _FRAMES_AT_A_TIME):
            block = paths[start : start + _FRAMES_AT_A_TIME]
            of_block = None if labels is None else labels.repeat(len(block))
            latents = Latents(block.flatten(0, 1), space.kind, ("",) * (len(block) * walks), of_block)
            images = space.images(latents)
            for frame in images.reshape(len(block), walks, *images.shape[1:]):
                yield frame[0] if walks == 1 else ImageSamples(frame, columns=columns).grid()

    return Clip(render, count, fps, max(SMALLEST_SIDE, _SMALLEST_IN_GRID * columns))
