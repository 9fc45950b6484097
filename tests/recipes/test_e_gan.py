"""E-GAN: fitness, selection and inheritance against plain formulas; training as the algorithm box says."""

from __future__ import annotations

import copy
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_gan_fakes import FakeContext, data_spec, random_batches, train
from torch import Tensor, nn

import ganwright as gw
from ganwright.data.spec import Batch
from ganwright.errors import SettingsError
from ganwright.recipes.base import SampleRequest
from ganwright.recipes.e_gan import E_GAN, EGAN, MUTATIONS, diversity, quality
from ganwright.recipes.e_gan_population import without_a_trace
from ganwright.recipes.image_gan import ImageGAN
from ganwright.recipes.image_settings import ImageGANSettings
from ganwright.recipes.registry import find_recipe
from ganwright.run import Run

SMALL: dict[str, Any] = {"width_g": 4, "width_d": 4, "latent_dim": 5, "growth": 2, "fitness_batch": 12}
ROWS = 6


def build(seed: int = 0, *, classes: int = 3, **changes: Any) -> EGAN:
    torch.manual_seed(seed)
    return EGAN(data_spec(classes=classes), replace(E_GAN, **{**SMALL, **changes}))


class DoubleContext(FakeContext):
    """A context of float64 numbers that also keeps the batches it gave and the numbers it drew."""

    def normal(self, rows: int, *shape: int) -> Tensor:
        return super().normal(rows, *shape).double()

    def next_batch(self) -> Batch:
        batch = super().next_batch()
        return {**batch, "images": batch["images"].double()}


def double_context(recipe: EGAN, steps: int = 4, seed: int = 0) -> DoubleContext:
    recipe.double().train()
    return DoubleContext(recipe, random_batches(recipe.data, ROWS, seed), steps, seed)


# The fitness -------------------------------------------------------------------------------------------------


def naive_fitness(d: nn.Module, real: Tensor, fake: Tensor, labels: Tensor | None) -> tuple[float, float]:
    """The paper's two formulas word by word: D's probability, its logarithms, every weight's derivative."""
    on_real, on_fake = copy.deepcopy(d), copy.deepcopy(d)  # each pass begins with the same spectral norm's vectors
    p_real, p_fake = torch.sigmoid(on_real(real, labels).logits), torch.sigmoid(on_fake(fake, labels).logits)
    loss = -torch.log(p_real).mean() - torch.log(1 - p_fake).mean()
    loss.backward()
    total = 0.0
    for a, b in zip(on_real.parameters(), on_fake.parameters(), strict=True):
        if a.grad is not None and b.grad is not None:
            total += float(((a.grad + b.grad) ** 2).sum())
    return float(p_fake.mean().detach()), -float(np.log(np.sqrt(total)))


@pytest.mark.parametrize(
    "changes",
    [{}, {"norm_g": "batch"}, {"norm_d": "none", "spectral_d": True, "init": "he"}, {"conditioning": "auxiliary"}],
)
def test_fitness_is_the_papers_formula(changes: dict[str, Any]) -> None:
    recipe = build(**changes)
    ctx = double_context(recipe)
    recipe.step(ctx.next_batch(), ctx)
    before = copy.deepcopy(recipe.state_dict())

    batches, twin = random_batches(recipe.data, ROWS, seed=5), torch.Generator().manual_seed(6)
    ctx.draw, ctx.generator = random_batches(recipe.data, ROWS, seed=5), torch.Generator().manual_seed(6)
    found = recipe._evaluate_child(recipe.generator, recipe._exam(ROWS, ctx), ctx)
    assert all(torch.equal(value, before[name]) for name, value in recipe.state_dict().items())  # it left no trace

    drawn = [batches(), batches()]  # 12 images are two batches of 6, each with latents drawn after it
    z = torch.cat([torch.randn(ROWS, 5, generator=twin) for _ in drawn]).double()
    labels = torch.cat([b["labels"] for b in drawn]) if recipe.settings.conditional else None
    real = torch.cat([b["images"] for b in drawn]).double()
    expected = naive_fitness(recipe.discriminator, real, recipe.generator(z, labels).detach(), labels)
    assert found.tolist() == pytest.approx(expected, rel=1e-9)


def test_fitness_terms_of_a_linear_discriminator_have_a_closed_form() -> None:
    # D(x) = sigmoid(wx) in one dimension: the derivative of the loss by w is -E[x (1 - D(x))] + E[g D(g)].
    w, real, fake = 0.7, torch.tensor([1.0, 2.0]), torch.tensor([-1.0, 0.5, 3.0])
    d = lambda x: 1 / (1 + torch.exp(-w * x))  # noqa: E731
    derivative = float(-(real * (1 - d(real))).mean() + (fake * d(fake)).mean())
    weight = torch.tensor(w, requires_grad=True)
    loss = -torch.log(torch.sigmoid(weight * real)).mean() - torch.log(1 - torch.sigmoid(weight * fake)).mean()
    (gradient,) = torch.autograd.grad(loss, [weight])
    assert float(diversity([gradient])) == pytest.approx(-np.log(abs(derivative)), rel=1e-5)
    assert float(quality(w * fake)) == pytest.approx(float(d(fake).mean()), rel=1e-6)
    assert np.isfinite(float(diversity([torch.zeros(3)])))  # a discriminator that is beyond doubt


def test_mutations_are_the_papers_losses() -> None:
    logits = torch.linspace(-3, 4, 9, dtype=torch.float64)
    p = 1 / (1 + torch.exp(-logits))
    assert float(MUTATIONS["minimax"](logits)) == pytest.approx(float(torch.log(1 - p).mean()))
    assert float(MUTATIONS["heuristic"](logits)) == pytest.approx(float(-torch.log(p).mean()))
    assert float(MUTATIONS["least-squares"](logits)) == pytest.approx(float(((p - 1) ** 2).mean()))


# Selection and inheritance -----------------------------------------------------------------------------------


class Adam:
    """Kingma & Ba 2015, algorithm 1, for a list of tensors; copied with its moments."""

    def __init__(self, weights: list[Tensor], lr: float, betas: tuple[float, float]) -> None:
        self.lr, self.betas, self.t = lr, betas, 0
        self.m, self.v = [torch.zeros_like(w) for w in weights], [torch.zeros_like(w) for w in weights]

    def step(self, weights: list[Tensor], gradient: tuple[Tensor, ...]) -> None:
        (b1, b2), self.t = self.betas, self.t + 1
        with torch.no_grad():
            for i, g in enumerate(gradient):
                self.m[i], self.v[i] = b1 * self.m[i] + (1 - b1) * g, b2 * self.v[i] + (1 - b2) * g * g
                m_hat, v_hat = self.m[i] / (1 - b1**self.t), self.v[i] / (1 - b2**self.t)
                weights[i] -= self.lr * m_hat / (v_hat.sqrt() + 1e-8)


def by_hand(recipe: EGAN, steps: int, seed: int) -> tuple[list[nn.Module], nn.Module, list[str]]:
    """Algorithm 1 with copies of whole networks, for an mlp without classes: survivors, D, and who won."""
    s, draw, rng = recipe.settings, random_batches(recipe.data, ROWS, seed), torch.Generator().manual_seed(seed)
    d = copy.deepcopy(recipe.discriminator)
    adam_d = Adam(list(d.parameters()), s.lr_d, s.betas_d)
    population = [copy.deepcopy(g) for g in recipe.survivors]
    adams = [Adam(list(g.parameters()), s.lr_g, s.betas_g) for g in population]
    winners = []

    def p(images: Tensor) -> Tensor:
        return torch.sigmoid(d(images).logits)

    def latents() -> Tensor:
        return torch.randn(ROWS, s.latent_dim, generator=rng).double()

    for _ in range(steps):
        for _ in range(s.d_steps):
            real, z = draw()["images"].double(), latents()
            fake = torch.stack([population[i % s.population](z[i : i + 1])[0] for i in range(ROWS)]).detach()
            loss = -torch.log(p(real)).mean() - torch.log(1 - p(fake)).mean()
            adam_d.step(list(d.parameters()), torch.autograd.grad(loss, list(d.parameters())))
        exam = []
        for _ in range(2):
            exam.append((draw()["images"].double(), latents()))
        real, z = (torch.cat(parts) for parts in zip(*exam, strict=True))
        children = []
        for parent, adam in zip(population, adams, strict=True):
            for name in s.mutations:
                child, own = copy.deepcopy(parent), copy.deepcopy(adam)
                d_fake = p(child(latents()))
                loss = {
                    "minimax": torch.log(1 - d_fake).mean(),
                    "heuristic": -torch.log(d_fake).mean(),
                    "least-squares": ((d_fake - 1) ** 2).mean(),
                }[name]
                own.step(list(child.parameters()), torch.autograd.grad(loss, list(child.parameters())))
                f_q, f_d = naive_fitness(d, real, child(z).detach(), None)
                children.append((f_q + s.diversity_weight * f_d, name, child, own))
        children.sort(key=lambda c: -c[0])
        population, adams = [c[2] for c in children[: s.population]], [c[3] for c in children[: s.population]]
        winners += [c[1] for c in children[: s.population]]
    return population, d, winners


@pytest.mark.parametrize("population", [1, 2, 3])
def test_three_steps_are_those_of_the_algorithm_by_hand(population: int) -> None:
    # Adam's moments matter from the second step on: a survivor that kept another one's would go elsewhere.
    recipe = build(
        classes=0, architecture="mlp", norm_d="none", init="he", population=population, lr_g=0.02, lr_d=0.01, d_steps=2
    )
    ctx = double_context(recipe, seed=4)
    expected, d, winners = by_hand(recipe, 3, seed=4)
    for step in range(3):
        ctx.step = ctx.stage_step = step
        recipe.step(ctx.next_batch(), ctx)
    assert recipe.survivals.tolist() == [winners.count(name) for name in MUTATIONS]
    assert len(set(winners)) > 1  # a choice was made
    for mine, theirs in zip([*recipe.survivors, recipe.discriminator], [*expected, d], strict=True):
        for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
            assert torch.allclose(a, b, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("best", range(6))
def test_the_fittest_children_take_the_places_in_order(best: int, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = build(population=2)
    scores = [0.1, 0.3, 0.2, float("nan"), 0.25, 0.05]
    scores[best] = 0.9
    children: list[tuple[float, list[Tensor], list[Tensor]]] = []

    def evaluate(generator: nn.Module, exam: object, ctx: object) -> Tensor:
        weights = [p.detach().clone() for p in generator.parameters()]
        optimizer = recipe._generator_optimizers[recipe.survivors.index(generator)]
        moments = [optimizer.state[p]["exp_avg"].clone() for p in generator.parameters()]
        children.append((scores[len(children)], weights, moments))
        return torch.tensor([children[-1][0], 0.0])

    monkeypatch.setattr(recipe, "_evaluate_child", evaluate)
    train(recipe, 1)
    ranked = sorted((c for c in children if c[0] == c[0]), key=lambda c: -c[0])
    for place, (_, weights, moments) in enumerate(ranked[:2]):
        generator, optimizer = recipe.survivors[place], recipe._generator_optimizers[place]
        assert all(torch.equal(p, w) for p, w in zip(generator.parameters(), weights, strict=True))
        state = [optimizer.state[p]["exp_avg"] for p in generator.parameters()]
        assert all(torch.equal(m, n) for m, n in zip(state, moments, strict=True))
        assert {float(optimizer.state[p]["step"]) for p in generator.parameters()} == {1.0}
    assert int(recipe.survivals[best % 3]) >= 1


@pytest.mark.parametrize(("mutation", "loss"), [("minimax", "minimax"), ("heuristic", "non-saturating")])
@pytest.mark.parametrize("changes", [{}, {"conditioning": "projection", "norm_g": "batch", "dropout_d": 0.3}])
def test_one_survivor_and_one_mutation_are_plain_training(mutation: str, loss: str, changes: dict[str, Any]) -> None:
    mine = build(mutations=(mutation,), d_steps=2, instance_noise=0.1, **changes)
    torch.manual_seed(0)
    settings = {n: v for n, v in vars(mine.settings).items() if n in ImageGANSettings.__dataclass_fields__}
    plain = ImageGAN(mine.data, ImageGANSettings(**{**settings, "loss": loss}))
    logs = [train(recipe, 4)[1] for recipe in (mine, plain)]
    state = mine.state_dict()
    for name, value in plain.state_dict().items():
        assert torch.equal(state[name], value), name
    assert logs[0][-1]["loss_generator"] == logs[1][-1]["loss_generator"]
    assert mine.survivals.sum() == 4


# What is logged and remembered -------------------------------------------------------------------------------


def test_shares_are_of_the_survivors_since_the_last_line_of_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = build(population=2, mutations=("least-squares", "minimax"))
    ctx = FakeContext(recipe, random_batches(recipe.data, ROWS), 6)
    recipe.train()
    before = torch.zeros(3, dtype=torch.int64)
    for step in range(6):
        ctx.step = ctx.stage_step = step
        ctx.logging = step in (1, 2, 5)
        log = recipe.step(ctx.next_batch(), ctx)
        assert {"survived_minimax", "survived_least_squares"} == {n for n in log if n.startswith("survived")}
        if ctx.logging:
            since = recipe.survivals - before
            before = recipe.survivals.clone()
            assert since.sum() == 2 * {1: 2, 2: 1, 5: 3}[step]
            assert float(log["survived_minimax"]) == pytest.approx(int(since[0]) / int(since.sum()))
            assert float(log["survived_minimax"] + log["survived_least_squares"]) == pytest.approx(1)
    assert recipe.evaluate(0) == {"generator_gradients": 6 * 2 * 2}
    assert ctx.updates.count("generator_0") == ctx.updates.count("generator_1") == 6 * 2


@pytest.mark.parametrize(
    "changes",
    [
        {"population": 3, "conditioning": "concat", "conditioning_g": "latent"},
        {"norm_d": "none", "penalty": "gradient", "penalty_every": 2, "dropout_d": 0.2},
        {"architecture": "resnet", "norm_d": "none", "spectral_d": True, "norm_g": "batch", "optimizer": "rmsprop"},
        {"mutations": ("heuristic", "heuristic"), "diversity_weight": 0.0, "fitness_batch": 7},
        {"augment": "diffaugment", "instance_noise": 0.1},
        {"augment": "ada", "norm_d": "none", "init": "he"},
    ],
)
def test_combinations_train_log_and_sample(changes: dict[str, Any]) -> None:
    recipe = build(**changes)
    ctx, logs = train(recipe, 3)
    assert ctx.batches_drawn == 3 * (2 + 2)  # d_steps 3, and 12 (or 7, rounded up) images for the evaluation
    for value in (value for log in logs for value in log.values()):
        assert value.ndim == 0 and not value.requires_grad and torch.isfinite(value)
    assert ("fitness_diversity" in logs[0]) == (recipe.settings.diversity_weight > 0)
    recipe.eval()
    with torch.no_grad():
        many, few = recipe.sample(SampleRequest(n=9, seed=4)), recipe.sample(SampleRequest(n=4, seed=4))
    assert np.array_equal(many.images[:4], few.images)
    assert all(p.requires_grad for p in recipe.parameters())


def test_a_block_without_a_trace_still_sees_the_batchs_own_statistics() -> None:
    recipe = build()
    recipe.train()
    x = torch.rand(8, 1, 16, 16) * 2 - 1
    with without_a_trace(recipe.discriminator):
        inside = recipe.discriminator(x).logits
        assert recipe.discriminator.norms[1].num_batches_tracked == 1
    assert recipe.discriminator.norms[1].num_batches_tracked == 0
    assert torch.equal(inside, recipe.discriminator(x).logits)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"population": 0}, "population"),
        ({"mutations": ()}, "mutations"),
        ({"mutations": ("heuristics",)}, "heuristic"),
        ({"diversity_weight": -1.0}, "diversity_weight"),
        ({"fitness_batch": 1}, "fitness_batch"),
        ({"loss": "hinge"}, "minimax"),
        ({"share_fakes": True}, "share_fakes"),
    ],
)
def test_senseless_settings_are_refused(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(SettingsError, match=word):
        build(**changes)


def test_a_batch_smaller_than_the_population_is_refused() -> None:
    with pytest.raises(SettingsError, match="7 generators"):
        train(build(population=ROWS + 1), 1)


# In the loop -------------------------------------------------------------------------------------------------


def test_a_resumed_run_is_the_same_to_the_last_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "images.npz", images=rng.integers(0, 256, (48, 16, 16, 1), dtype=np.uint8))
    settings = {
        **{**SMALL, "population": 2, "norm_g": "batch", "resolution": 16, "steps": 8, "batch_size": 6, "log_every": 3},
        **{"checkpoint_every": 4, "evaluate_every": -1, "sample_every": 8, "held_out": 0.0, "keep_last": 9},
    }
    runs = [gw.train("e-gan", tmp_path / "images.npz", out=tmp_path / name, **settings) for name in ("a", "b")]
    shutil.rmtree(tmp_path / "b" / "checkpoints" / "step-000008")
    gw.resume(tmp_path / "b")
    for file in ("networks", "ema", "optimizers"):
        contents = [(r.path / "checkpoints" / "step-000008" / f"{file}.safetensors").read_bytes() for r in runs]
        assert contents[0] == contents[1], file
    lines = [[{k: v for k, v in line.items() if "second" not in k} for line in Run(r.path).log_records()] for r in runs]
    assert lines[0] == lines[1] and {"survived_minimax", "fitness_quality", "lr_generator_1"} <= lines[0][0].keys()


def test_the_preset_is_the_papers() -> None:
    info = find_recipe("e-gan")
    s = info.settings
    assert (s.population, s.diversity_weight, s.fitness_batch, s.d_steps) == (1, 0.01, 256, 3)
    assert (s.lr_g, s.lr_d, s.betas_g, s.betas_d) == (2e-4, 2e-4, (0.5, 0.999), (0.5, 0.999))
    assert s.mutations == ("minimax", "heuristic", "least-squares") and info.train_defaults["batch_size"] == 32
    recipe = EGAN(data_spec(32, 3, 0), s)
    # 100 -> 4x4x512 -> 8x8x256 -> 16x16x128 -> 32x32x3 with biases, as in the authors' script.
    expected = 100 * 512 * 16 + 512 + 512 * 256 * 16 + 256 + 256 * 128 * 16 + 128 + 128 * 3 * 16 + 3
    assert sum(p.numel() for p in recipe.generator.parameters()) == expected
