"""Adversarial losses against torch's own formulas, hand-worked values and the theory's optimum."""

from __future__ import annotations

import math
from typing import get_args, get_type_hints

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from ganwright.losses import LOSSES, d_accuracy
from ganwright.recipes.image_settings import ImageGANSettings

real = torch.tensor([2.0, -0.5, 0.0])
fake = torch.tensor([-1.0, 3.0])
logits = st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=8).map(torch.tensor)


def test_the_table_holds_exactly_the_names_the_settings_allow() -> None:
    assert set(LOSSES) == set(get_args(get_type_hints(ImageGANSettings)["loss"]))


@given(logits, logits)
def test_cross_entropy_losses_are_binary_cross_entropy(real: torch.Tensor, fake: torch.Tensor) -> None:
    ones, zeros = torch.ones_like, torch.zeros_like
    bce = F.binary_cross_entropy_with_logits
    expected_d = bce(real, ones(real)) + bce(fake, zeros(fake))
    for name in ("minimax", "non-saturating"):
        assert torch.allclose(LOSSES[name].discriminator(real, fake), expected_d, atol=1e-5)
    assert torch.allclose(LOSSES["non-saturating"].generator(fake), bce(fake, ones(fake)), atol=1e-5)
    assert torch.allclose(LOSSES["minimax"].generator(fake), -bce(fake, zeros(fake)), atol=1e-5)


@given(logits, st.floats(0.5, 1.0))
def test_one_sided_smoothing_moves_the_target_of_reals_only(real: torch.Tensor, target: float) -> None:
    loss = LOSSES["non-saturating"].discriminator(real, fake, real_target=target)
    expected = F.binary_cross_entropy_with_logits(real, torch.full_like(real, target))
    expected = expected + F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))
    assert torch.allclose(loss, expected, atol=1e-5)


def test_least_squares_is_half_the_mean_squared_error() -> None:
    loss = LOSSES["least-squares"]
    mse = F.mse_loss
    assert torch.allclose(
        loss.discriminator(real, fake),
        0.5 * mse(real, torch.ones(3)) + 0.5 * mse(fake, torch.zeros(2)),
    )
    assert torch.allclose(
        loss.discriminator(real, fake, real_target=0.9),
        0.5 * mse(real, torch.full((3,), 0.9)) + 0.5 * mse(fake, torch.zeros(2)),
    )
    assert torch.allclose(loss.generator(fake), 0.5 * mse(fake, torch.ones(2)))


def test_wasserstein_and_hinge_by_hand() -> None:
    # means: real 0.5, fake 1
    assert LOSSES["wasserstein"].discriminator(real, fake).item() == pytest.approx(0.5)
    assert LOSSES["wasserstein"].generator(fake).item() == pytest.approx(-1.0)
    # reals: max(0, 1 - x) = 0, 1.5, 1; fakes: max(0, 1 + x) = 0, 4
    assert LOSSES["hinge"].discriminator(real, fake).item() == pytest.approx(2.5 / 3 + 2.0)
    assert LOSSES["hinge"].generator(fake).item() == pytest.approx(-1.0)


def test_the_optimal_discriminator_on_equal_distributions_gives_minus_log_4() -> None:
    # Goodfellow et al. 2014, theorem 1: D* = 1/2 everywhere, value -log 4, which the discriminator's loss
    # negates.
    logits = torch.zeros(100, requires_grad=True)
    loss = LOSSES["minimax"].discriminator(logits, logits)
    assert loss.item() == pytest.approx(math.log(4))
    loss.backward()
    assert logits.grad is not None and torch.allclose(logits.grad, torch.zeros(100), atol=1e-8)


def test_the_optimal_discriminator_of_two_discrete_distributions() -> None:
    # D* = p / (p + q): minimise the expected loss over p = (.7, .2, .1), q = (.1, .3, .6) and compare with
    # proposition 1 and with 2·JSD(p, q) - log 4.
    p, q = (
        torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64),
        torch.tensor([0.1, 0.3, 0.6], dtype=torch.float64),
    )
    v = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    rows_p, rows_q = (torch.repeat_interleave(torch.arange(3), torch.tensor(n)) for n in ([7, 2, 1], [1, 3, 6]))
    optimizer = torch.optim.LBFGS([v], max_iter=100, tolerance_grad=1e-12, tolerance_change=1e-14)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss: torch.Tensor = LOSSES["minimax"].discriminator(v[rows_p], v[rows_q])
        loss.backward()
        return loss

    optimizer.step(closure)
    assert torch.allclose(torch.sigmoid(v), p / (p + q), atol=1e-5)
    m = (p + q) / 2
    jsd = 0.5 * (p * (p / m).log()).sum() + 0.5 * (q * (q / m).log()).sum()
    assert -closure().item() == pytest.approx(2 * jsd.item() - math.log(4), abs=1e-9)


def test_gradients_on_hopeless_fakes_vanish_for_minimax_only() -> None:
    for name, expected in (("minimax", 0.0), ("non-saturating", -1.0)):
        x = torch.tensor([-20.0], requires_grad=True)
        LOSSES[name].generator(x).backward()
        assert x.grad is not None and x.grad.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_stay_finite_at_extreme_outputs(name: str) -> None:
    x = torch.tensor([-1e4, 1e4], requires_grad=True)
    (LOSSES[name].discriminator(x, x) + LOSSES[name].generator(x)).backward()
    assert x.grad is not None and torch.isfinite(x.grad).all()


def test_accuracy_counts_reals_and_fakes_alike() -> None:
    assert d_accuracy(real, fake, 0.0).item() == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert d_accuracy(torch.tensor([0.6, 0.4]), torch.tensor([0.4]), 0.5).item() == pytest.approx(0.75)
