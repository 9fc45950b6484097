"""StyleGAN2's recipe: its step is the paper's, it resumes, samples and shares out among processes as promised."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_gan_fakes import FakeContext, data_spec, random_batches, train
from safetensors.numpy import load_file
from torch import Tensor
from two_processes import assert_as_one, run_two, train_share

import ganwright as gw
from ganwright.errors import SettingsError
from ganwright.networks.stylegan2 import Discriminator, Generator
from ganwright.recipes.base import SampleRequest
from ganwright.recipes.registry import find_recipe
from ganwright.recipes.stylegan2 import RECIPES, StyleGAN2
from ganwright.recipes.stylegan2_settings import StyleGAN2Settings, gamma, network_plans

SMALL: dict[str, Any] = {"z_dim": 6, "w_dim": 6, "mapping_layers": 2, "channel_base": 128, "channel_max": 8}


def build(seed: int = 0, *, resolution: int = 16, channels: int = 3, classes: int = 0, **changes: Any) -> StyleGAN2:
    torch.manual_seed(seed)
    settings = replace(StyleGAN2Settings(), **{**SMALL, **changes})
    return StyleGAN2(data_spec(resolution, channels, classes), settings)


@pytest.mark.parametrize("name", [info.name for info in RECIPES])
@pytest.mark.parametrize("conditional", [False, True])
def test_presets_train(name: str, conditional: bool) -> None:
    torch.manual_seed(0)
    settings = replace(find_recipe(name).settings, **SMALL, conditional=conditional)
    recipe = StyleGAN2(data_spec(16, 1, 3), settings)
    before = {key: value.clone() for key, value in recipe.named_parameters()}
    _, logs = train(recipe, 5, rows=4)
    for log in logs:
        expected = {"loss_generator", "loss_discriminator", "d_real", "d_fake", "d_accuracy", "r1"}
        expected |= {"path_length", "pl_penalty"} if settings.pl_weight else set()
        expected |= {"augment_p", "augment_rt"} if settings.augment == "ada" else set()
        assert log.keys() == expected
        assert all(value.ndim == 0 and not value.requires_grad and torch.isfinite(value) for value in log.values())
    assert not [key for key, value in recipe.named_parameters() if torch.equal(value, before[key])]
    assert all(parameter.requires_grad for parameter in recipe.parameters())


# The step, written out. -------------------------------------------------------------------------------------


class Double(FakeContext):
    def normal(self, rows: int, *shape: int) -> Tensor:
        return super().normal(rows, *shape).double()

    def next_batch(self) -> dict[str, Tensor]:
        batch = super().next_batch()
        return {**batch, "images": batch["images"].double()}


def styles_by_hand(g: Generator, ctx: FakeContext, rows: int, c: Tensor, mixing: float) -> tuple[Tensor, Tensor]:
    """One style a layer, image by image, and the unmixed ones."""
    first = g.mapping(ctx.normal(rows, 6), c)
    crossover, chance = 1 + ctx.integers(5, rows), ctx.uniform(rows)
    second = g.mapping(ctx.normal(rows, 6), c)
    images = []
    for i in range(rows):
        cut = crossover[i] if chance[i] < mixing else 6
        images.append(torch.stack([first[i] if layer < cut else second[i] for layer in range(6)]))
    return torch.stack(images), first


def test_two_steps_are_the_algorithm_box_written_out() -> None:
    # Reference networks, torch's own derivatives and Adam, in double precision; both regularisers are due in step 0,
    # path length alone in step 2.
    changes: dict[str, Any] = {"style_mixing": 0.5, "r1_gamma": 3.0, "r1_every": 4, "pl_every": 2, "lr_g": 0.01}
    recipe = build(classes=3, conditional=True, **changes).double()
    plan_g, plan_d = network_plans(recipe.settings, recipe.data)
    g, d = Generator(replace(plan_g, operations="reference")), Discriminator(replace(plan_d, operations="reference"))
    g.double().load_state_dict(recipe.generator.state_dict())
    d.double().load_state_dict(recipe.discriminator.state_dict())
    opt_g = torch.optim.Adam(g.parameters(), 0.01 * 2 / 3, (0.0, 0.99 ** (2 / 3)))
    opt_d = torch.optim.Adam(d.parameters(), 0.0025 * 4 / 5, (0.0, 0.99 ** (4 / 5)))
    ours = Double(recipe, random_batches(recipe.data), 3)
    ctx = Double(recipe, random_batches(recipe.data), 3)
    recipe.train()
    a = torch.zeros(())

    def update(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        for parameter in (p for group in optimizer.param_groups for p in group["params"]):
            if parameter.grad is not None and not parameter.grad.any():
                parameter.grad = None  # a regulariser says nothing about most biases: Adam leaves them alone
        optimizer.step()

    def fakes(rows: int, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        ws, first = styles_by_hand(g, ctx, rows, c, 0.5)
        noise = [ctx.normal(rows, 1, r, r) for r in (4, 8, 8, 16, 16)]
        return g.synthesis(ws, noise), ws, first

    for step in range(3):
        ours.step = ours.stage_step = step
        log = recipe.step(ours.next_batch(), ours)
        batch = ctx.next_batch()
        x, c = batch["images"], batch["labels"]
        loss_g = torch.log(1 + torch.exp(-d(fakes(6, c)[0], c))).mean()
        update(opt_g, loss_g)
        if step % 2 == 0:
            images, ws, _ = fakes(3, c[::2])
            y = ctx.normal(*images.shape) / 16
            (jacobian,) = torch.autograd.grad((images * y).sum(), ws, create_graph=True)
            lengths = jacobian.square().sum(2).mean(1).sqrt()
            mean = a + 0.01 * (lengths.mean() - a)
            a = mean.detach()
            penalty = (lengths - mean).square().mean()
            update(opt_g, 2 * 2 * penalty)
        fake, _, first = fakes(6, c)
        g.mapping.w_avg.copy_(0.998 * g.mapping.w_avg + 0.002 * first.detach().mean(0))
        on_fake, on_real = d(fake.detach(), c), d(x, c)
        loss_d = torch.log(1 + torch.exp(on_fake)).mean() + torch.log(1 + torch.exp(-on_real)).mean()
        update(opt_d, loss_d)
        if step % 4 == 0:
            leaf = x.clone().requires_grad_(True)
            (slope,) = torch.autograd.grad(d(leaf, c).sum(), leaf, create_graph=True)
            r1 = slope.square().sum((1, 2, 3)).mean()
            update(opt_d, 4 * 3.0 / 2 * r1)
        expected = {"loss_generator": loss_g, "loss_discriminator": loss_d, "r1": r1, "pl_penalty": penalty}
        for name, value in {**expected, "path_length": lengths.mean()}.items():
            assert log[name].item() == pytest.approx(value.item(), rel=1e-6), (step, name)
    for network, plain in ((recipe.generator, g), (recipe.discriminator, d)):
        theirs = plain.state_dict()
        for name, value in network.state_dict().items():
            assert torch.allclose(value, theirs[name], rtol=1e-5, atol=1e-7), name


def test_regularisers_are_lazy() -> None:
    recipe = build(r1_every=3, pl_every=2)
    ctx, _ = train(recipe, 6, rows=4)
    both = ["generator", "generator", "discriminator", "discriminator"]
    plain, path = ["generator", "discriminator"], ["generator", "generator", "discriminator"]
    assert ctx.updates == both + plain + path + ["generator", "discriminator", "discriminator"] + path + plain
    without, logs = train(build(r1_gamma=0.0, pl_weight=0.0), 3, rows=4)
    assert without.updates == plain * 3 and logs[-1]["r1"] == 0 and "path_length" not in logs[-1]


def test_learning_rates_are_corrected_for_the_further_updates() -> None:
    optimizers = build().optimizers()
    for name, every in (("generator", 4), ("discriminator", 16)):
        group = optimizers[name].param_groups[0]
        assert group["lr"] == pytest.approx(0.0025 * every / (every + 1))
        assert group["betas"] == pytest.approx((0.0, 0.99 ** (every / (every + 1))))


@pytest.mark.parametrize(("resolution", "batch", "expected"), [(256, 16, 0.8192), (128, 32, 0.1024), (512, 64, 0.8192)])
def test_gamma_follows_the_published_heuristic(resolution: int, batch: int, expected: float) -> None:
    # Values of NVIDIA's table of configurations (stylegan3 repository, docs/configs.md).
    assert gamma(StyleGAN2Settings(), resolution, batch) == pytest.approx(expected)
    assert gamma(StyleGAN2Settings(r1_gamma=3.0), resolution, batch) == 3.0


# Style mixing and the mean of w. ----------------------------------------------------------------------------


def test_style_mixing_takes_later_layers_from_another_latent() -> None:
    recipe = build(style_mixing=1.0)
    ctx = FakeContext(recipe, random_batches(recipe.data))
    ws = recipe._draw_styles(500, None, ctx).detach()
    changes = (ws[:, 1:] != ws[:, :-1]).any(2)
    assert (changes.sum(1) == 1).all()
    assert torch.bincount(changes.int().argmax(1), minlength=5).min() > 60  # each crossover, about 100 times
    none = build(style_mixing=0.0)._draw_styles(20, None, ctx)
    assert torch.equal(none, none[:, :1].expand_as(none))
    some = build(style_mixing=0.3)._draw_styles(2000, None, ctx)
    assert (some[:, 0] != some[:, -1]).any(1).float().mean().item() == pytest.approx(0.3, abs=0.04)


def test_the_mean_of_w_approaches_that_of_many() -> None:
    recipe = build(w_avg_beta=0.9, lr_g=1e-9, resolution=8, pl_weight=0.0, r1_gamma=0.0)
    train(recipe, 40, rows=32)
    w = recipe.generator.mapping(torch.randn(20_000, 6)).detach()
    assert (recipe.generator.mapping.w_avg - w.mean(0)).abs().max() < 0.15 * w.std()


# Augmentation. ----------------------------------------------------------------------------------------------


def test_everything_the_discriminator_sees_is_augmented() -> None:
    recipe = build(augment="diffaugment", pl_weight=0.0)
    seen: list[Tensor] = []
    recipe.augmenter.register_forward_hook(lambda _, args, out: seen.extend((args[0], out)))
    judged: list[Tensor] = []
    recipe.discriminator.register_forward_pre_hook(lambda _, args: judged.append(args[0]))
    train(recipe, 1, rows=4)
    assert len(judged) == 4  # G's fakes, D's fakes, reals, and reals for R1
    assert all(a is b for a, b in zip(seen[1::2], judged, strict=True))
    assert seen[6].is_leaf and seen[6].requires_grad  # R1 is with respect to the images before augmentation


def test_ada_learns_from_reals_once_a_step() -> None:
    recipe = build(augment="ada", ada_kimg=0.1)
    _, logs = train(recipe, 4, rows=8)
    assert abs(logs[-1]["augment_p"].item()) in (0.0, pytest.approx(4 * 8 / 100))
    real_signs = [np.sign(log["d_real"].item()) for log in logs]
    assert logs[-1]["augment_rt"].item() <= 1 and len(real_signs) == 4


# Sampling. --------------------------------------------------------------------------------------------------


def test_samples_are_as_requested() -> None:
    recipe = build(classes=3, conditional=True)
    train(recipe, 2, rows=4)
    recipe.eval()
    with torch.no_grad():
        many, few = recipe.sample(SampleRequest(n=9, seed=4)), recipe.sample(SampleRequest(n=4, seed=4))
        chunked = recipe.sample(SampleRequest(n=9, seed=4, batch_size=2))
        other = recipe.sample(SampleRequest(n=4, seed=4, labels=[2, 2, 2, 2]))
    assert many.images.shape == (9, 16, 16, 3) and many.labels is not None and many.labels.tolist() == [0, 1, 2] * 3
    assert np.array_equal(many.images[:4], few.images)
    assert np.abs(many.images.astype(int) - chunked.images).max() <= 1
    assert np.array_equal(other.images[2], few.images[2]) and not np.array_equal(other.images[0], few.images[0])
    with pytest.raises(SettingsError, match="no class 3"):
        recipe.sample(SampleRequest(n=2, labels=[0, 3]))
    with pytest.raises(SettingsError, match="3 labels do not fit 2 samples"):
        recipe.sample(SampleRequest(n=2, labels=[0, 1, 2]))
    with pytest.raises(SettingsError, match="without classes"):
        build().sample(SampleRequest(n=1, labels=[0]))


def test_truncation_at_sampling() -> None:
    recipe = build().eval()
    recipe.generator.mapping.w_avg.normal_()
    with torch.no_grad():
        full = recipe.sample(SampleRequest(n=3)).images
        same = recipe.sample(SampleRequest(n=3, options={"truncation": 1, "truncation_cutoff": 2})).images
        mean = recipe.sample(SampleRequest(n=3, options={"truncation": 0.0})).images
        coarse = recipe.sample(SampleRequest(n=3, options={"truncation": 0.0, "truncation_cutoff": 2})).images
        styles = recipe.latent_space().styles
        assert styles is not None
        expected = styles.synthesise(styles.spread(styles.mean[None]))
    assert np.array_equal(full, same) and not np.array_equal(full, mean) and not np.array_equal(coarse, mean)
    expected_image = (expected.clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    assert all(np.array_equal(image, expected_image[0]) for image in mean)
    with pytest.raises(SettingsError, match="truncation"):
        recipe.sample(SampleRequest(n=1, options={"truncation": "much"}))


def test_the_latent_space_is_complete() -> None:
    recipe = build(classes=3, conditional=True).eval()
    space = recipe.latent_space()
    assert space is not None and space.styles is not None
    styles, labels = space.styles, torch.tensor([0, 2])
    z = torch.randn(2, space.latent_dim)
    ws = styles.spread(styles.mapping(z, labels))
    images, maps = styles.features(ws)
    assert torch.allclose(space.generate(z, labels), images, atol=1e-6)
    assert torch.equal(styles.synthesise(ws), images)
    assert [m.shape[-1] for m in maps] == [4, 8, 16]
    assert styles.layers == ("b4.conv1", "b8.conv0", "b8.conv1", "b16.conv0", "b16.conv1", "b16.torgb")
    assert space.first_layer is not None and space.first_layer.shape == (6, 6)
    # A step in w moves the channel scales of a layer by its affine.
    layer = recipe.generator.synthesis.b8.conv1.affine
    step = torch.randn(1, 6)
    assert torch.allclose(layer(step) - layer(0 * step), step @ styles.affines["b8.conv1"].t(), atol=1e-5)
    assert set(styles.affines) == set(styles.layers)
    (gradient,) = torch.autograd.grad(styles.synthesise(ws).sum(), ws)
    assert torch.isfinite(gradient).all()


def test_freezable_blocks_begin_at_the_image() -> None:
    recipe = build()
    blocks = recipe.freezable()
    assert [
        block is getattr(recipe.discriminator, name) for block, name in zip(blocks, ("b16", "b8", "b4"), strict=True)
    ]
    for parameter in blocks[0].parameters():
        parameter.requires_grad_(False)
    before = {name: value.clone() for name, value in recipe.discriminator.state_dict().items()}
    train(recipe, 2, rows=4)
    for name, value in recipe.discriminator.state_dict().items():
        if not name.endswith("resample_filter"):
            assert torch.equal(value, before[name]) == name.startswith("b16."), name


# What is refused. -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"resolution": 48}, "32 or 64"),
        ({"resolution": 4}, "resolution"),
        ({"channels": 4}, "channels"),
        ({"conditional": True}, "no class labels"),
        ({"r1_gamma": -1.0}, "r1_gamma"),
        ({"betas_g": (0.0, 1.0)}, "betas_g"),
        ({"style_mixing": 1.5}, "style_mixing"),
        ({"pl_every": 0}, "pl_every"),
        ({"mbstd_channels": 3}, "mbstd_channels"),
        ({"channel_base": 8}, "channel_base"),
        ({"architecture_g": "residual"}, "residual"),
        ({"augment": "ada", "ada_target": 2.0}, "ada_target"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        build(**changes)
    assert told in str(caught.value)


# Runs: digits, resuming, processes. -------------------------------------------------------------------------

RUN: dict[str, Any] = {
    **SMALL,
    "resolution": 16,
    "batch_size": 8,
    "log_every": 2,
    "checkpoint_every": 3,
    "sample_every": 6,
    "evaluate_every": -1,
    "held_out": 0.0,
    "ema_half_life": 5.0,
    "r1_every": 4,
    "write_html": False,
}


def images_file(path: Path, classes: int = 3) -> Path:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (48, 4, 4, 1), dtype=np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    np.savez(path, images=images, labels=np.arange(48) % classes)
    return path


def test_a_resumed_run_is_bit_identical(tmp_path: Path) -> None:
    data = images_file(tmp_path / "images.npz")
    options = {**RUN, "augment": "ada", "ada_kimg": 0.1, "conditional": True}
    gw.train("stylegan2", data, out=tmp_path / "whole", steps=9, **options)
    gw.train("stylegan2", data, out=tmp_path / "half", steps=5, **options)
    gw.resume(tmp_path / "half", steps=9, write_html=False)
    for name in ("networks", "ema", "optimizers"):
        file = f"checkpoints/step-000009/{name}.safetensors"
        one, two = load_file(tmp_path / "whole" / file), load_file(tmp_path / "half" / file)
        assert one and one.keys() == two.keys()
        assert all(one[key].tobytes() == two[key].tobytes() for key in one), name


def test_trains_on_digits(real_data: Any, tmp_path: Path) -> None:
    path = real_data("mnist10k.npz")
    changes = {**RUN, "resolution": 32, "steps": 16, "channel_base": 256, "checkpoint_every": 16, "conditional": True}
    run = gw.train("stylegan2", path, out=tmp_path / "run", **changes)
    lines = [line for line in gw.load_run(run.path).log_records() if "loss_generator" in line]
    assert lines and all(math.isfinite(value) for line in lines for value in line.values() if isinstance(value, float))
    made = gw.sample(run.path, 10, truncation=0.7)
    assert made.images.shape == (10, 32, 32, 1)


def _train(case: str, rank: int, world_size: int) -> dict[str, Tensor]:
    # Minibatch standard deviation compares a process's own images, so it is left out.
    recipe = build(
        classes=3, conditional=True, mbstd_channels=0, r1_every=2, pl_every=2, augment="diffaugment"
    ).double()
    return train_share(recipe, random_batches(recipe.data, rows=8), rank, world_size)


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    run_two(_train, ["stylegan2"], tmp_path)
    assert_as_one(_train, "stylegan2", tmp_path, rtol=1e-6, atol=1e-8)
