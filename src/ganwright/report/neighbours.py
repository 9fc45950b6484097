"""The nearest-neighbour sheet as the page shows it: pairs of small pictures, and the yardstick in numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ganwright.metrics.neighbours import NeighbourSheet
from ganwright.report.charts import number
from ganwright.report.pictures import Picture, array_picture

MAX_PAIRS = 24
"""Pairs shown; the nearest first."""


@dataclass(frozen=True)
class PairView:
    """A generated image, the training image nearest to it, and their distance.

    Attributes:
        sample: The generated image.
        nearest: The training image.
        distance: Root-mean-square difference, in grey levels.
        below: Whether it is nearer than all but 1 % of unseen real images are.
    """

    sample: Picture
    nearest: Picture
    distance: float
    below: bool


@dataclass(frozen=True)
class NeighbourView:
    """What the template shows.

    Attributes:
        verdict: The comparison in a sentence.
        facts: (label, value): the yardstick.
        pairs: Pairs, the nearest first.
        note: What is left out, or "".
    """

    verdict: str
    facts: list[tuple[str, str]]
    pairs: list[PairView]
    note: str


def neighbour_view(sheet: NeighbourSheet) -> NeighbourView:
    """Make a sheet presentable."""
    threshold = float(sheet.threshold)
    held_out = np.asarray(sheet.held_out_distances, dtype=np.float64)
    facts = []
    if len(held_out):
        facts.append(("unseen real images, median distance", f"{number(float(np.median(held_out)))} grey levels"))
    if math.isfinite(threshold):
        facts.append(("unseen real images, nearest 1 %", f"below {number(threshold)} grey levels"))
    if math.isfinite(sheet.share_below):
        facts.append(("generated images nearer than that", f"{sheet.share_below:.1%} (1 % is what chance gives)"))
    order = np.argsort(sheet.distances, kind="stable")[:MAX_PAIRS]
    pairs = [
        PairView(
            array_picture(sheet.samples[i]),
            array_picture(sheet.neighbours[i]),
            float(sheet.distances[i]),
            bool(sheet.distances[i] < threshold),  # False where there is no threshold (NaN)
        )
        for i in order
    ]
    left_out = len(sheet.distances) - len(pairs)
    note = "Distances are in grey levels (0 to 255) over images of at most 32 × 32 pixels; below each pair."
    return NeighbourView(
        sheet.verdict, facts, pairs, note + (f" {left_out} further pairs are not shown." if left_out else "")
    )
