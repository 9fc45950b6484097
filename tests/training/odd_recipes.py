"""Four tiny recipes of the odd kinds, which show that the loop knows nothing of any recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganwright.data.spec import Batch, DataKind, DataSpec
from ganwright.recipes.base import Recipe, SampleRequest, Stage, StepContext, frozen
from ganwright.recipes.registry import RecipeInfo
from ganwright.samples import ImageSamples, TextSamples


@dataclass(frozen=True)
class Nothing:
    """No settings."""


def conv_net(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, outputs, 3, padding=1), nn.Tanh())


def critic(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, 8, 4, 2, 1), nn.LeakyReLU(0.2), nn.Flatten(), nn.LazyLinear(1))


class Population(Recipe):
    """Breeds two children of each parent, keeps the fitter half: a population as a ModuleList with optimiser states."""

    Settings = Nothing
    accepts: ClassVar = frozenset({DataKind.IMAGES, DataKind.LABELLED_IMAGES})
    ema_networks = ("members.0",)

    def __init__(self, data: DataSpec, settings: Any) -> None:
        super().__init__(data, settings)
        size = data.resolution**2 * data.channels
        self.members = nn.ModuleList(nn.Sequential(nn.Linear(8, size), nn.Tanh()) for _ in range(2))
        self.discriminator = nn.Linear(size, 1)
        self.register_buffer("survivals", torch.zeros(2, dtype=torch.int64))

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        made = {f"member{i}": torch.optim.Adam(m.parameters(), 1e-2) for i, m in enumerate(self.members)}
        return {**made, "discriminator": torch.optim.Adam(self.discriminator.parameters(), 1e-2)}

    def step(self, batch: Batch, ctx: StepContext) -> dict[str, Tensor]:
        real = batch["images"].flatten(1)
        fitness = []
        for i, member in enumerate(self.members):
            with frozen(self.discriminator):
                loss = F.softplus(-self.discriminator(member(ctx.normal(len(real), 8)))).mean()
                ctx.minimise(loss, f"member{i}")
            fitness.append(-loss.detach())
        best = int(torch.stack(fitness).argmax())
        self.survivals[best] += 1
        with torch.no_grad():  # the loser becomes a mutated copy of the winner
            for mine, theirs in zip(self.members[1 - best].parameters(), self.members[best].parameters(), strict=True):
                mine.copy_(theirs + 0.01 * ctx.normal(*theirs.shape))
        fake = self.members[best](ctx.normal(len(real), 8)).detach()
        loss_d = F.softplus(-self.discriminator(real)).mean() + F.softplus(self.discriminator(fake)).mean()
        ctx.minimise(loss_d, "discriminator")
        return {"loss_discriminator": loss_d.detach(), "fitness": fitness[best]}

    def sample(self, request: SampleRequest) -> ImageSamples:
        flat = self.members[0](request.normal(8).to(self.device))
        side = self.data.resolution
        return ImageSamples.from_tensor(flat.view(-1, self.data.channels, side, side))

    def evaluate(self, seed: int) -> dict[str, float]:
        return {"survivals_of_first": float(self.survivals[0])}


class Translator(Recipe):
    """CycleGAN in small: two generators, two critics, and image pools kept as buffers."""

    Settings = Nothing
    accepts: ClassVar = frozenset({DataKind.DOMAINS})
    ema_networks = ("a_to_b", "b_to_a")

    def __init__(self, data: DataSpec, settings: Any) -> None:
        super().__init__(data, settings)
        c, side = data.channels, data.resolution
        self.a_to_b, self.b_to_a = conv_net(c, c), conv_net(c, c)
        self.critic_a, self.critic_b = critic(c), critic(c)
        for net in (self.critic_a, self.critic_b):
            net(torch.zeros(1, c, side, side))
        self.register_buffer("pool", torch.zeros(6, c, side, side))
        self.register_buffer("pooled", torch.zeros((), dtype=torch.int64))

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        generators = [*self.a_to_b.parameters(), *self.b_to_a.parameters()]
        critics = [*self.critic_a.parameters(), *self.critic_b.parameters()]
        return {"generators": torch.optim.Adam(generators, 1e-3), "critics": torch.optim.SGD(critics, 1e-2, 0.9)}

    def step(self, batch: Batch, ctx: StepContext) -> dict[str, Tensor]:
        a, b = batch["images_a"], batch["images_b"]
        with frozen(self.critic_a, self.critic_b):
            fake_b, fake_a = self.a_to_b(a), self.b_to_a(b)
            cycle = F.l1_loss(self.b_to_a(fake_b), a) + F.l1_loss(self.a_to_b(fake_a), b)
            fool = (self.critic_b(fake_b) - 1).square().mean() + (self.critic_a(fake_a) - 1).square().mean()
            ctx.minimise(fool + 10 * cycle, "generators")
        old_b = self._through_pool(fake_b.detach(), ctx)
        loss = (self.critic_b(b) - 1).square().mean() + self.critic_b(old_b).square().mean()
        loss = loss + (self.critic_a(a) - 1).square().mean() + self.critic_a(fake_a.detach()).square().mean()
        ctx.minimise(loss, "critics")
        return {"loss_generators": (fool + 10 * cycle).detach(), "loss_critics": loss.detach()}

    def _through_pool(self, images: Tensor, ctx: StepContext) -> Tensor:
        given = []
        for image, chance in zip(images, ctx.uniform(len(images), 2).tolist(), strict=True):
            if int(self.pooled) < len(self.pool):
                self.pool[int(self.pooled)] = image
                self.pooled += 1
                given.append(image)
            elif chance[0] < 0.5:
                slot = int(chance[1] * len(self.pool))
                given.append(self.pool[slot].clone())
                self.pool[slot] = image
            else:
                given.append(image)
        return torch.stack(given)

    def sample(self, request: SampleRequest) -> ImageSamples:
        side = self.data.resolution
        noise = request.normal(self.data.channels, side, side).clamp(-1, 1)
        return ImageSamples.from_tensor(self.a_to_b(noise.to(self.device)))


class StagedText(Recipe):
    """SeqGAN in small: likelihood first, then REINFORCE on a critic's reward for sampled text."""

    Settings = Nothing
    accepts: ClassVar = frozenset({DataKind.TEXT})
    ema_networks = ("generator",)

    def __init__(self, data: DataSpec, settings: Any) -> None:
        super().__init__(data, settings)
        self.vocabulary, self.length = data.extra["vocabulary_size"], data.extra["length"]
        self.generator = nn.ModuleDict(
            {
                "embed": nn.Embedding(self.vocabulary, 12),
                "cell": nn.GRUCell(12, 12),
                "out": nn.Linear(12, self.vocabulary),
            }
        )
        self.critic = nn.Sequential(nn.EmbeddingBag(self.vocabulary, 12), nn.Linear(12, 1))

    def stages(self, steps: int) -> list[Stage]:
        return [
            Stage("mle", steps // 2),
            Stage("critic", steps // 4),
            Stage("adversarial", steps - steps // 2 - steps // 4),
        ]

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {
            "generator": torch.optim.Adam(self.generator.parameters(), 1e-2),
            "critic": torch.optim.Adam(self.critic.parameters(), 1e-2),
        }

    def _logits(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        state = self.generator["cell"](self.generator["embed"](tokens), state)
        return self.generator["out"](state), state

    def _roll(self, uniforms: Tensor) -> tuple[Tensor, Tensor]:
        n = len(uniforms)
        state, token = (
            torch.zeros(n, 12, device=uniforms.device),
            torch.zeros(n, dtype=torch.int64, device=uniforms.device),
        )
        tokens, log_p = [], []
        for t in range(self.length):
            logits, state = self._logits(token, state)
            p = logits.softmax(1)
            token = (p.cumsum(1) < uniforms[:, t : t + 1]).sum(1).clamp(max=self.vocabulary - 1)
            tokens.append(token)
            log_p.append(p.gather(1, token[:, None]).log()[:, 0])
        return torch.stack(tokens, 1), torch.stack(log_p, 1)

    def step(self, batch: Batch, ctx: StepContext) -> dict[str, Tensor]:
        real = batch["tokens"]
        if ctx.stage == "mle":
            state, loss = torch.zeros(len(real), 12, device=real.device), torch.zeros((), device=real.device)
            for t in range(real.shape[1] - 1):
                logits, state = self._logits(real[:, t], state)
                loss = loss + F.cross_entropy(logits, real[:, t + 1])
            ctx.minimise(loss, "generator")
            return {"loss_generator": loss.detach()}
        fake, log_p = self._roll(ctx.uniform(len(real), self.length))
        if ctx.stage == "critic":
            loss = F.softplus(-self.critic(real)).mean() + F.softplus(self.critic(fake)).mean()
            ctx.minimise(loss, "critic")
            return {"loss_critic": loss.detach()}
        reward = self.critic(fake).sigmoid().detach()
        loss = -(log_p.sum(1, keepdim=True) * (reward - reward.mean())).mean()
        ctx.minimise(loss, "generator")
        return {"loss_generator": loss.detach(), "reward": reward.mean()}

    def sample(self, request: SampleRequest) -> TextSamples:
        uniforms = torch.rand(request.n, self.length, generator=torch.Generator().manual_seed(request.seed))
        tokens, _ = self._roll(uniforms.to(self.device))
        return TextSamples([" ".join(map(str, row)) for row in tokens.tolist()])


class Prior(Recipe):
    """Deep Image Prior in small: one picture, no data set; the samples are the present restoration."""

    Settings = Nothing
    accepts: ClassVar = frozenset({DataKind.SINGLE_IMAGE})
    ema_networks = ("network",)

    def __init__(self, data: DataSpec, settings: Any) -> None:
        super().__init__(data, settings)
        self.network = conv_net(4, data.channels)
        self.register_buffer("z", torch.empty(0))
        self.register_buffer("average", torch.empty(0))

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"network": torch.optim.Adam(self.network.parameters(), 1e-2)}

    def step(self, batch: Batch, ctx: StepContext) -> dict[str, Tensor]:
        picture = batch["images"][:1]
        if self.z.numel() == 0:
            self.z = ctx.uniform(1, 4, *picture.shape[2:])
            self.average = torch.zeros_like(picture)
        out = self.network(self.z + 0.03 * ctx.normal(*self.z.shape))
        loss = F.mse_loss(out, picture)
        ctx.minimise(loss, "network")
        self.average = 0.9 * self.average + 0.1 * out.detach()
        return {"loss_network": loss.detach()}

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        for name in ("z", "average"):  # these take their size from the first picture
            setattr(self, name, torch.empty_like(state[prefix + name]))
        super()._load_from_state_dict(state, prefix, *rest)

    def sample(self, request: SampleRequest) -> ImageSamples:
        if self.z.numel() == 0:
            return ImageSamples.from_tensor(torch.zeros(1, self.data.channels, 16, 16))
        return ImageSamples.from_tensor(self.average)


ODD = {
    name: RecipeInfo(name, recipe, Nothing(), "none", "a test of the loop", {"batch_size": 4, "evaluate_every": -1})
    for name, recipe in (
        ("odd-population", Population),
        ("odd-translator", Translator),
        ("odd-text", StagedText),
        ("odd-prior", Prior),
    )
}
