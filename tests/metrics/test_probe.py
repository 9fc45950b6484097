"""The linear probe: the same accuracy as another library's logistic regression, and features of a real run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

import ganwright as gw
from ganwright.errors import MetricError
from ganwright.metrics.probe import fit_logistic, linear_probe
from ganwright.training.representation import discriminator_features


def blobs(n: int, seed: int, spread: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(4, 12))
    labels = generator.integers(0, 4, n)
    return centres[labels] + spread * generator.normal(size=(n, 12)), labels


def test_the_fit_is_that_of_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    x, y = blobs(300, 0)
    weights, bias = fit_logistic(torch.from_numpy(x), torch.from_numpy(y), 4, 0.01)
    theirs = LogisticRegression(C=1 / (0.01 * len(x)), tol=1e-10, max_iter=2000).fit(x, y)
    assert weights.numpy() == pytest.approx(theirs.coef_, abs=1e-4)
    difference = bias.numpy() - theirs.intercept_  # a constant common to all classes is free
    assert difference == pytest.approx([difference.mean()] * 4, abs=1e-4)


def test_accuracy_and_interval() -> None:
    (x, y), (x_test, y_test) = blobs(400, 0), blobs(300, 1)
    found = linear_probe(x, y + 10, x_test, y_test + 10)  # class numbers need not begin at 0
    interval = binomtest(round(found.value * 300), 300).proportion_ci(method="wilson")
    assert 0.5 < found.value < 1 and found.n == 300
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert linear_probe(x * 1e6 + 3, y, x_test * 1e6 + 3, y_test).value == found.value
    noise = np.random.default_rng(0).normal(size=(400, 12))
    assert linear_probe(noise, y, noise[:300], y_test).value < 0.4


@pytest.mark.parametrize("broken", ["rows", "finite", "classes", "width", "decay"])
def test_what_cannot_be_probed_is_refused(broken: str) -> None:
    x, y = blobs(20, 0)
    with pytest.raises(MetricError):
        linear_probe(
            np.where(broken == "finite", np.nan, x),
            y[:-1] if broken == "rows" else (y * 0 if broken == "classes" else y),
            x[:, :5] if broken == "width" else x,
            y,
            weight_decay=0.0 if broken == "decay" else 1e-3,
        )


def test_features_of_a_run_are_what_its_head_sees(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 1), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", images=images)
    options = {"width_g": 4, "width_d": 4, "latent_dim": 5, "steps": 2, "batch_size": 8, "d_steps": 1, "resolution": 16}
    run = gw.train(
        "ss-gan", tmp_path / "images.npz", out=tmp_path / "run", evaluate_every=-1, write_html=False, **options
    )
    features = discriminator_features(run, images, batch_size=10)
    assert features.shape == (24, 4)
    from ganwright.training.restore import load_recipe

    recipe = load_recipe(run)
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        expected = recipe.discriminator(x).logits  # type: ignore[operator, union-attr]
        linear = recipe.discriminator.head.linear  # type: ignore[union-attr]
        assert torch.allclose(linear(torch.from_numpy(features)).squeeze(1), expected, atol=1e-5)
    with pytest.raises(MetricError):
        discriminator_features(run, images[:, :8])
