"""srgan, esrgan and denoise-gan: stages, losses, resumption, use, and what they refuse."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from image_gan_fakes import FakeContext, data_spec, random_batches
from tests.training.helpers import assert_identical, write_pictures
from torch import Tensor

import ganwright as gw
from ganwright.data.spec import DataKind
from ganwright.degrade import SeededDraws, gaussian
from ganwright.errors import SettingsError
from ganwright.losses import relativistic_average_d, relativistic_average_g
from ganwright.recipes.base import Recipe, SampleRequest
from ganwright.recipes.perceptual import PerceptualLoss
from ganwright.recipes.registry import find_recipe
from ganwright.recipes.restoration import Restorer
from ganwright.training.settings import resolve

SMALL: dict[str, dict[str, Any]] = {
    "srgan": {"width_g": 4, "blocks": 1, "width_d": 4, "levels_d": 3, "perceptual_weight": 0.0},
    "esrgan": {"width_g": 4, "blocks": 1, "growth": 2, "width_d": 4, "levels_d": 3, "perceptual_weight": 0.0},
    "denoise-gan": {"width_g": 4, "width_d": 4, "levels_d": 3},
}


def build(name: str, *, seed: int = 0, channels: int = 1, resolution: int = 16, **changes: Any) -> Restorer:
    info = find_recipe(name)
    torch.manual_seed(seed)
    recipe = info.recipe(data_spec(resolution, channels, 0), replace(info.settings, **{**SMALL[name], **changes}))
    assert isinstance(recipe, Restorer)
    return recipe


def train(recipe: Recipe, stages: list[str]) -> tuple[FakeContext, list[dict[str, Tensor]]]:
    draw = random_batches(recipe.data)
    ctx = FakeContext(recipe, draw, len(stages))
    recipe.train()
    logs = []
    for step, ctx.stage in enumerate(stages):
        ctx.step = ctx.stage_step = step
        logs.append(recipe.step(draw(), ctx))
    return ctx, logs


# Losses. ------------------------------------------------------------------------------------------------------


def test_the_relativistic_average_loss_is_esrgans() -> None:
    real, fake = [1.5, -0.3, 0.2], [0.4, -2.0]

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    mean_real, mean_fake = sum(real) / 3, sum(fake) / 2
    d = -sum(math.log(sigmoid(r - mean_fake)) for r in real) / 3
    d -= sum(math.log(1 - sigmoid(f - mean_real)) for f in fake) / 2
    g = -sum(math.log(1 - sigmoid(r - mean_fake)) for r in real) / 3
    g -= sum(math.log(sigmoid(f - mean_real)) for f in fake) / 2
    a, b = torch.tensor(real, dtype=torch.float64), torch.tensor(fake, dtype=torch.float64)
    assert relativistic_average_d(a, b).item() == pytest.approx(d, rel=1e-12)
    assert relativistic_average_g(a, b).item() == pytest.approx(g, rel=1e-12)


def test_the_perceptual_loss_is_the_distance_of_unit_features() -> None:
    loss = PerceptualLoss(40)
    assert loss.features.resize_to == 64 and not list(loss.parameters()) and not loss.state_dict()
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(2, 1, 40, 40, generator=generator) * 2 - 1 for _ in range(2))
    expected = 0.0
    for one, two in zip(loss.features(a), loss.features(b), strict=True):
        one, two = (m / m.square().sum(1, keepdim=True).sqrt().clamp_min(1e-12) for m in (one, two))
        expected += float((one - two).square().sum(1).mean())
    assert loss(a, b).item() == pytest.approx(expected, rel=1e-5)
    assert loss(a, a).item() == pytest.approx(0, abs=1e-6)
    a.requires_grad_(True)
    loss(a, b).backward()
    assert a.grad is not None and a.grad.abs().max() > 0


@pytest.mark.parametrize("name", ["srgan", "esrgan"])
def test_one_adversarial_step_is_the_formulas_in_float64(name: str) -> None:
    recipe, plain = (build(name, channels=3, norm_d="none", pixel_weight=0.7).double() for _ in range(2))
    clean = random_batches(recipe.data)()["images"].double()
    ctx = FakeContext(recipe, lambda: {})
    ctx.stage = "adversarial"
    recipe.train()
    log = recipe.step({"images": clean}, ctx)

    plain.train()
    optimizers = plain.optimizers()
    low = F.interpolate(clean, scale_factor=1 / 4, mode="bicubic", antialias=True, align_corners=False)
    low = ((low.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1
    restored = plain.generator(low)
    real, fake = plain.discriminator(clean), plain.discriminator(restored.detach())

    def bce(logits: Tensor, target: float) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))

    if name == "esrgan":
        loss_d = bce(real - fake.mean(), 1) + bce(fake - real.mean(), 0)
    else:
        loss_d = bce(real, 1) + bce(fake, 0)
    optimizers["discriminator"].zero_grad()
    loss_d.backward()
    optimizers["discriminator"].step()
    real, fake = plain.discriminator(clean).detach(), plain.discriminator(restored)
    if name == "esrgan":
        pixel, adversarial = (restored - clean).abs().mean(), bce(real - fake.mean(), 0) + bce(fake - real.mean(), 1)
    else:
        pixel, adversarial = (restored - clean).square().mean(), bce(fake, 1)
    loss_g = 0.7 * pixel + recipe.s.adversarial_weight * adversarial
    optimizers["generator"].zero_grad()
    loss_g.backward()
    optimizers["generator"].step()

    assert log["loss_discriminator"].item() == pytest.approx(loss_d.item(), rel=1e-9)
    assert log["loss_generator"].item() == pytest.approx(loss_g.item(), rel=1e-9)
    for (key, found), expected in zip(recipe.state_dict().items(), plain.state_dict().values(), strict=True):
        assert torch.allclose(found, expected, atol=1e-10), key


# Stages. ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
def test_pixels_first_then_the_discriminator(name: str) -> None:
    recipe = build(name)
    before = {key: value.clone() for key, value in recipe.named_parameters()}
    ctx, logs = train(recipe, ["pretraining", "pretraining"])
    changed = {key.split(".")[0] for key, value in recipe.named_parameters() if not torch.equal(value, before[key])}
    assert ctx.updates == ["pretraining"] * 2 and changed == {"generator"}
    assert set(logs[0]) == {"loss_generator", "pixel"}
    ctx, logs = train(recipe, ["adversarial"])
    assert ctx.updates == ["discriminator", "generator"]
    assert {"loss_discriminator", "adversarial", "d_accuracy", "d_real", "d_fake"} <= set(logs[0])
    assert all(value.ndim == 0 and value.isfinite() and not value.requires_grad for value in logs[0].values())
    assert all(p.requires_grad for p in recipe.parameters())


def test_stages_fill_the_run() -> None:
    for share, expected in ((0.3, [3, 7]), (0.0, [10]), (1.0, [10])):
        stages = build("srgan", pretrain_share=share).stages(10)
        assert [stage.steps for stage in stages] == expected
    assert build("srgan", pretrain_share=1.0).stages(5)[0].name == "pretraining"


def test_training_denoises() -> None:
    recipe = build("denoise-gan", sigma=(0.2, 0.2), width_g=8, lr_pretrain=3e-3)
    clean = torch.linspace(-0.6, 0.6, 16).expand(4, 1, 16, 16).contiguous()  # smooth: noise is all there is to learn
    ctx = FakeContext(recipe, lambda: {})
    ctx.stage = "pretraining"
    for _ in range(60):
        recipe.step({"images": clean}, ctx)
    noisy = gaussian(clean, torch.full((4,), 0.2), SeededDraws(3))
    with torch.no_grad():
        restored = recipe.translate(noisy)
    assert (restored - clean).square().mean() < 0.35 * (noisy - clean).square().mean()


RUN: dict[str, Any] = {
    "steps": 6,
    "batch_size": 4,
    "log_every": 1,
    "checkpoint_every": 2,
    "sample_every": 6,
    "evaluate_every": -1,
    "keep_last": 9,
    "resolution": 16,
    "write_html": False,
}


@pytest.mark.parametrize("name", SMALL)
def test_a_resumed_run_is_the_run_that_was_not_interrupted(name: str, tmp_path: Path) -> None:
    data = write_pictures(tmp_path / "pictures", 12, side=24)
    changes = {"degradation": "poisson"} if name == "denoise-gan" else {"upscale": 2}
    for run in ("whole", "broken"):
        gw.train(name, data, out=tmp_path / run, pretrain_share=0.5, **{**SMALL[name], **RUN, **changes})
    for step in (4, 6):  # as if it had been killed in step 3, before the stage's end
        shutil.rmtree(tmp_path / "broken" / "checkpoints" / f"step-{step:06d}")
    gw.resume(tmp_path / "broken", write_html=False)
    assert_identical(tmp_path / "whole", tmp_path / "broken", 6)
    records = gw.load_run(tmp_path / "whole").log_records()
    assert [r["stage"] for r in records if "stage" in r] == ["pretraining"] * 3 + ["adversarial"] * 3


# Use. ---------------------------------------------------------------------------------------------------------


def test_enlarged_pictures_of_any_size() -> None:
    recipe = build("srgan", channels=3, upscale=2).eval()
    assert recipe.scale == 2 and recipe.directions == ("a2b",) and recipe.measured_as == "pairs"
    with torch.no_grad():
        out = recipe.translate(torch.rand(1, 3, 9, 14) * 2 - 1)
    assert out.shape == (1, 3, 18, 28) and out.abs().max() <= 1
    with pytest.raises(SettingsError, match="direction"):
        recipe.translate(torch.zeros(1, 3, 8, 8), "b2a")


@pytest.mark.parametrize("name", SMALL)
def test_samples_are_inputs_outputs_and_targets(name: str) -> None:
    recipe = build(name).eval()
    images = random_batches(recipe.data, rows=5)()
    request = SampleRequest(n=5, seed=3, inputs=images, baselines=True, batch_size=2)
    with torch.no_grad():
        samples = recipe.sample(request)
        again = recipe.sample(replace(request, batch_size=5, baselines=False))
    side = 16 // recipe.scale
    assert samples.inputs.shape == (5, side, side, 1) and samples.outputs.shape == (5, 16, 16, 1)
    assert samples.targets is not None
    assert np.array_equal(samples.targets[..., 0], ((images["images"][:, 0] + 1) * 127.5).round().byte().numpy())
    assert np.array_equal(samples.inputs, again.inputs)  # however many at a time
    wanted = {"bicubic"} if name != "denoise-gan" else {"input", "tv", "nlm"}
    assert set(samples.baselines) == wanted and not again.baselines
    assert all(images.shape == samples.outputs.shape for images in samples.baselines.values())
    with pytest.raises(SettingsError, match="pictures to work on"):
        recipe.sample(SampleRequest(n=2))


def test_without_scikit_image_there_is_still_the_input(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr("ganwright.recipes.denoise_gan.available", lambda: False)
    assert set(build("denoise-gan").baselines(torch.zeros(1, 1, 16, 16))) == {"input"}
    told = capsys.readouterr()
    assert "ganwright[restore]" in told.out + told.err


def test_an_informed_network_hears_the_level_it_was_trained_with() -> None:
    recipe = build("denoise-gan", informed=True, degradation="gaussian", sigma=(0.0, 0.3))
    draws = SeededDraws(0)
    told = recipe.damaged({"images": torch.zeros(3, 1, 64, 64)}, draws)
    assert told.strength is not None
    assert told.inputs.std((1, 2, 3)) / 2 == pytest.approx(told.strength, rel=0.05)
    estimated = recipe.estimated_strength(told.inputs)
    assert estimated is not None and estimated == pytest.approx(told.strength, rel=0.15)
    fixed = build("denoise-gan", informed=True, degradation="poisson", peak_photons=(50.0, 50.0))
    assert fixed.estimated_strength(torch.zeros(2, 1, 8, 8)) == pytest.approx(torch.full((2,), 0.1))


def test_pairs_are_restored_as_they_are() -> None:
    spec = replace(data_spec(16, 1, 0), kind=DataKind.PAIRS)
    info = find_recipe("denoise-gan")
    recipe = info.recipe(spec, replace(info.settings, **SMALL["denoise-gan"]))
    assert isinstance(recipe, Restorer)
    batch = {"inputs": torch.zeros(2, 1, 16, 16), "targets": torch.ones(2, 1, 16, 16)}
    found = recipe.damaged(batch, SeededDraws(0))
    assert torch.equal(found.inputs, batch["inputs"]) and torch.equal(found.targets, batch["targets"])
    assert set(recipe.baselines(batch["inputs"])) == {"input"}


def test_a_file_of_pairs_trains_a_restorer(tmp_path: Path) -> None:
    clean = np.random.default_rng(0).integers(0, 256, (16, 16, 16, 1), dtype=np.uint8)
    np.savez(tmp_path / "pairs.npz", inputs=255 - clean, targets=clean)
    changes = {**SMALL["denoise-gan"], **RUN, "steps": 2, "evaluate_every": 2}
    run = gw.train("restoration-gan", tmp_path / "pairs.npz", out=tmp_path / "run", **changes)
    assert run.config["data"]["kind"] == "pairs"
    (measured,) = run.metric_records()
    assert {"psnr", "psnr:input"} <= set(measured["estimates"])


# Refusals. ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "changes", "where"),
    [
        ("srgan", {"loss": "wasserstien"}, "loss"),
        ("srgan", {"pretrain_share": 1.2}, "pretrain_share"),
        ("srgan", {"adversarial_weight": -1.0}, "adversarial_weight"),
        ("srgan", {"levels_d": 5}, "levels_d"),
        ("srgan", {"upscale": 3}, "resolution"),
        ("srgan", {"upscale": 1}, "upscale"),
        ("esrgan", {"upsamplings": 1}, "upsamplings"),
        ("denoise-gan", {"sigma": (0.2, 0.1)}, "sigma"),
        ("denoise-gan", {"informed": True, "degradation": "poisson", "peak_photons": (5.0, 50.0)}, "informed"),
        ("denoise-gan", {"network": "dncnn"}, "depth"),
    ],
)
def test_impossible_settings_are_refused(name: str, changes: dict[str, Any], where: str) -> None:
    with pytest.raises(SettingsError) as caught:
        build(name, **changes)
    assert caught.value.where == where and caught.value.fix


def test_presets_are_the_papers() -> None:
    srgan, esrgan = find_recipe("srgan"), find_recipe("esrgan")
    assert (srgan.settings.blocks, srgan.settings.width_g, srgan.settings.adversarial_weight) == (16, 64, 1e-3)
    assert (esrgan.settings.network, esrgan.settings.blocks, esrgan.settings.growth) == ("rrdb", 23, 32)
    assert (esrgan.settings.adversarial_weight, esrgan.settings.pixel_weight) == (5e-3, 1e-2)
    for info, pretraining in ((srgan, 1_000_000), (esrgan, 1_000_000)):
        settings = resolve(info)
        assert round(info.settings.pretrain_share * settings.train.steps) == pretraining
        assert settings.data.crop == "random" and settings.train.batch_size == 16
