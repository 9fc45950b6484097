"""StyleGAN2's layers against their definitions, and the fast path against the reference path in double precision."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.signal
import torch
from torch import Tensor

from ganwright.errors import SettingsError
from ganwright.networks.second_derivatives import QuickSecondDerivatives
from ganwright.networks.stylegan2 import (
    Discriminator,
    DiscriminatorPlan,
    Generator,
    GeneratorPlan,
    MappingPlan,
    discriminator_plan,
    generator_plan,
    reference,
    resample,
)
from ganwright.networks.stylegan2.discriminator import MinibatchStd
from ganwright.networks.stylegan2.modulation import StyledConvolution, demodulation

SMALL: dict[str, Any] = {"channel_base": 128, "channel_max": 8}
FILTERS = [
    None,
    [1, 3, 3, 1],
    [1, 2, 1],
    [1, 4, 2, 0.5],
    [3, 2, 1],
    [1, 2, 5, 7, 6, 4, 2, 1],
    [1, 2, 3, 4, 5, 4, 3, 2, 2],
]


def noisy(network: torch.nn.Module) -> None:
    """Biases and noise strengths that are not 0."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith(("bias", "noise_strength")):
                parameter.add_(0.3 * torch.randn_like(parameter))


def generator(seed: int = 0, resolution: int = 16, **changes: Any) -> Generator:
    torch.manual_seed(seed)
    changes = {"z_dim": 5, "w_dim": 6, "mapping": MappingPlan(layers=2), **SMALL, **changes}
    network = Generator(GeneratorPlan(resolution, **changes)).double()
    noisy(network)
    return network


def discriminator(seed: int = 0, resolution: int = 16, **changes: Any) -> Discriminator:
    torch.manual_seed(seed)
    network = Discriminator(DiscriminatorPlan(resolution, **{**SMALL, **changes})).double()
    noisy(network)
    return network


# Resampling. ------------------------------------------------------------------------------------------------


def test_upfirdn_is_scipys() -> None:
    x, f = torch.randn(1, 1, 7, 7).double(), torch.tensor([1.0, 4, 2, 0.5]).double()
    ours = reference.upfirdn(x, f, 3, 3, up=2, gain=3.0)[0, 0]
    # scipy pads by a filter's length less one and leaves out the zeros after the last sample.
    theirs = scipy.signal.upfirdn(f.numpy(), scipy.signal.upfirdn(f.numpy(), x[0, 0].numpy(), 2, axis=0), 2, axis=1)
    assert np.allclose(ours[:16, :16], 3 * theirs, atol=1e-12)


@pytest.mark.parametrize("taps", FILTERS, ids=str)
def test_fast_resampling_is_the_definition(taps: Any) -> None:
    f = resample.make_filter(taps)
    assert f.sum().item() == pytest.approx(1) and f.ndim == (1 if taps and len(taps) >= 8 else 2)
    x = torch.randn(2, 3, 8, 8).double()
    bias = torch.randn(5).double()
    assert torch.allclose(resample.upsample(x, f), reference.upsample(x, f), atol=1e-7)
    assert torch.allclose(resample.downsample(x, f), reference.downsample(x, f), atol=1e-7)
    for k in (1, 3, 5):
        weight = torch.randn(5, 3, k, k).double()
        for up, down in ((1, 1), (2, 1), (1, 2)):
            fast = resample.resampled_conv(x, weight, f, bias, up=up, down=down)
            slow = reference.resampled_conv(x, weight, f, bias, up=up, down=down)
            assert fast.shape == (2, 5, 8 * up // down, 8 * up // down)
            assert torch.allclose(fast, slow, atol=1e-6), (k, up, down)  # separable filters are float32


def test_the_filter_keeps_constants() -> None:
    x = torch.ones(1, 1, 16, 16)
    f = resample.make_filter([1, 3, 3, 1])
    assert torch.allclose(resample.upsample(x, f)[..., 4:-4, 4:-4], torch.ones(24, 24), atol=1e-6)
    assert torch.allclose(resample.downsample(x, f)[..., 2:-2, 2:-2], torch.ones(4, 4), atol=1e-6)


# Modulation. ------------------------------------------------------------------------------------------------


def test_demodulation_gives_unit_variance() -> None:
    torch.manual_seed(0)
    layer = StyledConvolution(64, 32, 8, 32, use_noise=False, activation="linear")
    styles = 3 + 2 * torch.randn(4, 64)
    x = torch.randn(4, 64, 32, 32)
    y = x * styles[:, :, None, None]
    y = torch.nn.functional.conv2d(y, layer.weight) * demodulation(layer.weight, styles)[:, :, None, None]
    assert y.std((2, 3)).mean().item() == pytest.approx(1, abs=0.03)


def test_a_layer_is_each_images_own_convolution() -> None:
    torch.manual_seed(0)
    layer = StyledConvolution(3, 4, 5, 8, clamp=1.2).double()
    noisy(layer)
    x, w = torch.randn(2, 3, 8, 8).double(), torch.randn(2, 5).double()
    noise = torch.randn(2, 1, 8, 8).double()
    found = layer(x, w, noise, gain=0.5)
    for i in range(2):
        s = w[i] @ layer.affine.weight.t() / math.sqrt(5) + layer.affine.bias
        own = layer.weight * s[None, :, None, None]
        own = own / (own.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        y = torch.nn.functional.conv2d(x[i : i + 1], own, padding=1) + layer.noise_strength * noise[i]
        y = y + layer.bias.view(-1, 1, 1)
        y = torch.where(y > 0, y, 0.2 * y) * math.sqrt(2) * 0.5
        assert torch.allclose(found[i : i + 1], y.clamp(-0.6, 0.6), atol=1e-12)


def test_half_precision_survives_styles_and_weights_that_would_overflow() -> None:
    torch.manual_seed(0)
    layer = StyledConvolution(64, 64, 8, 16, use_noise=False, clamp=256)
    with torch.no_grad():
        layer.weight.mul_(1000)
        layer.affine.weight.mul_(1000)
    x, w = 100 * torch.randn(2, 64, 16, 16), torch.randn(2, 8)
    exact = layer(x, w, None)
    with torch.autocast("cpu", torch.float16):
        half = layer(x.half(), w, None)
    assert half.dtype == torch.float16 and torch.isfinite(half).all()
    assert (half.float() - exact).abs().max() < 0.01 * exact.abs().max()


# Whole networks: values, gradients, second derivatives. ------------------------------------------------------


def close(fast: Tensor, slow: Tensor) -> None:
    assert (fast - slow).detach().abs().max() <= 1e-9 * max(1.0, slow.detach().abs().max().item())


def weight_gradients(network: torch.nn.Module) -> dict[str, Tensor]:
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("clamp", [None, 0.8])
@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
def test_the_generators_paths_agree(architecture: str, clamp: float | None, quick: bool) -> None:
    results = []
    for operations in ("reference", "fast"):
        network = generator(architecture=architecture, conv_clamp=clamp, operations=operations, c_dim=3)
        rng = torch.Generator().manual_seed(1)

        def normal(*shape: int, rng: torch.Generator = rng) -> Tensor:
            return torch.randn(shape, generator=rng).double()

        ws = network.styles(normal(3, 5), torch.tensor([0, 2, 1]))
        if quick and operations == "fast":
            with QuickSecondDerivatives(ws) as layers:
                images = network.synthesis(ws, network.synthesis.draw_noise(normal, 3))
                layers.only_images = True
                (gradient,) = torch.autograd.grad((images * normal(*images.shape)).sum(), ws, create_graph=True)
                layers.only_images = False
        else:
            images = network.synthesis(ws, network.synthesis.draw_noise(normal, 3))
            (gradient,) = torch.autograd.grad((images * normal(*images.shape)).sum(), ws, create_graph=True)
        ((gradient.square().sum((1, 2)).sqrt() - 1).square().sum() + images.square().mean()).backward()
        results.append((images, gradient, weight_gradients(network)))
    (slow, slow_gradient, slow_weights), (fast, fast_gradient, fast_weights) = results
    close(fast, slow)
    close(fast_gradient, slow_gradient)
    assert fast_weights.keys() == slow_weights.keys()
    for name, value in slow_weights.items():
        close(fast_weights[name], value)


@pytest.mark.parametrize("clamp", [None, 0.8])
@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
def test_the_discriminators_paths_agree(architecture: str, clamp: float | None) -> None:
    results = []
    for operations in ("reference", "fast"):
        network = discriminator(architecture=architecture, conv_clamp=clamp, operations=operations, c_dim=3)
        x = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1)).double().requires_grad_(True)
        logits = network(x, torch.tensor([0, 2, 1, 1]))
        (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
        (gradient.square().sum() + logits.square().sum()).backward()
        results.append((logits, gradient, weight_gradients(network)))
    (slow, slow_gradient, slow_weights), (fast, fast_gradient, fast_weights) = results
    close(fast, slow)
    close(fast_gradient, slow_gradient)
    for name, value in slow_weights.items():
        close(fast_weights[name], value)


def test_half_precision_is_kept_to_the_highest_resolutions() -> None:
    network = Generator(GeneratorPlan(32, half_blocks=2, conv_clamp=256.0, **SMALL))
    critic = Discriminator(DiscriminatorPlan(32, half_blocks=2, conv_clamp=256.0, **SMALL))
    assert [block.half_precision for block in network.synthesis.blocks] == [False, False, True, True]
    ws = network.styles(torch.randn(2, 512))
    exact, logits = network.synthesis(ws), critic(network.synthesis(ws))
    with torch.autocast("cpu", torch.bfloat16):
        images, maps = network.synthesis.features(ws)
        close_logits = critic(exact)
    assert [m.dtype for m in maps] == [torch.float32] * 2 + [torch.bfloat16] * 2
    assert images.dtype == close_logits.dtype == torch.float32
    assert (images - exact).abs().max() < 0.05 * exact.abs().max()
    assert (close_logits - logits).abs().max() < 0.1 * max(1.0, logits.detach().abs().max().item())


def test_networks_differentiate_under_autocast() -> None:
    network = Generator(GeneratorPlan(16, half_blocks=4, conv_clamp=256.0, **SMALL))
    ws = network.styles(torch.randn(2, 512)).detach().requires_grad_(True)
    with torch.autocast("cpu", torch.bfloat16):
        images = network.synthesis(ws)
    (gradient,) = torch.autograd.grad(images.square().sum(), ws, create_graph=True)
    gradient.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.synthesis.parameters() if p.grad is not None)


# Parts. -----------------------------------------------------------------------------------------------------


def test_minibatch_standard_deviation_by_loops() -> None:
    x = torch.randn(6, 4, 2, 2).double()
    found = MinibatchStd(3, channels=2)(x)
    assert found.shape == (6, 6, 2, 2) and torch.equal(found[:, :4], x)
    for i in range(6):
        members = [j for j in range(6) if j % 2 == i % 2]
        for k in range(2):
            part = x[members][:, 2 * k : 2 * k + 2]
            spread = (part.var(0, correction=0) + 1e-8).sqrt().mean()
            assert torch.allclose(found[i, 4 + k], spread.expand(2, 2))


@pytest.mark.parametrize(("rows", "group", "size"), [(7, 4, 1), (6, 4, 3), (8, 4, 4), (2, 4, 2), (5, None, 5)])
def test_groups_divide_any_batch(rows: int, group: int | None, size: int) -> None:
    x = torch.randn(rows, 2, 4, 4)
    spread = MinibatchStd(group)(x)[:, 2, 0, 0]
    assert len(set(spread.tolist())) == (1 if size == 1 else rows // size)


def test_noise_is_what_is_passed_in() -> None:
    network = generator()
    ws = network.styles(torch.randn(2, 5).double())
    torch.manual_seed(1)
    assert torch.equal(network.synthesis(ws), network.synthesis(ws))
    constants = [c.noise_const for b in network.synthesis.blocks for c in b.convolutions]
    assert torch.allclose(network.synthesis(ws, constants), network.synthesis(ws, "const"))
    assert torch.allclose(network.synthesis(ws, [0 * c for c in constants]), network.synthesis(ws, "none"))
    drawn = network.synthesis.draw_noise(lambda *shape: torch.randn(shape).double(), 2)
    assert [tuple(n.shape) for n in drawn] == [(2, 1, r, r) for r in (4, 8, 8, 16, 16)]
    assert not torch.allclose(network.synthesis(ws, drawn), network.synthesis(ws))


def test_truncation() -> None:
    network = generator()
    network.mapping.w_avg.normal_()
    z = torch.randn(3, 5).double()
    mean = network.synthesis(network.mapping.w_avg.expand(1, network.synthesis.num_ws, -1))
    assert torch.allclose(network(z, truncation=0.0), mean.expand(3, -1, -1, -1))
    assert torch.equal(network(z, truncation=1.0), network(z))
    ws, half = network.styles(z), network.styles(z, truncation=0.5, cutoff=2)
    assert torch.allclose(half[:, :2], (ws[:, :2] + network.mapping.w_avg) / 2)
    assert torch.equal(half[:, 2:], ws[:, 2:])


def test_the_mean_of_w_is_tracked_when_asked() -> None:
    network = generator(mapping=MappingPlan(layers=1, w_avg_beta=0.9))
    w = network.mapping(torch.randn(8, 5).double())
    assert network.mapping.w_avg.abs().max() == 0
    network.mapping.track(w)
    network.mapping.track(w + 1)
    expected = 0.9 * 0.1 * w.mean(0) + 0.1 * (w + 1).mean(0)
    assert torch.allclose(network.mapping.w_avg, expected)


def test_layers_name_what_each_style_goes_into() -> None:
    network = generator()
    names = [layer.name for layer in network.synthesis.layers]
    assert names == ["b4.conv1", "b8.conv0", "b8.conv1", "b16.conv0", "b16.conv1", "b16.torgb"]
    ws = network.styles(torch.randn(1, 5).double()).detach()
    for i, layer in enumerate(network.synthesis.layers):
        seen: list[Tensor] = []
        hooks = [
            m.affine.register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[0])) for m in layer.modules
        ]
        marked = ws.clone()
        marked[:, i] = 7.0
        network.synthesis(marked)
        assert len(seen) == len(layer.modules) and all((s == 7).all() for s in seen)
        for hook in hooks:
            hook.remove()


def test_features_are_the_maps_of_each_resolution() -> None:
    network = generator(resolution=32)
    ws = network.styles(torch.randn(2, 5).double())
    images, maps = network.synthesis.features(ws)
    assert torch.equal(images, network.synthesis(ws))
    assert [tuple(m.shape) for m in maps] == [(2, min(128 // r, 8), r, r) for r in (4, 8, 16, 32)]


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: GeneratorPlan(48), "32 or 64"),
        (lambda: DiscriminatorPlan(2), "4 or 8"),
        (lambda: GeneratorPlan(16, architecture="residual"), "architecture"),
        (lambda: generator_plan({"img_resolution": 16, "magnitude_ema_beta": 0.5}, "stylegan3"), "magnitude_ema_beta"),
        (lambda: discriminator_plan({"img_resolution": 16, "widths": 3}, "stylegan3"), "widths"),
    ],
)
def test_impossible_plans_are_refused(make: Any, told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        make()
    assert told in str(caught.value)


def test_each_repository_has_its_defaults() -> None:
    size = {"img_resolution": 16, "img_channels": 3}
    ada, sg3 = generator_plan(size, "stylegan2-ada-pytorch"), generator_plan(size, "stylegan3")
    assert (ada.conv_clamp, ada.mapping.w_avg_beta) == (None, 0.995)
    assert (sg3.conv_clamp, sg3.mapping.w_avg_beta) == (256, 0.998)
    assert replace(sg3, conv_clamp=None, half_blocks=0, mapping=ada.mapping) == ada


@pytest.mark.slow
@pytest.mark.parametrize("half", [False, True])
def test_networks_compile_as_one_graph(half: bool) -> None:
    network = Generator(GeneratorPlan(8, half_blocks=1, conv_clamp=256.0, w_dim=8, z_dim=8, **SMALL))
    critic = Discriminator(DiscriminatorPlan(8, half_blocks=1, conv_clamp=256.0, **SMALL))
    ws = network.styles(torch.randn(4, 8))
    noise = network.synthesis.draw_noise(lambda *shape: torch.randn(shape), 4)
    torch.compiler.reset()
    synthesise, judge = (
        torch.compile(forward, backend="aot_eager", fullgraph=True) for forward in (network.synthesis, critic)
    )
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        images, logits = synthesise(ws, noise), judge(network.synthesis(ws, noise))
        assert torch.allclose(images, network.synthesis(ws, noise), atol=1e-6)
        assert torch.allclose(logits, critic(network.synthesis(ws, noise)), atol=1e-6)
    logits.sum().backward()
    assert all(p.grad is not None for p in critic.parameters())
