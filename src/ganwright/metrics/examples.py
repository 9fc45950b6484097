"""Images that explain the numbers: the least and most realistic samples, real images that are missed, near copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ganwright.metrics.manifold import manifolds
from ganwright.metrics.memorisation import nearest
from ganwright.metrics.pixels import pick
from ganwright.metrics.results import remembered
from ganwright.metrics.sets import Comparison
from ganwright.metrics.sides import Side

MOST = 10_000
"""Images of a side that are looked through, at most; always the same ones."""


@dataclass(frozen=True)
class Example:
    """One image with what is to be said of it.

    Attributes:
        image: uint8 (H, W, 1 or 3).
        name: Its name in the set.
        score: Realism, or a distance, as the list says.
        beside: The image it is compared with, or None.
        beside_name: Its name.
    """

    image: npt.NDArray[np.uint8]
    name: str
    score: float
    beside: npt.NDArray[np.uint8] | None = None
    beside_name: str = ""


@dataclass(frozen=True)
class Examples:
    """What `find_examples` found.

    Attributes:
        best: Samples of the highest realism (Kynkäänniemi et al. 2019, sec. 5), the highest first.
        worst: Samples of the lowest realism, the lowest first; score: realism.
        missed: Real images farthest outside the samples' manifold; score: distance to the nearest sample over the
            median of such distances.
        copies: Samples nearest to a reference image, beside it; score: distance over the distance of that reference
            image to the nearest other one. Below 1: nearer than another real image.
        looked_at: Samples and reference images that were looked through.
        values: Precision, recall, density and coverage of those.
        real_values: The same of one half of the reference against the other, `real_n` images on each side: what a
            perfect generator would get at that number; empty where the reference is too small.
        real_n: See `real_values`.
    """

    best: list[Example]
    worst: list[Example]
    missed: list[Example]
    copies: list[Example]
    looked_at: tuple[int, int]
    values: dict[str, float]
    real_values: dict[str, float]
    real_n: int


def find_examples(found: Comparison, *, count: int = 12) -> Examples | None:
    """Images that explain a comparison; None where pixels or features of a side are not to be had.

    Args:
        found: What was compared.
        count: Images in each list.
    """
    samples, real = found.samples, found.reference
    if samples.features is None or real.features is None or samples.pictures is None:
        return None
    rows, real_rows = (np.sort(pick(np.arange(side.n), MOST, 0)) for side in (samples, real))
    x, y = samples.features.features[rows], real.features.features[real_rows]
    if min(len(x), len(y)) < 6:
        return None
    places = remembered(found.key, f"examples {count}", lambda: _places(x, y, count))
    best, worst, missed, near = (places[name] for name in ("best", "worst", "missed", "copies"))
    return Examples(
        _examples(samples, rows[best["at"]], best["score"]),
        _examples(samples, rows[worst["at"]], worst["score"]),
        _examples(real, real_rows[missed["at"]], missed["score"]),
        _examples(samples, rows[near["at"]], near["score"], real, real_rows[near["beside"]]),
        (len(x), len(y)),
        places["values"],
        places["real_values"],
        places["real_n"],
    )


def _places(x: npt.NDArray[np.float32], y: npt.NDArray[np.float32], count: int) -> dict[str, Any]:
    """Which rows of the samples x and of the reference y to show, as plain values; see `Examples`."""
    where = manifolds(x, y)
    by_realism = np.argsort(where.realism, kind="stable")
    to_real, within = nearest(x, y), nearest(y)
    partner = to_real.index
    closeness = to_real.distance / np.maximum(within.distance[partner], 1e-12)
    reach = nearest(y, x).distance
    reach = reach / max(float(np.median(reach)), 1e-12)
    outside = np.flatnonzero(~where.reached)
    half = min(len(x), len(y) // 2)
    order = pick(np.arange(len(y)), 2 * half, 1)

    def listed(at: npt.NDArray[np.int64], score: npt.NDArray[Any]) -> dict[str, list[Any]]:
        return {"at": [int(place) for place in at], "score": [float(score[place]) for place in at]}

    near = np.argsort(closeness, kind="stable")[:count]
    return {
        "best": listed(by_realism[::-1][:count], where.realism),
        "worst": listed(by_realism[:count], where.realism),
        "missed": listed(outside[np.argsort(-reach[outside], kind="stable")][:count], reach),
        "copies": {**listed(near, closeness), "beside": [int(place) for place in partner[near]]},
        "values": where.values,
        "real_values": manifolds(y[order[:half]], y[order[half:]]).values if half >= 6 else {},
        "real_n": half,
    }


def _examples(
    side: Side,
    places: npt.NDArray[np.int64],
    scores: Sequence[float],
    beside: Side | None = None,
    partners: Sequence[int] | npt.NDArray[np.int64] = (),
) -> list[Example]:
    if side.pictures is None or len(places) == 0:
        return []
    images = side.pictures([int(place) for place in places])
    if beside is None or beside.pictures is None:
        rows = zip(images, places, scores, strict=True)
        return [Example(image, side.names[int(place)], float(score)) for image, place, score in rows]
    others = beside.pictures([int(partner) for partner in partners])
    return [
        Example(image, side.names[int(place)], float(score), other, beside.names[int(partner)])
        for image, place, score, other, partner in zip(images, places, scores, others, partners, strict=True)
    ]
