"""Augmenters differentiate twice, and gradient penalties through them are exactly right."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from augment_fakes import Repeated
from torch import Tensor, nn

from ganwright.augment import Augmenter
from ganwright.augment.ada import AdaptiveAugmenter
from ganwright.augment.diffaugment import DiffAugmenter
from ganwright.augment.settings import ADA_POLICIES
from ganwright.augment.warp import warp, warp_by_gathering
from ganwright.penalties import gradient_penalty, image_gradients, r1_penalty

AUGMENTERS: dict[str, Callable[[], Augmenter]] = {
    "diffaugment": DiffAugmenter,
    "bgcfnc": lambda: AdaptiveAugmenter(ADA_POLICIES["bgcfnc"], p=0.8),
    "bgc": lambda: AdaptiveAugmenter(ADA_POLICIES["bgc"], p=0.3),  # some images stay as they are
}


def _images(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64) * 2 - 1


def _grid(n: int, h: int, w: int) -> Tensor:
    theta = torch.randn(n, 2, 3, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    return F.affine_grid(theta, [n, 1, h, w], align_corners=False)  # partly beyond the image


@pytest.mark.parametrize("sample", [warp, warp_by_gathering])
def test_warp(sample: Callable[[Tensor, Tensor], Tensor]) -> None:
    images, grid = _images(2, 2, 5, 4).requires_grad_(), _grid(2, 3, 6)
    torch.testing.assert_close(sample(images, grid), F.grid_sample(images, grid, align_corners=False))
    (ours,) = torch.autograd.grad(sample(images, grid).pow(3).sum(), images)
    (torchs,) = torch.autograd.grad(F.grid_sample(images, grid, align_corners=False).pow(3).sum(), images)
    torch.testing.assert_close(ours, torchs)
    assert torch.autograd.gradcheck(lambda x: sample(x, grid), images)
    assert torch.autograd.gradgradcheck(lambda x: sample(x, grid).pow(3), images)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == "bgcfnc" else name for name in AUGMENTERS]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_first_and_second_derivatives(name: str, channels: int) -> None:
    augmenter, images = AUGMENTERS[name](), _images(3, channels, 4, 5).requires_grad_()
    assert not torch.equal(augmenter(images, Repeated()), images)
    assert torch.autograd.gradcheck(lambda x: augmenter(x, Repeated()), images)
    # Augmentation is affine in the image; the cube makes second derivatives that are not nought.
    assert torch.autograd.gradgradcheck(lambda x: augmenter(x, Repeated()).pow(3), images)


def _critic(channels: int) -> nn.Module:
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(channels, 6, 3, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(6, 4, 4, 2, 1),
        nn.ReLU(),
        nn.Conv2d(4, 5, 3, groups=1),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(5 * 4, 1),
    ]
    return nn.Sequential(*layers, nn.Flatten(0)).double()


@pytest.mark.parametrize("name", AUGMENTERS)
def test_penalties_equal_naive_ones_with_the_augmentation_as_a_matrix(name: str) -> None:
    augmenter, critic = AUGMENTERS[name](), _critic(3)
    real, fake = _images(4, 3, 8, 8), _images(4, 3, 8, 8).flip(0, 2)
    u = _images(4, 1, 1, 1).abs()

    def augmented(x: Tensor) -> Tensor:
        out: Tensor = augmenter(x, Repeated())
        return out

    # y = A x + b, where A is found column by column; a penalty is then D's own gradient times Aᵀ.
    b = augmented(torch.zeros_like(real)).flatten(1)
    size = b.shape[1]
    unit = torch.eye(size, dtype=torch.float64).view(size, 1, 3, 8, 8).expand(-1, 4, -1, -1, -1)
    a = torch.stack([augmented(unit[i]).flatten(1) - b for i in range(size)], 2)  # (N, out, in)

    def naive_gradients(x: Tensor) -> Tensor:
        y = (torch.einsum("noi,ni->no", a, x.flatten(1)) + b).view_as(x).requires_grad_()
        (gradients,) = torch.autograd.grad(critic(y).sum(), y, create_graph=True)
        return torch.einsum("noi,no->ni", a, gradients.flatten(1))

    def judged(x: Tensor) -> Tensor:
        logits: Tensor = critic(augmented(x))
        return logits

    def weight_gradients(penalty: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(penalty, list(critic.parameters()), allow_unused=True, materialize_grads=True))

    torch.testing.assert_close(image_gradients(judged, real), naive_gradients(real), atol=1e-12, rtol=1e-10)
    naive_r1 = 0.5 * naive_gradients(real).square().sum(1).mean()
    ours = r1_penalty(judged, real)
    torch.testing.assert_close(ours, naive_r1)
    torch.testing.assert_close(weight_gradients(ours), weight_gradients(naive_r1), atol=1e-12, rtol=1e-9)

    naive_gp = (naive_gradients(u * real + (1 - u) * fake).square().sum(1).sqrt() - 1).square().mean()
    ours = gradient_penalty(judged, real, fake, u)
    torch.testing.assert_close(weight_gradients(ours), weight_gradients(naive_gp), atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("name", AUGMENTERS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_does_not_reach_augmentation(name: str, dtype: torch.dtype) -> None:
    augmenter, images = AUGMENTERS[name](), _images(4, 3, 12, 12).float()
    plain = augmenter(images, Repeated())
    with torch.autocast("cpu", dtype=dtype):
        x = images.clone().requires_grad_()
        out = augmenter(x, Repeated())
        (gradients,) = torch.autograd.grad(out.pow(2).sum(), x, create_graph=True)
        gradients.square().sum().backward()
    assert torch.equal(out, plain)
    assert x.grad is not None and x.grad.isfinite().all()
    half = augmenter(images.to(dtype), Repeated())
    assert half.dtype == dtype
    torch.testing.assert_close(half.float(), plain, atol=0.05, rtol=0.05)
