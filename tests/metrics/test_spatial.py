"""The spatial Fréchet distance: which features, which name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ganwright.metrics.estimate import Provenance
from ganwright.metrics.extractor_base import Features
from ganwright.metrics.extractor_inception import INCEPTION_SHA256_PREFIX
from ganwright.metrics.measured import Measured
from ganwright.metrics.protocols import find_protocol
from ganwright.metrics.spatial import estimate


def measured(n: int = 60, m: int = 80, extractor: str = "net/1") -> Measured:
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(k, 7)).astype(np.float32) * scale for k, scale in ((n, 1.5), (m, 1.0)))
    nothing = np.zeros((n, 3), np.float32), np.zeros((m, 3), np.float32)
    about = Provenance(extractor, "none", "data", m)
    return Measured(Features(nothing[0], None, x), Features(nothing[1], None, y), about)


def by_definition(x: np.ndarray, y: np.ndarray, ddof: int) -> float:
    s1, s2 = np.cov(x.T.astype(float), ddof=ddof), np.cov(y.T.astype(float), ddof=ddof)
    cross = np.sqrt(np.linalg.eigvals(s1 @ s2).real).sum()
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s1 + s2) - 2 * cross)


def test_is_the_distance_of_the_spatial_features() -> None:
    inputs = measured()
    (found,) = estimate(inputs)
    assert (found.name, found.label) == ("sfid", "spatial FD (net)")
    assert found.value == pytest.approx(by_definition(inputs.samples.spatial, inputs.reference.spatial, 1), rel=1e-5)
    assert 0 <= found.low < found.value < found.high
    assert any("biased upwards" in warning for warning in found.warnings)
    (by_n,) = estimate(replace(inputs, protocol=find_protocol("stylegan")))
    assert by_n.value == pytest.approx(by_definition(inputs.samples.spatial, inputs.reference.spatial, 0), rel=1e-5)


def test_has_the_published_name_over_inception_only() -> None:
    (found,) = estimate(measured(extractor=f"inception/{INCEPTION_SHA256_PREFIX}"))
    assert found.label == "sFID"


def test_few_images_are_warned_of() -> None:
    (found,) = estimate(measured(n=6))
    assert any("not of full rank" in warning for warning in found.warnings)


def test_nothing_without_spatial_features() -> None:
    inputs = measured()
    assert estimate(replace(inputs, samples=Features(inputs.samples.features, None))) == []
