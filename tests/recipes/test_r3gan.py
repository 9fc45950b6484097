"""R3GAN trains by its schedule, alone, in processes and after a resume, and refuses what cannot work."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_gan_fakes import FakeContext, data_spec, random_batches, train
from safetensors.torch import load_file
from tests.training.helpers import without_times
from torch import Tensor

import ganwright as gw
from ganwright.augment.ada import AdaptiveAugmenter
from ganwright.errors import SettingsError
from ganwright.losses import pair_accuracy, relativistic_d, relativistic_g
from ganwright.recipes.base import SampleRequest
from ganwright.recipes.r3gan import R3GAN, RECIPES
from ganwright.recipes.r3gan_settings import R3GANSettings, moment, network_plan
from ganwright.samples import ImageSamples
from ganwright.training.settings import resolve

SMALL: dict[str, Any] = {"width": 8, "group_width": 8, "blocks": 1, "latent_dim": 5}
SCHEDULE = {
    name.removeprefix("schedule/"): value
    for name, value in np.load(Path(__file__).parent.parent / "fixtures" / "r3gan.npz").items()
    if name.startswith("schedule/")
}
PRESETS = {info.name: info for info in RECIPES}


def build(seed: int = 0, *, resolution: int = 16, channels: int = 1, classes: int = 3, **changes: Any) -> R3GAN:
    torch.manual_seed(seed)
    return R3GAN(data_spec(resolution, channels, classes), R3GANSettings(**{**SMALL, **changes}))


# Loss and schedule. -------------------------------------------------------------------------------------------


def test_the_loss_pairs_reals_with_fakes() -> None:
    real, fake = torch.tensor([2.0, -1.0, 30.0]), torch.tensor([0.5, 1.0, -400.0])
    by_hand = sum(math.log1p(math.exp(-(r - f))) for r, f in [(2.0, 0.5), (-1.0, 1.0)]) / 3
    assert relativistic_d(real, fake).item() == pytest.approx(by_hand, rel=1e-6)
    mirrored = (sum(math.log1p(math.exp(r - f)) for r, f in [(2.0, 0.5), (-1.0, 1.0)]) + 430) / 3
    assert relativistic_g(real, fake).item() == pytest.approx(mirrored, rel=1e-6)
    assert pair_accuracy(real, fake).item() == pytest.approx(2 / 3)
    shift = 7.0  # only differences count
    assert relativistic_d(real + shift, fake + shift).item() == pytest.approx(by_hand, rel=1e-5)


def test_the_schedule_is_the_authors_for_cifar10() -> None:
    info = PRESETS["r3gan-cifar10"]
    settings = resolve(info).train
    images = settings.steps * settings.batch_size
    for i, seen in enumerate(SCHEDULE["images"]):
        now = moment(info.settings, 32, seen / images)
        found = [now.lr_factor * info.settings.lr, now.beta2, now.gamma, now.augment_p]
        expected = [SCHEDULE[name][i] for name in ("lr", "beta2", "gamma", "augment_p")]
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert settings.ema_half_life * settings.batch_size == pytest.approx(5e6)
    assert settings.ema_half_life / settings.ema_ramp_up * settings.batch_size == pytest.approx(2e7)


def test_gamma_grows_with_the_resolution_to_the_published_value() -> None:
    chosen = [moment(R3GANSettings(), resolution, 0.0).gamma for resolution in (32, 64, 128, 256)]
    assert chosen == pytest.approx([5, 5, 16, 128])  # 150 in the paper
    assert moment(R3GANSettings(gamma=0.0), 64, 0.0).gamma == 0.0


@pytest.mark.parametrize(
    ("name", "resolution", "widths", "groups"),
    [
        ("r3gan-cifar10", 32, (768,) * 4, (96,) * 4),
        ("r3gan-ffhq-64", 64, (768,) * 4 + (384,), (96,) * 4 + (48,)),
        ("r3gan-ffhq-256", 256, (768,) * 4 + (384, 192, 96), (96,) * 4 + (48, 24, 12)),
        ("r3gan-imagenet-32", 32, (1536,) * 4, (96,) * 4),
        ("r3gan-imagenet-64", 64, (1536,) * 5, (96,) * 5),
    ],
)
def test_presets_have_the_published_sizes(
    name: str, resolution: int, widths: tuple[int, ...], groups: tuple[int, ...]
) -> None:
    settings = PRESETS[name].settings
    plan = network_plan(settings, data_spec(resolution, 3, 10))
    assert (plan.widths, plan.groups, plan.blocks, plan.expansion) == (widths, groups, (2,) * len(widths), 2)
    assert plan.latent_dim == 64 and plan.base == 4
    assert plan.half_stages == (3 if resolution == 32 else 4)
    assert (plan.class_embedding, plan.class_embedding_d) == ((64, widths[0]) if settings.conditional else (0, 0))
    assert resolve(PRESETS[name]).data.resolution == resolution


# Training. ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [{}, {"conditional": True}, {"augment": "none"}, {"augment": "diffaugment"}, {"ada_target": 0.6}, {"gamma": 0.0}],
    ids=str,
)
def test_a_step_updates_both_networks_on_a_batch_each(changes: dict[str, Any]) -> None:
    recipe = build(**changes)
    before = {key: value.clone() for key, value in recipe.named_parameters()}
    ctx, logs = train(recipe, 2)
    assert ctx.updates == ["discriminator", "generator"] * 2
    assert ctx.batches_drawn == 2
    for log in logs:
        named = {"loss_discriminator", "loss_generator", "d_real", "d_fake", "d_accuracy", "gamma"}
        named |= {"penalty_r1", "penalty_r2"}
        assert named <= log.keys()
        assert ("augment_p" in log) == (recipe.settings.augment == "ada")
        assert ("augment_rt" in log) == (recipe.settings.ada_target > 0)
        for value in log.values():
            assert value.ndim == 0 and not value.requires_grad and torch.isfinite(value)
    assert not [key for key, value in recipe.named_parameters() if torch.equal(value, before[key])]
    assert all(parameter.requires_grad for parameter in recipe.parameters())


def test_one_step_is_the_formulas_in_float64() -> None:
    recipe = build(conditional=True, augment="none", gamma=0.8, resolution=16).double()
    plain = build(conditional=True, augment="none", resolution=16).double()
    plain.load_state_dict(recipe.state_dict())
    for network in (recipe, plain):
        with torch.no_grad():  # the last layers of blocks begin as zeros, which would hide much
            for name, parameter in network.named_parameters():
                if "project" in name:
                    parameter.copy_(torch.linspace(-0.3, 0.3, parameter.numel()).view_as(parameter))
    draw = random_batches(recipe.data)
    batches = [{k: v.double() if v.is_floating_point() else v for k, v in draw().items()} for _ in range(2)]
    latents = [torch.randn(6, 5, dtype=torch.float64) for _ in range(2)]

    ctx = FakeContext(recipe, lambda: batches[1])
    numbers = iter(latents)
    ctx.normal = lambda rows, *shape: next(numbers)  # type: ignore[method-assign]
    log = recipe.step(batches[0], ctx)

    d, g = plain.discriminator, plain.generator
    optimizers = plain.optimizers()
    real, labels = batches[0]["images"].requires_grad_(True), batches[0]["labels"]
    fake = g(latents[0], labels).detach().requires_grad_(True)
    on_real, on_fake = d(real, labels), d(fake, labels)
    loss = torch.log1p(torch.exp(-(on_real - on_fake))).mean()
    r1, r2 = (
        torch.autograd.grad(y.sum(), x, create_graph=True)[0].square().sum((1, 2, 3)).mean() / 2
        for y, x in ((on_real, real), (on_fake, fake))
    )
    (loss + 0.8 * (r1 + r2)).backward()
    optimizers["discriminator"].step()
    labels = batches[1]["labels"]
    loss_g = torch.log1p(torch.exp(d(batches[1]["images"], labels) - d(g(latents[1], labels), labels))).mean()
    g.zero_grad()
    loss_g.backward()
    optimizers["generator"].step()

    expected = {"loss_discriminator": loss, "loss_generator": loss_g, "penalty_r1": r1, "penalty_r2": r2}
    for name, value in expected.items():
        assert log[name].item() == pytest.approx(value.item(), rel=1e-9)
    for name, value in plain.named_parameters():
        assert torch.allclose(recipe.get_parameter(name), value, rtol=1e-7, atol=1e-9), name


def test_learning_rate_beta2_and_augmentation_follow_the_schedule() -> None:
    recipe = build(augment_p=0.4, burn_in=0.5)
    draw = random_batches(recipe.data)
    ctx = FakeContext(recipe, draw, steps=8)
    seen = []
    for step in range(8):
        ctx.step = ctx.stage_step = step
        for optimizer in ctx.optimizers.values():  # as the loop does
            optimizer.param_groups[0]["lr"] = 2e-4 * recipe.learning_rate_factor(step / 8)
        log = recipe.step(draw(), ctx)
        groups = [optimizer.param_groups[0] for optimizer in ctx.optimizers.values()]
        assert groups[0]["lr"] == groups[1]["lr"] and groups[0]["betas"] == groups[1]["betas"]
        assert isinstance(recipe.augmenter, AdaptiveAugmenter)
        seen.append((groups[0]["lr"], groups[0]["betas"][1], log["gamma"].item(), recipe.augmenter.p.item()))
    start = 5.0
    assert seen[0] == pytest.approx((2e-4, 0.9, start, 0.0))
    assert seen[2] == pytest.approx((1.25e-4, 0.945, 0.55 * start, 0.2))  # half of the way
    for later in seen[4:]:
        assert later == pytest.approx((5e-5, 0.99, 0.1 * start, 0.4))


def test_equal_seeds_train_to_equal_weights_whatever_the_global_generator_says() -> None:
    states = []
    for noise in (1, 2):
        recipe = build(burn_in=0.0, augment_p=0.8)
        torch.manual_seed(noise)  # everything drawn while training comes from the context
        train(recipe, 3)
        states.append(recipe.state_dict())
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


def test_it_trains_under_bfloat16_autocast() -> None:
    recipe = build(resolution=32)
    draw = random_batches(recipe.data)
    ctx = FakeContext(recipe, draw)
    with torch.autocast("cpu", torch.bfloat16):
        log = recipe.step(draw(), ctx)
    assert all(torch.isfinite(value) for value in log.values())
    assert all(torch.isfinite(p).all() and p.dtype == torch.float32 for p in recipe.parameters())


def test_frozen_blocks_of_the_discriminator_stay_as_they_are() -> None:
    recipe = build()
    blocks = recipe.freezable()
    assert blocks[0] is recipe.discriminator.from_image and len(blocks) == 4  # and a stage for 16, 8 and 4 pixels
    for block in blocks[:2]:
        block.requires_grad_(False)
    before = {key: value.clone() for key, value in recipe.discriminator.named_parameters()}
    train(recipe, 2)
    for name, value in recipe.discriminator.named_parameters():
        assert torch.equal(value, before[name]) == name.startswith(("from_image", "stages.0.")), name


OPTIONS: dict[str, Any] = {"steps": 8, "batch_size": 6, "log_every": 1, "checkpoint_every": 2, "sample_every": 8}
RUN = SMALL | OPTIONS | {"keep_last": 9, "evaluate_every": -1, "held_out": 0.0, "write_html": False}


def test_the_loop_follows_the_recipes_schedule(tmp_path: Path) -> None:
    data = tmp_path / "images.npz"
    np.savez(data, images=np.random.default_rng(0).integers(0, 256, (30, 16, 16, 1), dtype=np.uint8))
    run = gw.train("r3gan", data, out=tmp_path / "run", lr=4e-3, lr_end=1e-3, burn_in=0.5, lr_schedule="linear", **RUN)
    cosines = [1e-3 + 3e-3 * 0.5 * (1 + math.cos(math.pi * min(1.0, k / 4))) for k in range(8)]
    linear = [min(1.0, (8 - k) / 4) for k in range(8)]
    found = [line["lr_generator"] for line in run.log_records()]
    assert found == pytest.approx([a * b for a, b in zip(cosines, linear, strict=True)])


def test_a_resumed_run_is_the_run_that_was_not_interrupted(tmp_path: Path) -> None:
    data = tmp_path / "images.npz"
    images = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    np.savez(data, images=images, labels=np.arange(40) % 3)
    for name in ("whole", "broken"):
        gw.train("r3gan", data, out=tmp_path / name, conditional=True, lr_schedule="linear", **RUN)
    for step in (4, 6, 8):  # as if it had been killed in step 4
        shutil.rmtree(tmp_path / "broken" / "checkpoints" / f"step-{step:06d}")
    gw.resume(tmp_path / "broken", write_html=False)
    for file in ("networks", "ema", "optimizers"):
        whole, broken = (
            load_file(tmp_path / name / "checkpoints" / "step-000008" / f"{file}.safetensors")
            for name in ("whole", "broken")
        )
        assert whole and whole.keys() == broken.keys()
        assert all(torch.equal(value, broken[key]) for key, value in whole.items()), file
    logs = [without_times(gw.load_run(tmp_path / name).log_records()) for name in ("whole", "broken")]
    assert [r for r in logs[0] if "gamma" in r] == [r for r in logs[1] if "gamma" in r]


def test_sixty_steps_on_digits_stay_finite_and_learn_where_the_ink_is(tmp_path: Path) -> None:
    quick = {
        "steps": 60,
        "batch_size": 16,
        "resolution": 16,
        "augment": "none",
        "width": 16,
        "lr": 4e-3,
        "lr_end": 4e-3,
    }
    run = gw.train("r3gan", "mnist", out=tmp_path / "run", **(RUN | quick | {"checkpoint_every": 60}))
    records = [r for r in run.log_records() if "gamma" in r]
    assert len(records) == 60
    assert all(math.isfinite(v) for r in records for v in r.values() if isinstance(v, float))

    samples = gw.sample(run, n=100)
    assert isinstance(samples, ImageSamples)
    generated = samples.images[..., 0].astype(float)
    middle, border = generated[:, 4:12, 4:12].mean(), np.delete(generated, range(2, 14), axis=1).mean()
    assert middle > border + 20  # digits: 70 levels and 0; before training both are about 127
    assert generated.std(0).mean() > 10  # and not all the same


# Samples. -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("conditional", [False, True])
def test_samples_depend_on_seed_and_position_alone(conditional: bool) -> None:
    recipe = build(conditional=conditional)
    train(recipe, 2)
    recipe.eval()
    with torch.no_grad():
        many, few = recipe.sample(SampleRequest(n=9, seed=4)), recipe.sample(SampleRequest(n=4, seed=4))
        chunked = recipe.sample(SampleRequest(n=9, seed=4, batch_size=2))
        space = recipe.latent_space()
        z = SampleRequest(n=4, seed=4).normal(space.latent_dim)
        walked = space.generate(z, torch.tensor([0, 1, 2, 0]) if space.num_classes else None)
    assert many.images.shape == (9, 16, 16, 1) and many.images.dtype == np.uint8
    assert np.array_equal(many.images[:4], few.images) and np.array_equal(many.images, chunked.images)
    assert np.array_equal(((walked.clamp(-1, 1) * 127.5 + 127.5).round()).byte().permute(0, 2, 3, 1), few.images)
    assert (many.labels is None) == (not conditional)
    if conditional:
        assert many.labels is not None and many.labels.tolist() == [0, 1, 2] * 3
    assert space.first_layer is not None and space.first_layer.shape == (8, 5)


def test_labels_that_are_not_there_are_refused() -> None:
    with pytest.raises(SettingsError, match="without classes"):
        build().sample(SampleRequest(n=2, labels=[0, 1]))
    with pytest.raises(SettingsError, match="There is no class 3"):
        build(conditional=True).sample(SampleRequest(n=2, labels=[0, 3]))


# Settings. ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "data", "what"),
    [
        ({"conditional": True}, {"classes": 0}, "no class labels"),
        ({}, {"resolution": 36}, "cannot make images of 36"),
        ({"width": 9}, {}, "cannot be halved"),
        ({"width": 24, "group_width": 20}, {}, "cannot be halved"),
        ({"width": 2}, {"resolution": 256}, "cannot be halved"),
        ({"gamma": -1.0}, {}, "negative"),
        ({"gamma": math.nan}, {}, "negative"),
        ({"burn_in": 1.5}, {}, "share"),
        ({"lr": 0.0}, {}, "lr is 0"),
        ({"beta2_end": 1.0}, {}, "beta2_end is 1"),
        ({"blocks": 0}, {}, "counts"),
        ({"half_stages": -1}, {}, "half_stages"),
        ({"augment_policy": "bgd"}, {}, "no augmentation"),
    ],
    ids=str,
)
def test_what_cannot_work_is_refused_with_advice(changes: dict[str, Any], data: dict[str, Any], what: str) -> None:
    with pytest.raises(SettingsError, match=what) as caught:
        build(**changes, **data)
    assert caught.value.where and caught.value.fix


def test_half_stages_never_reach_the_coarsest() -> None:
    assert network_plan(replace(R3GANSettings(), half_stages=99), data_spec(32)).half_stages == 3


def weights_of(recipe: R3GAN) -> list[Tensor]:
    return [p.detach().clone() for p in recipe.parameters()]


def test_initial_weights_depend_on_the_seed_alone() -> None:
    assert all(torch.equal(a, b) for a, b in zip(weights_of(build(1)), weights_of(build(1)), strict=True))
    assert not torch.equal(weights_of(build(1))[0], weights_of(build(2))[0])
