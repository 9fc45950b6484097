"""Which of several restorations is better, with the truth or without it, and when that cannot be told.

Without the truth a method is asked to predict what is known but was hidden from it: pixels it did not see (Batson &
Royer 2019, "Noise2Self"), or the picture itself from a shrunken copy. This ranks methods; it is not their error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import scipy.ndimage

Floats = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]
Method = Callable[[Floats], Floats]
"""A picture (H, W, C) in [0, 1] -> a picture."""
BLOCK = 16
"""Errors of neighbouring pixels are alike: where whole pictures are compared, squares of so many are one sample."""
SURE = 2.0
"""A difference counts from so many standard errors on."""


@dataclass(frozen=True)
class Verdict:
    """What a comparison found.

    Attributes:
        measure: What was compared, in words; "" where nothing could be.
        decibels: By method, 10 log10(1 / mean squared error) of that measure.
        best: The method that is better than all others, or "" where the difference is within chance.
        further: Other figures by method, such as {"ssim": {"deep image prior": 0.91}}.
        note: What a reader must know.
    """

    measure: str
    decibels: Mapping[str, float] = field(default_factory=dict)
    best: str = ""
    further: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    note: str = ""

    def __str__(self) -> str:
        if not self.decibels:
            return self.note
        listed = ", ".join(f"{name} {value:.2f} dB" for name, value in self.decibels.items())
        for label, values in self.further.items():
            listed += f"; {label} " + ", ".join(f"{name} {value:.4f}" for name, value in values.items())
        end = f"better: {self.best}" if self.best else "no difference beyond chance"
        return f"{self.measure}: {listed}; {end}." + (f" {self.note}" if self.note else "")


def compare(measure: str, errors: Mapping[str, Floats], note: str = "") -> Verdict:
    """Judge methods by their squared errors on the same samples.

    Args:
        measure: What the errors are of.
        errors: By method, (n,): row i of each belongs together.
        note: See `Verdict`.

    Returns:
        `best` is the method with the least mean error, if it differs from each other one's by `SURE` standard errors
        of the paired difference.
    """
    means = {name: float(e.mean()) for name, e in errors.items()}
    decibels = {name: -10 * math.log10(max(mean, 1e-10)) for name, mean in means.items()}
    first = min(means, key=lambda name: means[name])
    sure = len(errors) > 1 and all(_differ(errors[first], e) for name, e in errors.items() if name != first)
    return Verdict(measure, decibels, first if sure else "", note=note)


def _differ(a: Floats, b: Floats) -> bool:
    difference = np.asarray(b - a, np.float64)
    if len(difference) < 2:
        return False
    return float(difference.mean()) > SURE * float(difference.std(ddof=1)) / math.sqrt(len(difference))


def pixel_errors(estimate: Floats, picture: Floats, held_out: Mask) -> Floats:
    """Squared error of each held-out pixel, a mean over channels: (n,)."""
    found: Floats = np.square(estimate[held_out] - picture[held_out]).mean(-1)
    return found


def block_errors(a: Floats, b: Floats) -> Floats:
    """Mean squared error of each square of `BLOCK` pixels; what is left over at the border is not counted."""
    h, w = (max(1, side // BLOCK) * BLOCK for side in a.shape[:2])
    error: Floats = np.square(np.asarray(a, np.float64)[:h, :w] - b[:h, :w]).mean(-1)
    if min(error.shape) < BLOCK:
        return np.array([error.mean()])
    found: Floats = error.reshape(h // BLOCK, BLOCK, w // BLOCK, BLOCK).mean((1, 3)).reshape(-1)
    return found


def hidden(picture: Floats, held_out: Mask) -> Floats:
    """The picture (H, W, C) with held-out pixels replaced by the mean of their neighbours that are not held out."""
    weights = scipy.ndimage.uniform_filter((~held_out).astype(np.float64), 3, mode="constant")
    filled = np.array(picture, np.float64)
    filled[held_out] = 0
    near = np.stack([scipy.ndimage.uniform_filter(c, 3, mode="constant") for c in np.moveaxis(filled, -1, 0)], -1)
    filled[held_out] = (near / np.maximum(weights, 1e-9)[..., None])[held_out]
    lonely = held_out & (weights < 1e-9)
    if lonely.any():  # inside a larger square there are no neighbours: the nearest one serves
        rows, columns = scipy.ndimage.distance_transform_edt(held_out, return_distances=False, return_indices=True)
        filled[lonely] = picture[rows[lonely], columns[lonely]]
    return filled


def blind_errors(method: Method, picture: Floats, held_out: Mask) -> Floats:
    """Squared errors of a method on pixels that were hidden from it: it sees a mean of their neighbours instead."""
    return pixel_errors(method(hidden(picture, held_out)), picture, held_out)


def random_pixels(size: tuple[int, int], share: float, seed: int) -> Mask:
    """About this share of the pixels, at least one."""
    chosen = np.random.default_rng(seed).random(size) < share
    if not chosen.any():
        chosen[size[0] // 2, size[1] // 2] = True
    return chosen


def centre(size: tuple[int, int], most: int, multiple: int = 1) -> tuple[slice, slice]:
    """The central part of a picture, `most` pixels high and wide at most: measuring need not take long."""
    parts = []
    for side in size:
        length = max(multiple, min(side, most) // multiple * multiple)
        start = (side - length) // 2 // multiple * multiple
        parts.append(slice(start, start + length))
    return parts[0], parts[1]
