"""E-GAN: a population of generators, mutated by several losses, of which the fittest survive each step.

`EGAN.step` is algorithm 1 of Wang et al. 2018 on the networks of the image GAN family; `MUTATIONS` are its three
losses, `quality` and `diversity` the two parts of its fitness.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from ganwright.data.spec import Batch, DataSpec
from ganwright.errors import SettingsError
from ganwright.losses import minimax_g, non_saturating_g
from ganwright.networks.blocks import lent_randomness, mean_over_processes, world_size
from ganwright.networks.conditional import Generator
from ganwright.recipes.base import StepContext
from ganwright.recipes.e_gan_population import (
    Child,
    Genome,
    full_precision,
    keep_fittest,
    with_state,
    without_a_trace,
)
from ganwright.recipes.e_gan_settings import EGANSettings, check_evolution
from ganwright.recipes.image_gan import OPTIMIZERS, ImageGAN, network_plans
from ganwright.recipes.image_settings import choose
from ganwright.recipes.registry import RecipeInfo


def least_squares_mutation(fake_logits: Tensor) -> Tensor:
    """E[(D(G(z)) - 1)²] with D = sigmoid(logit), as the paper has it; LSGAN's loss takes the logit itself."""
    return torch.sigmoid(-fake_logits).square().mean()


MUTATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "minimax": minimax_g,
    "heuristic": non_saturating_g,
    "least-squares": least_squares_mutation,
}
"""What a child minimises in its one update, by the name used in settings: functions of D's logits on its images.

No constant factors, as in the authors' codes. They would matter: a child's gradient meets moments that other mutations
made, so Adam does not rescale it away.
"""


def quality(fake_logits: Tensor) -> Tensor:
    """F_q = E[D(G(z))], D = sigmoid(logit), in [0, 1]: how real the child's images look to D."""
    return torch.sigmoid(fake_logits).mean()


def diversity(gradient: Sequence[Tensor]) -> Tensor:
    """F_d = -log‖∇_D (-E[log D(x)] - E[log(1 - D(G(z)))])‖: high where D has no strong countermove.

    Args:
        gradient: The gradient by each of D's weights; averaged over processes here.
    """
    whole = mean_over_processes(torch.cat([part.reshape(-1) for part in gradient]))
    norm: Tensor = torch.linalg.vector_norm(whole)
    return -norm.clamp_min(torch.finfo(norm.dtype).tiny).log()  # finite even where nothing is left of it


class EGAN(ImageGAN):
    """A population of generators against one discriminator; see `EGANSettings`.

    `generator` is the fittest survivor, what is sampled and averaged; `rivals` are the others, in order of fitness.
    Optimiser "generator_j" belongs to place j in that order, and its state moves with the weights.

    Args:
        data: Unlabelled or labelled images.
        settings: How to train.

    Raises:
        SettingsError: The settings do not fit the data or each other.
    """

    Settings = EGANSettings

    def __init__(self, data: DataSpec, settings: EGANSettings) -> None:
        for name in settings.mutations:
            choose(MUTATIONS, name, "mutations")
        check_evolution(settings)
        super().__init__(data, settings)
        self.settings: EGANSettings = settings
        plan = network_plans(settings, data)[0]
        self.rivals = nn.ModuleList(self._build_generator(plan) for _ in range(settings.population - 1))
        # Children that survived, by mutation: since the start, and up to the last line of the log.
        self.register_buffer("survivals", torch.zeros(len(MUTATIONS), dtype=torch.int64))
        self.register_buffer("survivals_logged", torch.zeros(len(MUTATIONS), dtype=torch.int64))
        self.survivals: Tensor
        self.survivals_logged: Tensor
        self._generator_optimizers: list[Optimizer] = []

    @property
    def survivors(self) -> list[Generator]:
        """The population, the fittest first."""
        return [self.generator, *self.rivals]

    def optimizers(self) -> dict[str, Optimizer]:
        """One for each place in the population, "generator_0" and so on, and "discriminator"."""
        s, made = self.settings, super().optimizers()
        make = OPTIMIZERS[s.optimizer]
        rivals = [make(rival.parameters(), s.lr_g, s.betas_g, self.device) for rival in self.rivals]
        self._generator_optimizers = [with_state(optimizer) for optimizer in (made["generator"], *rivals)]
        named = {f"generator_{j}": optimizer for j, optimizer in enumerate(self._generator_optimizers)}
        return {**named, "discriminator": made["discriminator"]}

    def step(self, batch: Batch, ctx: StepContext) -> dict[str, Tensor]:
        """Algorithm 1: `d_steps` updates of D on the survivors' images; then variation, evaluation, selection.

        Returns:
            What `ImageGAN.step` logs, with `loss_generator` the fittest child's loss by its own mutation; its
            `fitness_quality` and `fitness_diversity` (unweighted); and for each mutation in use `survived_<name>`, its
            share of the survivors since the last line of the log.
        """
        s = self.settings
        with lent_randomness(self.discriminator, ctx.uniform):
            for k in range(s.d_steps):
                if k > 0:
                    batch = ctx.next_batch()
                real, labels = batch["images"], batch["labels"] if s.conditional else None
                fake = self._images_of_population(real, labels, ctx)
                due = (ctx.stage_step * s.d_steps + k) % s.penalty_every == 0
                log = self._update_discriminator(real, fake, labels, ctx, penalise=due)
            log |= self._evolve(real, labels, ctx) if s.selects else self._only_child(real, labels, ctx)
            return log | self._shares(ctx)

    @torch.no_grad()
    def _images_of_population(self, real: Tensor, labels: Tensor | None, ctx: StepContext) -> Tensor:
        """As many images as there are real ones, the survivors taking turns: image i is of survivor i mod μ."""
        z, mu = self._draw_latents(real, ctx), self.settings.population
        if mu == 1:
            return self.generator(z, labels)  # type: ignore[no-any-return]
        if len(z) < mu:
            raise SettingsError(
                f"A batch of {len(z)} images a process is less than one for each of {mu} generators.",
                where="batch_size",
                fix=f"set batch_size to {mu} or more a process, or population lower",
            )
        turns = [slice(j, None, mu) for j in range(mu)]
        parts = [g(z[t], None if labels is None else labels[t]) for g, t in zip(self.survivors, turns, strict=True)]
        images = torch.empty_like(real, dtype=parts[0].dtype)
        for turn, part in zip(turns, parts, strict=True):
            images[turn] = part
        return images

    def _evolve(self, real: Tensor, labels: Tensor | None, ctx: StepContext) -> dict[str, Tensor]:
        """Mutate every survivor by every loss, evaluate each child, and let the fittest μ take the places."""
        s, places = self.settings, list(zip(self.survivors, self._generator_optimizers, strict=True))
        exam = self._exam(len(real), ctx)
        kept: list[Child] = []
        for j, (generator, optimizer) in enumerate(places):
            parent = Genome(generator, optimizer)
            for i, name in enumerate(s.mutations):
                if i > 0:
                    parent.write_to(generator, optimizer)
                log = self._mutate(j, name, real, labels, ctx)
                fitness = self._evaluate_child(generator, exam, ctx)
                keep_fittest(kept, Child(name, fitness, s.diversity_weight, log), generator, optimizer, s.population)
        kept.sort(key=lambda child: -child.fitness)
        for child, place in zip(kept, places, strict=True):
            assert child.genome is not None
            child.genome.write_to(*place)
        self._count([child.mutation for child in kept])
        best = kept[0]
        parts = {"fitness_quality": best.parts[0], "fitness_diversity": best.parts[1]}
        return {**best.log, **(parts if s.diversity_weight else {"fitness_quality": best.parts[0]})}

    def _only_child(self, real: Tensor, labels: Tensor | None, ctx: StepContext) -> dict[str, Tensor]:
        """One survivor, one mutation: nothing to select, so nothing to evaluate."""
        (mutation,) = self.settings.mutations
        self._count([mutation])
        return self._mutate(0, mutation, real, labels, ctx)

    def _mutate(
        self, place: int, mutation: str, real: Tensor, labels: Tensor | None, ctx: StepContext
    ) -> dict[str, Tensor]:
        """Variation: one update of the generator in this place by this loss, against D as it is."""
        fake = self.survivors[place](self._draw_latents(real, ctx), labels)
        adversarial, optimizer = MUTATIONS[mutation], f"generator_{place}"
        return self._update_generator(fake, labels, ctx, adversarial=adversarial, optimizer=optimizer)

    def _exam(self, rows: int, ctx: StepContext) -> Exam:
        """Latents and real images that all children of this step are evaluated with.

        The paper's code draws latents anew for each child; equal ones leave the difference between children to their
        weights alone.
        """
        s, batches = self.settings, []
        for _ in range(math.ceil(self.settings.fitness_batch / (rows * world_size()))):
            batch = ctx.next_batch()
            batches.append((self._draw_latents(batch["images"], ctx), batch))
        z = torch.cat([latents for latents, _ in batches])
        labels = torch.cat([batch["labels"] for _, batch in batches]) if s.conditional else None
        if not s.diversity_weight:
            return Exam(z, labels, [])
        real = torch.cat([batch["images"] for _, batch in batches])
        with without_a_trace(self.discriminator), full_precision(self.device):
            logits = self._logits(real, labels, ctx)
            return Exam(z, labels, self._gradient_by_d(F.softplus(-logits).mean()))

    def _evaluate_child(self, generator: Generator, exam: Exam, ctx: StepContext) -> Tensor:
        """Evaluation: (F_q, F_d), equal on all processes; F_d is 0 where it has no weight."""
        wanted = self.settings.diversity_weight > 0
        with without_a_trace(generator, self.discriminator), full_precision(self.device):
            with torch.no_grad():
                fake = generator(exam.z, exam.labels)
            with torch.set_grad_enabled(wanted):
                logits = self._logits(fake, exam.labels, ctx)
            f_q, f_d = quality(logits.detach()), logits.new_zeros(())
            if wanted:
                # The gradient on real images is the same for all children, and the two parts add up.
                f_d = diversity(torch._foreach_add(exam.real_gradient, self._gradient_by_d(F.softplus(logits).mean())))
        return mean_over_processes(torch.stack([f_q, f_d]))

    def _logits(self, images: Tensor, labels: Tensor | None, ctx: StepContext) -> Tensor:
        """D's logits on images as it sees them in training: with instance noise and augmented."""
        return self._judge(self.augmenter(self._with_instance_noise(images, ctx), ctx), labels).logits

    def _gradient_by_d(self, loss: Tensor) -> list[Tensor]:
        """The gradient by those of D's weights that are trained and that the loss depends on."""
        weights = [p for p in self.discriminator.parameters() if p.requires_grad]
        return [g for g in torch.autograd.grad(loss, weights, allow_unused=True) if g is not None]

    def _count(self, mutations: Sequence[str]) -> None:
        for name in mutations:
            self.survivals[list(MUTATIONS).index(name)] += 1

    def _shares(self, ctx: StepContext) -> dict[str, Tensor]:
        """Each mutation's share of the survivors since the last line of the log."""
        since = self.survivals - self.survivals_logged
        shares = since / since.sum()
        if ctx.logging:
            self.survivals_logged.copy_(self.survivals)
        return {
            f"survived_{name.replace('-', '_')}": shares[i]
            for i, name in enumerate(MUTATIONS)
            if name in self.settings.mutations
        }

    def evaluate(self, seed: int) -> dict[str, float]:
        """`generator_gradients`: mini-batch gradients of generators so far, the budget to compare at."""
        return {"generator_gradients": float(self.survivals.sum()) * len(self.settings.mutations)}


@dataclass(frozen=True)
class Exam:
    """What all children of a step are evaluated with.

    Attributes:
        z: Latents (N, latent_dim).
        labels: Classes (N,) or None.
        real_gradient: ∇_D -E[log D(x)] by each weight of D; empty where diversity has no weight.
    """

    z: Tensor
    labels: Tensor | None
    real_gradient: list[Tensor]


# The networks and numbers of the authors' CIFAR-10 script (PyTorch): batch 32, 256 images for evaluation, one
# survivor, γ 0.01, 3 D steps, Adam 2e-4 (0.5, 0.999), no norm in G, batch norm in D. Its latents are uniform, here
# normal; it applies least squares to logits, where the paper and the authors' earlier Theano code apply it to D's
# probability, as here. That code weighs the log of the squared norm by 0.002 (γ 0.004) and runs 100 epochs of 100,000
# (mirrored) images at 96 a step, hence the 100,000 steps.
# Published: Inception score 6.9 ± .09 on CIFAR-10 with one survivor.
E_GAN = EGANSettings(
    width_g=128,
    width_d=128,
    norm_g="none",
    norm_d="batch",
    loss="minimax",
    d_steps=3,
)

RECIPES = [
    RecipeInfo(
        "e-gan",
        EGAN,
        E_GAN,
        "Wang et al., Evolutionary Generative Adversarial Networks, IEEE TEVC 2019, arXiv:1803.00657",
        "Not knowing which generator loss suits the data: tries three each step and keeps the fittest child.",
        {"resolution": 32, "steps": 100_000, "batch_size": 32},
    )
]
"""E-GAN with the authors' CIFAR-10 settings."""
