"""R3GAN's networks: equal to the authors' own, with penalties, in half precision, and to and from their names."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.fixtures.r3gan_numbers import numbers, weights
from torch import Tensor, nn

from ganwright.interop.r3gan import plan_from_state, r3gan_from_state, r3gan_to_state
from ganwright.interop.restricted import CheckpointImportError
from ganwright.losses import relativistic_d, relativistic_g
from ganwright.networks.r3gan import (
    Discriminator,
    Downsampler,
    Generator,
    R3GANPlan,
    ResidualBlock,
    Upsampler,
)
from ganwright.penalties import outputs_and_gradients

OFFICIAL = np.load(Path(__file__).parent.parent / "fixtures" / "r3gan.npz")
GAMMA = 0.7
PLAIN = R3GANPlan(16, 3, (8, 8, 4), (2, 2, 1), (1, 1, 1), latent_dim=5)
PLANS = {"plain": PLAIN, "classes": replace(PLAIN, num_classes=3, class_embedding=5, class_embedding_d=8)}


def with_official_weights(network: nn.Module, which: str) -> nn.Module:
    """The network with the weights the fixtures were made with, which depend on the official names."""
    state = dict(network.named_parameters())
    official = r3gan_to_state(state)
    for name, parameter in official.items():
        if not name.endswith("Kernel"):
            parameter.data.copy_(weights(f"{which}.{name}", parameter.shape))
    return network


def both(name: str) -> tuple[nn.Module, nn.Module, Tensor, Tensor, Tensor | None]:
    g, d = Generator(PLANS[name]), Discriminator(PLANS[name])
    labels = torch.arange(4) % 3 if name == "classes" else None
    z, real = numbers("z", (4, 5)), numbers("real", (4, 3, 16, 16))
    return with_official_weights(g, "g"), with_official_weights(d, "d"), z, real, labels


def norms(network: nn.Module) -> Tensor:
    """Of the gradients, in the order of the official names."""
    official = r3gan_to_state(dict(network.named_parameters()))
    return torch.stack([p.grad.norm() for name, p in sorted(official.items()) if not name.endswith("Kernel")])


def close(found: Tensor, name: str) -> None:
    expected = torch.from_numpy(OFFICIAL[name])
    assert found.shape == expected.shape
    scale = expected.abs().max().item()
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5 * scale), (found - expected).abs().max() / scale


@pytest.mark.parametrize("name", list(PLANS))
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_outputs_are_those_of_the_authors_code(name: str, layout: torch.memory_format) -> None:
    g, d, z, real, labels = both(name)
    for network in (g, d):
        network.to(memory_format=layout)  # type: ignore[call-overload]
    with torch.no_grad():
        close(g(z, labels), f"{name}/images")
        close(d(real.contiguous(memory_format=layout), labels), f"{name}/logits")


@pytest.mark.parametrize("name", list(PLANS))
def test_the_objective_and_its_gradients_are_those_of_the_authors_code(name: str) -> None:
    g, d, z, real, labels = both(name)
    with torch.no_grad():
        fake = g(z, labels)
    on_real, real_gradients = outputs_and_gradients(lambda x: d(x, labels), real)
    on_fake, fake_gradients = outputs_and_gradients(lambda x: d(x, labels), fake)
    r1, r2 = real_gradients.square().sum(1), fake_gradients.square().sum(1)
    loss = relativistic_d(on_real, on_fake)
    assert loss.item() == pytest.approx(OFFICIAL[f"{name}/loss_d"].mean(), rel=1e-5)
    close(r1, f"{name}/r1")
    close(r2, f"{name}/r2")
    (loss + GAMMA * (0.5 * r1.mean() + 0.5 * r2.mean())).backward()
    close(norms(d), f"{name}/gradient_norms_d")

    loss = relativistic_g(d(real, labels), d(g(z, labels), labels))
    assert loss.item() == pytest.approx(OFFICIAL[f"{name}/loss_g"].mean(), rel=1e-5)
    loss.backward()
    close(norms(g), f"{name}/gradient_norms_g")


# Derivatives and layers against formulas written out. --------------------------------------------------------


def test_second_derivatives_through_grouped_convolutions_and_resampling_are_torchs_own() -> None:
    d = with_official_weights(Discriminator(PLANS["classes"]), "d").double().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    real, labels = numbers("real", (4, 3, 16, 16)).double(), torch.tensor([0, 1, 2, 0])
    results = []
    for quick in (True, False):
        d.zero_grad()
        if quick:
            logits, gradients = outputs_and_gradients(lambda x: d(x, labels), real)
        else:
            x = real.clone().requires_grad_(True)
            logits = d(x, labels)
            gradients = torch.autograd.grad(logits.sum(), x, create_graph=True)[0].flatten(1)
        (logits.sin().sum() + gradients.square().sum()).backward()
        results.append([logits, gradients, *(p.grad.clone() for p in d.parameters())])
    for found, expected in zip(*results, strict=True):
        assert torch.allclose(found, expected, rtol=1e-10, atol=1e-12)


def padded_filter(x: np.ndarray) -> np.ndarray:
    """[1, 3, 3, 1] ⊗ [1, 3, 3, 1] / 64 slid over x (H, W) padded with a zero on each side, by two pixels a step."""
    taps = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64
    x = np.pad(x, 1)
    h, w = (x.shape[0] - 2) // 2, (x.shape[1] - 2) // 2
    return np.array([[(taps * x[2 * i : 2 * i + 4, 2 * j : 2 * j + 4]).sum() for j in range(w)] for i in range(h)])


def test_halving_is_the_filter_written_out_and_doubling_four_times_its_transpose() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(2, 3, 6, 8, dtype=torch.float64), torch.randn(2, 3, 3, 4, dtype=torch.float64)
    down = Downsampler(3, 3).double()(x)
    assert np.allclose(down[1, 2], padded_filter(x[1, 2].numpy()))
    up = Upsampler(3, 3).double()(y)
    assert up.shape == x.shape
    assert (up * x).sum().item() == pytest.approx(4 * (down * y).sum().item())
    assert Upsampler(1, 1)(torch.ones(1, 1, 5, 5))[0, 0, 2:-2, 2:-2].allclose(torch.ones(6, 6))


def test_blocks_begin_as_the_identity_and_weights_have_the_promised_spread() -> None:
    torch.manual_seed(0)
    block = ResidualBlock(width=64, groups=8, expansion=2, depth=8)
    x = torch.randn(2, 64, 4, 4)
    assert torch.equal(block(x), x)
    gain = math.sqrt(2 / 1.04) * 8**-0.25
    assert block.expand.weight.std().item() == pytest.approx(gain / math.sqrt(64), rel=0.05)
    assert block.grouped.weight.std().item() == pytest.approx(gain / math.sqrt(9 * 16), rel=0.05)
    embedding = Discriminator(replace(PLANS["classes"], num_classes=100, class_embedding_d=64)).embedding
    assert embedding is not None
    assert embedding.weight.std().item() == pytest.approx(1 / math.sqrt(64 * 100), rel=0.05)


@pytest.mark.parametrize("resolution", [16, 20, 24, 28])
def test_all_bases_from_four_to_seven_pixels(resolution: int) -> None:
    plan = replace(PLAIN, resolution=resolution, channels=1)
    image = Generator(plan)(torch.zeros(2, 5))
    assert image.shape == (2, 1, resolution, resolution)
    assert Discriminator(plan)(image).shape == (2,)


def test_classes_must_be_given_and_make_a_difference() -> None:
    g, d, z, real, labels = both("classes")
    assert labels is not None
    for network, x in ((g, z), (d, real)):
        assert not torch.equal(network(x, labels), network(x, (labels + 1) % 3))
        with pytest.raises(ValueError, match="needs labels"):
            network(x)


# Half precision. ----------------------------------------------------------------------------------------------


def dtypes_of_stages(network: nn.Module, x: Tensor, labels: Tensor | None) -> list[torch.dtype]:
    """What each stage hands on, in order."""
    found: list[torch.dtype] = []
    hooks = [stage.register_forward_hook(lambda _, __, y: found.append(y.dtype)) for stage in network.stages]
    network(x, labels)
    for hook in hooks:
        hook.remove()
    return found


def test_the_finest_stages_follow_autocast_and_images_and_logits_stay_exact() -> None:
    plan = replace(PLAIN, half_stages=2)
    g, d = with_official_weights(Generator(plan), "g"), with_official_weights(Discriminator(plan), "d")
    z, real = numbers("z", (4, 5)), numbers("real", (4, 3, 16, 16))
    full, half = torch.float32, torch.bfloat16
    assert dtypes_of_stages(g, z, None) == [full] * 3
    exact = g(z), d(real)
    with torch.autocast("cpu", torch.bfloat16):
        assert dtypes_of_stages(g, z, None) == [full, half, half]
        assert dtypes_of_stages(d, real, None) == [half, half, full]
        rounded = g(z), d(real)
    for a, b in zip(rounded, exact, strict=True):
        assert a.dtype == full and not torch.equal(a, b)
        assert F.cosine_similarity(a.flatten(), b.flatten(), 0) > 0.999


def test_penalties_are_finite_and_near_under_autocast() -> None:
    _, d, _, real, _ = both("plain")
    penalties = []
    for on in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=on):
            logits, gradients = outputs_and_gradients(d, real)
            penalty = gradients.float().square().sum(1).mean()
        d.zero_grad()
        (penalty + logits.float().mean()).backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in d.parameters())
        penalties.append(penalty.item())
    assert penalties[1] == pytest.approx(penalties[0], rel=0.05)


# Official names. ----------------------------------------------------------------------------------------------


def official_states(name: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    g, d, *_ = both(name)
    return r3gan_to_state(g.state_dict()), r3gan_to_state(d.state_dict())


@pytest.mark.parametrize("name", list(PLANS))
def test_an_official_state_becomes_settings_that_build_the_same_networks(name: str) -> None:
    g_state, d_state = official_states(name)
    imported = r3gan_from_state(g_state, d_state)
    s = imported.settings
    assert (imported.resolution, imported.channels, imported.num_classes) == (16, 3, 3 if name == "classes" else 0)
    assert (s.latent_dim, s.width, s.taper_after, s.expansion, s.group_width, s.blocks) == (5, 8, 8, 2, 8, 1)
    assert s.conditional == (name == "classes")
    g, d, *_ = both(name)
    for network, state in ((g, imported.generator), (d, imported.discriminator)):
        assert state is not None and state.keys() == network.state_dict().keys()
        assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    without = r3gan_from_state({name.removeprefix("Model."): value for name, value in g_state.items()})
    assert without.discriminator is None and without.settings == s


def test_names_are_the_official_ones() -> None:
    g_state, d_state = official_states("classes")
    assert {
        "Model.MainLayers.0.Layers.0.Basis",
        "Model.MainLayers.0.Layers.0.LinearLayer.weight",
        "Model.MainLayers.1.Layers.0.Resampler.Kernel",
        "Model.MainLayers.2.Layers.0.LinearLayer.Layer.weight",
        "Model.MainLayers.2.Layers.1.LinearLayer2.Layer.weight",
        "Model.MainLayers.2.Layers.1.NonLinearity2.Bias",
        "Model.AggregationLayer.Layer.weight",
        "Model.EmbeddingLayer.weight",
    } <= g_state.keys()
    assert {
        "Model.ExtractionLayer.Layer.weight",
        "Model.MainLayers.0.Layers.1.Resampler.Kernel",
        "Model.MainLayers.2.Layers.1.Basis.weight",
    } <= d_state.keys()


def test_the_published_sizes_are_read_off_the_shapes() -> None:
    plan = R3GANPlan(256, 3, (768,) * 4 + (384, 192, 96), (96,) * 4 + (48, 24, 12), (2,) * 7, latent_dim=64)
    with torch.device("meta"):
        state = Generator(plan).state_dict()
    assert plan_from_state(state) == plan


def test_what_is_no_r3gan_is_refused() -> None:
    g_state, d_state = official_states("plain")
    odd = "Model.MainLayers.1.Layers.1.LinearLayer1.Layer.weight"
    cases = [
        (g_state | {"Model.Extra.weight": torch.zeros(1)}, None, "no such tensor"),
        ({}, None, "not the tensors"),
        ({k: v for k, v in g_state.items() if k != odd}, None, "not the tensors"),
        (g_state | {"Model.MainLayers.99999999999.Layers.0.Basis": torch.zeros(1, 4, 4)}, None, "not the tensors"),
        (g_state | {"Model.MainLayers.1.Layers.0.Resampler.Kernel": torch.ones(4, 4)}, None, "another filter"),
        (g_state | {odd: torch.zeros(16, 9, 1, 1)}, None, "No settings build"),
        (g_state, d_state | {odd: torch.zeros(16, 9, 1, 1)}, "should be"),
    ]
    for g, d, what in cases:
        with pytest.raises(CheckpointImportError, match=what):
            r3gan_from_state(g, d)
