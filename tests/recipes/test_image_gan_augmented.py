"""Image GANs whose discriminator sees augmented images only."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from image_gan_fakes import FakeContext, data_spec, random_batches, train
from torch import Tensor

from ganwright.augment import Augmenter, Randomness
from ganwright.errors import SettingsError
from ganwright.recipes.image_gan import ImageGAN
from ganwright.recipes.image_settings import ImageGANSettings

SMALL: dict[str, Any] = {"width_g": 4, "width_d": 4, "latent_dim": 5, "growth": 2, "norm_d": "none"}


def build(channels: int = 3, **changes: Any) -> ImageGAN:
    torch.manual_seed(0)
    return ImageGAN(data_spec(16, channels, 0), replace(ImageGANSettings(), **{**SMALL, **changes}))


@pytest.mark.parametrize("augment", ["diffaugment", "ada"])
@pytest.mark.parametrize("penalty", ["none", "r1", "gradient"])
@pytest.mark.parametrize("channels", [1, 3])
def test_trains(augment: str, penalty: str, channels: int) -> None:
    policy = "bgcfnc" if augment == "ada" else "auto"
    recipe = build(channels, augment=augment, penalty=penalty, augment_p=0.4, augment_policy=policy, ada_kimg=0.1)
    _, logs = train(recipe, 5)
    assert all(torch.isfinite(value) and not value.requires_grad for log in logs for value in log.values())
    assert ("augment_p" in logs[0]) == (augment == "ada")
    if augment == "ada":
        rt = logs[3]["augment_rt"]
        moved = 4 * 6 / 100
        assert logs[3]["augment_p"].item() == pytest.approx(0.4 + (moved if rt > 0.6 else -moved), abs=1e-6)


class Darker(Augmenter):
    """Halves all images, and remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []
        self.observed: list[Tensor] = []

    def forward(self, images: Tensor, ctx: Randomness) -> Tensor:
        self.seen.append(images)
        return images / 2

    def observe(self, real_logits: Tensor) -> None:
        self.observed.append(real_logits.detach())


@pytest.mark.parametrize("loss", ["non-saturating", "least-squares"])
def test_d_sees_nothing_that_is_not_augmented(loss: str) -> None:
    recipe = build(penalty="r1", loss=loss)
    recipe.augmenter = Darker()
    judged: list[Tensor] = []
    recipe.discriminator.register_forward_pre_hook(lambda module, args: judged.append(args[0]))
    before = copy.deepcopy(recipe.discriminator)
    train(recipe, 1)
    seen = recipe.augmenter.seen
    assert len(seen) == len(judged) == 4  # real, fake, real again for the penalty; fake for G
    assert all(torch.equal(image / 2, input) for image, input in zip(seen, judged, strict=True))
    assert torch.equal(seen[0], seen[2]) and seen[3].requires_grad
    # What the heuristic takes the sign of is above 0 for images called real.
    logits, _ = before(seen[0] / 2, None)
    torch.testing.assert_close(recipe.augmenter.observed[0], logits.detach() - (0.5 if loss == "least-squares" else 0))


def test_resumes_exactly() -> None:
    def go_on(recipe: ImageGAN, ctx: FakeContext, steps: range) -> None:
        draw = random_batches(recipe.data, seed=3)
        batches = [draw() for _ in range(12)]
        for step in steps:
            ctx.generator.manual_seed(step)
            ctx.step = ctx.stage_step = step
            recipe.step(batches[step], ctx)

    settings = {"augment": "ada", "augment_policy": "bgcfnc", "ada_kimg": 0.2, "ada_target": 0.1, "penalty": "r1"}
    whole = build(**settings)
    go_on(whole, FakeContext(whole, random_batches(whole.data)), range(12))
    first = build(**settings)
    ctx = FakeContext(first, random_batches(first.data))
    go_on(first, ctx, range(6))
    second = build(**settings)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    resumed = FakeContext(second, random_batches(second.data))
    for name, optimizer in resumed.optimizers.items():
        optimizer.load_state_dict(copy.deepcopy(ctx.optimizers[name].state_dict()))
    go_on(second, resumed, range(6, 12))
    assert all(
        torch.equal(a, b) for a, b in zip(second.state_dict().values(), whole.state_dict().values(), strict=True)
    )


def test_runs_without_augmentation_have_no_more_state_than_before() -> None:
    assert not any(name.startswith("augmenter") for name in build().state_dict())


def test_critics_cannot_drive_ada_but_can_be_augmented() -> None:
    with pytest.raises(SettingsError, match="sign") as error:
        build(augment="ada", loss="wasserstein", penalty="gradient")
    assert error.value.where == "ada_target"
    train(build(augment="ada", loss="wasserstein", penalty="gradient", ada_target=0.0, augment_p=0.5), 2)
