"""Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020), from one pass over pairs.

All four look at balls around samples that reach to the k-th nearest neighbour of the same set. As these balls are
estimated too, a binomial interval would be too narrow; theirs comes from repeating everything on disjoint groups.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import scipy.stats
import torch
from torch import Tensor

from ganwright.console import Advance, progress
from ganwright.errors import MetricError
from ganwright.metrics.estimate import Estimate
from ganwright.metrics.kernel import TILE, Array, FloatArray, block, product_type, tiles
from ganwright.metrics.moments import check_features, check_same_width

if TYPE_CHECKING:
    from ganwright.metrics.measured import Measured

NAMES = ("precision", "recall", "density", "coverage")
K, K_DENSITY = 3, 5
"""Neighbours that the two papers use."""
_GROUPS = 20
_FEWEST_GROUPS = 4
_FEWEST_IN_GROUP = 25
_ASSUMED_EFFECT = 3.0
"""Variance over that of independent draws where there are too few samples for groups; 1 to 2.5 in simulations."""
_LONG = 1 << 40
"""From so many multiplications on progress is shown."""


@dataclass(frozen=True)
class Manifolds:
    """The four numbers and what they are means of.

    Attributes:
        inside: bool (n,), whether each sample is in the real manifold (in a ball of the reference): precision.
        reached: bool (m,), whether each real image is in the samples' manifold: recall.
        held_by: float (n,), the number of reference balls each sample is in, over k: density; its mean may exceed 1.
        holds: float (m,), the same seen from the reference: n/m times its mean is the density too.
        covered: bool (m,), whether the ball of each real image holds a sample: coverage.
        realism: float (n,), the largest ratio of a reference ball's radius to the sample's distance from its centre,
            without the balls larger than the median (Kynkäänniemi et al. 2019, sec. 5). Above 1: surely inside.
            Distances below a hundredth of the median radius, which float32 cannot tell, count as that.
        k: Neighbours of precision, recall and realism.
        k_density: Neighbours of density and coverage.
    """

    inside: npt.NDArray[np.bool_]
    reached: npt.NDArray[np.bool_]
    held_by: Array
    holds: Array
    covered: npt.NDArray[np.bool_]
    realism: Array
    k: int
    k_density: int

    @property
    def values(self) -> dict[str, float]:
        """The four numbers, by `NAMES`."""
        parts = (self.inside, self.reached, self.held_by, self.covered)
        return {name: float(part.mean()) for name, part in zip(NAMES, parts, strict=True)}

    @property
    def independent_variances(self) -> dict[str, float]:
        """What the variances of the four would be if their parts were independent of each other."""
        parts = {"precision": self.inside, "recall": self.reached, "density": self.held_by, "coverage": self.covered}
        variances = {name: float(part.var(ddof=1)) / len(part) for name, part in parts.items()}
        variances["density"] += float(self.holds.var(ddof=1)) / len(self.holds)
        return variances


def manifolds(samples: FloatArray, reference: FloatArray, *, k: int = K, k_density: int = K_DENSITY) -> Manifolds:
    """Where each sample and each real image lies with respect to the other set.

    A point at exactly a ball's radius is in it (as Kynkäänniemi et al. and torch-fidelity have it; Naeem et al. use <),
    and so is one whose distance cannot be told from the radius in float32.

    Args:
        samples: Features (n, D) of what is measured.
        reference: Features (m, D) of real images.
        k: Neighbours of precision and recall; the paper's 3.
        k_density: Neighbours of density and coverage; the paper's 5.

    Raises:
        MetricError: Too few rows, values that are not finite, or different dimensions.
    """
    reach = max(k, k_density)
    for side, what in ((samples, "the samples"), (reference, "the reference")):
        check_features(side, what)
        if len(side) <= reach:
            raise MetricError(f"Precision and recall need more than {reach} images on each side.", where=what)
    check_same_width(samples.shape[1], reference.shape[1])
    shift = reference.mean(axis=0, dtype=np.float64)
    largest = max(samples, reference, key=len)
    kind = product_type(largest, largest)
    x, y = _Side(samples, shift, kind), _Side(reference, shift, kind)
    pairs = sum(n * (n + min(n, TILE)) // 2 for n in (x.n, y.n)) + x.n * y.n
    with progress("precision, recall, density, coverage", pairs, quiet=pairs * len(shift) < _LONG) as advance:
        near_x, near_y = x.nearest(reach, advance), y.nearest(reach, advance)
        radius_x, radius_y = near_x[:, k - 1].clone(), near_y[:, k - 1].clone()
        dense_y = near_y[:, k_density - 1].clone()
        median = float(np.median(radius_y.numpy())) * (
            1 + 1e-6
        )  # two mutual neighbours have one radius, but for rounding
        pruned, floor = torch.where(radius_y <= median, radius_y, 0), max(median * 1e-4, 1e-30)
        inside, held_by, realism = (torch.zeros(x.n, dtype=kind) for _ in range(3))
        reached, holds = torch.zeros(y.n, dtype=kind), torch.zeros(y.n, dtype=kind)
        closest = torch.full((y.n,), torch.inf, dtype=kind)
        hit = torch.empty(TILE * TILE, dtype=kind)  # 0 and 1 as floats: several times faster to sum than booleans
        for rows, columns, d in x.distances(y, advance):
            h = hit[: d.numel()].view(d.shape)
            inside[rows] += torch.le(d, radius_y[columns], out=h).sum(1)
            held_by[rows] += torch.le(d, dense_y[columns], out=h).sum(1)
            holds[columns] += h.sum(0)
            reached[columns] += torch.le(d, radius_x[rows, None], out=h).sum(0)
            closest[columns] = torch.minimum(closest[columns], d.amin(0))
            ratio = torch.div(pruned[columns], d.clamp_(floor), out=h).amax(1)
            realism[rows] = torch.maximum(realism[rows], ratio)
    return Manifolds(
        (inside > 0).numpy(),
        (reached > 0).numpy(),
        held_by.double().numpy() / k_density,
        holds.double().numpy() / k_density * (y.n / x.n),
        (closest <= dense_y).numpy(),
        realism.double().sqrt().numpy(),
        k,
        k_density,
    )


class _Side:
    """One set's features (n, D), from which `shift` is taken before they are multiplied."""

    def __init__(self, features: FloatArray, shift: Array, kind: torch.dtype) -> None:
        self.features, self.shift, self.kind, self.n = features, shift, kind, len(features)
        self.norms = torch.empty(self.n, dtype=kind)
        for start in range(0, self.n, TILE):
            rows = slice(start, start + TILE)
            self.norms[rows] = block(features, rows, kind, shift).square().sum(1)

    def distances(self, other: _Side | None, advance: Advance) -> Iterator[tuple[slice, slice, Tensor]]:
        """Squared distances in tiles; to another set's samples, less what rounding may have added."""
        two = other or self
        least = 1.0 if other is None else 1 - 8 * torch.finfo(self.kind).eps
        features = None if other is None else other.features
        for rows, columns, products in tiles(self.features, features, shift=self.shift, kind=self.kind):
            yield rows, columns, products.mul_(-2).add_(self.norms[rows, None] * least).add_(two.norms[columns] * least)
            advance(products.numel())

    def nearest(self, reach: int, advance: Advance) -> Tensor:
        """Squared distances to the nearest others of the set, ascending (n, reach)."""
        nearest = torch.full((self.n, reach), torch.inf, dtype=self.kind)

        def keep(rows: slice, distances: Tensor) -> None:
            found = distances.topk(min(reach, distances.shape[1]), largest=False, sorted=False).values
            nearest[rows] = torch.cat([nearest[rows], found], 1).topk(reach, largest=False).values

        for rows, columns, distances in self.distances(None, advance):
            if rows == columns:
                keep(rows, distances.fill_diagonal_(torch.inf))
            else:
                keep(rows, distances)
                keep(columns, distances.T.contiguous())
        return nearest.clamp_(0)


def group_variances(samples: FloatArray, reference: FloatArray, whole: Manifolds) -> tuple[dict[str, float], float]:
    """Sampling variances of the four numbers, both sets drawn anew, and their degrees of freedom.

    Everything is measured on disjoint random groups of both sets. The variance of the groups' values, over that of a
    mean of independent parts of a group's size, is the effect of the manifolds being estimated; it multiplies such
    independent variances of the whole. (The groups' variance itself, over their number, would be that of other shares:
    they change with the number of images.) The effect is taken to be at least 1 where the number is a share.
    """
    groups = min(_GROUPS, min(len(samples), len(reference)) // _FEWEST_IN_GROUP)
    independent = whole.independent_variances
    if groups < _FEWEST_GROUPS:
        return {name: _ASSUMED_EFFECT * independent[name] for name in NAMES}, math.inf
    random = np.random.RandomState(0)
    parts_x, parts_y = (np.array_split(random.permutation(len(side)), groups) for side in (samples, reference))
    found = [
        manifolds(samples[i], reference[j], k=whole.k, k_density=whole.k_density)
        for i, j in zip(parts_x, parts_y, strict=True)
    ]
    variances = {}
    for name in NAMES:
        spread = float(np.var([one.values[name] for one in found], ddof=1))
        expected = float(np.mean([one.independent_variances[name] for one in found]))
        effect = spread / expected if expected > 0 else _ASSUMED_EFFECT
        variances[name] = independent[name] * (effect if name == "density" else max(1.0, effect))
    return variances, groups - 1


def share_interval(p: float, variance: float, n: int, freedom: float) -> tuple[float, float]:
    """Wilson's interval at the number of independent draws that would have the share's variance.

    Args:
        p: The share.
        variance: Its variance.
        n: Samples it is a mean over.
        freedom: Degrees of freedom of that variance.
    """
    z = float(scipy.stats.t.ppf(0.975, freedom))
    draws = p * (1 - p) / variance if variance > 0 else n / _ASSUMED_EFFECT
    wide = 1 + z * z / draws
    centre = (p + z * z / (2 * draws)) / wide
    half = z * math.sqrt(p * (1 - p) / draws + z * z / (4 * draws * draws)) / wide
    return max(0.0, centre - half), min(1.0, centre + half)


def coverage_of_equals(n: int, m: int, k: int = 5) -> float:
    """Expected coverage where both sets follow one continuous distribution (Naeem et al. 2020, lemma 2).

    Args:
        n: Number of samples.
        m: Number of real images.
        k: Neighbours.
    """
    return 1 - math.prod((m - i) / (n + m - i) for i in range(1, k + 1))


def estimate(measured: Measured) -> list[Estimate]:
    """Precision, recall, density and coverage, each with its interval; nothing of five images or fewer."""
    x, y = measured.samples.features, measured.reference.features
    if min(len(x), len(y)) <= K_DENSITY:
        return []
    found = manifolds(x, y)
    variances, freedom = group_variances(x, y, found)
    how = "effect of estimated manifolds from disjoint groups"
    if math.isinf(freedom):
        how = f"variance of independent images times {_ASSUMED_EFFECT:g}, there being too few for groups"
    interval = f"95 % for the value expected at these numbers of images, {how}"
    result = []
    for name in NAMES:
        value, variance = found.values[name], variances[name]
        if name == "density":
            half = float(scipy.stats.t.ppf(0.975, freedom)) * math.sqrt(variance)
            low, high = max(0.0, value - half), value + half
        else:
            low, high = share_interval(value, variance, len(y if name in ("recall", "coverage") else x), freedom)
        details: dict[str, float] = {"k": found.k if name in ("precision", "recall") else found.k_density}
        if name in ("density", "coverage"):
            details["of_equal_distributions"] = (
                1.0 if name == "density" else coverage_of_equals(len(x), len(y), found.k_density)
            )
        label = f"{name} ({measured.extractor_name})"
        result.append(
            Estimate(
                *(name, label, value, low, high, measured.n, measured.provenance, interval, True),
                warnings=measured.warnings,
                details=details,
            )
        )
    return result
