"""InfoGAN: the bound is the formula, codes do what they are asked, and the encoder reconstructs."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_gan_fakes import FakeContext, data_spec, random_batches, train
from scipy.special import log_softmax
from scipy.stats import norm
from torch import Tensor

import ganwright as gw
from ganwright.data.spec import Batch
from ganwright.errors import SettingsError
from ganwright.networks.encoder import BackboneEncoder
from ganwright.recipes.base import SampleRequest
from ganwright.recipes.infogan import InfoGAN
from ganwright.recipes.latent_codes import LatentCodes
from ganwright.recipes.registry import find_recipe

SMALL: dict[str, Any] = {"width_g": 4, "width_d": 4, "latent_dim": 5, "growth": 2, "encoder_features": 6}


def build(seed: int = 0, channels: int = 1, classes: int = 0, **changes: Any) -> InfoGAN:
    torch.manual_seed(seed)
    settings = replace(find_recipe("infogan").settings, **{**SMALL, **changes})
    return InfoGAN(data_spec(16, channels, classes), settings)


class Recording(FakeContext):
    """Keeps the losses; all numbers in double precision."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.losses: dict[str, Tensor] = {}

    def normal(self, rows: int, *shape: int) -> Tensor:
        return super().normal(rows, *shape).double()

    def uniform(self, rows: int, *shape: int) -> Tensor:
        return super().uniform(rows, *shape).double()

    def minimise(self, loss: Tensor, optimizer: str) -> None:
        self.losses[optimizer] = loss.detach()
        super().minimise(loss, optimizer)


# Codes. -----------------------------------------------------------------------------------------------------


def test_the_bound_is_the_formula() -> None:
    codes = LatentCodes(2, 3, 2)
    generator = torch.Generator().manual_seed(0)
    categories = torch.randint(3, (7, 2), generator=generator)
    continuous = torch.rand(7, 2, generator=generator, dtype=torch.float64) * 2 - 1
    readings = torch.randn(7, codes.readings, generator=generator, dtype=torch.float64)
    of_categories, density = codes.log_likelihoods(readings, codes.join(categories, continuous))
    r, expected, expected_density = readings.numpy(), 0.0, 0.0
    for i in range(7):
        for k in range(2):
            expected += log_softmax(r[i, 3 * k : 3 * k + 3])[int(categories[i, k])] / 7
            spread = math.exp(min(1.0, max(-3.0, r[i, 8 + k])))
            expected_density += norm.logpdf(float(continuous[i, k]), r[i, 6 + k], spread) / 7
    assert of_categories.item() == pytest.approx(expected, rel=1e-12)
    assert density.item() == pytest.approx(expected_density, rel=1e-12)


def test_the_bound_is_tight_for_a_perfect_reader_of_categories() -> None:
    codes = LatentCodes(1, 10, 0)
    rows = codes.join(torch.arange(10)[:, None], torch.zeros(10, 0))
    assert codes.log_likelihoods(rows * 100, rows)[0].item() + math.log(10) == pytest.approx(math.log(10), abs=1e-6)
    assert codes.log_likelihoods(rows * 0, rows)[0].item() + math.log(10) == pytest.approx(0, abs=1e-6)


def test_codes_are_drawn_from_their_priors_and_split_again() -> None:
    codes = LatentCodes(2, 4, 1)
    rows = codes.draw(4000, FakeContext(build(), random_batches(data_spec())))
    categories, continuous = codes.split(rows)
    assert rows.shape == (4000, 9) and torch.equal(codes.join(categories, continuous), rows)
    assert torch.bincount(categories.flatten(), minlength=4).tolist() == pytest.approx([2000] * 4, rel=0.1)
    assert -1 <= continuous.min() < -0.99 and 0.99 < continuous.max() < 1
    assert continuous.var().item() == pytest.approx(1 / 3, rel=0.05)


def test_both_losses_are_the_formulas_written_out() -> None:
    changes = {"info_weight": 0.7, "info_weight_continuous": 0.2, "norm_d": "none", "lr_d": 0.0, "lr_g": 0.0}
    recipe = build(encoder="learned", reconstruction_weight=3.0, **changes).double()
    recipe.generator.encoder.eval()  # type: ignore[union-attr]
    draw = random_batches(recipe.data, rows=8)
    real = draw()["images"].double()
    ctx, again = Recording(recipe, draw), Recording(recipe, draw)
    log = recipe.step({"images": real}, ctx)
    expected = []
    with torch.no_grad():
        for _ in range(2):
            z = again.normal(8, 5)
            codes = recipe.codes.join(again.integers(10, 8, 1), 2 * again.uniform(8, 2) - 1)
            fake = recipe.generator(torch.cat([z, codes, recipe.encode(real)], 1))
            readings = recipe.heads["codes"](recipe.discriminator.embed(fake))
            categorical, continuous = recipe.codes.log_likelihoods(readings, codes)
            expected.append((fake, -0.7 * categorical - 0.2 * continuous))
        softplus = torch.nn.functional.softplus
        d = recipe.discriminator
        loss_d = softplus(-d(real).logits).mean() + softplus(d(expected[0][0]).logits).mean() + expected[0][1]
        fake, information = expected[1]
        loss_g = softplus(-d(fake).logits).mean() + information + 3 * (fake - real).abs().mean()
    assert ctx.losses["discriminator"].item() == pytest.approx(loss_d.item(), rel=1e-9)
    # Losses with images are float32.
    assert ctx.losses["generator"].item() == pytest.approx(loss_g.item(), rel=1e-6)
    assert log["reconstruction_mae"].item() == pytest.approx((fake - real).abs().mean().item() / 2, rel=1e-6)
    mse = ((fake - real) / 2).square().mean().item()
    assert log["reconstruction_psnr"].item() == pytest.approx(-10 * math.log10(mse), rel=1e-5)


# Training and sampling. -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"categorical_codes": 3, "continuous_codes": 0, "d_steps": 2},
        {"categorical_codes": 0, "spectral_d": True, "norm_d": "none"},
        {"architecture": "resnet", "norm_d": "none", "share_fakes": True, "encoder": "learned"},
        {"architecture": "mlp", "norm_d": "none"},
        {"encoder": "efficientnet-lite0", "channels": 3},
    ],
    ids=str,
)
def test_it_trains_and_samples(changes: dict[str, Any]) -> None:
    recipe = build(**changes)
    before = {key: value.clone() for key, value in recipe.named_parameters()}
    _, logs = train(recipe, 2)
    for log in logs:
        assert "mutual_information" in log
        assert ("reconstruction_mae" in log) == (recipe.settings.encoder != "none")
        assert all(value.ndim == 0 and value.isfinite() and not value.requires_grad for value in log.values())
    assert [key for key, value in recipe.named_parameters() if torch.equal(value, before[key])] == []
    recipe.eval()
    with torch.no_grad():
        many = recipe.sample(SampleRequest(n=9, seed=3)).images
        assert np.array_equal(recipe.sample(SampleRequest(n=4, seed=3)).images, many[:4])
        assert np.array_equal(recipe.sample(SampleRequest(n=9, seed=3, batch_size=2)).images, many)
        assert all(math.isfinite(value) for value in recipe.evaluate(0).values())
        space = recipe.latent_space()
        assert space is not None
        assert space.generate(torch.zeros(2, 5), None).shape == (2, recipe.data.channels, 16, 16)


def test_codes_can_be_asked_for() -> None:
    recipe = build(categorical_codes=2)
    assert list(recipe.sample_options) == ["category", "category2", "code1", "code2"]
    assert "images" in build(encoder="learned").sample_options
    recipe.eval()
    latents = recipe._requested_latents(SampleRequest(n=12, options={"category2": 4, "code1": [0.1] * 12}))
    categories, continuous = recipe.codes.split(latents[:, 5:])
    assert categories[:, 0].tolist() == [*range(10), 0, 1] and categories[:, 1].tolist() == [4] * 12
    assert continuous[:, 0].tolist() == pytest.approx([0.1] * 12) and len(set(continuous[:, 1].tolist())) == 12
    with torch.no_grad():
        assert recipe.sample(SampleRequest(n=20)).columns == 10
        assert recipe.sample(SampleRequest(n=20, options={"category": 3})).columns is None
    for options in (
        {"category": 10},
        {"category": 0.5},
        {"code3": 0.0},
        {"code1": [0.0]},
        {"code1": "x"},
        {"images": 0},
    ):
        with pytest.raises(SettingsError):
            recipe._requested_latents(SampleRequest(n=12, options=options))


def test_gradients_reach_whom_they_should() -> None:
    recipe = build(encoder="learned")

    class Watching(FakeContext):
        def minimise(self, loss: Tensor, optimizer: str) -> None:
            recipe.zero_grad(set_to_none=True)
            super().minimise(loss, optimizer)
            own = [*recipe.discriminator.parameters(), *recipe.heads.parameters()]
            g = [*recipe.generator.parameters()]
            moved, still = (own, g) if optimizer == "discriminator" else (g, own)
            assert all(p.grad is not None for p in moved) and all(p.grad is None for p in still)

    draw = random_batches(recipe.data)
    recipe.step(draw(), Watching(recipe, draw))
    assert any(key.startswith("encoder") for key, _ in recipe.generator.named_parameters())


def test_the_backbone_encoder_saves_only_what_it_learns() -> None:
    encoder = BackboneEncoder(6)
    assert {key.split(".")[0] for key in encoder.state_dict()} == {"norm", "to_features"}
    images = torch.zeros(2, 3, 16, 16, requires_grad=True)
    encoder(images).sum().backward()
    assert images.grad is not None and not any(p.requires_grad for p in encoder.backbone._held[0].parameters())


@pytest.mark.parametrize(
    "changes",
    [
        {"categorical_codes": 0, "continuous_codes": 0},
        {"categories": 1},
        {"info_weight": -1.0},
        {"reconstruction_weight": math.nan},
    ],
    ids=str,
)
def test_senseless_settings_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(SettingsError) as caught:
        build(**changes)
    assert caught.value.where and caught.value.fix


def bars(rows: int, generator: torch.Generator) -> Tensor:
    """A bright band, level or upright, at any height, (N, 1, 16, 16)."""
    images = torch.full((rows, 1, 16, 16), -1.0)
    for i in range(rows):
        at = int(torch.randint(1, 12, (), generator=generator))
        images[i, 0, at : at + 3] = 1
        if torch.rand((), generator=generator) < 0.5:
            images[i] = images[i].transpose(1, 2).clone()
    return images


def trained(steps: int, **changes: Any) -> tuple[InfoGAN, list[dict[str, Tensor]]]:
    recipe = build(width_g=16, width_d=16, latent_dim=8, categories=2, continuous_codes=1, lr_d=1e-3, **changes)
    generator = torch.Generator().manual_seed(0)
    pool = bars(256, generator)

    def draw() -> Batch:
        return {"images": pool[torch.randint(256, (16,), generator=generator)]}

    ctx, logs = FakeContext(recipe, draw, steps), []
    recipe.train()
    for step in range(steps):
        ctx.step = ctx.stage_step = step
        logs.append(recipe.step(draw(), ctx))
    recipe.eval()
    return recipe, logs


def test_codes_become_readable_and_change_the_image() -> None:
    recipe, logs = trained(200)
    with torch.no_grad():
        found = recipe.evaluate(0)
        untrained = build(width_g=16, width_d=16, latent_dim=8, categories=2, continuous_codes=1).eval().evaluate(0)
    assert logs[-1]["mutual_information"] > 0.5 > 0.2 > logs[0]["mutual_information"]  # nats; at most ln 2 + ln 2
    assert found["category_accuracy"] > 0.9 and found["code_correlation"] > 0.6
    assert found["code_effect"] > max(0.2, untrained["code_effect"])


def test_the_encoder_learns_to_reconstruct() -> None:
    recipe, logs = trained(150, encoder="learned", encoder_features=8)
    mean = [sum(log["reconstruction_psnr"].item() for log in part) / 10 for part in (logs[:10], logs[-10:])]
    assert mean[1] > mean[0] + 3
    pictures = bars(20, torch.Generator().manual_seed(9))
    images = ((pictures + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    with torch.no_grad():
        made = recipe.sample(SampleRequest(n=20, options={"images": images})).images.astype(float)
        every = recipe.sample(SampleRequest(n=20, options={"images": images[:1]})).images.astype(float)
    own, others = np.abs(made - images).mean(), np.abs(made - np.roll(images, 7, 0)).mean()
    assert own < 0.6 * others
    assert np.abs(every - images[:1]).mean() < 0.6 * others
    with pytest.raises(SettingsError):
        recipe.sample(SampleRequest(n=3, options={"images": images[:2]}))


def test_a_resumed_run_is_bit_identical(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 1), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", images=images)
    options: dict[str, Any] = {
        **SMALL, "batch_size": 8, "steps": 6, "log_every": 1, "checkpoint_every": 3, "sample_every": 0,
        "evaluate_every": -1, "held_out": 0.0, "write_html": False, "lr_schedule": "constant", "resolution": 16,
        "ema_half_life": 5.0, "encoder": "learned",
    }  # fmt: skip
    whole = gw.train("infogan", tmp_path / "images.npz", out=tmp_path / "whole", **options)
    short = gw.train("infogan", tmp_path / "images.npz", out=tmp_path / "short", **{**options, "steps": 3})
    gw.resume(short, steps=6, write_html=False)
    for name in ("networks", "ema", "optimizers"):
        files = [run.path / f"checkpoints/step-000006/{name}.safetensors" for run in (whole, short)]
        assert files[0].read_bytes() == files[1].read_bytes(), name
