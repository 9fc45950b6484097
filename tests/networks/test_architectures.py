"""Shapes and parameter counts of the networks, against the papers' tables and hand counts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from ganwright.networks.blocks import spectral_normalise
from ganwright.networks.conditional import HEADS, RESOLUTIONS, NetworkPlan, halvings
from ganwright.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from ganwright.networks.initialise import INITIALISERS, initialise
from ganwright.networks.mlp import MLPDiscriminator, MLPGenerator
from ganwright.networks.resnet import ResNetDiscriminator, ResNetGenerator

PAIRS = {
    "mlp": (MLPGenerator, MLPDiscriminator),
    "dcgan": (DCGANGenerator, DCGANDiscriminator),
    "resnet": (ResNetGenerator, ResNetDiscriminator),
}
TINY = NetworkPlan(resolution=16, channels=3, width=4, growth=2, latent_dim=6)


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_dcgan_has_the_published_parameter_counts() -> None:
    plan = NetworkPlan(resolution=64, channels=3, width=64, norm="batch", latent_dim=100)
    assert count(DCGANGenerator(plan)) == 3_576_704
    assert count(DCGANDiscriminator(plan)) == 2_765_568


def test_sngan_cifar_networks_match_the_table() -> None:
    # Miyato et al. 2018, CIFAR-10: dense 4·4·256, three up blocks of 256, 3x3 conv; two down blocks and two
    # flat ones of 128, sum, dense 1. Counted by hand from layer sizes (biases everywhere, 1x1 shortcuts where
    # needed).
    def conv(inputs: int, outputs: int, size: int = 3) -> int:
        return inputs * outputs * size * size + outputs

    plan = NetworkPlan(resolution=32, channels=3, width=256, growth=1, norm="batch", latent_dim=128)
    up = 2 * 2 * 256 + 2 * conv(256, 256) + conv(256, 256, 1)
    generator = 128 * 4096 + 4096 + 3 * up + 2 * 256 + conv(256, 3)
    assert count(ResNetGenerator(plan)) == generator == 4_276_739

    plan = NetworkPlan(resolution=32, channels=3, width=128, growth=1)
    first = conv(3, 128) + conv(128, 128) + conv(3, 128, 1)
    down = 2 * conv(128, 128) + conv(128, 128, 1)
    flat = 2 * conv(128, 128)
    discriminator = ResNetDiscriminator(plan)
    assert count(discriminator) == first + down + 2 * flat + 128 + 1
    assert [block.down for block in discriminator.blocks] == [True, True, False, False]


def test_sngan_imagenet_networks_match_the_table() -> None:
    # Miyato et al. 2018, 128x128: G dense 4·4·1024, blocks 1024 512 256 128 64; D blocks 64 … 1024, then 1024
    # flat.
    plan = NetworkPlan(resolution=128, channels=3, width=64, growth=16)
    with torch.device("meta"):
        generator, discriminator = ResNetGenerator(plan), ResNetDiscriminator(plan)
    assert generator.from_latent.out_features == 4 * 4 * 1024
    assert [block.conv2.out_channels for block in generator.blocks] == [1024, 512, 256, 128, 64]
    assert [block.conv2.out_channels for block in discriminator.blocks] == [64, 128, 256, 512, 1024, 1024]
    assert [block.down for block in discriminator.blocks] == [True] * 5 + [False]


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("head", HEADS)
def test_every_architecture_with_every_conditioning(name: str, channels: int, head: str) -> None:
    classes = 0 if head == "none" else 5
    plan = replace(TINY, channels=channels, num_classes=classes, norm="batch", depth=2)
    make_g, make_d = PAIRS[name]
    generator = make_g(replace(plan, class_embedding=3 if classes else 0))
    discriminator = make_d(replace(plan, head=head))
    labels = torch.tensor([0, 4, 2]) if classes else None
    images = generator(torch.randn(3, 6), labels)
    assert images.shape == (3, channels, 16, 16) and images.abs().max() <= 1
    verdict = discriminator(images, labels)
    assert verdict.logits.shape == (3,)
    assert (verdict.class_logits is not None) == (head == "auxiliary")
    if verdict.class_logits is not None:
        assert verdict.class_logits.shape == (3, 5)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("head", ["concat", "projection"])
def test_the_verdict_depends_on_the_class(name: str, head: str) -> None:
    torch.manual_seed(0)
    discriminator = PAIRS[name][1](replace(TINY, num_classes=5, head=head))
    images = torch.randn(1, 3, 16, 16).expand(5, -1, -1, -1)
    logits = discriminator(images, torch.arange(5)).logits
    assert len(set(logits.tolist())) == 5
    with pytest.raises(ValueError, match="labels"):
        discriminator(images)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("conditional_norm", [False, True])
def test_the_image_depends_on_the_class(name: str, conditional_norm: bool) -> None:
    torch.manual_seed(0)
    plan = replace(TINY, width=16, num_classes=2, norm="batch", conditional_norm=conditional_norm)
    generator = PAIRS[name][0](plan if conditional_norm else replace(plan, class_embedding=3))
    for module in generator.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight)
    z = torch.randn(1, 6).expand(4, -1)
    images = generator.eval()(z, torch.tensor([0, 1, 0, 1]))
    assert torch.allclose(images[0], images[2]) and not torch.allclose(images[0], images[1])
    with pytest.raises(ValueError, match="labels"):
        generator(z)


def test_the_projection_is_the_inner_product_with_the_class_vector() -> None:
    # Miyato & Koyama 2018, eq. 3, taken apart.
    head = HEADS["projection"](7, replace(TINY, num_classes=3))
    phi, y = torch.randn(4, 7), torch.tensor([2, 0, 1, 2])
    v, psi = head.embedding.weight, head.linear  # type: ignore[union-attr]
    expected = torch.stack([psi(phi[i])[0] + v[y[i]] @ phi[i] for i in range(4)])
    assert torch.allclose(head(phi, y).logits, expected, atol=1e-6)


def test_resolutions() -> None:
    assert {16, 28, 32, 48, 64, 96, 128, 256} <= set(RESOLUTIONS)
    assert not {8, 30, 33, 50, 100, 512} & set(RESOLUTIONS)
    assert all(base * 2**k == r and 4 <= base <= 7 for r in RESOLUTIONS for base, k in [halvings(r)])
    with pytest.raises(ValueError, match="50 pixels"):
        halvings(50)


@pytest.mark.parametrize("resolution", RESOLUTIONS)
@pytest.mark.parametrize("name", ["dcgan", "resnet"])
def test_every_listed_resolution_can_be_made(resolution: int, name: str) -> None:
    plan = NetworkPlan(resolution=resolution, channels=1, width=2, growth=2, latent_dim=4)
    make_g, make_d = PAIRS[name]
    with torch.device("meta"):
        images = make_g(plan)(torch.empty(2, 4))
        logits = make_d(plan)(images).logits
    assert images.shape == (2, 1, resolution, resolution) and logits.shape == (2,)


def test_the_mlp_makes_any_resolution() -> None:
    plan = NetworkPlan(resolution=29, channels=1, width=8, depth=3, latent_dim=4)
    images = MLPGenerator(plan)(torch.randn(2, 4))
    assert images.shape == (2, 1, 29, 29) and MLPDiscriminator(plan)(images).logits.shape == (2,)


def test_depth_adds_layers() -> None:
    for make_g, make_d in PAIRS.values():
        for make in (make_g, make_d):
            assert count(make(replace(TINY, depth=3))) > count(make(replace(TINY, depth=2)))


def test_sum_and_mean_pooling_differ_by_the_number_of_positions() -> None:
    plan = replace(TINY, resolution=32)
    summing, averaging = ResNetDiscriminator(plan), ResNetDiscriminator(replace(plan, pooling="mean"))
    x = torch.randn(2, 3, 32, 32)
    averaging.load_state_dict(summing.state_dict())
    assert torch.allclose(summing.features(x), 64 * averaging.features(x), atol=1e-4)


@pytest.mark.parametrize("name", INITIALISERS)
def test_initialisation_draws_what_it_says(name: str) -> None:
    torch.manual_seed(0)
    layer, norm = nn.Conv2d(64, 128, 3), nn.BatchNorm2d(128)
    drawn = layer.weight.detach().clone()
    initialise(nn.Sequential(layer, norm), name)
    fan_in, fan_out = 64 * 9, 128 * 9
    std = {
        "normal": 0.02,
        "xavier": (2.0 * 2.0 / (fan_in + fan_out)) ** 0.5,  # Glorot & Bengio 2010, gain √2
        "he": (2.0 / fan_in) ** 0.5,  # He et al. 2015
    }
    if name in std:
        assert layer.weight.std().item() == pytest.approx(std[name], rel=0.02)
        assert layer.bias is not None and not layer.bias.any()
    elif name == "orthogonal":
        flat = layer.weight.flatten(1)
        assert torch.allclose(flat @ flat.T, torch.eye(128), atol=1e-5)
    else:
        assert torch.equal(layer.weight, drawn)
    assert norm.weight.std().item() == pytest.approx(0.02 if name == "normal" else 0.0, rel=0.3)


def test_spectral_norm_fits_every_architecture() -> None:
    for make_g, make_d in PAIRS.values():
        generator, discriminator = make_g(TINY), make_d(replace(TINY, num_classes=3, head="projection"))
        spectral_normalise(generator)
        spectral_normalise(discriminator)
        assert any("embedding.parametrizations" in name for name in discriminator.state_dict())
        discriminator(generator(torch.randn(2, 6)), torch.tensor([0, 1])).logits.sum().backward()
        assert all(parameter.grad is not None for parameter in generator.parameters())
