"""Stopping without the truth, each part by its formula: averages, patience, variance and held-out pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ganwright.recipes.early_stopping import BestSoFar, MovingVariance, held_out_pixels, hole_size


def tracker(patience: int = 10, share: float = 0.0) -> BestSoFar:
    return BestSoFar((1, 2, 2), 0.9, patience, share)


def test_the_average_is_a_mean_at_first_and_exponential_later() -> None:
    best, outputs = tracker(), torch.rand(300, 1, 1, 2, 2)
    average = outputs[0].double()
    for t, output in enumerate(outputs, 1):
        decay = min(0.9, t / (t + 9))
        average = decay * (average if t > 1 else torch.full_like(average, 0.5)) + (1 - decay) * output.double()
        best.add(output)
    torch.testing.assert_close(best.average.double(), average, atol=1e-6, rtol=0)


def test_the_best_is_kept_and_patience_counts_from_progress() -> None:
    best = tracker(patience=40)
    values = [1.0] * 60 + [0.5] + [0.5001] * 38 + [0.4999] + [0.6] * 100  # 0.4999 is better, but no progress
    for t, value in enumerate(values, 1):
        best.add(torch.full((1, 1, 2, 2), 0.5))
        best.judge(torch.tensor(value), torch.full((1, 1, 2, 2), float(t)))
        if best.waited():
            break
    assert t == 101 and best.waited() == 40
    assert int(best.best_step) == 100 and float(best.best_value) == pytest.approx(0.4999)
    assert (best.best == 100).all()


def test_patience_grows_with_the_steps_and_zero_is_without_end() -> None:
    for patience, share, waits in ((5, 0.5, 50), (5, 0.0, 5), (0, 0.5, 0)):
        best = tracker(patience, share)
        for t in range(1, 301):
            best.add(torch.zeros(1, 1, 2, 2))
            best.judge(torch.tensor(1 / min(t, 100)), torch.zeros(1, 1, 2, 2))
            if best.waited():
                break
        assert best.waited() == waits


def test_without_a_criterion_the_last_is_the_best() -> None:
    best = tracker()
    best.add(torch.ones(1, 1, 2, 2))
    best.keep(best.average)
    assert torch.equal(best.best, best.average) and int(best.best_step) == 1 and not best.waited()


def test_moving_variance_is_the_papers_recursion() -> None:
    variance, outputs = MovingVariance((2, 3, 3)), torch.rand(40, 1, 2, 3, 3)
    mean, wanted = np.zeros((1, 2, 3, 3)), 0.0
    for output in outputs:
        x = output.double().numpy()
        wanted = 0.9 * wanted + 0.1 * 0.9 * ((x - mean) ** 2).mean()
        mean = 0.9 * mean + 0.1 * x
        found = variance.add(output)
    assert float(found) == pytest.approx(wanted, rel=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 40),
    st.integers(2, 40),
    st.integers(1, 9),
    st.floats(0.001, 0.5),
    st.floats(0.0, 0.9),
    st.integers(0, 10**6),
)
def test_held_out_pixels_are_known_ones_and_about_the_share(
    height: int, width: int, side: int, share: float, missing: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    known = torch.rand(height, width, generator=generator) >= missing
    known[0, 0] = known[-1, -1] = True
    chosen = held_out_pixels(known, share, side, lambda shape: torch.rand(shape, generator=generator))
    assert chosen.any() and not (chosen & ~known).any()
    fitted = known & ~chosen
    assert fitted.any() or side >= min(height, width) // 2
    if fitted.any() and side == 1:
        assert int(chosen.sum()) == max(1, round(share * int(known.sum()))) or int(known.sum()) < 3


def test_squares_are_whole_and_far_from_each_other_seeds_differ() -> None:
    known = torch.ones(64, 64, dtype=torch.bool)
    made = []
    for seed in (0, 0, 1):
        generator = torch.Generator().manual_seed(seed)
        made.append(held_out_pixels(known, 0.05, 8, lambda s, g=generator: torch.rand(s, generator=g)))
    squares = made[0].view(8, 8, 8, 8).permute(0, 2, 1, 3).flatten(2)
    assert torch.equal(squares.all(2), squares.any(2)) and int(squares.all(2).sum()) == 4  # 205 pixels: 3.2 squares
    assert torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])


def test_holes_are_measured() -> None:
    known = torch.ones(64, 64, dtype=torch.bool)
    assert hole_size(known) == 1
    thin = known.clone()
    thin[20:22] = False
    wide = known.clone()
    wide[20:40, 20:40] = False
    assert hole_size(thin) == 2 and 6 <= hole_size(wide) <= 9
    assert hole_size(torch.zeros(200, 200, dtype=torch.bool) | torch.eye(200, dtype=torch.bool)) == 32
