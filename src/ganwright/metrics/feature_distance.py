"""How far two images are apart in the features of a registered extractor: a perceptual distance of pairs.

It is in the spirit of LPIPS (Zhang et al. 2018) but it is not LPIPS, whose layers were weighted by human judgements:
its numbers cannot be set beside published ones, and it is always named with its extractor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ganwright.errors import MetricError
from ganwright.metrics.extractor_base import Extractor
from ganwright.metrics.features import require_finite
from ganwright.metrics.moments import FloatArray

Array = npt.NDArray[np.float64]
Images = Sequence[npt.NDArray[np.uint8]]


@dataclass(frozen=True)
class FeatureDistances:
    """Distances of N pairs.

    Attributes:
        pooled: float64 (N,), over the features metrics of distributions use; blind to where in the image things are.
        spatial: float64 (N,), over features that keep their place, or None where the extractor has none.
        target_features: float32 (N, D), pooled, of the second side.
    """

    pooled: Array
    spatial: Array | None
    target_features: npt.NDArray[np.float32]


def unit_distance(x: FloatArray, y: FloatArray) -> Array:
    """Half the squared distance of unit-length features, row by row: 1 - cos(x, y).

    0: one direction; 1: at right angles, which features that are never negative cannot exceed; 2: opposite. It is
    computed from the difference of the unit vectors, which stays exact where images are nearly alike. A row of zeros
    has no direction: it is at 0 from another such row and at 1 from any other.

    Args:
        x: (N, D), any float type.
        y: (N, D).

    Returns:
        float64 (N,).

    Raises:
        MetricError: Different shapes.
    """
    if x.shape != y.shape or x.ndim != 2:
        raise MetricError(f"Features of pairs must have one shape (N, D), not {x.shape} and {y.shape}.")
    (a, a_zero), (b, b_zero) = _unit(x), _unit(y)
    distance: Array = ((a - b) ** 2).sum(1) / 2
    distance[a_zero ^ b_zero] = 1
    return distance


def feature_distances(extractor: Extractor, images: Images, targets: Images) -> FeatureDistances:
    """Distances of image pairs.

    Args:
        extractor: A registered one.
        images: N uint8 images (H, W, 1 or 3), of any and mixed sizes.
        targets: As many; image i is compared with target i.

    Raises:
        MetricError: Another number of targets, or a feature is NaN or infinite.
    """
    if len(images) != len(targets):
        raise MetricError(f"{len(images)} images and {len(targets)} targets are no pairs.")
    x, y = extractor(list(images)), extractor(list(targets))
    require_finite(x, extractor)
    require_finite(y, extractor)
    spatial = None if x.spatial is None or y.spatial is None else unit_distance(x.spatial, y.spatial)
    return FeatureDistances(unit_distance(x.features, y.features), spatial, y.features)


def unrelated_distance(features: FloatArray) -> float:
    """Mean distance between different images of one set: what a pair of strangers gives, as a yardstick.

    Each image is compared with the one half the set further on, so that neighbours in a sequence do not meet.
    """
    return float(unit_distance(features, np.roll(features, len(features) // 2, axis=0)).mean())


def _unit(x: FloatArray) -> tuple[Array, npt.NDArray[np.bool_]]:
    wide = np.asarray(x, np.float64)
    length = np.sqrt((wide**2).sum(1, keepdims=True))
    zero = length[:, 0] == 0
    return wide / np.where(length == 0, 1, length), zero
