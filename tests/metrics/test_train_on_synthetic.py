"""Training on synthetic images: where they are as good as real ones, useless, or lack a class."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from ganwright.config import DataSettings
from ganwright.data.images import ImageDataset
from ganwright.data.opening import open_dataset
from ganwright.errors import MetricError
from ganwright.metrics.train_on_synthetic import Comparison, train_classifier, train_on_synthetic, training_steps


def squares(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a bright corner: which of three is the class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    images = rng.integers(0, 120, (n, 16, 16, 1))
    for i, label in enumerate(labels):
        y, x = ((0, 0), (0, 8), (8, 0))[label]
        images[i, y : y + 8, x : x + 8] += 100
    return images.astype(np.uint8), labels


@pytest.fixture(scope="module")
def real() -> ImageDataset:
    images, labels = squares(0, 500)
    return open_dataset((images, labels), DataSettings(resolution=16, held_out=0.4))


def test_images_like_the_real_ones_teach_as_much(real: ImageDataset) -> None:
    found = train_on_synthetic(*squares(1, 400), real, quiet=True)
    assert found.name == "cas" and found.n == len(real.held_out_index)
    assert found.value > 0.97 and found.details["real_baseline"] > 0.97
    assert found.details["gap_low"] <= 0 <= found.details["gap_high"]
    assert found.details["n_training"] == len(real.train_index) < 400
    assert any("synthetic images were used" in warning for warning in found.warnings)
    assert found.low < found.value <= found.high


def test_wrong_labels_teach_nothing(real: ImageDataset) -> None:
    images, labels = squares(2, 250)
    wrong = (labels + 1) % 3
    found = train_on_synthetic(images, wrong, real, quiet=True)
    assert found.value < 0.05 < 0.97 < found.details["real_baseline"]
    assert found.details["gap"] == pytest.approx(found.value - found.details["real_baseline"])
    assert found.details["gap_high"] < -0.9


def test_a_class_that_is_missing_is_lost_and_named(real: ImageDataset) -> None:
    images, labels = squares(3, 400)
    kept = labels != 1
    found = train_on_synthetic(images[kept], labels[kept], real, quiet=True)
    truth = real.labels[real.held_out_index]
    assert found.value == pytest.approx((truth != 1).mean(), abs=0.03)
    name = real.spec.class_names[1]
    assert any(f"least is learnt of {name} 0%" in warning for warning in found.warnings)
    assert any("no synthetic image" in warning and name in warning for warning in found.warnings)


def test_gap_and_classes_by_hand() -> None:
    truth = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    compared = Comparison(truth, np.array([0, 0, 1, 1, 1, 0, 2, 2]), np.array([0, 0, 0, 1, 1, 1, 2, 0]), 50)
    assert compared.accuracies == (5 / 8, 6 / 8)
    gap, low, high = compared.gap
    differences = np.array([0, 0, -1, 0, 0, -1, 0, 1])
    assert gap == pytest.approx(-1 / 8)
    assert high - gap == pytest.approx(1.959964 * differences.std(ddof=1) / math.sqrt(8)) == pytest.approx(gap - low)
    np.testing.assert_allclose(compared.per_class(4), [[0.5, 0.75], [0.5, 1], [1, 0.5], [np.nan, np.nan]])


def test_the_interval_of_the_gap_covers() -> None:
    random = np.random.default_rng(0)
    hits = 0
    for _ in range(1000):
        hard = random.random(300)
        truth = np.ones(300, int)
        compared = Comparison(truth, (hard < 0.8).astype(int), (hard * random.random(300) < 0.7).astype(int), 1)
        _, low, high = compared.gap
        hits += low <= 0.8 - (0.7 - 0.7 * math.log(0.7)) <= high
    assert 0.93 < hits / 1000 < 0.97


def test_training_repeats_and_leaves_random_state_alone() -> None:
    images, labels = squares(4, 60)
    state = torch.get_rng_state()
    one, two, other = (train_classifier(images, labels, np.arange(60), 3, seed=s, quiet=True) for s in (0, 0, 1))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(one.head.weight, two.head.weight) and not torch.equal(one.head.weight, other.head.weight)
    assert not one.training and not one.head.weight.requires_grad


def test_steps_depend_on_the_number_of_images_alone() -> None:
    assert [training_steps(n) for n in (10, 6400, 10**6)] == [200, 400, 3000]


def test_refuses_what_does_not_fit(real: ImageDataset) -> None:
    images, labels = squares(5, 20)
    for arguments, match in (
        ((images[:, :8], labels), "synthetic images are uint8"),
        ((images / 255, labels), "float64"),
        ((images, labels[:5]), "as many labels"),
        ((images, labels + 1), "from 0 to 2"),
        ((images, labels / 2), "whole numbers"),
    ):
        with pytest.raises(MetricError, match=match):
            train_on_synthetic(*arguments, real, quiet=True)
    whole = open_dataset(squares(6, 60), DataSettings(resolution=16, held_out=0.0))
    with pytest.raises(MetricError, match="0 held-out images"):
        train_on_synthetic(images, labels, whole, quiet=True)
    with pytest.raises(MetricError, match="labelled real data"):
        train_on_synthetic(images, labels, real.without_labels(), quiet=True)


def test_real_digits_teach_like_real_digits(real_data: Any) -> None:
    with np.load(real_data("mnist10k.npz"), allow_pickle=False) as file:
        arrays = [file[key] for key in file.files]
    images = next(a for a in arrays if a.ndim >= 3)
    labels = next(a for a in arrays if a.ndim == 1)
    images = images.reshape(len(images), 28, 28, 1)
    dataset = open_dataset((images[:4000], labels[:4000]), DataSettings(resolution=28, held_out=0.5))
    found = train_on_synthetic(images[4000:6000], labels[4000:6000], dataset, quiet=True)
    assert found.value > 0.9 and abs(found.details["gap"]) < 0.03
