"""Projection of a real image into latent space (Karras et al. 2020, section 5 and appendix D).

With a W: first the one style w for all layers, then w+, a style for each layer, from there on. Without: z, from several
beginnings. The image is judged by a perceptual loss and by its pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ganwright.console import progress
from ganwright.errors import SettingsError
from ganwright.exploring.latents import Latents
from ganwright.exploring.perceptual import PerceptualLoss
from ganwright.exploring.space import Space


@dataclass(frozen=True)
class ProjectionSettings:
    """How to project; values of Karras et al. 2020, appendix D, where they are not told to be ours.

    Attributes:
        space: "w" or "w+" (ours: half of the steps in W, then half in W+); in z it means nothing.
        steps: In total.
        lr: Largest learning rate of Adam; in W+, and after the first third in z, 0.4 times that (ours).
        seed: Of latents and noise: equal seeds give equal results on one device.
        noise: Fit the generator's per-pixel noise too, regularised. Off (ours): the latent alone makes the picture.
        starts: Beginnings in z; after a third of the steps the best goes on alone (ours).
        pixel_weight: Weight of the mean squared pixel error beside the perceptual distance (ours).
        mean_samples: Random w that tell the size of the exploring noise.
        explore: First size of the noise added to w, in standard deviations of w.
        noise_weight: Weight of the noise's regularisation.
        snapshots: Intermediate results kept.
    """

    space: Literal["w", "w+"] = "w+"
    steps: int = 600
    lr: float = 0.1
    seed: int = 0
    noise: bool = False
    starts: int = 8
    pixel_weight: float = 2.0
    mean_samples: int = 10_000
    explore: float = 0.05
    noise_weight: float = 1e5
    snapshots: int = 6

    def __post_init__(self) -> None:
        if min(self.steps, self.starts, self.snapshots) < 1 or self.mean_samples < 2 or not 0 < self.lr < math.inf:
            raise SettingsError("Steps, starts and snapshots must be 1 or more, and lr above 0.", where="project")
        if self.space not in ("w", "w+"):
            raise SettingsError(f"There is no space '{self.space}' to project to.", where="space", fix="choose w or w+")


@dataclass
class Trace:
    """What happened on the way.

    Attributes:
        steps: Of each snapshot.
        latents: Values at each snapshot.
        losses: Loss of the latent alone at each look, with the step.
        interrupted: Ctrl-C ended it: the best so far was kept.
    """

    steps: list[int] = field(default_factory=list)
    latents: list[Tensor] = field(default_factory=list)
    losses: list[tuple[int, float]] = field(default_factory=list)
    interrupted: bool = False


@dataclass(frozen=True)
class Found:
    """Latents found: in W alone (None in z), and the best of all, with the way there."""

    in_w: Latents | None
    best: Latents
    trace: Trace


def project_image(
    space: Space,
    target: Tensor,
    settings: ProjectionSettings,
    perceptual: PerceptualLoss | None,
    *,
    name: str = "image",
    labels: Sequence[int] | int | None = None,
    quiet: bool = False,
) -> Found:
    """Find the latent whose image is nearest to a target.

    Args:
        space: The generator.
        target: Float (1, C, H, W) in [-1, 1], of the generator's size.
        settings: How.
        perceptual: None: pixels alone.
        name: What the result is called.
        labels: In z of a conditional recipe: its class, or classes to try; None: all.
        quiet: Show no progress.

    Raises:
        SettingsError: Impossible labels.
    """
    return _Projector(space, target.to(space.device), settings, perceptual, name, quiet).run(labels)


class _Projector:
    def __init__(
        self,
        space: Space,
        target: Tensor,
        settings: ProjectionSettings,
        perceptual: PerceptualLoss | None,
        name: str,
        quiet: bool,
    ) -> None:
        self.space, self.target, self.s, self.perceptual = space, target, settings, perceptual
        self.name, self.quiet, self.trace = name, quiet, Trace()
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.features = None if perceptual is None else [f.detach() for f in perceptual.features(self.target)]
        self.noise = list(space.noise_buffers().values()) if settings.noise and space.styles is not None else []

    def run(self, labels: Sequence[int] | int | None) -> Found:
        buffers = self.space.noise_buffers()
        before = {name: buffer.detach().clone() for name, buffer in buffers.items()}
        trainable = [p for p in self.space.recipe.parameters() if p.requires_grad]
        for parameter in trainable:
            parameter.requires_grad_(False)
        try:
            with torch.enable_grad():
                return self._in_z(labels) if self.space.styles is None else self._in_w()
        finally:
            for parameter in trainable:
                parameter.requires_grad_(True)
            for name, buffer in buffers.items():
                buffer.requires_grad_(False).copy_(before[name])

    # The two spaces. -----------------------------------------------------------------------------------------------

    def _in_w(self) -> Found:
        styles = self.space.need_styles("Projection to W")
        w = torch.cat(list(self.space.sampled_w(self.s.mean_samples, seed=self.s.seed)))
        mean = w.mean(0)
        sigma = math.sqrt(float((w - mean).square().sum(1).mean()))
        for buffer in self.noise:
            buffer.copy_(self._normal(*buffer.shape))
            buffer.requires_grad_(True)
        first = self.s.steps if self.s.space == "w" else math.ceil(self.s.steps / 2)
        layers = len(styles.layers)
        start = mean.float().to(self.space.device).view(1, 1, -1)
        in_w, noise = self._descend(start, first, 0, lambda w: w.expand(-1, layers, -1), self.s.lr, sigma)
        found = self._latents(in_w.expand(1, layers, -1), noise)
        if self.s.space == "w" or self.trace.interrupted or first == self.s.steps:
            return Found(found, found, self.trace)
        start = in_w.expand(1, layers, -1).clone()
        rest = self.s.steps - first
        in_w_plus, noise = self._descend(start, rest, first, lambda w: w, 0.4 * self.s.lr, sigma=0.0)
        return Found(found, self._latents(in_w_plus, noise), self.trace)

    def _in_z(self, labels: Sequence[int] | int | None) -> Found:
        known = self.space.latent.num_classes
        tried = list(range(known)) if labels is None else [labels] if isinstance(labels, int) else list(labels)
        starts = max(self.s.starts, len(tried))
        classes = self.space.classes(starts, tried if known or labels is not None else None)
        z = self._normal(starts, self.space.latent.latent_dim)
        first = math.ceil(self.s.steps / 3)
        best, _ = self._descend(z, first, 0, lambda x: x, self.s.lr, sigma=1.0, classes=classes)
        of_best = None if classes is None else classes[self.winner : self.winner + 1]
        if not self.trace.interrupted and first < self.s.steps:  # with the best beginning alone
            rest = self.s.steps - first
            best, _ = self._descend(best, rest, first, lambda x: x, 0.4 * self.s.lr, sigma=0.0, classes=of_best)
        found = Latents(best.cpu(), "z", (self.name,), of_best)
        return Found(None, found, self.trace)

    def _latents(self, values: Tensor, noise: list[Tensor]) -> Latents:
        names = list(self.space.noise_buffers())
        kept = dict(zip(names, (t.cpu() for t in noise), strict=True)) if noise else {}
        return Latents(values.detach().cpu().contiguous(), "w+", (self.name,), noise=kept)

    # Gradient descent. ---------------------------------------------------------------------------------------------

    winner = 0
    """Which of several starts was best."""

    def _descend(
        self,
        start: Tensor,
        steps: int,
        done: int,
        spread: Callable[[Tensor], Tensor],
        lr: float,
        sigma: float,
        classes: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """The best of `steps` steps of Adam from latents (n, ...), as (1, ...), and the noise that goes with it."""
        x = start.to(self.space.device).clone().requires_grad_(True)
        labels = None if classes is None else classes.to(self.space.device)
        optimizer = torch.optim.Adam([x, *self.noise], lr=lr, betas=(0.9, 0.999))
        look_every = max(1, steps // 25)
        best: tuple[float, Tensor, list[Tensor]] = (math.inf, x.detach()[:1].clone(), [])

        def look(step: int) -> float:
            nonlocal best
            with torch.no_grad():
                losses = self._losses(spread(x), labels)
            i = int(losses.argmin())
            if float(losses[i]) < best[0]:
                self.winner = i
                best = (float(losses[i]), x.detach()[i : i + 1].clone(), [b.detach().clone() for b in self.noise])
            self.trace.losses.append((done + step, float(losses[i])))
            return float(losses[i])

        step = -1
        try:
            with progress("projecting", self.s.steps, done=done, quiet=self.quiet) as advance:
                told = look(0)
                for step in range(steps):
                    t = step / steps
                    optimizer.param_groups[0]["lr"] = lr * ramp(t)
                    fading = self.s.explore * sigma * max(0.0, 1 - t / 0.75) ** 2
                    moved = x + fading * self._normal(*x.shape) if fading else x
                    loss = self._losses(spread(moved), labels).sum()
                    loss = loss + self.s.noise_weight * noise_regularisation(self.noise)
                    optimizer.zero_grad(set_to_none=True)
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                    self._normalise_noise()
                    if (step + 1) % look_every == 0 or step + 1 == steps:
                        told = look(step + 1)
                    self._snapshot(done + step + 1, spread(best[1]))
                    advance(note=f"loss {told:.4g}")
        except KeyboardInterrupt:  # what was found is kept, with what came after the last look
            self.trace.interrupted = True
            look(step + 1)
        return best[1], best[2]

    def _losses(self, values: Tensor, labels: Tensor | None) -> Tensor:
        """Of each latent (n,)."""
        images = self.space.generate(values, self.space.kind, labels)
        loss = self.s.pixel_weight * (images - self.target).square().mean((1, 2, 3))
        if self.perceptual is not None and self.features is not None:
            loss = loss + self.perceptual.distance(self.perceptual.features(images), self.features).to(loss.device)
        return loss

    def _snapshot(self, step: int, values: Tensor) -> None:
        if step * self.s.snapshots % self.s.steps < self.s.snapshots:
            self.trace.steps.append(step)
            self.trace.latents.append(values.detach().cpu().contiguous())

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator).to(self.space.device)

    @torch.no_grad()
    def _normalise_noise(self) -> None:
        for buffer in self.noise:
            buffer.sub_(buffer.mean()).mul_(buffer.square().mean().add(1e-12).rsqrt())


def ramp(t: float, up: float = 0.05, down: float = 0.25) -> float:
    """The learning rate's factor at t from 0 to 1: a linear rise over `up`, a cosine fall over `down`."""
    fall = min(1.0, (1 - t) / down)
    return (0.5 - 0.5 * math.cos(math.pi * fall)) * min(1.0, (t + 1e-3) / up)


def noise_regularisation(noise: Sequence[Tensor]) -> Tensor:
    """How far per-pixel noise is from white: squared correlations with its neighbours, over a pyramid down to 8x8.

    L = sum over maps and scales of (mean of n(x, y) n(x-1, y))² + (mean of n(x, y) n(x, y-1))² (Karras et al. 2020,
    appendix D), where each scale is the one before in means of 2x2, times 2 to keep its variance.
    """
    total = torch.zeros((), device=noise[0].device if noise else None)
    for buffer in noise:
        n = buffer[None, None]
        while True:
            total = total + (n * n.roll(1, 3)).mean().square() + (n * n.roll(1, 2)).mean().square()
            if n.shape[-1] <= 8:
                break
            n = F.avg_pool2d(n, 2) * 2
    return total
