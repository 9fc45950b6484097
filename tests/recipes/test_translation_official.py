"""Three training steps of pix2pix and CycleGAN are those of the authors' code: same losses, same weights after them."""

from __future__ import annotations

from typing import Any

import pytest
from image_gan_fakes import FakeContext
from translation_official import OFFICIAL, close, fill, numbers, thin

from ganwright.data.spec import DataKind, DataSpec
from ganwright.networks import patchgan, translator, unet
from ganwright.recipes.cyclegan import CycleGAN, CycleGANSettings
from ganwright.recipes.pix2pix import Pix2Pix, Pix2PixSettings

SMALL: dict[str, Any] = {"width_g": 4, "width_d": 4, "lr": 2e-3, "dropout": 0.0}
LOSS = {"vanilla": "non-saturating", "lsgan": "least-squares"}


@pytest.mark.parametrize("mode", LOSS)
def test_pix2pix(mode: str) -> None:
    data = DataSpec(DataKind.PAIRS, "x", 9, "0", 128, 2, extra={"channels_out": 3})
    recipe = Pix2Pix(data, Pix2PixSettings(loss=LOSS[mode], **SMALL)).double().train()
    fill(recipe.generator, "G", unet.released_names(7))
    fill(recipe.discriminator, "D", patchgan.released_names(3))
    ctx = FakeContext(recipe, dict)
    for step, (g_gan, g_l1, d_real, d_fake) in enumerate(OFFICIAL[f"pix2pix-{mode}/losses"].tolist()):
        batch = {"inputs": numbers(f"A{step}", (2, 2, 128, 128)), "targets": numbers(f"B{step}", (2, 3, 128, 128))}
        log = recipe.step({name: images.double() for name, images in batch.items()}, ctx)
        assert log["loss_generator"] == pytest.approx(g_gan, rel=1e-6)
        assert 100 * log["loss_l1"] == pytest.approx(g_l1, rel=1e-6)
        assert log["loss_discriminator"] == pytest.approx((d_real + d_fake) / 2, rel=1e-6)
    assert ctx.updates == ["discriminator", "generator"] * 3
    after = recipe.generator(numbers("probe", (1, 2, 128, 128)).double())
    close(thin(after), f"pix2pix-{mode}/after", 1e-6)


@pytest.mark.parametrize("mode", LOSS)
def test_cyclegan(mode: str) -> None:
    share = 0.5 if mode == "lsgan" else 0.0
    settings = CycleGANSettings(loss=LOSS[mode], lambda_identity=share, lambda_b=7.0, pool_size=0, **SMALL)
    recipe = CycleGAN(DataSpec(DataKind.DOMAINS, "x", 9, "0", 32, 3), settings).double().train()
    networks = {
        "G_A": recipe.generator_a2b,
        "G_B": recipe.generator_b2a,
        "D_A": recipe.discriminator_b,
        "D_B": recipe.discriminator_a,
    }
    for name, network in networks.items():
        fill(network, name, translator.released_names(6) if name.startswith("G") else patchgan.released_names(3))
    ctx = FakeContext(recipe, dict)
    for step, expected in enumerate(OFFICIAL[f"cyclegan-{mode}/losses"].tolist()):
        batch = {f"images_{side.lower()}": numbers(f"{side}{step}", (2, 3, 32, 32)).double() for side in "AB"}
        log = recipe.step(batch, ctx)
        found = {
            "D_A": log["loss_discriminator_b"],
            "G_A": log["loss_generator_a2b"],
            "cycle_A": 10 * log["loss_cycle_a"],
            "idt_A": 7 * share * log.get("loss_identity_b", 0),
            "D_B": log["loss_discriminator_a"],
            "G_B": log["loss_generator_b2a"],
            "cycle_B": 7 * log["loss_cycle_b"],
            "idt_B": 10 * share * log.get("loss_identity_a", 0),
        }
        for (name, value), official in zip(found.items(), expected, strict=True):
            assert value == pytest.approx(official, rel=1e-6), name
    assert ctx.updates == ["generators", "discriminators"] * 3
    after = recipe.generator_a2b(numbers("probe", (1, 3, 32, 32)).double())
    close(thin(after), f"cyclegan-{mode}/after", 1e-6)
