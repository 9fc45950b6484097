"""The image GAN family: presets and combinations train, sample as promised, and refuse what cannot work."""

from __future__ import annotations

import itertools
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from image_gan_fakes import FakeContext, data_spec, random_batches, train
from safetensors.torch import load_file, save_file
from torch import nn

from ganwright.config import DataSettings, EvalSettings, TrainSettings
from ganwright.errors import SettingsError
from ganwright.networks.blocks import Dropout
from ganwright.recipes.base import SampleRequest
from ganwright.recipes.image_gan import ARCHITECTURES, OPTIMIZERS, ImageGAN
from ganwright.recipes.image_settings import ImageGANSettings
from ganwright.recipes.presets import RECIPES
from ganwright.recipes.registry import find_recipe, recipes

SMALL: dict[str, Any] = {"width_g": 4, "width_d": 4, "latent_dim": 5, "growth": 2, "class_embedding": 3}
NAMES = [info.name for info in RECIPES]


def build(seed: int = 0, *, resolution: int = 16, channels: int = 1, classes: int = 3, **changes: Any) -> ImageGAN:
    torch.manual_seed(seed)
    settings = replace(ImageGANSettings(), **{**SMALL, **changes})
    return ImageGAN(data_spec(resolution, channels, classes), settings)


def build_preset(name: str, seed: int = 0, **changes: Any) -> ImageGAN:
    torch.manual_seed(seed)
    return ImageGAN(data_spec(), replace(find_recipe(name).settings, **{**SMALL, **changes}))


@pytest.mark.parametrize("name", NAMES)
def test_presets_train(name: str) -> None:
    recipe = build_preset(name)
    before = {key: value.clone() for key, value in recipe.named_parameters()}
    ctx, logs = train(recipe, 3)
    s = recipe.settings
    assert ctx.updates == (["discriminator"] * s.d_steps + ["generator"]) * 3
    assert ctx.batches_drawn == 3 * (s.d_steps - 1)
    for log in logs:
        assert {"loss_discriminator", "loss_generator", "d_real", "d_fake"} <= log.keys()
        assert ("d_accuracy" in log) == (s.loss != "wasserstein")
        assert ("wasserstein" in log) == (s.loss == "wasserstein")
        assert ("penalty" in log) == (s.penalty in ("gradient", "r1", "r2"))
        for value in log.values():
            assert value.ndim == 0 and not value.requires_grad and torch.isfinite(value)
    unchanged = [key for key, value in recipe.named_parameters() if torch.equal(value, before[key])]
    # A critic's constant cancels out of the Wasserstein loss, so it has no gradient.
    assert unchanged == (["discriminator.head.linear.bias"] if name == "wgan-gp" else [])
    assert all(parameter.requires_grad for parameter in recipe.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_presets_sample(name: str) -> None:
    recipe = build_preset(name)
    train(recipe, 2)
    recipe.eval()
    with torch.no_grad():
        many, few = recipe.sample(SampleRequest(n=9, seed=4)), recipe.sample(SampleRequest(n=4, seed=4))
        other = recipe.sample(SampleRequest(n=4, seed=5))
        chunked = recipe.sample(SampleRequest(n=9, seed=4, batch_size=2))
    assert many.images.shape == (9, 16, 16, 1) and many.images.dtype == np.uint8
    assert np.array_equal(many.images[:4], few.images)
    assert np.array_equal(many.images, chunked.images)
    assert not np.array_equal(few.images, other.images)
    if recipe.settings.conditional:
        assert many.labels is not None and many.labels.tolist() == [0, 1, 2] * 3
    else:
        assert many.labels is None


@pytest.mark.parametrize("name", NAMES)
def test_state_round_trips_through_safetensors_and_training_goes_on_the_same(name: str, tmp_path: Path) -> None:
    first, second = build_preset(name, 0), build_preset(name, 1)
    train(first, 2)
    state = {key: value.contiguous() for key, value in first.state_dict().items()}
    save_file(state, tmp_path / "weights.safetensors")
    second.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    for key, value in second.state_dict().items():
        assert torch.equal(value, first.state_dict()[key]), key
    logs = [train(recipe, 2, seed=7)[1] for recipe in (first, second)]
    for a, b in zip(*logs, strict=True):
        assert {k: v.item() for k, v in a.items()} == {k: v.item() for k, v in b.items()}


def test_equal_seeds_train_to_equal_weights_whatever_the_global_generator_says() -> None:
    states = []
    for noise in (1, 2):
        recipe = build(penalty="gradient", norm_d="none", dropout_d=0.5, instance_noise=0.1, d_steps=2)
        torch.manual_seed(noise)  # everything drawn while training comes from the context
        train(recipe, 3)
        states.append(recipe.state_dict())
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


@pytest.mark.parametrize(
    ("architecture", "loss", "penalty", "conditioning"),
    list(
        itertools.product(
            ["mlp", "dcgan", "resnet"],
            ["minimax", "non-saturating", "least-squares", "wasserstein", "hinge"],
            ["none", "clip", "gradient", "r1", "r2"],
            ["none", "concat", "projection", "auxiliary"],
        )
    )[::7],  # 43 of the 300: every value of each, and 7 is coprime to all four counts
)
def test_choices_combine_freely(architecture: str, loss: str, penalty: str, conditioning: str) -> None:
    recipe = build(
        architecture=architecture,
        loss=loss,
        penalty=penalty,
        conditioning=conditioning,
        norm_d="none",
        channels=3,
    )
    _, logs = train(recipe, 1)
    assert all(torch.isfinite(value) for value in logs[0].values())
    assert ("class_accuracy_real" in logs[0]) == (conditioning == "auxiliary")


@pytest.mark.parametrize(
    "changes",
    [
        {"norm_g": "none", "norm_d": "instance"},
        {"norm_g": "instance", "norm_d": "instance", "penalty": "r1"},
        {"norm_g": "batch", "spectral_g": True, "spectral_d": True, "norm_d": "none"},
        {"spectral_d": True, "norm_d": "instance", "penalty": "gradient", "loss": "wasserstein"},
        {"conditioning": "projection", "conditioning_g": "norm"},
        {"conditioning": "auxiliary", "conditioning_g": "norm", "norm_g": "instance", "spectral_g": True},
        {"label_smoothing": 0.1, "instance_noise": 0.2, "dropout_d": 0.3},
        {"architecture": "resnet", "dropout_d": 0.3, "share_fakes": True, "d_steps": 2},
        {"optimizer": "rmsprop", "init": "orthogonal", "depth": 2},
    ],
    ids=str,
)
def test_regularisation_combines_freely(changes: dict[str, Any]) -> None:
    _, logs = train(build(**changes), 2)
    assert all(torch.isfinite(value) for log in logs for value in log.values())


# Each piece does what its name says. ------------------------------------------------------------------------


def first_step(**changes: Any) -> tuple[ImageGAN, FakeContext, dict[str, torch.Tensor]]:
    recipe = build(**changes)
    ctx, logs = train(recipe, 1)
    return recipe, ctx, logs[0]


def test_one_step_is_the_algorithm_box_written_out() -> None:
    # A plain loop over the same networks and numbers, for hinge loss, two critic steps and the gradient
    # penalty.
    changes: dict[str, Any] = {"loss": "hinge", "penalty": "gradient", "norm_d": "none", "d_steps": 2}
    recipe, plain = build(**changes), build(**changes)
    train(recipe, 1)
    draw, rng = random_batches(plain.data), torch.Generator().manual_seed(0)
    g, d = plain.generator, plain.discriminator
    opt_g, opt_d = (torch.optim.Adam(n.parameters(), 2e-4, (0.5, 0.999)) for n in (g, d))
    for _ in range(2):
        x = draw()["images"]
        fake = g(torch.randn(6, 5, generator=rng)).detach()
        u = torch.rand(6, 1, 1, 1, generator=rng)
        mixed = (u * x + (1 - u) * fake).requires_grad_(True)
        (grad,) = torch.autograd.grad(d(mixed).logits.sum(), mixed, create_graph=True)
        penalty = ((grad.flatten(1).norm(dim=1) - 1) ** 2).mean()
        loss = (1 - d(x).logits).clamp(min=0).mean() + (1 + d(fake).logits).clamp(min=0).mean() + 10 * penalty
        opt_d.zero_grad()
        loss.backward()
        opt_d.step()
    opt_g.zero_grad()
    (-d(g(torch.randn(6, 5, generator=rng))).logits.mean()).backward()
    opt_g.step()
    for (name, ours), theirs in zip(recipe.named_parameters(), plain.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6), name


def paper_critic(d: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Gulrajani et al. 2017, appendix: residual blocks as drawn, each layer by itself."""
    for block in d.blocks:
        h = block.conv1_plain(x if block.first else x.relu()).relu()
        h, shortcut = block.conv2_plain(h), block.shortcut(x)
        x = F.avg_pool2d(h, 2) + F.avg_pool2d(shortcut, 2) if block.down else h + shortcut
    return d.head.linear(x.relu().mean((2, 3))).squeeze(1)


def paper_generator(g: nn.Module, z: torch.Tensor) -> torch.Tensor:
    x = g.from_latent(z).view(len(z), -1, 4, 4)
    for block in g.blocks:
        h = F.interpolate(block.norm1(x).relu(), scale_factor=2)
        h = block.conv2_plain(block.norm2(block.conv1_plain(h)).relu())
        x = h + block.shortcut(F.interpolate(x, scale_factor=2))
    return g.to_image(g.norm(x).relu()).tanh()


def test_a_wgan_gp_step_is_the_papers_layer_by_layer() -> None:
    # Losses, penalty and weights after two steps, against the paper's layers and torch's own derivatives.
    changes: dict[str, Any] = {"d_steps": 2, "lr_g": 1e-2, "lr_d": 1e-2}
    recipe, plain = (build_preset("wgan-gp", **changes).double() for _ in range(2))
    g, d = plain.generator, plain.discriminator
    for block in (*g.blocks, *d.blocks):
        for name in ("conv1", "conv2"):
            own = getattr(block, name)
            layer = nn.Conv2d(own.in_channels, own.out_channels, 3, padding=1).double()
            layer.weight, layer.bias = own.weight, own.bias
            object.__setattr__(block, f"{name}_plain", layer)
    draw = batches_of(plain)

    class Double(FakeContext):
        def normal(self, rows: int, *shape: int) -> torch.Tensor:
            return super().normal(rows, *shape).double()

        def uniform(self, rows: int, *shape: int) -> torch.Tensor:
            return super().uniform(rows, *shape).double()

    ctx, rng = Double(recipe, batches_of(recipe), 2), torch.Generator().manual_seed(0)
    recipe.train()
    opt_g, opt_d = (torch.optim.Adam(n.parameters(), 1e-2, (0.0, 0.9)) for n in (g, d))
    for step in range(2):
        ctx.step = ctx.stage_step = step
        log = recipe.step(ctx.next_batch(), ctx)
        for _ in range(2):
            x = draw()["images"]
            fake = paper_generator(g, torch.randn(6, 5, generator=rng).double()).detach()
            u = torch.rand(6, 1, 1, 1, generator=rng).double()
            mixed = (u * x + (1 - u) * fake).requires_grad_(True)
            (grad,) = torch.autograd.grad(paper_critic(d, mixed).sum(), mixed, create_graph=True)
            penalty = ((grad.flatten(1).norm(dim=1) - 1) ** 2).mean()
            loss_d = paper_critic(d, fake).mean() - paper_critic(d, x).mean()
            opt_d.zero_grad()
            (loss_d + 10 * penalty).backward()
            opt_d.step()
        opt_g.zero_grad()
        loss_g = -paper_critic(d, paper_generator(g, torch.randn(6, 5, generator=rng).double())).mean()
        loss_g.backward()
        opt_g.step()
        expected = {"loss_discriminator": loss_d, "penalty": penalty, "loss_generator": loss_g}
        for name, value in expected.items():
            assert log[name].item() == pytest.approx(value.item(), rel=1e-7), (step, name)
    for (name, ours), theirs in zip(recipe.named_parameters(), plain.parameters(), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-7), name


def batches_of(recipe: ImageGAN) -> Any:
    draw = random_batches(recipe.data)

    def doubled() -> dict[str, torch.Tensor]:
        batch = draw()
        return {**batch, "images": batch["images"].double()}

    return doubled


def test_the_generator_step_leaves_no_gradient_in_the_discriminator() -> None:
    recipe = build()

    class Watching(FakeContext):
        def minimise(self, loss: torch.Tensor, optimizer: str) -> None:
            if optimizer == "generator":
                for parameter in recipe.discriminator.parameters():
                    parameter.grad = None
            super().minimise(loss, optimizer)
            self.last = optimizer

    draw = random_batches(recipe.data)
    recipe.step(draw(), Watching(recipe, draw))
    assert all(parameter.grad is None for parameter in recipe.discriminator.parameters())
    assert all(parameter.grad is not None for parameter in recipe.generator.parameters())


def test_sharing_fakes_saves_one_generator_pass_and_draws_fewer_latents() -> None:
    calls = []
    for share in (False, True):
        recipe = build(share_fakes=share)
        passes: list[int] = []
        recipe.generator.register_forward_hook(lambda *_, passes=passes: passes.append(1))
        train(recipe, 2)
        calls.append(len(passes))
    assert calls == [4, 2]


def test_lazy_penalties_are_due_every_so_many_discriminator_steps() -> None:
    recipe = build(penalty="r1", norm_d="none", penalty_every=3, d_steps=2)
    passes: list[bool] = []
    recipe.discriminator.register_forward_pre_hook(
        lambda _, args: passes.append(args[0].requires_grad and args[0].is_leaf)
    )
    _, logs = train(recipe, 6)  # 12 discriminator steps: 0, 3, 6, 9
    assert sum(passes) == 4
    assert all("penalty" in log for log in logs)


def test_a_lazy_penalty_weighs_as_much_on_average() -> None:
    # On the step where it is due, the weight is multiplied by `penalty_every`.
    states = []
    for weight, every in ((3.0, 4), (12.0, 1)):
        recipe, _, _ = first_step(penalty="r1", norm_d="none", penalty_weight=weight, penalty_every=every)
        states.append(recipe.discriminator.state_dict())
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


def test_clipping_holds_after_every_step() -> None:
    recipe, _, _ = first_step(penalty="clip", clip=0.003, loss="wasserstein")
    assert max(parameter.abs().max().item() for parameter in recipe.discriminator.parameters()) <= 0.003 + 1e-9


def test_the_wasserstein_estimate_is_minus_the_critic_loss() -> None:
    _, _, log = first_step(loss="wasserstein", penalty="gradient", norm_d="none")
    assert log["wasserstein"].item() == pytest.approx(-log["loss_discriminator"].item(), abs=1e-6)


def test_instance_noise_falls_linearly_to_nothing() -> None:
    recipe = build(instance_noise=0.5)
    ctx = FakeContext(recipe, random_batches(recipe.data), steps=10)
    spreads = []
    for step in (0, 5, 9):
        ctx.stage_step = step
        spreads.append(recipe._with_instance_noise(torch.zeros(64, 1, 16, 16), ctx).std().item())
    assert spreads == pytest.approx([0.5, 0.25, 0.05], rel=0.03)


def test_dropout_is_active_in_the_discriminator_only() -> None:
    recipe = build(dropout_d=0.4)
    rates = [module.p for module in recipe.discriminator.modules() if isinstance(module, Dropout)]
    assert rates and set(rates) == {0.4}
    assert not any(isinstance(module, Dropout) and module.p for module in recipe.generator.modules())


def test_fakes_are_asked_for_the_classes_of_the_real_batch() -> None:
    recipe = build(conditioning="concat", conditioning_g="latent")
    seen = []
    recipe.generator.register_forward_pre_hook(lambda _, args: seen.append(args[1]))
    draw = random_batches(recipe.data)
    batch = draw()
    recipe.step(batch, FakeContext(recipe, draw))
    assert len(seen) == 2 and all(torch.equal(labels, batch["labels"]) for labels in seen)


def test_the_two_networks_have_their_own_optimisers_and_rates() -> None:
    recipe = build(lr_g=1e-3, lr_d=3e-3, betas_g=(0.1, 0.9), betas_d=(0.2, 0.8))
    optimizers = recipe.optimizers()
    assert optimizers["generator"].param_groups[0]["lr"] == 1e-3
    assert optimizers["discriminator"].param_groups[0]["lr"] == 3e-3
    assert optimizers["generator"].param_groups[0]["betas"] == (0.1, 0.9)
    assert optimizers["discriminator"].param_groups[0]["betas"] == (0.2, 0.8)
    assert optimizers["generator"].param_groups[0]["fused"] is True
    owned = {id(p) for o in optimizers.values() for group in o.param_groups for p in group["params"]}
    assert owned == {id(p) for p in recipe.parameters()}


def test_convolutions_are_channels_last() -> None:
    recipe = build()
    weights = [m.weight for m in recipe.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    assert weights and all(w.is_contiguous(memory_format=torch.channels_last) for w in weights)


def test_the_gan_learns_a_brightness() -> None:
    # Real images are all 0.6 bright; fakes begin near 0. A sign error in either player's loss fails this.
    for loss in get_args(get_type_hints(ImageGANSettings)["loss"]):
        recipe = build(
            architecture="mlp",
            loss=loss,
            width_g=16,
            width_d=16,
            depth=1,
            lr_g=5e-3,
            lr_d=5e-3,
            init="torch",
            norm_g="none",
            norm_d="none",
            penalty="r1",
            penalty_weight=0.3,
            classes=0,
        )

        def draw() -> dict[str, torch.Tensor]:
            return {"images": torch.full((16, 1, 16, 16), 0.6)}

        ctx = FakeContext(recipe, draw, 150)
        for step in range(150):
            ctx.stage_step = step
            recipe.step(draw(), ctx)
        recipe.eval()
        with torch.no_grad():
            mean = recipe.generator(torch.randn(64, 5)).mean().item()
        assert 0.3 < mean < 0.9, loss


# Sampling. --------------------------------------------------------------------------------------------------


def test_labels_asked_for_are_honoured() -> None:
    recipe = build(conditioning="projection").eval()
    with torch.no_grad():
        samples = recipe.sample(SampleRequest(n=4, seed=0, labels=[2, 2, 0, 1]))
        again = recipe.sample(SampleRequest(n=4, seed=0, labels=[0, 2, 0, 1]))
    assert samples.labels is not None and samples.labels.tolist() == [2, 2, 0, 1]
    assert np.array_equal(samples.images[1:], again.images[1:])
    assert not np.array_equal(samples.images[0], again.images[0])


@pytest.mark.parametrize(("conditioning", "labels"), [("none", [0]), ("concat", [3]), ("concat", [0, 1])])
def test_labels_that_cannot_be_had_are_refused(conditioning: str, labels: list[int]) -> None:
    with pytest.raises(SettingsError) as caught:
        build(conditioning=conditioning).sample(SampleRequest(n=1, labels=labels))
    assert caught.value.fix


# Settings. --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"penalty": "gradient"}, "norm_d"),
        ({"penalty": "r1"}, "norm_d"),
        ({"spectral_d": True}, "spectral_d"),
        ({"spectral_d": True, "norm_d": "none", "penalty": "clip"}, "penalty"),
        ({"label_smoothing": 0.1, "loss": "hinge"}, "least-squares"),
        ({"architecture": "mlp", "norm_g": "instance"}, "batch or none"),
        ({"conditioning": "concat", "classes": 0}, "no class labels"),
        ({"conditioning": "concat", "conditioning_g": "norm", "norm_g": "none"}, "norm_g"),
        ({"resolution": 50}, "48 or 56"),
        ({"resolution": 8}, "set resolution to 16"),
        ({"resolution": 512}, "set resolution to 256"),
        ({"channels": 4}, "4 channels"),
        ({"d_steps": 0}, "d_steps"),
        ({"betas_d": (0.5, 1.0)}, "betas_d"),
        ({"dropout_d": 1.0}, "dropout_d"),
        ({"lr_g": -1.0}, "lr_g"),
        ({"lr_g": float("nan")}, "lr_g"),
        ({"loss": "hing"}, "Did you mean 'hinge'?"),
        ({"architecture": "dcgn"}, "Did you mean 'dcgan'?"),
        ({"penalty": "r3"}, "one of none, clip, gradient, r1, r2"),
        ({"optimizer": "sgd"}, "one of adam, rmsprop"),
        ({"conditioning": "projektion"}, "projection"),
        ({"norm_g": "layer"}, "norm_g"),
        ({"pooling": "max"}, "pooling"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused_with_advice(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        build(**changes)
    assert says in str(caught.value) and caught.value.fix and caught.value.where


def test_every_setting_is_documented_and_its_name_is_its_own() -> None:
    modules = ("ganwright.recipes.image_settings", "ganwright.augment.settings")
    source = "".join(Path(__import__(name, fromlist=["x"]).__file__).read_text("utf-8") for name in modules)
    shared = {f.name for kind in (TrainSettings, DataSettings, EvalSettings) for f in fields(kind)}
    for field in fields(ImageGANSettings):
        assert field.name not in shared
        line = source.index(f"\n    {field.name}: ")
        assert source[source.index("\n", line + 1) :].lstrip().startswith('"""'), field.name


def test_names_in_settings_are_names_in_tables() -> None:
    hints = get_type_hints(ImageGANSettings)
    assert set(get_args(hints["architecture"])) == set(ARCHITECTURES)
    assert set(get_args(hints["optimizer"])) == set(OPTIMIZERS)


def test_presets_are_listed_with_paper_purpose_and_known_defaults() -> None:
    assert NAMES == ["gan", "dcgan", "lsgan", "wgan", "wgan-gp", "sngan", "cgan"]
    assert set(NAMES) <= set(recipes())
    known = {f.name for kind in (TrainSettings, DataSettings, EvalSettings) for f in fields(kind)}
    for info in RECIPES:
        assert info.train_defaults.keys() <= known
        assert "arXiv:" in info.paper and info.purpose.endswith(".")


def test_presets_have_their_papers_values() -> None:
    s = {info.name: info.settings for info in RECIPES}
    # Radford et al. 2016, section 4
    assert (s["dcgan"].lr_g, s["dcgan"].betas_g, s["dcgan"].latent_dim) == (2e-4, (0.5, 0.999), 100)
    # Arjovsky et al. 2017, algorithm 1
    wgan = s["wgan"]
    assert (wgan.lr_d, wgan.clip, wgan.d_steps, wgan.optimizer) == (5e-5, 0.01, 5, "rmsprop")
    # Gulrajani et al. 2017, algorithm 1
    gp = s["wgan-gp"]
    assert (gp.penalty_weight, gp.d_steps, gp.lr_d, gp.betas_d) == (10, 5, 1e-4, (0, 0.9))
    # Miyato et al. 2018, table 3 (setting C) and CIFAR-10 ResNets
    sn = s["sngan"]
    assert (sn.lr_g, sn.betas_g, sn.d_steps, sn.loss, sn.width_g, sn.width_d) == (
        2e-4,
        (0, 0.9),
        5,
        "hinge",
        256,
        128,
    )
