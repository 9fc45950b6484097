"""Nearest neighbours against brute force, and what the verdict says."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ganwright.config import DataSettings
from ganwright.data.opening import open_dataset
from ganwright.errors import MetricError
from ganwright.metrics.neighbours import nearest_neighbours
from ganwright.samples import ImageSamples


def pictures(seed: int, n: int, side: int = 16, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, channels), dtype=np.uint8)


def dataset(images: np.ndarray, held_out: float = 0.3):
    return open_dataset(images, DataSettings(resolution=images.shape[1], held_out=held_out))


def test_equals_brute_force() -> None:
    data, samples = dataset(pictures(0, 300, channels=3)), pictures(1, 20, channels=3)
    train = data.images[data.train_index].astype(float)
    brute = []
    for sample in samples.astype(float):
        both = [np.sqrt(((train - v) ** 2).mean(axis=(1, 2, 3))) for v in (sample, sample[:, ::-1])]
        distances = np.minimum(*both)
        brute.append((distances.min(), data.train_index[distances.argmin()]))
    order = np.argsort([d for d, _ in brute], kind="stable")[:7]
    sheet = nearest_neighbours(ImageSamples(samples), data, k=7)
    np.testing.assert_allclose(sheet.distances, [brute[i][0] for i in order], rtol=1e-4)
    assert sheet.indices.tolist() == [brute[i][1] for i in order]
    np.testing.assert_array_equal(sheet.samples, samples[order])
    np.testing.assert_array_equal(sheet.neighbours, data.images[sheet.indices])
    assert len(sheet.held_out_distances) == len(data.held_out_index)


def test_copies_and_mirrored_copies_are_found() -> None:
    data = dataset(pictures(2, 600))
    copies = data.images[data.train_index[:40]].copy()
    copies[::2] = copies[::2, :, ::-1]
    fresh = pictures(3, 60)
    sheet = nearest_neighbours(ImageSamples(np.concatenate([fresh, copies])), data, k=40)
    assert set(sheet.indices.tolist()) == set(data.train_index[:40].tolist())
    assert sheet.distances.max() < 0.1 < sheet.threshold
    assert sheet.share_below == pytest.approx(0.4, abs=0.05)
    assert "copies" in sheet.verdict and "no sign" not in sheet.verdict


def test_samples_like_unseen_images_are_not_accused() -> None:
    sheet = nearest_neighbours(ImageSamples(pictures(5, 300)), dataset(pictures(4, 1000)))
    assert sheet.share_below < 0.05
    assert sheet.threshold == pytest.approx(np.quantile(sheet.held_out_distances, 0.01))
    assert "no sign of copying" in sheet.verdict


def test_without_held_out_images_the_yardstick_is_missing() -> None:
    sheet = nearest_neighbours(ImageSamples(pictures(6, 10)), dataset(pictures(7, 50), held_out=0.0))
    assert math.isnan(sheet.threshold) and math.isnan(sheet.share_below)
    assert len(sheet.held_out_distances) == 0
    assert "yardstick" in sheet.verdict


def test_large_images_are_compared_small() -> None:
    data = dataset(pictures(8, 200, side=48))
    sheet = nearest_neighbours(ImageSamples(data.images[data.train_index[:5]]), data, k=5)
    assert sorted(sheet.indices.tolist()) == sorted(data.train_index[:5].tolist())
    assert sheet.samples.shape == (5, 48, 48, 1)


def test_refuses_what_cannot_be_compared() -> None:
    data = dataset(pictures(9, 20))
    with pytest.raises(MetricError, match="channels"):
        nearest_neighbours(ImageSamples(pictures(9, 4, channels=3)), data)
    with pytest.raises(MetricError, match="generated images and a data set"):
        nearest_neighbours(ImageSamples(pictures(9, 4)), object())
    with pytest.raises(MetricError, match="size"):
        nearest_neighbours(ImageSamples(pictures(9, 4, side=24)), data)
