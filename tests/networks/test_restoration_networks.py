"""Restoration networks equal the papers' definitions, written out naively in float64."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganwright.networks.denoiser import DnCNN, UNetDenoiser
from ganwright.networks.rrdb import RRDBNet
from ganwright.networks.sr_discriminator import SRDiscriminator
from ganwright.networks.srresnet import MSRResNet, SRResNet

State = Mapping[str, Tensor]


def shaken(network: nn.Module, seed: int = 0) -> nn.Module:
    """In float64, with weights and running statistics that hide nothing."""
    generator = torch.Generator().manual_seed(seed)
    network.double().eval()
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                drawn = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
                tensor.copy_(0.5 + drawn.abs() if "running_var" in name else 0.15 * drawn + 0.05)
    return network


def images(channels: int, height: int = 7, width: int = 9) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(2, channels, height, width, generator=generator, dtype=torch.float64) * 2 - 1


def conv(s: State, name: str, x: Tensor) -> Tensor:
    weight = s[f"{name}.weight"]
    return F.conv2d(x, weight, s.get(f"{name}.bias"), padding=weight.shape[-1] // 2)


def norm(s: State, name: str, x: Tensor) -> Tensor:
    def shaped(key: str) -> Tensor:
        return s[f"{name}.{key}"].view(1, -1, 1, 1)

    centred = (x - shaped("running_mean")) / (shaped("running_var") + 1e-5).sqrt()
    return centred * shaped("weight") + shaped("bias")


def prelu(s: State, name: str, x: Tensor) -> Tensor:
    return torch.where(x > 0, x, s[f"{name}.weight"] * x)


def shuffled(x: Tensor, r: int) -> Tensor:
    """Channel c·r² + i·r + j becomes channel c at row offset i and column offset j (Shi et al. 2016, eq. 4)."""
    n, c, h, w = x.shape
    out = x.new_zeros(n, c // r**2, h * r, w * r)
    for i in range(r):
        for j in range(r):
            out[:, :, i::r, j::r] = x[:, i * r + j :: r**2]
    return out


@pytest.mark.parametrize(
    ("scale", "trunk", "final"), [(2, "norm", "linear"), (4, "prelu", "tanh"), (8, "norm", "tanh")]
)
def test_srresnet(scale: int, trunk: str, final: str) -> None:
    network = shaken(SRResNet(3, scale, 5, 2, trunk, final))  # type: ignore[arg-type]
    s, x = network.state_dict(), images(3)
    head = prelu(s, "head_act", conv(s, "head", (x + 1) / 2))
    y = head
    for i in range(2):
        z = prelu(s, f"blocks.{i}.act", norm(s, f"blocks.{i}.norm1", conv(s, f"blocks.{i}.conv1", y)))
        y = y + norm(s, f"blocks.{i}.norm2", conv(s, f"blocks.{i}.conv2", z))
    y = conv(s, "trunk", y)
    y = head + (norm(s, "trunk_end", y) if trunk == "norm" else prelu(s, "trunk_end", y))
    for i in range({2: 1, 4: 2, 8: 3}[scale]):
        y = prelu(s, f"ups.{i}.act", shuffled(conv(s, f"ups.{i}.conv", y), 2))
    y = conv(s, "tail", y)
    expected = y.tanh() if final == "tanh" else y
    assert torch.allclose(network(x), expected, atol=1e-10)
    assert expected.shape == (2, 3, 7 * scale, 9 * scale)


@pytest.mark.parametrize(("scale", "factors"), [(2, (2,)), (3, (3,)), (4, (2, 2))])
def test_msrresnet(scale: int, factors: tuple[int, ...]) -> None:
    network = shaken(MSRResNet(1, scale, 5, 2))
    s, x = network.state_dict(), images(1)
    unit = (x + 1) / 2
    y = F.leaky_relu(conv(s, "conv_first", unit), 0.1)
    for i in range(2):
        y = y + conv(s, f"body.{i}.conv2", conv(s, f"body.{i}.conv1", y).relu())
    for i, factor in enumerate(factors, start=1):
        y = F.leaky_relu(shuffled(conv(s, f"upconv{i}", y), factor), 0.1)
    y = conv(s, "conv_last", F.leaky_relu(conv(s, "conv_hr", y), 0.1))
    base = F.interpolate(unit, scale_factor=scale, mode="bilinear", align_corners=False)
    assert torch.allclose(network(x), 2 * (y + base) - 1, atol=1e-10)


def test_only_the_enlargement_is_left_of_a_network_of_zeros() -> None:
    network = MSRResNet(3, 4, 4, 1).double()
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    x = images(3)
    expected = F.interpolate(x, scale_factor=4, mode="bilinear", align_corners=False)
    assert torch.allclose(network(x), expected, atol=1e-12)


@pytest.mark.parametrize(("scale", "upsamplings"), [(4, 2), (2, 2), (1, 2), (2, 1), (8, 3)])
def test_rrdbnet(scale: int, upsamplings: int) -> None:
    network = shaken(RRDBNet(3, scale, 6, 2, 4, upsamplings))
    s, x = network.state_dict(), images(3, 8, 12)
    fold = 2**upsamplings // scale
    unit = (x + 1) / 2
    folded = torch.stack([unit[:, :, i::fold, j::fold] for i in range(fold) for j in range(fold)], 2).flatten(1, 2)
    first = conv(s, "conv_first", folded)
    y = first
    for block in range(2):
        begin = y
        for dense in (1, 2, 3):
            parts = [y]
            for k in (1, 2, 3, 4):
                parts.append(F.leaky_relu(conv(s, f"body.{block}.rdb{dense}.conv{k}", torch.cat(parts, 1)), 0.2))
            y = y + 0.2 * conv(s, f"body.{block}.rdb{dense}.conv5", torch.cat(parts, 1))
        y = begin + 0.2 * y
    y = first + conv(s, "conv_body", y)
    for i in range(1, upsamplings + 1):
        y = F.leaky_relu(conv(s, f"conv_up{i}", y.repeat_interleave(2, 2).repeat_interleave(2, 3)), 0.2)
    y = conv(s, "conv_last", F.leaky_relu(conv(s, "conv_hr", y), 0.2))
    assert y.shape == (2, 3, 8 * scale, 12 * scale)
    assert torch.allclose(network(x), 2 * y - 1, atol=1e-10)


def test_sizes_that_do_not_fold_are_cropped_back() -> None:
    network = shaken(RRDBNet(1, 1, 4, 1, 2))
    assert network(images(1, 7, 10)).shape == (2, 1, 7, 10)
    with pytest.raises(ValueError, match="scale of 3"):
        RRDBNet(1, 3)


def test_published_sizes() -> None:
    def count(network: nn.Module) -> int:
        return sum(p.numel() for p in network.parameters())

    assert count(RRDBNet(3, 4)) == 16_697_987  # ESRGAN's, as BasicSR counts it
    assert count(MSRResNet(3, 4)) == 1_517_571  # BasicSR
    assert count(UNetDenoiser(1, width=16, depth=2)) == pytest.approx(0.12e6, rel=0.1)


# Denoisers. ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [UNetDenoiser, DnCNN])
@pytest.mark.parametrize("informed", [False, True])
def test_denoisers_keep_any_size_and_hear_of_the_noise(make: type[UNetDenoiser | DnCNN], informed: bool) -> None:
    network = shaken(make(3, informed, 4, 3))
    x = images(3, 11, 13)
    told = [torch.full((2,), level, dtype=torch.float64) if informed else None for level in (0.1, 0.4)]
    one, other = (network(x, level) for level in told)
    assert one.shape == x.shape
    assert torch.equal(one, other) == (not informed)
    if informed:
        with pytest.raises(ValueError, match="strength"):
            network(x)


def test_dncnn() -> None:
    network = shaken(DnCNN(1, width=4, depth=4))
    s, x = network.state_dict(), images(1)
    y = conv(s, "layers.0", x).relu()
    for i in (2, 5):
        y = norm(s, f"layers.{i + 1}", conv(s, f"layers.{i}", y)).relu()
    assert torch.allclose(network(x), x - conv(s, "layers.8", y), atol=1e-10)


def test_the_unet_begins_as_the_identity_and_sees_far() -> None:
    network = UNetDenoiser(1, width=4, depth=2).double()
    x = images(1, 32, 32)
    assert torch.equal(network(x), x)
    shaken(network)
    x.requires_grad_(True)
    (gradient,) = torch.autograd.grad(network(x)[0, 0, 16, 16], x)
    reached = gradient[0, 0].nonzero()
    assert int(reached.max(0).values.min() - reached.min(0).values.max()) >= 20
    assert not gradient[1].any()


def test_the_discriminator_is_the_papers_but_for_its_end() -> None:
    network = shaken(SRDiscriminator(3, 4, 4))
    convolutions = [m for m in network.layers if isinstance(m, nn.Conv2d)]
    assert [(m.out_channels, m.stride[0]) for m in convolutions] == [
        (width, stride) for width in (4, 8, 16, 32) for stride in (1, 2)
    ]
    s, x = network.state_dict(), images(3, 32, 48)
    y, place = x, 0
    for i, m in enumerate(convolutions):
        y = F.conv2d(y, s[f"layers.{place}.weight"], s[f"layers.{place}.bias"], m.stride, 1)
        place += 1
        if i > 0:
            y = norm(s, f"layers.{place}", y)
            place += 1
        y = F.leaky_relu(y, 0.2)
        place += 1
    y = F.leaky_relu(y.mean((2, 3)) @ s["dense.0.weight"].T + s["dense.0.bias"], 0.2)
    assert torch.allclose(network(x), (y @ s["dense.2.weight"].T + s["dense.2.bias"])[:, 0], atol=1e-10)
