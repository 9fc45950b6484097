"""The Fréchet distance by class against each class measured by itself, and simulation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ganwright.metrics.estimate import Provenance
from ganwright.metrics.extractor_base import Features
from ganwright.metrics.frechet import frechet, frechet_distance
from ganwright.metrics.measured import Measured
from ganwright.metrics.moments import Moments
from ganwright.metrics.per_class import estimate, frechet_by_class


def labelled(rng: np.random.Generator, counts: list[int], swap: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Class c around 3 c, in a shuffled order; `swap`: classes 0 and 1 exchanged."""
    classes = np.repeat(np.arange(len(counts)), counts)
    rng.shuffle(classes)
    shown = np.where(classes < 2, 1 - classes, classes) if swap else classes
    return (rng.normal(size=(len(classes), 4)) + 3 * shown[:, None]).astype(np.float32), classes


def measured(counts: list[int], swap: bool = False) -> Measured:
    rng = np.random.default_rng(0)
    (x, a), (y, b) = labelled(rng, counts, swap), labelled(rng, [90, 80, 100])
    about = Provenance("net/1", "none", "data", 270)
    names = ("cat", "dog", "owl")
    return Measured(
        Features(x, None), Features(y, None), about, class_names=names, sample_classes=a, reference_classes=b
    )


def test_is_the_mean_of_the_classes() -> None:
    inputs = measured([60, 70, 80])
    (found,) = estimate(inputs)
    x, a, y, b = inputs.samples.features, inputs.sample_classes, inputs.reference.features, inputs.reference_classes
    each = [frechet(x[a == c], y[b == c]) for c in range(3)]
    assert (found.name, found.label) == ("fd-by-class", "intra-FD (net)")
    assert found.value == pytest.approx(np.mean([one.distance for one in each]), rel=1e-9)
    assert found.details == pytest.approx({n: e.distance for n, e in zip(("cat", "dog", "owl"), each, strict=True)})
    error = np.sqrt(sum(one.standard_error**2 for one in each)) / 3
    assert found.high - found.value == pytest.approx(1.96 * error, rel=1e-3)
    assert any("biased upwards" in warning for warning in found.warnings)


def test_sees_swapped_classes_that_the_whole_does_not() -> None:
    right, wrong = measured([80, 80, 80]), measured([80, 80, 80], swap=True)
    assert estimate(wrong)[0].value > 10 * estimate(right)[0].value
    whole = frechet_distance(wrong.samples.features, wrong.reference.features)
    assert estimate(wrong)[0].value > 10 * whole


def test_small_classes_are_left_out_and_named() -> None:
    (found,) = estimate(measured([60, 49, 80]))
    assert set(found.details) == {"cat", "owl"}
    assert any("dog (49 and 80)" in warning for warning in found.warnings)
    assert estimate(measured([10, 10, 10])) == []


def test_classes_of_one_side_only() -> None:
    rng = np.random.default_rng(1)
    (x, a), (y, b) = labelled(rng, [60, 60]), labelled(rng, [60, 60, 60])
    found = frechet_by_class(x, np.where(a == 1, -1, a), y, b)
    assert set(found.distances) == {0}
    assert found.left_out == {1: (0, 60), 2: (0, 60)}


def test_nothing_without_classes_and_names_may_be_missing_or_repeat() -> None:
    inputs = measured([60, 70, 80])
    assert estimate(replace(inputs, sample_classes=None)) == []
    assert set(estimate(replace(inputs, class_names=()))[0].details) == {"0", "1", "2"}
    repeated = estimate(replace(inputs, class_names=("cat", "dog", "cat")))[0]
    assert set(repeated.details) == {"cat (0)", "dog", "cat (2)"}


def test_interval_covers_the_true_mean() -> None:
    """Two classes, the samples of each at another scale."""
    rng, n, d = np.random.default_rng(2), 800, 2
    one = Moments.of_covariance(np.zeros(d), np.eye(d))
    truth = np.mean([frechet_distance(one, Moments.of_covariance(np.zeros(d), s**2 * np.eye(d))) for s in (1.5, 2)])
    classes = np.repeat([0, 1], n)
    covered = 0
    for _ in range(200):
        x = rng.normal(size=(2 * n, d)) * np.repeat([1.5, 2], n)[:, None]
        found = frechet_by_class(x, classes, rng.normal(size=(2 * n, d)), classes, quiet=True).distances
        value = np.mean([f.distance for f in found.values()])
        covered += abs(value - truth) < 1.96 * np.sqrt(sum(f.standard_error**2 for f in found.values())) / 2
    assert 0.90 <= covered / 200 <= 0.98
