"""U-Net, residual translator and patch discriminators against the authors' code, and on images of any size."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ganwright.networks import patchgan, translator, unet
from ganwright.networks.translating import OwnStatisticsBatchNorm, dropout_at_test, on_padded

sys.path.insert(0, str(Path(__file__).parent.parent / "recipes"))
from translation_official import close, fill, numbers, thin

UNETS = {"unet128-batch": (2, 3, 7), "unet128-instance": (3, 1, 7), "unet256-batch": (1, 4, 8)}


@pytest.mark.parametrize("name", UNETS)
def test_unet_is_the_authors(name: str) -> None:
    channels_in, channels_out, depth = UNETS[name]
    norm = name.rpartition("-")[2]
    x = numbers("x", (2, channels_in, 2**depth, 2**depth))
    network = unet.UNet(channels_in, channels_out, width=4, depth=depth, norm=norm).eval()
    fill(network, name, unet.released_names(depth))
    close(thin(network(x)), f"{name}/eval", 1e-5)
    if norm == "batch":
        own = unet.UNet(channels_in, channels_out, width=4, depth=depth, norm=norm, own_statistics=True).eval()
        own.load_state_dict(network.state_dict())
        close(thin(own(x))[:1], f"{name}/own", 1e-5)  # an image's neighbour in the batch does not matter


@pytest.mark.parametrize(("name", "blocks", "out"), [("resnet6-instance", 6, 3), ("resnet9-batch", 9, 2)])
def test_residual_translator_is_the_authors(name: str, blocks: int, out: int) -> None:
    norm, dropout = name.rpartition("-")[2], 0.5 if blocks == 9 else 0.0
    network = translator.Translator(3, out, width=4, blocks=blocks, norm=norm, dropout=dropout).eval()
    fill(network, name, translator.released_names(blocks, dropout=dropout > 0))
    close(thin(network(numbers("x", (2, 3, 40, 40)))), f"{name}/eval", 1e-5)


@pytest.mark.parametrize("name", ["patch3-batch", "patch1-instance", "patch5-instance", "pixel-batch"])
def test_discriminators_are_the_authors(name: str) -> None:
    kind, norm = name.split("-")
    layers = 0 if kind == "pixel" else int(kind[-1])
    if layers:
        network = patchgan.PatchDiscriminator(4, width=4, layers=layers, norm=norm).eval()
    else:
        network = patchgan.PixelDiscriminator(4, width=4, norm=norm).eval()
    fill(network, name, patchgan.released_names(layers))
    close(network(numbers("y", (1, 4, 96, 96))).detach()[..., ::2, ::2], name, 1e-5)


@pytest.mark.parametrize(
    ("network", "count"),
    [
        (lambda: unet.UNet(3, 3, depth=8), 54_413_955),
        (lambda: unet.UNet(3, 3, depth=7), 41_828_995),
        (lambda: translator.Translator(3, 3, blocks=9), 11_378_179),
        (lambda: translator.Translator(3, 3, blocks=6), 7_837_699),
        (lambda: patchgan.PatchDiscriminator(6), 2_768_705),
    ],
)
def test_numbers_of_parameters(network, count: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in network().parameters()) == count


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_patch_is_as_wide_as_promised(layers: int) -> None:
    network = patchgan.PatchDiscriminator(1, width=2, layers=layers, norm="none").double()
    x = torch.rand(1, 1, 160, 160, dtype=torch.float64, requires_grad=True)
    logits = network(x)
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    seen = x.grad[0, 0].abs().sum(0).nonzero()
    assert int(seen.max() - seen.min()) + 1 == {1: 16, 2: 34, 3: 70}[layers]


@pytest.mark.parametrize("layers", [1, 3])
def test_smallest_images_that_can_be_judged(layers: int) -> None:
    side = patchgan.smallest_side(layers)
    network = patchgan.PatchDiscriminator(2, width=2, layers=layers, norm="instance").train()
    assert network(torch.rand(1, 2, side, side)).shape == (1, 1, 1, 1)
    with pytest.raises((RuntimeError, ValueError)):
        network(torch.rand(1, 2, side - 2**layers, side - 2**layers))


@pytest.mark.parametrize("size", [(64, 64), (50, 37), (3, 100), (1, 1), (8, 5)])
def test_images_of_any_size(size: tuple[int, int]) -> None:
    x = torch.rand(1, 1, *size) * 2 - 1
    for network in (unet.UNet(1, 2, width=2, depth=4), translator.Translator(1, 2, width=2, blocks=1)):
        y = network.eval()(x)
        assert y.shape == (1, 2, *size) and y.isfinite().all() and y.abs().max() <= 1


def test_what_is_added_is_a_mirror_image_and_is_cut_off_again() -> None:
    seen = []

    def double(x: Tensor) -> Tensor:
        seen.append(x)
        return 2 * x

    x = torch.arange(6.0).view(1, 1, 2, 3)
    assert torch.equal(on_padded(double, x, 4), 2 * x)
    assert torch.equal(seen[0][0, 0, :, 3], seen[0][0, 0, :, 1]) and torch.equal(seen[0][0, 0, 2], seen[0][0, 0, 0])
    assert on_padded(double, x, 8, least=16).shape == x.shape and seen[1].shape == (1, 1, 16, 16)


def test_batch_norm_by_an_images_own_statistics() -> None:
    norm = OwnStatisticsBatchNorm(3).eval()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, 3.0]))
        norm.bias.copy_(torch.tensor([0.5, 0.0, -1.0]))
    x = torch.rand(4, 3, 5, 6)
    centred = x - x.mean((2, 3), keepdim=True)
    expected = centred / (centred.square().mean((2, 3), keepdim=True) + 1e-5).sqrt()
    expected = expected * norm.weight.view(1, 3, 1, 1) + norm.bias.view(1, 3, 1, 1)
    assert torch.allclose(norm(x), expected, atol=1e-5)


def test_dropout_at_test_depends_on_seed_and_row_alone() -> None:
    network = unet.UNet(1, 1, width=2, depth=6, norm="instance").eval()
    x = torch.rand(5, 1, 64, 64)

    def use(rows: slice, seed: int) -> Tensor:
        with dropout_at_test(network, seed, rows.start):
            return network(x[rows])

    together = use(slice(0, 5), 3)
    apart = torch.cat([use(slice(0, 2), 3), use(slice(2, 5), 3)])
    assert torch.allclose(together, apart, atol=1e-6)
    assert not torch.allclose(together, use(slice(0, 5), 4), atol=1e-3)
    assert not torch.allclose(together, network(x), atol=1e-3)
    assert not network.dropout.training, "the mode is put back"
