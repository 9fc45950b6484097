"""Attribute GAN: attributes are what independent formulas say, and G learns to make what is asked of it."""

from __future__ import annotations

import colorsys
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_gan_fakes import FakeContext, data_spec, random_batches, train
from safetensors.torch import load_file, save_file
from torch import Tensor

import ganwright as gw
from ganwright.data.spec import Batch
from ganwright.errors import SettingsError
from ganwright.networks.projected import FrozenFeatures, ProjectedDiscriminator
from ganwright.recipes.attribute_codes import BANK_ROWS, AttributeCodes, control
from ganwright.recipes.attribute_gan import AttributeGAN
from ganwright.recipes.attributes import ATTRIBUTES, COLOURS, local_binary_patterns, measure
from ganwright.recipes.base import SampleRequest
from ganwright.recipes.registry import find_recipe

SMALL: dict[str, Any] = {"width_g": 4, "width_d": 4, "latent_dim": 5, "growth": 2}
BACKBONE: dict[str, Any] = {"backbone": "efficientnet-lite0", "penalty": "none", "loss": "hinge", "backbone_maps": 4}


def build(seed: int = 0, channels: int = 3, classes: int = 0, **changes: Any) -> AttributeGAN:
    torch.manual_seed(seed)
    settings = replace(find_recipe("attribute-gan").settings, **{**SMALL, **changes})
    return AttributeGAN(data_spec(16, channels, classes), settings)


# Formulas. --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """uint8 (8, 9, 9, 3): noise, smooth colours, one grey, one black."""
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (3, 9, 9, 3), dtype=np.uint8)
    ramp = np.linspace(0, 1, 9)[:, None, None] * generator.integers(0, 256, (3, 1, 9, 3))
    grey = np.full((1, 9, 9, 3), 77, np.uint8)
    return np.concatenate([noise, ramp.astype(np.uint8), grey, np.zeros((1, 9, 9, 3), np.uint8)])


def as_tensor(pictures: np.ndarray) -> Tensor:
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def naive_luma(picture: np.ndarray) -> np.ndarray:
    return (picture.astype(np.float64) @ np.array([0.299, 0.587, 0.114])) / 255


def naive_lbp(picture: np.ndarray) -> np.ndarray:
    y = np.round(naive_luma(picture) * 255)
    ring = [(-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1)]
    counts = np.zeros(10)
    for i in range(1, y.shape[0] - 1):
        for j in range(1, y.shape[1] - 1):
            bits = [int(y[i + di, j + dj] >= y[i, j]) for di, dj in ring]
            changes = sum(bits[k] != bits[k - 1] for k in range(8))
            counts[sum(bits) if changes <= 2 else 9] += 1
    return counts / counts.sum()


def naive(picture: np.ndarray) -> dict[str, float]:
    hsv = np.array([[colorsys.rgb_to_hsv(*(pixel / 255)) for pixel in row] for row in picture])
    chroma = (picture.max(2).astype(float) - picture.min(2)) / 255
    hues = np.zeros(12)
    for hue, weight in zip(hsv[..., 0].ravel(), chroma.ravel(), strict=True):
        hues[min(range(12), key=lambda k: min(abs(hue * 12 - k), 12 - abs(hue * 12 - k)))] += weight
    y = naive_luma(picture)
    gy, gx = (g[1:-1, 1:-1] for g in np.gradient(y))
    angles = np.zeros(4)
    for dx, dy in zip(gx.ravel(), gy.ravel(), strict=True):
        turns = math.atan2(dy, dx) % math.pi / math.pi * 4
        angles[min(range(4), key=lambda k: min(abs(turns - k), 4 - abs(turns - k)))] += dx * dx + dy * dy
    p = naive_lbp(picture)
    return {
        "brightness": y.mean(),
        "contrast": y.std(),
        "saturation": hsv[..., 1].mean(),
        "colour": 12 if chroma.mean() < 0.05 else hues.argmax(),
        "edges": np.hypot(gx, gy).mean(),
        "orientation": angles.argmax(),
        "texture": -(p[p > 0] * np.log(p[p > 0])).sum() / np.log(10),
    }


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_attributes_are_what_independent_formulas_say(name: str, pictures: np.ndarray) -> None:
    found = measure(as_tensor(pictures), [name])[:, 0].numpy()
    expected = [naive(picture)[name] for picture in pictures]
    if name == "orientation":
        found, expected = found[:6], expected[:6]  # flat pictures have none
    assert found == pytest.approx(expected, abs=1e-5)


def test_local_binary_patterns_are_those_of_naive_loops(pictures: np.ndarray) -> None:
    found = local_binary_patterns(torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255)
    assert found.numpy() == pytest.approx(np.stack([naive_lbp(p) for p in pictures]), abs=1e-6)


def test_plain_colours_have_their_names() -> None:
    for name, rgb in {
        "red": (255, 0, 0),
        "yellow": (255, 255, 0),
        "azure": (0, 128, 255),
        "grey": (99, 99, 99),
    }.items():
        picture = np.broadcast_to(np.array(rgb, np.uint8), (1, 8, 8, 3)).copy()
        assert COLOURS[int(measure(as_tensor(picture), ["colour"])[0, 0])] == name


def test_stripes_have_their_direction() -> None:
    x = np.arange(16)
    waves = [np.sin(x[None, :] + 0 * x[:, None]), np.sin(x[None, :] + x[:, None]), np.sin(x[:, None] + 0 * x[None, :])]
    pictures = np.stack([np.repeat(((w + 1) * 100).astype(np.uint8)[..., None], 3, 2) for w in waves])
    assert measure(as_tensor(pictures), ["orientation"])[:, 0].tolist() == [0, 1, 2]


def test_grey_images_are_measured_as_their_rgb_copies() -> None:
    grey = torch.rand(4, 1, 16, 16) * 2 - 1
    assert torch.equal(
        measure(grey, ["brightness", "texture"]), measure(grey.expand(-1, 3, -1, -1), ["brightness", "texture"])
    )


# Codes. -----------------------------------------------------------------------------------------------------


def test_codes_standardise_by_what_was_seen_and_losses_are_the_formulas() -> None:
    codes = AttributeCodes(["brightness", "colour"])
    generator = torch.Generator().manual_seed(0)
    seen = [torch.stack([torch.rand(6, generator=generator), torch.arange(6.0)], 1) for _ in range(5)]
    for values in seen:
        codes.observe(values)
    all_values = torch.cat(seen)[:, 0]
    code = codes.encode(seen[0])
    assert code.shape == (6, 14) == (6, codes.size)
    expected = (seen[0][:, 0] - all_values.mean()) / all_values.std(correction=0)
    assert torch.allclose(code[:, 0], expected, atol=1e-4)
    assert torch.equal(code[:, 1:], torch.eye(13)[:6])
    predicted = torch.randn(6, 14, generator=generator)
    p, c = predicted.double().numpy(), code.double().numpy()
    squared = np.mean((p[:, 0] - c[:, 0]) ** 2)
    cross_entropy = np.mean([np.log(np.exp(p[i, 1:]).sum()) - p[i, 1 + i] for i in range(6)])
    assert codes.loss(predicted, code).item() == pytest.approx((squared + cross_entropy) / 2, rel=1e-5)


def test_the_bank_keeps_the_newest_rows() -> None:
    codes = AttributeCodes(["brightness"])
    for start in range(0, BANK_ROWS + 200, 100):
        codes.observe(torch.arange(start, start + 100.0)[:, None])
    assert sorted(codes.bank[:, 0].tolist()) == list(range(int(codes.rows) - BANK_ROWS, int(codes.rows)))


def test_control_is_correlation_and_kappa() -> None:
    from sklearn.metrics import cohen_kappa_score

    generator = np.random.default_rng(0)
    a, b = generator.random((2, 50)), generator.integers(0, 4, (2, 50))
    asked = torch.tensor(np.stack([a[0], b[0]], 1))
    found = torch.tensor(np.stack([a[0] + a[1], b[1]], 1))
    result = control(asked, found, ["brightness", "colour"])
    assert result["control_brightness"] == pytest.approx(np.corrcoef(a[0], a[0] + a[1])[0, 1])
    assert result["control_colour"] == pytest.approx(cohen_kappa_score(b[0], b[1]))
    assert control(asked, torch.ones_like(asked), ["brightness", "colour"]).keys() == {"control_colour"}


# Training. --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"attribute_control": False},
        {"attributes": ("brightness", "texture"), "d_steps": 2},
        {"architecture": "resnet", "spectral_d": True, "share_fakes": True},
        {"architecture": "mlp", "instance_noise": 0.1},
        BACKBONE,
    ],
    ids=str,
)
def test_it_trains(changes: dict[str, Any]) -> None:
    recipe = build(**changes)
    before = {key: value.clone() for key, value in recipe.named_parameters()}
    _, logs = train(recipe, 2)
    for log in logs:
        assert "attribute_loss_real" in log
        assert ("attribute_loss_fake" in log) == recipe.settings.attribute_control
        assert all(value.ndim == 0 and value.isfinite() and not value.requires_grad for value in log.values())
    assert [key for key, value in recipe.named_parameters() if torch.equal(value, before[key])] == []


def test_grey_and_labelled_images_train_too() -> None:
    recipe = build(channels=1, classes=3, conditioning="projection")
    train(recipe, 1)
    assert "colour" not in recipe.names and "saturation" not in recipe.names
    recipe.eval()
    with torch.no_grad():
        assert recipe.sample(SampleRequest(n=6)).labels is not None


def test_heads_learn_from_reals_and_g_from_the_heads() -> None:
    recipe = build(penalty="none")
    draw = random_batches(recipe.data)
    ctx = FakeContext(recipe, draw)
    real = draw()["images"]
    fake = recipe.generator(recipe._draw_latents(real, ctx)).detach().requires_grad_(True)
    recipe.discriminator_terms(real, fake, None, ctx)[0].backward()
    assert fake.grad is None
    assert all(p.grad is not None for p in recipe.heads.parameters())
    recipe.zero_grad(set_to_none=True)
    recipe.generator_terms(fake, None, ctx)[0].backward()
    assert fake.grad is not None and fake.grad.abs().sum() > 0
    assert all(p.grad is None for p in recipe.heads.parameters())


def test_heads_need_no_pass_of_their_own() -> None:
    recipe = build(penalty="none")
    passes: list[int] = []
    features = recipe.discriminator.features
    recipe.discriminator.features = lambda x: (passes.append(len(x)), features(x))[1]  # type: ignore[method-assign]
    train(recipe, 1)
    assert len(passes) == 3  # real, fake, and fake for G


def test_sampling_takes_attributes_by_name() -> None:
    recipe = build()
    train(recipe, 2)
    recipe.eval()
    with torch.no_grad():
        plain = recipe.sample(SampleRequest(n=5, seed=1)).images
        assert tuple(recipe.sample_options) == recipe.names and not build(attribute_control=False).sample_options
        assert np.array_equal(recipe.sample(SampleRequest(n=3, seed=1)).images, plain[:3])
        asked = recipe.asked(SampleRequest(n=5, options={"colour": "blue", "brightness": [0.1, 0.2, 0.3, 0.4, 0.5]}))
        assert asked[:, recipe.names.index("colour")].tolist() == [8] * 5
        assert asked[:, recipe.names.index("brightness")].tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
        changed = recipe.sample(SampleRequest(n=5, seed=1, options={"brightness": 0.9})).images
        assert changed.shape == plain.shape and not np.array_equal(changed, plain)
        assert recipe.sweep("brightness", [0.2, 0.8], rows=3).images.shape[0] == 6
        space = recipe.latent_space()
        assert space is not None and space.generate(torch.zeros(2, 5), None).shape == (2, 3, 16, 16)
    for options in ({"glossiness": 1.0}, {"colour": "mauve"}, {"colour": 13}, {"brightness": [1.0, 2.0]}):
        with pytest.raises(SettingsError):
            recipe.asked(SampleRequest(n=5, options=options))


@pytest.mark.parametrize(
    ("changes", "channels"),
    [
        ({"attributes": ("sharpness",)}, 3),
        ({"attributes": ("colour",)}, 1),
        ({"attributes": ("edges", "edges")}, 3),
        ({"attribute_weight_g": -1.0}, 3),
        ({**BACKBONE, "backbone_resolution": 100}, 3),
        ({**BACKBONE, "penalty": "r1"}, 3),
    ],
    ids=str,
)
def test_senseless_settings_are_refused(changes: dict[str, Any], channels: int) -> None:
    with pytest.raises(SettingsError) as caught:
        build(channels=channels, **changes)
    assert caught.value.where and caught.value.fix


def squares(rows: int, generator: torch.Generator) -> Tensor:
    """A coloured square on a grey ground of any brightness, (N, 3, 16, 16)."""
    images = torch.empty(rows, 3, 16, 16)
    for i in range(rows):
        images[i] = torch.rand((), generator=generator) * 1.4 - 1
        place = torch.randint(0, 8, (2,), generator=generator).tolist()
        colour = torch.full((3,), -1.0).index_fill_(0, torch.randint(3, (1,), generator=generator), 1.0)
        images[i, :, place[0] : place[0] + 8, place[1] : place[1] + 8] = colour[:, None, None]
    return images


def test_control_is_learned() -> None:
    recipe = build(width_g=16, width_d=16, attributes=("brightness", "colour"), latent_dim=16)
    generator = torch.Generator().manual_seed(0)
    pool = squares(512, generator)

    def draw() -> Batch:
        return {"images": pool[torch.randint(512, (16,), generator=generator)]}

    ctx = FakeContext(recipe, draw, 200)
    recipe.train()
    for step in range(200):
        ctx.step = ctx.stage_step = step
        recipe.step(draw(), ctx)
        if step == 0:
            untrained = evaluated(recipe)
    found = evaluated(recipe)
    assert found["control_brightness"] > 0.8 and found["control_colour"] > 0.5
    assert found["control"] > untrained["control"] + 0.5


def evaluated(recipe: AttributeGAN) -> dict[str, float]:
    training = recipe.training
    recipe.eval()
    with torch.no_grad():
        result = recipe.evaluate(0)
    recipe.train(training)
    return result


# The backbone. ----------------------------------------------------------------------------------------------


def test_the_backbone_is_frozen_neither_saved_nor_trained_and_passes_gradients_to_images(tmp_path: Path) -> None:
    recipe = build(**BACKBONE)
    assert isinstance(recipe.discriminator, ProjectedDiscriminator)
    held = recipe.discriminator.backbone._held[0]
    weights = {key: value.clone() for key, value in held.state_dict().items()}
    mixing = {key: value.clone() for key, value in recipe.discriminator.mixing.state_dict().items()}
    train(recipe, 2)
    assert all(torch.equal(value, weights[key]) for key, value in held.state_dict().items())
    assert all(torch.equal(value, mixing[key]) for key, value in recipe.discriminator.mixing.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in held.parameters())
    known = {id(p) for group in recipe.optimizers()["discriminator"].param_groups for p in group["params"]}
    assert not known & {id(p) for p in held.parameters()}
    assert (
        sum(value.numel() for value in recipe.state_dict().values())
        < 200_000
        < sum(map(torch.numel, held.parameters()))
    )
    images = torch.zeros(1, 3, 16, 16, requires_grad=True)
    recipe.discriminator(images).logits.sum().backward()
    assert images.grad is not None and images.grad.abs().sum() > 0

    other = build(seed=1, **BACKBONE)  # another draw of the random mixing: it must come from the file
    save_file({key: value.contiguous() for key, value in recipe.state_dict().items()}, tmp_path / "state.safetensors")
    other.load_state_dict(load_file(tmp_path / "state.safetensors"))
    recipe.eval(), other.eval()
    x = torch.rand(2, 3, 16, 16)
    assert torch.equal(recipe.discriminator(x).logits, other.discriminator(x).logits)


def test_backbone_features_are_the_networks_own() -> None:
    features = FrozenFeatures(128)
    x = torch.rand(2, 3, 128, 128) * 2 - 1
    maps = features(x)
    assert [tuple(m.shape[1:]) for m in maps] == [(24, 32, 32), (40, 16, 16), (112, 8, 8), (320, 4, 4)]
    network = features._held[0]
    pixels = (x + 1) * 127.5
    expected = network.blocks(network.stem((pixels - 127) / 128))  # the extractor's preprocessing
    assert torch.allclose(maps[-1], expected, atol=1e-4)
    assert features.double()(x.double())[0].dtype == torch.float64


def test_a_resumed_run_is_bit_identical(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", images=images)
    options: dict[str, Any] = {
        **SMALL, "batch_size": 8, "steps": 6, "log_every": 1, "checkpoint_every": 3, "sample_every": 0,
        "evaluate_every": -1, "held_out": 0.0, "write_html": False, "lr_schedule": "constant", "resolution": 16,
        "ema_half_life": 5.0, "attributes": ["brightness", "colour"],
    }  # fmt: skip
    whole = gw.train("attribute-gan", tmp_path / "images.npz", out=tmp_path / "whole", **options)
    short = gw.train("attribute-gan", tmp_path / "images.npz", out=tmp_path / "short", **{**options, "steps": 3})
    gw.resume(short, steps=6, write_html=False)
    for name in ("networks", "ema", "optimizers"):
        files = [run.path / f"checkpoints/step-000006/{name}.safetensors" for run in (whole, short)]
        assert files[0].read_bytes() == files[1].read_bytes(), name
