"""A very small real GAN and a very small real data set, to make training go well or wrong on purpose."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy import linalg
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn

from ganwright.metrics.estimate import Estimate, Provenance
from ganwright.samples import ImageSamples
from ganwright.training.doctor import Doctor, Finding

ASSET = Path(__file__).resolve().parents[2] / "src/ganwright/data/assets/mnist10k.npz"
LATENT = 32


@dataclass(frozen=True)
class Spec:
    """The part of a data specification the doctor reads."""

    fingerprint: str
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Images:
    """A data set in memory, split into training and held-out images."""

    images: np.ndarray
    labels: np.ndarray | None
    train_index: np.ndarray
    held_out_index: np.ndarray
    spec: Spec

    def batch(self, size: int, generator: torch.Generator) -> Tensor:
        """Random training images, float (size, 1, 16, 16) in [-1, 1]."""
        rows = torch.randint(len(self.train_index), (size,), generator=generator)
        images = torch.from_numpy(self.images[self.train_index[rows.numpy()]])
        return images.permute(0, 3, 1, 2).float() / 127.5 - 1


def digits(train: int = 4000, held_out: int = 500) -> Images:
    """Real MNIST digits, reduced to 16x16."""
    with np.load(ASSET, allow_pickle=False) as file:
        images, labels = file["images"][: train + held_out], file["labels"][: train + held_out]
    small = F.interpolate(
        torch.from_numpy(images)[:, None].float(),
        size=16,
        mode="bilinear",
        antialias=True,
        align_corners=False,
    )
    small_images = small.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    index = np.arange(train + held_out)
    return Images(small_images, labels, index[:train], index[train:], Spec(f"mnist-{train}-{held_out}"))


def generator_network(width: int = 32) -> nn.Module:
    """DCGAN generator for 16x16, batch norm."""
    return nn.Sequential(
        nn.Unflatten(1, (LATENT, 1, 1)),
        nn.ConvTranspose2d(LATENT, 2 * width, 4, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.ConvTranspose2d(2 * width, width, 4, 2, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.ConvTranspose2d(width, 1, 4, 2, 1),
        nn.Tanh(),
    )


def discriminator_network(width: int = 32) -> nn.Module:
    """DCGAN discriminator for 16x16, without normalisation."""
    return nn.Sequential(
        nn.Conv2d(1, width, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(width, 2 * width, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(2 * width * 16, 1),
    )


@dataclass
class TinyGAN:
    """Trains with Adam(0.5, 0.999) and binary cross-entropy; hyperparameters may be changed between steps.

    `minimax` is the saturating generator loss. `naive` computes log(sigmoid(x)) in two steps, as beginners
    do, so that it overflows to infinity where the logits are large.
    """

    data: Images
    seed: int = 0
    lr_g: float = 2e-4
    lr_d: float = 2e-4
    d_steps: int = 1
    batch: int = 32
    minimax: bool = False
    naive: bool = False
    steps_done: int = 0
    generator: nn.Module = field(init=False)
    discriminator: nn.Module = field(init=False)

    def __post_init__(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.generator, self.discriminator = generator_network(), discriminator_network()
            for module in [*self.generator.modules(), *self.discriminator.modules()]:
                if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                    nn.init.normal_(module.weight, 0.0, 0.02)
        self.average = copy.deepcopy(self.generator).eval()
        self.rng = torch.Generator().manual_seed(self.seed)
        self.optimizer_g = torch.optim.Adam(self.generator.parameters(), self.lr_g, (0.5, 0.999))
        self.optimizer_d = torch.optim.Adam(self.discriminator.parameters(), self.lr_d, (0.5, 0.999))

    def set_lr(self, lr_g: float, lr_d: float) -> None:
        self.optimizer_g.param_groups[0]["lr"], self.optimizer_d.param_groups[0]["lr"] = lr_g, lr_d

    def latents(self) -> Tensor:
        return torch.randn(self.batch, LATENT, generator=self.rng)

    def says(self, logits: Tensor, real: bool) -> Tensor:
        """Mean of -log D(x) or -log(1 - D(x))."""
        if self.naive:
            probability = torch.sigmoid(logits)
            return -torch.log(probability if real else 1 - probability).mean()
        return F.softplus(-logits if real else logits).mean()

    def discriminator_step(self) -> dict[str, float]:
        fake = self.generator(self.latents()).detach()
        real_logits = self.discriminator(self.data.batch(self.batch, self.rng))
        fake_logits = self.discriminator(fake)
        loss = self.says(real_logits, True) + self.says(fake_logits, False)
        self.optimizer_d.zero_grad()
        loss.backward()
        norm = nn.utils.get_total_norm([p.grad for p in self.discriminator.parameters()])
        self.optimizer_d.step()
        return {
            "loss_discriminator": loss.item(),
            "d_accuracy": torch.cat([real_logits > 0, fake_logits < 0]).float().mean().item(),
            "d_real": real_logits.mean().item(),
            "d_fake": fake_logits.mean().item(),
            "grad_norm_discriminator": norm.item(),
        }

    def step(self) -> dict[str, float]:
        """One generator update after `d_steps` discriminator updates; returns what a loop would log."""
        for _ in range(self.d_steps):
            scalars = self.discriminator_step()
        logits = self.discriminator(self.generator(self.latents()))
        loss = -self.says(logits, False) if self.minimax else self.says(logits, True)
        self.optimizer_g.zero_grad()
        loss.backward()
        norm = nn.utils.get_total_norm([p.grad for p in self.generator.parameters()])
        self.optimizer_g.step()
        self.steps_done += 1
        # The moving average that is sampled, as the loop keeps it: its half-life grows with the steps done.
        decay = 0.5 ** (1 / (1 + 0.05 * self.steps_done))
        with torch.no_grad():
            for average, new in zip(
                self.average.state_dict().values(), self.generator.state_dict().values(), strict=True
            ):
                average.copy_(new if average.dtype == torch.int64 else torch.lerp(new, average, decay))
        return {**scalars, "loss_generator": loss.item(), "grad_norm_generator": norm.item()}

    @torch.no_grad()
    def samples(self, n: int = 64) -> ImageSamples:
        """Samples of fixed latents from the averaged generator."""
        fixed = torch.randn(n, LATENT, generator=torch.Generator().manual_seed(7))
        return ImageSamples.from_tensor(self.average(fixed))


@dataclass(frozen=True)
class Evidence:
    """What a loop hands to the doctor at one moment: exactly one of scalars, samples, evaluation."""

    step: int
    scalars: dict[str, float] | None = None
    samples: ImageSamples | None = None
    evaluation: dict[str, Estimate] | None = None


def train(
    gan: TinyGAN,
    steps: int,
    *,
    log_every: int = 10,
    sample_every: int = 100,
    evaluate: Callable[[ImageSamples], dict[str, Estimate]] | None = None,
    evaluate_every: int = 100,
) -> list[Evidence]:
    """Train on and record what the doctor would be given."""
    evidence = []
    for _ in range(steps):
        scalars = gan.step()
        step = gan.steps_done
        if step % log_every == 0:
            evidence.append(Evidence(step, scalars=scalars))
        if sample_every and step % sample_every == 0:
            evidence.append(Evidence(step, samples=gan.samples()))
        if evaluate is not None and step % evaluate_every == 0:
            evidence.append(Evidence(step, evaluation=evaluate(gan.samples(500))))
    return evidence


def diagnose(doctor: Doctor, evidence: Iterable[Evidence], data: Images) -> list[Finding]:
    """Hand the evidence to a doctor as a loop does."""
    findings = []
    for item in evidence:
        if item.scalars is not None:
            findings += doctor.after_log(item.step, item.scalars)
        elif item.samples is not None:
            findings += doctor.after_samples(item.step, item.samples, data)
        elif item.evaluation is not None:
            findings += doctor.after_evaluation(item.step, item.evaluation)
    return findings


class Judge:
    """Evaluates samples against real digits: a Fréchet distance and the coverage of the classes."""

    def __init__(self, data: Images) -> None:
        real = data.images[data.held_out_index].reshape(len(data.held_out_index), -1) / 255.0
        self.project = np.random.default_rng(0).normal(size=(real.shape[1], 12)) / 16
        self.mu, self.sigma = self._moments(real)
        train = data.images[data.train_index]
        self.classify = KNeighborsClassifier(5).fit(train.reshape(len(train), -1), data.labels[data.train_index])

    def __call__(self, samples: ImageSamples) -> dict[str, Estimate]:
        flat = samples.images.reshape(len(samples), -1)
        distance = self._distance(flat / 255.0)
        rows = np.random.default_rng(1).integers(len(flat), size=(30, len(flat)))
        spread = 1.96 * float(np.std([self._distance(flat[r] / 255.0) for r in rows]))
        counts = np.bincount(self.classify.predict(flat), minlength=10)
        coverage = float((counts >= len(flat) / 100).mean())  # a tenth of its due
        return {
            "fd": _estimate("fd", distance, spread, len(flat), higher=False),
            "class-coverage": _estimate("class-coverage", coverage, 0.0, len(flat), higher=True),
        }

    def _moments(self, flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        features = flat @ self.project
        return features.mean(0), np.cov(features, rowvar=False)

    def _distance(self, flat: np.ndarray) -> float:
        mu, sigma = self._moments(flat)
        root = linalg.sqrtm(sigma @ self.sigma).real
        return float(((mu - self.mu) ** 2).sum() + np.trace(sigma + self.sigma - 2 * root))


def _estimate(name: str, value: float, half: float, n: int, *, higher: bool) -> Estimate:
    provenance = Provenance("random projection", "none", "mnist", 500)
    return Estimate(name, name, value, value - half, value + half, n, provenance, "95 %, bootstrap", higher)
