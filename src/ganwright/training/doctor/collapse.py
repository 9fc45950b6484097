"""Samples that are too much alike, and classes that are not generated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ganwright.data.spec import Dataset
from ganwright.metrics.estimate import Estimate
from ganwright.metrics.pixels import ImageData, data_key, pick, rms_distances, small
from ganwright.samples import ImageSamples, Samples
from ganwright.training.doctor.check import Check, Healthy, Symptom, Verdict
from ganwright.training.doctor.finding import Severity

_WHY = (
    "The generator has found a few pictures that fool the discriminator and makes only those. The losses "
    "do not show it, and more training of the same kind seldom mends it."
)
_NEVER = (
    "The samples have never been varied in this run. Either the generator collapsed at once, or it has "
    "not begun to learn: then the doctor's other findings (saturation, gradients, divergence) say why."
)
_ADVICE = (
    "go back to a checkpoint before it and lower the generator's learning rate (--lr-g)",
    "let the discriminator see that images of a batch are alike (minibatch standard deviation, or pairs: PacGAN)",
    "a gradient penalty (--penalty r1 --norm-d none, or recipe `wgan-gp`)",
    "a larger batch (--batch-size)",
    "where there are labels, a conditional one: recipe `cgan`",
)


@dataclass(frozen=True)
class Diversity:
    """How much a set of images varies.

    Attributes:
        spread: Mean distance of all pairs, grey levels.
        nearest: Distance of each image to its nearest other one (n,), grey levels.
    """

    spread: float
    nearest: Tensor

    @classmethod
    def of(cls, images: Tensor) -> Diversity:
        """Of small images, uint8 (n, C, h, w), n >= 2."""
        distances = rms_distances(images, images)
        n = len(distances)
        distances.fill_diagonal_(0)
        spread = distances.sum().item() / (n * (n - 1))
        distances.fill_diagonal_(torch.inf)
        return cls(spread, distances.min(1).values)


@dataclass
class ModeCollapse(Check):
    """Diversity of the samples, as a share of the diversity of as many real images.

    Three numbers, since each misses something: `spread` (mean pairwise distance) shows that all samples are
    alike; `nearest` (median distance to the nearest other sample) shows that they are few pictures repeated,
    which leaves the spread as it was; `twins` (share of samples with a near copy among the others, the
    birthday test of Arora & Zhang 2017 on pixels) shows that a part of them is.
    """

    name: ClassVar[str] = "mode-collapse"
    clear_after: ClassVar[int] = 2

    spread: float = 0.4
    """Warning below this share of the real mean pairwise distance. Measured on MNIST: healthy DCGANs 0.75 to
    1, a young and blurred fully connected GAN 0.5, collapsed ones below 0.3."""
    nearest: float = 0.3
    """Warning below this share of the real median nearest distance. Measured: healthy 0.6 to 0.95, young and
    blurred 0.45 (smooth samples are nearer to one another), collapsed ones below 0.2, one shape a class
    0.1."""
    twins: float = 0.25
    """Warning above this share of samples with a near copy, beyond the share among real images. Healthy:
    below 0.02."""
    twin_distance: float = 0.25
    """A near copy is nearer than this times the real median nearest distance (0.1 % of real digits have
    one)."""
    fall: float = 0.5
    """Warning when spread or nearest is below this times its best in this run (counted as 1 at most)."""
    critical: float = 0.2
    """Critical below this share in spread or nearest: the samples are one picture, or a handful."""
    patience: int = 2
    """Grids in a row: collapse oscillates, and one bad grid may be chance."""
    warm_up_grids: int = 4
    """A generator starts with all samples alike. Until they have been diverse once, the first grids do not
    count."""
    warm_up_steps: int = 500
    """Grids before this step do not count at all: noise can be diverse."""
    slow_start_steps: int = 1000
    """Until samples have been diverse once, grids before this step do not count: slow starters (least squares
    on MNIST) make one picture for 600 steps and then learn."""
    min_samples: int = 16
    """With fewer samples nothing is said."""
    max_samples: int = 256
    """The first so many samples are used."""
    draws: int = 16
    """Draws of real images, as many as there are samples and of the same classes, that are averaged."""

    _cache: dict[str, tuple[float, float, float]] = field(default_factory=dict, init=False, repr=False)

    def on_samples(self, step: int, samples: Samples, dataset: Dataset) -> Verdict:
        """Compare with real images; None for anything but images of the data set's shape."""
        if not isinstance(samples, ImageSamples) or not isinstance(dataset, ImageData):
            return None
        self.memory["grids"] = self.memory.get("grids", 0) + 1
        n = min(len(samples), len(dataset.train_index), self.max_samples)
        if step < self.warm_up_steps or n < self.min_samples or samples.images.shape[1:] != dataset.images.shape[1:]:
            return None
        labels = None if samples.labels is None else samples.labels[:n]
        real_spread, real_nearest, real_twins = self._real(dataset, dataset.spec.fingerprint, n, labels)
        if real_nearest <= 0 or real_spread <= 0:  # the data are copies of one another
            return None
        found = Diversity.of(small(samples.images[:n]))
        near = found.nearest / real_nearest
        shares = {"spread": found.spread / real_spread, "nearest": near.median().item()}
        twins = (near < self.twin_distance).float().mean().item()
        return self._judge(step, shares, twins - real_twins, twins)

    def _judge(self, step: int, shares: dict[str, float], excess: float, twins: float) -> Verdict:
        memory = self.memory
        best = memory.setdefault("best", {})
        bounds = {"spread": self.spread, "nearest": self.nearest}
        low = {name: max(bounds[name], self.fall * best.get(name, 0.0)) for name in shares}
        bad = [name for name in shares if shares[name] < low[name]]
        seen = (
            f"Pairwise distance of the samples is {shares['spread']:.2f} of that of real images (bound "
            f"{low['spread']:.2f}), the distance to the nearest other sample {shares['nearest']:.2f} "
            f"(bound {low['nearest']:.2f}); {twins:.0%} of them have a near copy among the others."
        )
        if not bad and excess < self.twins:
            for name in shares:
                best[name] = min(1.0, max(best.get(name, 0.0), shares[name]))
            memory["in_a_row"] = 0
            return Healthy(seen)
        if not best and (memory["grids"] < self.warm_up_grids or step < self.slow_start_steps):
            return None
        memory["in_a_row"] = memory.get("in_a_row", 0) + 1
        if memory["in_a_row"] < self.patience:
            return None
        worst = min(shares.values())
        severity: Severity = "critical" if worst < self.critical else "warning"
        why = _WHY if best else _NEVER
        return Symptom(severity, 1 / max(worst, 0.01), seen, why, _ADVICE)

    def _real(
        self, dataset: ImageData, fingerprint: str, n: int, labels: npt.NDArray[np.int64] | None
    ) -> tuple[float, float, float]:
        """Mean pairwise distance, median nearest distance and share of twins of real images."""
        labels = labels if dataset.labels is not None else None
        key = f"{data_key(dataset, fingerprint)}/{n}/{None if labels is None else labels.tolist()}"
        if key not in self._cache:
            drawn = [Diversity.of(small(dataset.images, index)) for index in _draws(dataset, n, labels, self.draws)]
            spread = float(np.mean([draw.spread for draw in drawn]))
            near = torch.cat([draw.nearest for draw in drawn])
            median = near.median().item()
            self._cache[key] = spread, median, (near < self.twin_distance * median).float().mean().item()
        return self._cache[key]


def _draws(dataset: ImageData, n: int, labels: npt.NDArray[np.int64] | None, draws: int) -> list[npt.NDArray[np.int64]]:
    """Positions of `n` training images, `draws` times; of the given classes, where labels are given."""
    if labels is None or dataset.labels is None:
        return [np.sort(pick(dataset.train_index, n, stream)) for stream in range(draws)]
    train_labels = dataset.labels[dataset.train_index]
    wanted = {int(k): int((labels == k).sum()) for k in np.unique(labels)}
    pools = {k: dataset.train_index[train_labels == k] for k in wanted}
    return [
        np.sort(np.concatenate([pick(pools[k], count, 1000 * stream + k) for k, count in wanted.items()]))
        for stream in range(draws)
    ]


@dataclass
class MissingClasses(Check):
    """Class coverage, where a labelled set is evaluated, stays below 1."""

    name: ClassVar[str] = "missing-classes"

    metric: str = "class-coverage"
    """The estimate that is read: the share of classes that occur among the samples as often as they should,
    roughly."""
    coverage: float = 0.95
    """A finding below this: of ten classes one is missing, of a hundred six."""
    critical: float = 0.5
    """Critical below this."""
    patience: int = 2
    """Evaluations in a row; the first one often comes before all classes have been learnt."""
    warm_up_steps: int = 500
    """Evaluations before this step do not count."""

    def on_evaluation(self, step: int, evaluation: Mapping[str, Estimate]) -> Verdict:
        """Read the coverage; None without one."""
        estimate = evaluation.get(self.metric)
        if estimate is None:
            return None
        memory: dict[str, Any] = self.memory
        if max(estimate.value, estimate.high) >= self.coverage:
            memory["in_a_row"] = 0
            return Healthy(f"{estimate}.")
        if step < self.warm_up_steps:
            return None
        memory["in_a_row"] = memory.get("in_a_row", 0) + 1
        if memory["in_a_row"] < self.patience:
            return None
        severity: Severity = "critical" if estimate.value < self.critical else "warning"
        seen = f"{estimate} in {memory['in_a_row']} evaluations in a row (bound {self.coverage})."
        return Symptom(severity, 1 / max(estimate.value, 0.01), seen, _WHY, _ADVICE)
