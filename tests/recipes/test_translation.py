"""pix2pix and CycleGAN: objectives by hand, the pool, resumption, use on images of any size, and that they learn."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_gan_fakes import FakeContext
from safetensors.torch import load_file
from tests.training.helpers import without_times
from torch import Tensor
from translation_official import OFFICIAL

import ganwright as gw
from ganwright.data.spec import Batch, DataKind, DataSpec
from ganwright.errors import SettingsError
from ganwright.losses import LOSSES
from ganwright.recipes.base import SampleRequest
from ganwright.recipes.cyclegan import CYCLEGAN, CycleGAN, CycleGANSettings
from ganwright.recipes.image_pool import ImagePool
from ganwright.recipes.pix2pix import PIX2PIX, Pix2Pix, Pix2PixSettings
from ganwright.recipes.registry import find_recipe
from ganwright.recipes.translating import OBJECTIVES, deepest
from ganwright.samples import DomainSamples, PairSamples, to_uint8
from ganwright.training.restore import load_recipe
from ganwright.training.settings import resolve

SMALL: dict[str, Any] = {"width_g": 4, "width_d": 4}


def pairs_spec(resolution: int = 32, channels: int = 3, channels_out: int = 3) -> DataSpec:
    return DataSpec(DataKind.PAIRS, "x", 9, "0", resolution, channels, extra={"channels_out": channels_out})


def pix2pix(seed: int = 0, data: DataSpec | None = None, **changes: Any) -> Pix2Pix:
    torch.manual_seed(seed)
    return Pix2Pix(data or pairs_spec(), Pix2PixSettings(**{**SMALL, **changes}))


def cyclegan(seed: int = 0, **changes: Any) -> CycleGAN:
    torch.manual_seed(seed)
    settings = CycleGANSettings(**{**SMALL, "resnet_blocks": 1, "pool_size": 3, **changes})
    return CycleGAN(replace(pairs_spec(), kind=DataKind.DOMAINS), settings)


def batches(names: tuple[str, str], rows: int = 2, size: int = 32) -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(0)
    while True:
        yield {name: torch.rand(rows, 3, size, size, generator=generator) * 2 - 1 for name in names}


# Objectives. ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", OBJECTIVES)
def test_objectives_by_hand(loss: str) -> None:
    real, fake = torch.randn(2, 1, 3, 3).double(), torch.randn(2, 1, 3, 3).double()
    p_real, p_fake = 1 / (1 + torch.exp(-real)), 1 / (1 + torch.exp(-fake))
    d, g = {
        "non-saturating": (-(p_real.log().mean() + (1 - p_fake).log().mean()) / 2, -p_fake.log().mean()),
        "least-squares": (((real - 1) ** 2).mean() / 2 + (fake**2).mean() / 2, ((fake - 1) ** 2).mean()),
        "hinge": (((1 - real).clamp(0).mean() + (1 + fake).clamp(0).mean()) / 2, -fake.mean()),
    }[loss]
    assert OBJECTIVES[loss].discriminator(real, fake).item() == pytest.approx(d.item(), rel=1e-9)
    assert OBJECTIVES[loss].generator(fake).item() == pytest.approx(g.item(), rel=1e-9)
    threshold = LOSSES[loss].threshold or 0.0
    by_hand = ((real > threshold).double().mean() + (fake < threshold).double().mean()) / 2
    assert OBJECTIVES[loss].describe(real, fake)["d_accuracy"].item() == pytest.approx(by_hand.item())


def test_without_a_discriminator_only_l1_is_learnt() -> None:
    recipe = pix2pix(lambda_gan=0.0)
    ctx = FakeContext(recipe.train(), dict)
    before = [p.clone() for p in recipe.discriminator.parameters()]
    log = recipe.step(next(batches(("inputs", "targets"))), ctx)
    assert ctx.updates == ["generator"] and set(log) == {"loss_l1"}
    assert all(torch.equal(a, b) for a, b in zip(before, recipe.discriminator.parameters(), strict=True))


def test_no_network_is_called_more_than_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = cyclegan()
    calls: dict[str, int] = {}
    for name, module in recipe.named_children():
        module.register_forward_hook(lambda *_, name=name: calls.update({name: calls.get(name, 0) + 1}))
    recipe.step(next(batches(("images_a", "images_b"))), FakeContext(recipe.train(), dict))
    each = {"generator_a2b": 3, "generator_b2a": 3, "discriminator_a": 3, "discriminator_b": 3}
    assert {name: calls[name] for name in each} == each
    assert all(p.grad is None or p.requires_grad for p in recipe.parameters())


# Pool. ------------------------------------------------------------------------------------------------------


class Draws:
    """Uniform numbers and integers from given sequences."""

    def __init__(self, swap: np.ndarray, place: np.ndarray) -> None:
        self.swap, self.place = iter(swap.tolist()), iter(place.tolist())

    def uniform(self, rows: int, *shape: int) -> Tensor:
        return torch.tensor([next(self.swap) for _ in range(rows)])

    def integers(self, high: int, rows: int, *shape: int) -> Tensor:
        return torch.tensor([next(self.place) for _ in range(rows)])


@pytest.mark.parametrize("rows", [1, 4])
def test_the_pool_is_the_authors(rows: int) -> None:
    pool = ImagePool(3, 1, 1)
    ctx: Any = Draws(OFFICIAL["pool/swap"], OFFICIAL["pool/place"])
    images = torch.arange(40.0).view(-1, rows, 1, 1, 1)
    shown = torch.cat([pool.exchange(new, ctx) for new in images]).flatten()
    assert shown.tolist() == OFFICIAL["pool/shown"].tolist()
    assert int(pool.count) == 3


def test_an_empty_pool_shows_what_it_is_given() -> None:
    pool = ImagePool(0, 3, 4)
    x = torch.rand(2, 3, 4, 4, requires_grad=True)
    shown = pool.exchange(x, FakeContext(pix2pix(), dict))
    assert torch.equal(shown, x) and not shown.requires_grad


# Settings. --------------------------------------------------------------------------------------------------


def test_presets_are_the_papers() -> None:
    for name, networks in (("pix2pix", "unet"), ("cyclegan", "resnet")):
        settings = resolve(find_recipe(name))
        s, train, data = settings.recipe, settings.train, settings.data
        assert (s.generator, s.width_g, s.width_d, s.patch_layers) == (networks, 64, 64, 3)
        assert (s.lr, s.betas) == (2e-4, (0.5, 0.999))
        assert (train.batch_size, train.lr_schedule, train.lr_decay_from) == (1, "linear", 0.5)
        assert (data.resolution, round(256 * data.jitter), data.flip) == (256, 286, True)
    assert (PIX2PIX.lambda_l1, PIX2PIX.loss, PIX2PIX.norm, PIX2PIX.dropout) == (100, "non-saturating", "batch", 0.5)
    assert (CYCLEGAN.lambda_a, CYCLEGAN.lambda_b, CYCLEGAN.lambda_identity, CYCLEGAN.pool_size) == (10, 10, 0.5, 50)
    assert (CYCLEGAN.loss, CYCLEGAN.norm) == ("least-squares", "instance")
    assert [deepest(n) for n in (32, 100, 128, 256, 1024)] == [5, 6, 7, 8, 8]
    with torch.device("meta"):
        large = CycleGAN(replace(pairs_spec(256), kind=DataKind.DOMAINS), CYCLEGAN)
        small = CycleGAN(replace(pairs_spec(128), kind=DataKind.DOMAINS), CYCLEGAN)
    assert (len(large.generator_a2b.blocks), len(small.generator_a2b.blocks)) == (9, 6)


@pytest.mark.parametrize(
    ("make", "changes", "what"),
    [
        (pix2pix, {"unet_depth": 6}, "U-Net of depth 6 does not fit 32 pixels"),
        (pix2pix, {"patch_layers": 4}, "needs images of 48 pixels, not 32"),
        (pix2pix, {"dropout": 1.0}, "dropout of 1.0"),
        (pix2pix, {"lambda_l1": 0.0, "lambda_gan": 0.0}, "train nothing"),
        (cyclegan, {"lambda_a": -1.0}, "'lambda_a' must be at least 0"),
        (cyclegan, {"width_g": 0}, "'width_g' must be at least 1"),
    ],
)
def test_what_cannot_work_is_refused(make: Any, changes: dict[str, Any], what: str) -> None:
    with pytest.raises(SettingsError, match=what):
        make(**changes)


def test_identity_needs_equal_channels() -> None:
    data = replace(pairs_spec(channels=1), kind=DataKind.DOMAINS)
    with pytest.raises(SettingsError, match="cannot stay as it is"):
        CycleGAN(data, CycleGANSettings(**SMALL))
    recipe = CycleGAN(data, CycleGANSettings(**SMALL, lambda_identity=0.0)).eval()
    assert recipe.translate(torch.zeros(1, 3, 16, 16), "b2a").shape == (1, 1, 16, 16)


# Use. -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "channels_out"), [(1, 3), (4, 1), (2, 4)])
def test_one_to_four_channels_and_any_size(channels: int, channels_out: int) -> None:
    recipe = pix2pix(data=pairs_spec(32, channels, channels_out)).eval()
    y = recipe.translate(torch.rand(2, channels, 45, 70) * 2 - 1)
    assert y.shape == (2, channels_out, 45, 70) and y.abs().max() <= 1
    with pytest.raises(SettingsError, match="no direction 'b2a'"):
        recipe.translate(torch.zeros(1, channels, 32, 32), "b2a")
    with pytest.raises(SettingsError, match=f"takes images \\(N, {channels}, H, W\\)"):
        recipe.translate(torch.zeros(1, 5, 32, 32))


@torch.no_grad()
def test_samples_of_pairs_depend_on_input_seed_and_row_alone() -> None:
    recipe = pix2pix(data=pairs_spec(64)).eval()  # below 64 pixels no layer of the U-Net drops anything
    with torch.no_grad():
        for weights in recipe.generator.parameters():
            weights.mul_(8)
    shown = dict(zip(("inputs", "targets"), torch.rand(2, 20, 3, 64, 64) * 2 - 1, strict=True))
    many = recipe.sample(SampleRequest(n=20, seed=1, inputs=shown, baselines=True))
    assert isinstance(many, PairSamples) and np.array_equal(many.targets, to_uint8(shown["targets"]))
    assert np.array_equal(many.baselines["unchanged"], many.inputs)
    few = recipe.sample(SampleRequest(n=5, seed=1, batch_size=2, inputs={k: v[:5] for k, v in shown.items()}))
    assert abs(few.outputs.astype(int) - many.outputs[:5]).max() <= 1
    other = recipe.sample(SampleRequest(n=20, seed=2, inputs=shown))
    assert not np.array_equal(other.outputs, many.outputs), "dropout is the noise"
    still = [recipe.sample(SampleRequest(20, s, inputs=shown, options={"dropout": False})).outputs for s in (1, 2)]
    assert np.array_equal(*still)
    with pytest.raises(SettingsError, match="was given none"):
        recipe.sample(SampleRequest(n=3))


@torch.no_grad()
def test_samples_of_domains_go_there_and_back() -> None:
    recipe = cyclegan().eval()
    shown = dict(zip(("images_a", "images_b"), torch.rand(2, 3, 3, 32, 32) * 2 - 1, strict=True))
    samples = recipe.sample(SampleRequest(n=3, inputs=shown))
    assert isinstance(samples, DomainSamples) and len(samples) == 6
    b = recipe.translate(shown["images_a"])
    assert np.array_equal(samples.directions["a2b"].outputs, to_uint8(b))
    assert np.array_equal(samples.directions["a2b"].cycled, to_uint8(recipe.translate(b, "b2a")))


# Training. --------------------------------------------------------------------------------------------------

RUN: dict[str, Any] = {
    **SMALL,
    "resolution": 32,
    "steps": 8,
    "batch_size": 2,
    "log_every": 1,
    "sample_every": 4,
    "checkpoint_every": 2,
    "keep_last": 9,
    "evaluate_every": -1,
    "jitter": 1.1,
    "write_html": False,
    "accelerator": "cpu",
}


@pytest.mark.parametrize("name", ["pix2pix", "cyclegan"])
def test_a_resumed_run_is_the_run_that_was_not_interrupted(tmp_path: Path, name: str) -> None:
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, (12, 32, 64, 3), np.uint8)
    folder = tmp_path / "s"
    folder.mkdir()
    for i, image in enumerate(x):
        gw.samples.save_png(folder / f"{i}.png", image)
    more = {"resnet_blocks": 1, "pool_size": 3} if name == "cyclegan" else {}
    for run in ("whole", "broken"):
        gw.train(name, folder, out=tmp_path / run, **{**RUN, **more})
    for step in (4, 6, 8):  # as if it had been killed in step 4
        shutil.rmtree(tmp_path / "broken" / "checkpoints" / f"step-{step:06d}")
    gw.resume(tmp_path / "broken", write_html=False)
    for file in ("networks", "ema", "optimizers"):
        whole, broken = (
            load_file(tmp_path / run / "checkpoints" / "step-000008" / f"{file}.safetensors")
            for run in ("whole", "broken")
        )
        assert whole and whole.keys() == broken.keys()
        assert all(torch.equal(value, broken[key]) for key, value in whole.items()), file
    if name == "cyclegan":
        pool = load_file(tmp_path / "whole" / "checkpoints" / "step-000008" / "networks.safetensors")["pool_a.images"]
        assert pool.shape == (3, 3, 32, 32) and pool.abs().sum() > 0
    logs = [without_times(gw.load_run(tmp_path / run).log_records()) for run in ("whole", "broken")]
    assert logs[0] == logs[1]
    for path in (tmp_path / "whole" / "samples").iterdir():
        assert path.read_bytes() == (tmp_path / "broken" / "samples" / path.name).read_bytes()


@pytest.mark.parametrize("make", [pix2pix, cyclegan])
def test_it_trains_under_bfloat16_autocast(make: Any) -> None:
    recipe = make().train()
    names = ("inputs", "targets") if isinstance(recipe, Pix2Pix) else ("images_a", "images_b")
    ctx, drawn = FakeContext(recipe, dict), batches(names)
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16):
            log = recipe.step(next(drawn), ctx)
    assert all(value.dtype == torch.float32 and value.isfinite() for value in log.values())


def test_without_a_moving_average_samples_are_of_the_weights_themselves(tmp_path: Path) -> None:
    run = gw.train("pix2pix", squares_and_edges(20, 0), out=tmp_path / "run", **{**QUICK, "steps": 2, "average": False})
    averaged, own = load_recipe(run), load_recipe(run, ema=False)
    assert averaged.ema_networks == ()
    for name, value in own.state_dict().items():
        assert torch.equal(value, averaged.state_dict()[name])


def squares_and_edges(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Outlines of squares, and the squares filled."""
    generator = np.random.default_rng(seed)
    inputs = np.full((n, 16, 16, 1), 255, np.uint8)
    targets = inputs.copy()
    for i in range(n):
        size = int(generator.integers(6, 11))
        top, left = generator.integers(1, 15 - size, 2)
        inner = (slice(top, top + size), slice(left, left + size))
        targets[i][inner] = inputs[i][inner] = 0
        inputs[i, top + 1 : top + size - 1, left + 1 : left + size - 1] = 255
    return inputs, targets


QUICK: dict[str, Any] = {
    **RUN,
    "resolution": 16,
    "batch_size": 8,
    "lr": 2e-3,
    "patch_layers": 1,
    "jitter": 1.0,
    "log_every": 40,
    "sample_every": 999,
    "checkpoint_every": 999,
}


def as_inputs(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def test_pix2pix_learns_to_fill_outlines(tmp_path: Path) -> None:
    run = gw.train("pix2pix", squares_and_edges(300, 0), out=tmp_path / "run", **{**QUICK, "steps": 160, "width_g": 12})
    x, y = squares_and_edges(40, 1)
    with torch.no_grad():
        made = to_uint8(load_recipe(run).translate(as_inputs(x))).astype(int)
    doing_nothing = abs(x.astype(int) - y).mean()
    assert abs(made - y).mean() < 0.3 * doing_nothing, (abs(made - y).mean(), doing_nothing)


@pytest.mark.slow
def test_cyclegan_learns_to_invert_without_pairs(tmp_path: Path) -> None:
    """Light pictures with a dark square, and dark ones with a light square: inversion turns one into the other."""
    a, b = squares_and_edges(120, 0)[1], 255 - squares_and_edges(120, 1)[1]
    more = {"steps": 200, "width_g": 8, "resnet_blocks": 1, "lambda_identity": 0.0}
    recipe = load_recipe(gw.train("cyclegan", (a, b), out=tmp_path / "run", **{**QUICK, **more}))
    x = as_inputs(a[:20])
    with torch.no_grad():
        there = recipe.translate(x)
        back = recipe.translate(there, "b2a")
    assert x.mean() > 0.3 and there.mean() < -0.3
    assert (back - x).abs().mean() < 0.5 * (there - x).abs().mean()
