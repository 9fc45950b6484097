"""Comparisons without the truth, against what is known of them."""

from __future__ import annotations

import numpy as np
import pytest

from ganwright.restoring.classical import best_smoother, bicubic, biharmonic, jpeg_sigma
from ganwright.restoring.measuring import blind_errors, block_errors, centre, compare, hidden, random_pixels


def test_hidden_pixels_are_means_of_their_neighbours() -> None:
    picture = np.random.default_rng(0).random((9, 9, 2))
    held_out = np.zeros((9, 9), bool)
    held_out[4, 4] = held_out[4, 5] = held_out[0, 0] = True
    found = hidden(picture, held_out)
    np.testing.assert_array_equal(found[~held_out], picture[~held_out])
    near = [(i, j) for i in (3, 4, 5) for j in (3, 4, 5) if not held_out[i, j]]
    np.testing.assert_allclose(found[4, 4], np.mean([picture[p] for p in near], axis=0))
    np.testing.assert_allclose(found[0, 0], np.mean([picture[p] for p in ((0, 1), (1, 0), (1, 1))], axis=0))
    block = np.zeros((9, 9), bool)
    block[2:7, 2:7] = True
    assert np.isfinite(hidden(picture, block)).all()


def test_blind_errors_are_true_errors_and_the_noise() -> None:
    """E (estimate - noisy)² = E (estimate - truth)² + sigma², since the estimate has not seen that noise."""
    truth = np.full((300, 300, 1), 0.5)
    noisy = truth + np.random.default_rng(0).normal(0, 0.1, truth.shape)
    held_out = random_pixels((300, 300), 0.1, 1)
    for method, error in ((lambda x: x, 0.01 / 8), (lambda x: np.full_like(x, 0.5), 0.0), (lambda x: x * 0, 0.25)):
        assert blind_errors(method, noisy, held_out).mean() == pytest.approx(error + 0.01, rel=0.05)


def test_a_difference_counts_only_beyond_chance() -> None:
    rng = np.random.default_rng(0)
    shared = rng.random(400)
    assert compare("x", {"a": shared, "b": shared + 0.01}).best == "a"  # small, but everywhere
    noise = rng.random((2, 400))
    assert compare("x", {"a": noise[0], "b": noise[1]}).best == ""
    assert compare("x", {"a": shared}).best == ""
    verdict = compare("on held-out pixels", {"a": np.array([0.01, 0.01]), "b": np.array([0.1, 0.1])})
    assert verdict.decibels["a"] == pytest.approx(20) and "better: a" in str(verdict)
    wins = sum(bool(compare("x", dict(enumerate(rng.random((2, 100))))).best) for _ in range(400))  # type: ignore[arg-type]
    assert wins < 0.09 * 400  # 4.6 % expected, two-sided


def test_blocks_and_centres() -> None:
    a = np.zeros((40, 50, 3))
    a[:16, :16] = 0.5
    errors = block_errors(a, np.zeros_like(a))
    assert errors.shape == (6,) and errors[0] == 0.25 and errors[1:].sum() == 0
    assert block_errors(np.ones((5, 5, 1)), np.zeros((5, 5, 1))).tolist() == [1.0]
    rows, columns = centre((100, 30), 40, 4)
    assert (rows, columns) == (slice(28, 68), slice(0, 28))


def test_smoothers_are_calibrated_without_the_truth() -> None:
    pytest.importorskip("skimage")
    y, x = np.mgrid[0:96, 0:96] / 96
    truth = np.stack([np.where(x > 0.5, 0.8, 0.3), 0.5 + 0.3 * np.sin(5 * y), x * y], -1)
    noisy = np.clip(truth + np.random.default_rng(0).normal(0, 0.1, truth.shape), 0, 1)
    smoother = best_smoother(noisy.astype(np.float32))
    assert smoother is not None
    gain = 10 * np.log10(((noisy - truth) ** 2).mean() / ((smoother.method(noisy) - truth) ** 2).mean())
    assert gain > 8
    assert smoother.method(noisy[..., :1]).shape == (96, 96, 1)


def test_fillings() -> None:
    pytest.importorskip("skimage")
    y, x = np.mgrid[0:30, 0:30] / 30
    plane = (0.2 + 0.3 * x + 0.4 * y)[..., None]
    missing = np.zeros((30, 30), bool)
    missing[10:14, 8:20] = True
    filled = biharmonic(np.where(missing[..., None], 0, plane), missing)
    assert filled is not None
    np.testing.assert_allclose(filled, plane, atol=1e-3)  # a plane is biharmonic
    assert biharmonic(np.zeros((300, 300, 1)), np.ones((300, 300), bool)) is None
    np.testing.assert_allclose(bicubic(plane, 3)[15:-15, 15:-15].mean(), plane[5:-5, 5:-5].mean(), atol=1e-3)


def test_the_level_of_jpeg(tmp_path) -> None:  # type: ignore[no-untyped-def]
    from PIL import Image

    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8))
    levels = []
    for quality in (20, 60, 95):
        noise.save(tmp_path / "p.jpg", quality=quality)
        level = jpeg_sigma(tmp_path / "p.jpg")
        assert level is not None
        levels.append(level)
        with Image.open(tmp_path / "p.jpg") as image:
            steps = np.array(image.quantization[0]).reshape(8, 8)[:4, :4]
        assert level == pytest.approx(np.sqrt((steps.astype(float) ** 2).mean() / 12) / 255)
    assert levels[0] > levels[1] > levels[2]
    noise.save(tmp_path / "p.png")
    assert jpeg_sigma(tmp_path / "p.png") is None
