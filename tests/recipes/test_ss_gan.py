"""SS-GAN: the rotation loss is the paper's, reaches who it should, and is learned."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_gan_fakes import FakeContext, data_spec, random_batches, train
from PIL import Image
from scipy.special import log_softmax
from torch import Tensor
from two_processes import assert_as_one, run_two, train_share

import ganwright as gw
from ganwright.data.spec import Batch
from ganwright.errors import SettingsError
from ganwright.recipes.presets import SNGAN
from ganwright.recipes.registry import find_recipe
from ganwright.recipes.ss_gan import SSGAN, rotation_ambiguous, rotations

SMALL: dict[str, Any] = {"width_g": 4, "width_d": 4, "latent_dim": 5, "growth": 2, "d_steps": 1}


def build(seed: int = 0, classes: int = 0, **changes: Any) -> SSGAN:
    torch.manual_seed(seed)
    return SSGAN(data_spec(16, 3, classes), replace(find_recipe("ss-gan").settings, **{**SMALL, **changes}))


def test_the_preset_is_sngans_with_the_papers_weights() -> None:
    s = find_recipe("ss-gan").settings
    assert all(getattr(s, field.name) == getattr(SNGAN, field.name) for field in fields(SNGAN))
    assert (s.rotation_weight_d, s.rotation_weight_g, s.rotated_share) == (1.0, 0.2, 0.25)


def test_rotations_turn_counter_clockwise_all_of_one_direction_together() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 6, 6, 3), dtype=np.uint8)
    rotated, r = rotations(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    assert r.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    for i in range(12):
        expected = np.asarray(
            Image.fromarray(pixels[i % 3]).rotate(90 * int(r[i]))
        )  # Pillow's angles are counter-clockwise
        assert np.array_equal(rotated[i].permute(1, 2, 0).numpy(), expected)


class Recording(FakeContext):
    """Keeps the losses; all numbers in double precision."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.losses: dict[str, Tensor] = {}

    def normal(self, rows: int, *shape: int) -> Tensor:
        return super().normal(rows, *shape).double()

    def minimise(self, loss: Tensor, optimizer: str) -> None:
        self.losses[optimizer] = loss.detach()
        super().minimise(loss, optimizer)


def naive_rotation_loss(recipe: SSGAN, images: Tensor) -> float:
    """-1/4M Σ log softmax(W f(x^r) + b)_r, image by image, with NumPy."""
    head, total = recipe.heads["rotation"], 0.0
    weight, bias = head.weight.detach().numpy(), head.bias.detach().numpy()
    chosen = images[::4].detach().numpy()
    for image in chosen:
        for k in range(4):
            turned = np.rot90(image, k, axes=(1, 2)).copy()
            with torch.no_grad():
                feature = recipe.discriminator.embed(torch.from_numpy(turned)[None])[0].numpy()
            total -= log_softmax(weight @ feature + bias)[k]
    return total / (4 * len(chosen))


def test_both_losses_are_the_formulas_written_out() -> None:
    # No spectral norm, whose power iterations would move between the passes.
    changes = {"rotation_weight_d": 0.7, "rotation_weight_g": 0.3, "spectral_d": False, "lr_d": 0.0, "lr_g": 0.0}
    recipe = build(**changes).double()
    draw = random_batches(recipe.data, rows=8)
    batch = draw()
    batch["images"] = batch["images"].double()
    ctx = Recording(recipe, draw)
    log = recipe.step(batch, ctx)
    again = Recording(recipe, draw)  # the same latents
    with torch.no_grad():
        fakes = [recipe.generator(again.normal(8, 5)) for _ in range(2)]
        logits = recipe.discriminator(batch["images"]).logits, recipe.discriminator(fakes[0]).logits
        hinge = (1 - logits[0]).clamp(min=0).mean() + (1 + logits[1]).clamp(min=0).mean()
        g_loss = -recipe.discriminator(fakes[1]).logits.mean()
    expected_d = hinge.item() + 0.7 * naive_rotation_loss(recipe, batch["images"])  # reals alone
    expected_g = g_loss.item() + 0.3 * naive_rotation_loss(recipe, fakes[1])
    assert ctx.losses["discriminator"].item() == pytest.approx(expected_d, rel=1e-9)
    assert ctx.losses["generator"].item() == pytest.approx(expected_g, rel=1e-9)
    assert log["loss_discriminator"].item() == pytest.approx(hinge.item(), rel=1e-9)


def test_gradients_reach_whom_they_should() -> None:
    recipe = build()

    class Watching(FakeContext):
        def minimise(self, loss: Tensor, optimizer: str) -> None:
            if optimizer == "generator":
                recipe.zero_grad(set_to_none=True)
            super().minimise(loss, optimizer)

    draw = random_batches(recipe.data, rows=8)
    recipe.step(draw(), Watching(recipe, draw, 1))
    for network in (recipe.discriminator, recipe.heads):
        assert all(p.grad is None and p.requires_grad for p in network.parameters())
    assert all(p.grad is not None for p in recipe.generator.parameters())
    # The rotation term alone moves D and its head, or, through the fakes, G.
    images = draw()["images"].requires_grad_(True)
    ctx = FakeContext(recipe, draw)
    recipe.zero_grad(set_to_none=True)
    recipe.discriminator_terms(images, images, None, ctx)[0].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in recipe.heads.parameters())
    assert all(p.grad is not None for n, p in recipe.discriminator.named_parameters() if not n.startswith("head"))
    recipe.zero_grad(set_to_none=True)
    images.grad = None
    recipe.generator_terms(images, None, ctx)[0].backward()
    assert images.grad is not None and images.grad[::4].abs().sum() > 0
    assert images.grad[1::4].abs().sum() == 0  # three of four images are not rotated
    assert all(p.grad is None for p in recipe.heads.parameters())


def test_the_head_is_spectrally_normalised_as_d_is() -> None:
    recipe = build()
    train(recipe, 40, rows=8)
    recipe.eval()
    assert torch.linalg.matrix_norm(recipe.heads["rotation"].weight, 2).item() == pytest.approx(1, abs=1e-2)


@pytest.mark.parametrize("conditioning", ["none", "concat", "projection", "auxiliary"])
@pytest.mark.parametrize("architecture", ["mlp", "dcgan", "resnet"])
def test_it_trains_with_every_network_and_conditioning(architecture: str, conditioning: str) -> None:
    recipe = build(classes=3, architecture=architecture, conditioning=conditioning, rotated_share=1.0)
    _, logs = train(recipe, 1, rows=5)
    assert {"rotation_accuracy_real", "rotation_accuracy_fake"} <= logs[0].keys()
    assert all(value.ndim == 0 and value.isfinite() and not value.requires_grad for value in logs[0].values())


def test_losses_are_float32_under_autocast() -> None:
    recipe, seen = build(), []

    class Half(FakeContext):
        def minimise(self, loss: Tensor, optimizer: str) -> None:
            seen.append(loss.dtype)
            with torch.autocast("cpu", enabled=False):
                super().minimise(loss, optimizer)

    draw = random_batches(recipe.data, rows=4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        log = recipe.step(draw(), Half(recipe, draw))
    assert seen == [torch.float32] * 2 and all(value.isfinite() for value in log.values())


def test_digits_are_warned_of_and_the_warning_can_be_silenced(capsys: pytest.CaptureFixture[str]) -> None:
    digits = replace(data_spec(16, 1, 10), class_names=tuple("0123456789"))
    SSGAN(digits, replace(find_recipe("ss-gan").settings, **SMALL))
    assert "--no-rotation-warning" in capsys.readouterr().err
    SSGAN(digits, replace(find_recipe("ss-gan").settings, rotation_warning=False, **SMALL))
    build(classes=3)
    assert capsys.readouterr().err == ""
    assert rotation_ambiguous(("cat", "dog", "ship")) == () and rotation_ambiguous(()) == ()


@pytest.mark.parametrize(
    "changes", [{"rotated_share": 0.0}, {"rotated_share": 1.5}, {"rotation_weight_g": -1.0}], ids=str
)
def test_senseless_settings_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(SettingsError) as caught:
        build(**changes)
    assert caught.value.where in changes and caught.value.fix


def arrows(rows: int, generator: torch.Generator) -> Tensor:
    """Upright shapes at random places: a stem with a bright bar on top, (N, 1, 16, 16)."""
    images = 0.1 * torch.randn(rows, 1, 16, 16, generator=generator) - 0.7
    for i in range(rows):
        top, left = (int(torch.randint(1, 5, (), generator=generator)) for _ in range(2))
        images[i, 0, top : top + 9, left + 3 : left + 5] += 0.9
        images[i, 0, top : top + 3, left : left + 8] += 0.9
    return images.clamp(-1, 1)


def test_rotations_are_learned() -> None:
    torch.manual_seed(0)
    changes = {"width_g": 8, "width_d": 16, "lr_d": 1e-3, "lr_g": 1e-3}
    recipe = SSGAN(data_spec(16, 1, 0), replace(find_recipe("ss-gan").settings, **{**SMALL, **changes}))
    generator = torch.Generator().manual_seed(0)

    def draw() -> Batch:
        return {"images": arrows(16, generator)}

    ctx = FakeContext(recipe, draw, 150)
    recipe.train()
    for step in range(150):
        ctx.step = ctx.stage_step = step
        recipe.step(draw(), ctx)
    recipe.eval()
    unseen, r = rotations(arrows(64, torch.Generator().manual_seed(1)))
    with torch.no_grad():
        found = recipe.heads["rotation"](recipe.discriminator.embed(unseen)).argmax(1)
    assert (found == r).float().mean() > 0.8  # chance: 0.25


def test_a_resumed_run_is_bit_identical(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", images=images)
    options: dict[str, Any] = {
        **SMALL, "batch_size": 8, "steps": 6, "log_every": 1, "checkpoint_every": 3, "sample_every": 0,
        "evaluate_every": -1, "held_out": 0.0, "write_html": False, "lr_schedule": "constant", "resolution": 16,
    }  # fmt: skip
    whole = gw.train("ss-gan", tmp_path / "images.npz", out=tmp_path / "whole", **options)
    short = gw.train("ss-gan", tmp_path / "images.npz", out=tmp_path / "short", **{**options, "steps": 3})
    gw.resume(short, steps=6, write_html=False)
    for name in ("networks", "ema", "optimizers"):
        files = [run.path / f"checkpoints/step-000006/{name}.safetensors" for run in (whole, short)]
        assert files[0].read_bytes() == files[1].read_bytes(), name


# Two processes. ---------------------------------------------------------------------------------------------


def _train(case: str, rank: int, world_size: int) -> dict[str, Tensor]:
    recipe = build().double()
    return train_share(recipe, random_batches(recipe.data, rows=8), rank, world_size)


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    run_two(_train, ["ss-gan"], tmp_path)
    assert_as_one(_train, "ss-gan", tmp_path, rtol=1e-7, atol=1e-9)
