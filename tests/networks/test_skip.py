"""Skip networks against the authors' own, and shrinking against closed forms and Pillow."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ganwright.networks.downsample import FILTERS, Downsample
from ganwright.networks.skip import PLANS, SkipNetwork, SkipPlan, scales_for

FIXTURES = Path(__file__).parent.parent / "fixtures" / "skip.npz"
CASES = {
    "official": SkipPlan(3, 3, (4, 6, 5), (3, 4, 6), (2, 1, 3)),
    "small": SkipPlan(2, 3, (2, 4), (2, 4), (2, 2), padding="zeros"),
    "hourglass": SkipPlan(1, 3, (2, 4, 5), (2, 4, 5), (0, 0, 0), upsampling="nearest", mix=False),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_equals_the_authors_network(name: str, training: bool) -> None:
    with np.load(FIXTURES, allow_pickle=False) as arrays:
        weights = [arrays[key] for key in sorted(arrays.files) if key.startswith(f"{name}/0")]
        code, wanted = arrays[f"{name}/code"], arrays[f"{name}/output"]
    network = SkipNetwork(CASES[name]).train(training)
    ours = list(network.parameters())
    assert [tuple(p.shape) for p in ours] == [w.shape for w in weights]
    with torch.no_grad():
        for parameter, weight in zip(ours, weights, strict=True):
            parameter.copy_(torch.from_numpy(weight))
        made = network(torch.from_numpy(code))
    np.testing.assert_allclose(made.numpy(), wanted, atol=2e-6)


def test_the_official_size() -> None:
    weights = sum(p.numel() for p in SkipNetwork(PLANS["official"]).parameters())
    # 2,217,831 in the authors' notebook, with biases of the 21 convolutions that are normalised afterwards
    assert weights == 2_217_831 - 20 * 128 - 5 * 4


@settings(max_examples=12, deadline=None)
@given(st.integers(8, 40), st.integers(8, 40), st.sampled_from(["reflection", "zeros"]))
def test_any_size_comes_out_as_it_went_in(height: int, width: int, padding: str) -> None:
    plan = SkipPlan(2, 1, (2,) * 5, (2,) * 5, (1,) * 5, padding=padding)  # type: ignore[arg-type]
    with torch.no_grad():
        made = SkipNetwork(plan.at_most(scales_for(height, width)))(torch.rand(1, 2, height, width))
    assert made.shape == (1, 1, height, width)
    assert bool(((made >= 0) & (made <= 1)).all())


def test_plans_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="one entry a scale"):
        SkipPlan(down=(8, 8))


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize(
    ("name", "pillow"), [("lanczos3", Image.Resampling.LANCZOS), ("bicubic", Image.Resampling.BICUBIC)]
)
def test_shrinks_as_pillow_does(name: str, pillow: Image.Resampling, factor: int) -> None:
    images = torch.rand(2, 3, 9 * factor, 10 * factor)
    made = Downsample(factor, name)(images)
    assert made.shape == (2, 3, 9, 10)
    for image, ours in zip(images.flatten(0, 1), made.flatten(0, 1), strict=True):
        theirs = np.asarray(Image.fromarray(image.numpy()).resize((10, 9), pillow))
        np.testing.assert_allclose(ours[3:-3, 3:-3], theirs[3:-3, 3:-3], atol=1e-6)  # borders: other conventions


def test_lanczos2_is_its_formula() -> None:
    factor, taps = 4, [(k - 7.5) / 4 for k in range(16)]
    values = np.array([np.sinc(t) * np.sinc(t / 2) for t in taps])
    np.testing.assert_allclose(Downsample(factor).weights, values / values.sum(), atol=1e-6)
    assert math.isclose(float(Downsample(factor).weights.sum()), 1, abs_tol=1e-6)


def test_no_factor_is_no_change() -> None:
    images = torch.rand(1, 2, 5, 7)
    assert all(torch.equal(Downsample(1, name)(images), images) for name in FILTERS)
