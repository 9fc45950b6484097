"""Fréchet distance within each class, and its mean over classes ("intra-FID", Miyato & Koyama 2018).

It sees what the distance over all images does not: a generator that makes good images of the wrong class, or one class
well and another badly.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from ganwright.console import track
from ganwright.metrics.constants import FEW, Z95
from ganwright.metrics.estimate import Estimate
from ganwright.metrics.frechet import FrechetResult, frechet
from ganwright.metrics.moments import FloatArray

if TYPE_CHECKING:
    from ganwright.metrics.measured import Measured

FEWEST = 50
"""Images of a class, on each side, below which it is left out."""
_LONG = 10**11
_NAMED = 10
"""Classes named in a warning, at most."""


class ByClass(NamedTuple):
    """Distances of the classes that have enough images, and how many images the others have.

    Attributes:
        distances: By class number.
        left_out: (samples, reference) by class number.
    """

    distances: dict[int, FrechetResult]
    left_out: dict[int, tuple[int, int]]


def frechet_by_class(
    x: FloatArray,
    x_classes: npt.NDArray[np.int64],
    y: FloatArray,
    y_classes: npt.NDArray[np.int64],
    *,
    fewest: int = FEWEST,
    ddof: int = 1,
    quiet: bool = False,
) -> ByClass:
    """The Fréchet distance of each class that either side has.

    Args:
        x: Features (n, D) of the samples.
        x_classes: Their classes (n,), from 0 on; negative: none.
        y: Features (m, D) of the reference.
        y_classes: Their classes (m,).
        fewest: Images of a class that each side must have.
        ddof: Covariances divide by n - ddof.
        quiet: Show no progress.

    Raises:
        MetricError: As `frechet`.
    """
    distances, left_out = {}, {}
    classes = np.union1d(x_classes[x_classes >= 0], y_classes[y_classes >= 0])
    for c in track(classes, "Fréchet distances of the classes", quiet=quiet):
        i, j = np.flatnonzero(x_classes == c), np.flatnonzero(y_classes == c)
        if min(len(i), len(j)) < max(2, fewest):
            left_out[int(c)] = len(i), len(j)
        else:
            distances[int(c)] = frechet(x[i], y[j], ddof=ddof)
    return ByClass(distances, left_out)


def estimate(measured: Measured) -> list[Estimate]:
    """Mean over classes, each class in the details; nothing where no classes are known or none has enough images."""
    x, y = measured.samples.features, measured.reference.features
    x_classes, y_classes = measured.sample_classes, measured.reference_classes
    if x_classes is None or y_classes is None:
        return []
    d = x.shape[1]
    quiet = (len(x) + len(y)) * d * d < _LONG
    found, left_out = frechet_by_class(x, x_classes, y, y_classes, ddof=measured.protocol.covariance_ddof, quiet=quiet)
    if not found:
        return []
    warnings = []
    if left_out:
        named = [f"{_name(measured, c)} ({n:,} and {m:,})" for c, (n, m) in list(left_out.items())[:_NAMED]]
        more = f" and {len(left_out) - _NAMED} more" if len(left_out) > _NAMED else ""
        warnings.append(
            f"{len(left_out)} classes of fewer than {FEWEST} samples or real images are left out: "
            + ", ".join(named)
            + more
        )
    least = min(min(int((x_classes == c).sum()), int((y_classes == c).sum())) for c in found)
    if least < FEW:
        rank = f", and covariances of fewer than {d:,} images are not of full rank" if least <= d else ""
        warnings.append(
            f"as few as {least:,} images in a class: every distance is biased upwards{rank}; compare only at equal "
            "numbers for each class"
        )
    k = len(found)
    value = sum(one.distance for one in found.values()) / k
    error = math.sqrt(sum(one.standard_error**2 for one in found.values())) / k
    return [
        Estimate(
            "fd-by-class",
            measured.label("intra-FID", "intra-FD"),
            value,
            max(0.0, value - Z95 * error),
            value + Z95 * error,
            measured.n,
            measured.provenance,
            f"95 %, delta method within each of {k} classes",
            False,
            (*warnings, *measured.warnings),
            {_name(measured, c): one.distance for c, one in found.items()},
        )
    ]


def _name(measured: Measured, c: int) -> str:
    names = measured.class_names
    if c >= len(names):
        return str(c)
    return str(names[c]) if list(names).count(names[c]) == 1 else f"{names[c]} ({c})"
