"""sFID: the Fréchet distance over features that keep their place in the image (Nash et al. 2021).

They are 7 channels of the 17x17 map that Inception's graph calls `mixed_6/conv`, 2,023 numbers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ganwright.metrics.constants import FEW
from ganwright.metrics.estimate import Estimate
from ganwright.metrics.frechet import frechet

if TYPE_CHECKING:
    from ganwright.metrics.measured import Measured


def estimate(measured: Measured) -> list[Estimate]:
    """The sFID over inception, else the spatial FD of that extractor; nothing where it has no spatial features."""
    x, y = measured.samples.spatial, measured.reference.spatial
    if x is None or y is None:
        return []
    found = frechet(x, y, ddof=measured.protocol.covariance_ddof)
    few, warnings = min(len(x), len(y)), []
    if few < FEW:
        warnings.append(f"n = {few:,}: the distance is biased upwards below {FEW:,} samples; compare only at equal n")
    if few <= x.shape[1]:
        warnings.append(f"fewer samples than the {x.shape[1]:,} spatial features: covariances are not of full rank")
    label = measured.label("sFID", "spatial FD")
    result = measured.normal_estimate(
        "sfid", label, found.distance, found.standard_error, better=False, warnings=tuple(warnings)
    )
    return [replace(result, low=max(0.0, result.low))]
