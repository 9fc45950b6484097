"""Gradient penalties against closed forms, and their gradients against finite differences."""

from __future__ import annotations

from typing import get_args, get_type_hints

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ganwright.penalties import PENALTIES, clip_weights, gradient_penalty, r1_penalty, r2_penalty
from ganwright.recipes.image_settings import ImageGANSettings

SHAPE = (5, 2, 3, 3)
D = 18


def images(seed: int) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def uniform(seed: int) -> Tensor:
    return torch.rand(5, 1, 1, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_table_holds_exactly_the_names_the_settings_allow() -> None:
    assert {"none", "clip", *PENALTIES} == set(get_args(get_type_hints(ImageGANSettings)["penalty"]))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000))
def test_linear_critic(seed: int) -> None:
    # D(x) = w·x + b: the gradient is w everywhere.
    w = torch.randn(D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    def critic(x: Tensor) -> Tensor:
        return x.flatten(1) @ w + 3.0

    real, fake, u = images(seed), images(seed + 1), uniform(seed)
    norm = w.norm().item()
    assert gradient_penalty(critic, real, fake, u).item() == pytest.approx((norm - 1) ** 2)
    assert r1_penalty(critic, real).item() == pytest.approx(0.5 * norm**2)
    assert r2_penalty(critic, fake).item() == pytest.approx(0.5 * norm**2)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000))
def test_quadratic_critic(seed: int) -> None:
    # D(x) = ½ xᵀAx with symmetric A: the gradient is Ax, different for each image and for each point between.
    a = torch.randn(D, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    a = (a + a.T) / 2

    def critic(x: Tensor) -> Tensor:
        flat = x.flatten(1)
        return 0.5 * (flat @ a * flat).sum(1)

    real, fake, u = images(seed), images(seed + 1), uniform(seed)
    between = u.view(-1, 1) * real.flatten(1) + (1 - u.view(-1, 1)) * fake.flatten(1)
    expected = (((between @ a).norm(dim=1) - 1) ** 2).mean()
    assert gradient_penalty(critic, real, fake, u).item() == pytest.approx(expected.item())
    assert r1_penalty(critic, real).item() == pytest.approx(0.5 * (real.flatten(1) @ a).square().sum(1).mean().item())
    assert r2_penalty(critic, fake).item() == pytest.approx(0.5 * (fake.flatten(1) @ a).square().sum(1).mean().item())


def test_table_entries_look_at_the_right_images() -> None:
    def critic(x: Tensor) -> Tensor:
        return 0.5 * x.flatten(1).square().sum(1)  # gradient x

    real, fake, u = images(0), 3 * images(1), uniform(2)
    assert torch.allclose(PENALTIES["r1"].value(critic, real, fake, u), 0.5 * real.flatten(1).square().sum(1).mean())
    assert torch.allclose(PENALTIES["r2"].value(critic, real, fake, u), 0.5 * fake.flatten(1).square().sum(1).mean())
    # u = 1 is the real image itself
    ones = torch.ones_like(u)
    expected = (real.flatten(1).norm(dim=1) - 1).square().mean()
    assert torch.allclose(PENALTIES["gradient"].value(critic, real, fake, ones), expected)


@pytest.mark.parametrize("name", PENALTIES)
def test_gradients_with_respect_to_weights_match_finite_differences(name: str) -> None:
    # A two-layer convolutional critic with a smooth activation: the penalty is differentiated through ∇ₓD.
    real, fake, u = images(0), images(1), uniform(2)
    generator = torch.Generator().manual_seed(3)
    w1 = torch.randn(3, 2, 3, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    w2 = torch.randn(3 * 9, generator=generator, dtype=torch.float64, requires_grad=True)

    def penalty(w1: Tensor, w2: Tensor) -> Tensor:
        def critic(x: Tensor) -> Tensor:
            h = nn.functional.softplus(nn.functional.conv2d(x, w1, padding=1))
            return h.flatten(1) @ w2

        return PENALTIES[name].value(critic, real, fake, u)

    assert torch.autograd.gradcheck(penalty, (w1, w2), eps=1e-6, atol=1e-6)


def test_a_flat_critic_has_a_finite_gradient() -> None:
    # ‖∇D‖ = 0 exactly, where the norm itself has no derivative.
    w = torch.zeros(D, dtype=torch.float64, requires_grad=True)
    penalty = gradient_penalty(lambda x: x.flatten(1) @ w, images(0), images(1), uniform(2))
    penalty.backward()
    assert penalty.item() == pytest.approx(1.0, abs=1e-6)
    assert w.grad is not None and torch.isfinite(w.grad).all()


def test_penalties_reach_only_the_critic() -> None:
    real, fake = images(0).requires_grad_(True), images(1).requires_grad_(True)
    w = torch.ones(D, dtype=torch.float64, requires_grad=True)
    for penalty in PENALTIES.values():
        penalty.value(lambda x: (x.flatten(1) @ w).square(), real, fake, uniform(2)).backward()
    assert real.grad is None and fake.grad is None and w.grad is not None


def test_clipping_bounds_every_parameter_in_place() -> None:
    network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    before = [parameter.detach().clone() for parameter in network.parameters()]
    addresses = [parameter.data_ptr() for parameter in network.parameters()]
    clip_weights(network, 0.1)
    for parameter, old in zip(network.parameters(), before, strict=True):
        assert torch.equal(parameter, old.clamp(-0.1, 0.1))
    assert [parameter.data_ptr() for parameter in network.parameters()] == addresses
