"""Layers and derivatives that save work give the numbers of the plain ones: values, gradients, second derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ganwright.networks.blocks import spectral_normalise
from ganwright.networks.conditional import NetworkPlan
from ganwright.networks.dcgan import DCGANDiscriminator
from ganwright.networks.resnet import PooledConv2d, ResNetDiscriminator, UpsampledConv2d
from ganwright.networks.second_derivatives import _convolution
from ganwright.penalties import image_gradients


def pooled(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.avg_pool2d(F.conv2d(x, weight, bias, padding=1), 2)


def upsampled(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.conv2d(x.repeat_interleave(2, 2).repeat_interleave(2, 3), weight, bias, padding=1)


PLAIN: dict[type[nn.Conv2d], Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    PooledConv2d: pooled,
    UpsampledConv2d: upsampled,
}


def derivatives(y: Tensor, x: Tensor, parameters: list[Tensor]) -> list[Tensor]:
    """y, the gradients of a penalty on ∂(Σ sin y)/∂x, and that gradient itself."""
    (gradient,) = torch.autograd.grad(y.sin().sum(), x, create_graph=True)
    loss = gradient.square().sum() + y.cos().sum()
    return [y, gradient, *torch.autograd.grad(loss, [x, *parameters])]


@pytest.mark.parametrize("kind", list(PLAIN))
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 99), height=st.integers(2, 7), width=st.integers(2, 7))
def test_one_convolution_does_the_work_of_two_layers(kind: type[nn.Conv2d], seed: int, height: int, width: int) -> None:
    torch.manual_seed(seed)
    layer = kind(3, 4).double()  # type: ignore[call-arg]
    x = torch.randn(2, 3, height, width, dtype=torch.float64, requires_grad=True)
    parameters = [layer.weight, layer.bias]
    expected = derivatives(PLAIN[kind](x, *parameters), x, parameters)
    for found, value in zip(derivatives(layer(x), x, parameters), expected, strict=True):
        assert torch.allclose(found, value, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", list(PLAIN))
def test_they_are_saved_and_spectrally_normalised_like_any_convolution(kind: type[nn.Conv2d]) -> None:
    torch.manual_seed(0)
    layer, plain = kind(3, 4), nn.Conv2d(3, 4, 3)  # type: ignore[call-arg]
    plain.load_state_dict(layer.state_dict())
    spectral_normalise(layer)
    for _ in range(50):
        layer(torch.randn(1, 3, 4, 4))
    largest = torch.linalg.svdvals(layer.weight.detach().flatten(1))[0].item()
    assert largest == pytest.approx(1.0, abs=1e-4)


# Second derivatives. -----------------------------------------------------------------------------------------


def own_kernels(x: Tensor) -> Tensor:
    """Kernels computed from the image: they pass gradients on to it."""
    parts = [F.conv2d(one[None], one.mean((1, 2)).view(1, -1, 1, 1), one.max()[None], padding=1) for one in x]
    parts += [F.conv2d(one[None], torch.ones(1, 3, 1, 1, dtype=x.dtype), one.max()[None], padding=1) for one in x]
    return torch.cat(parts).square().flatten(1).sum(1)  # two numbers an image, of that image only


class Mixed(nn.Module):
    """Every kind of layer that is, or is not, dealt with."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.b = nn.Conv2d(8, 8, 3, padding=(2, 1), dilation=(2, 1), bias=False)
        self.c = nn.Conv2d(8, 8, 3, padding="same", groups=2)
        self.d = nn.Conv2d(8, 4, 2)
        self.norm = nn.InstanceNorm2d(8, affine=True)
        self.last = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(self.a(x), 0.2, inplace=True)
        h = h + F.relu(self.norm(self.b(h)), inplace=True) + F.softplus(self.c(h))
        h = torch.relu(h - 1) - F.leaky_relu(1 - h, -0.1)
        h = F.leaky_relu(input=h, negative_slope=0.3) + torch.tanh(h)
        h = self.d(h).sigmoid()
        y: Tensor = self.last(h.mean((2, 3))).squeeze(1)
        return y


def critics() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    plan = NetworkPlan(resolution=16, channels=3, width=6, growth=2)
    resnet, dcgan = ResNetDiscriminator(plan), DCGANDiscriminator(plan)
    normalised = ResNetDiscriminator(plan)
    spectral_normalise(normalised)
    return {
        "mixed": Mixed(),
        "resnet": resnet,
        "dcgan": dcgan,
        "spectral norm": normalised.eval(),
        "nn.Sequential": nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.LazyLinear(1)),
    }


def outputs(critic: nn.Module, x: Tensor) -> Tensor:
    y = critic(x)
    return (y if isinstance(y, Tensor) else y.logits).flatten()


def torchs_own(critic: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    x = images.detach().requires_grad_(True)
    return torch.autograd.grad(critic(x).sum(), x, create_graph=True)[0].flatten(1)


@pytest.mark.parametrize("name", ["mixed", "resnet", "dcgan", "spectral norm", "nn.Sequential"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradients_of_gradients_are_torchs_own(name: str, layout: torch.memory_format) -> None:
    critic = critics()[name].double()
    images = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    critic(images)  # lazy layers take their shape
    critic.to(memory_format=layout)  # type: ignore[call-overload]
    images = images.contiguous(memory_format=layout)
    results = []
    for gradients_of in (torchs_own, image_gradients):
        critic.zero_grad()
        gradients = gradients_of(lambda x: outputs(critic, x), images)
        # with a loss on the outputs as well, as in training
        loss = (gradients.norm(dim=1) - 1).square().mean() + outputs(critic, images).square().mean()
        loss.backward()
        results.append([gradients, loss, *(p.grad for p in critic.parameters())])
    assert len(results[0]) > 4
    for found, expected in zip(results[1], results[0], strict=True):
        assert expected is not None and expected.any()
        assert torch.allclose(found, expected, rtol=1e-9, atol=1e-11)


def test_kernels_made_from_the_image_pass_gradients_on() -> None:
    images = torch.randn(3, 3, 5, 5, dtype=torch.float64)
    assert torch.allclose(image_gradients(own_kernels, images), torchs_own(own_kernels, images), rtol=1e-10)


@pytest.mark.parametrize(
    "geometry",
    [
        ([1, 1], [1, 1], [1, 1], 1),
        ([2, 1], [0, 2], [1, 2], 1),
        ([1, 1], [1, 1], [1, 1], 2),
        ([2, 2], [1, 1], [1, 1], 4),
    ],
)
def test_the_convolution_differentiates_twice(geometry: Any) -> None:
    torch.manual_seed(0)
    shapes = ((2, 4, 6, 7), (4, 4 // geometry[3], 3, 3), (4,))
    x, weight, bias = (torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes)

    def convolution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return _convolution(x, weight, bias, geometry, None)  # type: ignore[no-any-return]

    assert torch.equal(convolution(x, weight, bias), F.conv2d(x, weight, bias, *geometry))
    assert torch.autograd.gradcheck(convolution, (x, weight, bias))
    assert torch.autograd.gradgradcheck(convolution, (x, weight, bias))


class Counting(TorchDispatchMode):
    """Counts convolutions by the side of their kernels, and the gradients asked of `convolution_backward`."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels: list[int] = []
        self.gradients = [0, 0]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution.default:
            self.kernels.append(args[1].shape[-1])
        elif func is torch.ops.aten.convolution_backward.default:
            self.gradients = [n + wanted for n, wanted in zip(self.gradients, args[-1], strict=False)]
        return func(*args, **(kwargs or {}))


def test_no_more_work_is_done_than_the_penalty_needs() -> None:
    # Four convolutions: one forward pass and one of gradients of the image; then, for the weights, one forward
    # pass of the gradient's gradient and one weight gradient each. Nothing goes back through the first pass.
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs in (3, 4, 4, 4):
        layers += [nn.Conv2d(inputs, 4, 3, padding=1), nn.ReLU()]
    critic = nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * 256, 1))
    with Counting() as counting:
        image_gradients(critic, torch.randn(2, 3, 16, 16)).square().sum().backward()
    assert counting.kernels == [3] * 8
    assert counting.gradients == [4, 4]


def test_mixed_precision_is_left_to_torch() -> None:
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 1))
    images = torch.randn(2, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = image_gradients(critic, images), torchs_own(critic, images)
    assert torch.equal(found, expected)
    found.square().sum().backward()
    assert all(p.grad is not None for p in critic[0].parameters() if p.ndim > 1)
