"""Samples that are copies of training images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from scipy.stats import betabinom
from torch import Tensor

from ganwright.data.spec import Dataset
from ganwright.metrics.pixels import ImageData, data_key, nearest, pick, small
from ganwright.samples import ImageSamples, Samples
from ganwright.training.doctor.check import Check, Healthy, Symptom, Verdict
from ganwright.training.doctor.finding import Severity

_WHY = (
    "A generator that repeats its training images adds nothing to them, gets scores it does not deserve "
    "(Fréchet distance and Inception score reward copies), and gives away pictures that may be private."
)
_ADVICE = (
    "look at the nearest neighbours in the report",
    "stop earlier: take a checkpoint before it began",
    "more training images, or augmentation of what the discriminator sees (DiffAugment, ADA)",
    "smaller networks",
    "remove duplicates from the data (`ganwright data` counts them)",
)


@dataclass(frozen=True)
class _Yardstick:
    """What unseen real images look like to the training images.

    Attributes:
        train: Training images, uint8 (M, C, h, w).
        positions: Their positions in the data set (M,).
        distance: The `rank`-th smallest of the unseen images' nearest distances, grey levels.
        ratio: The `rank`-th smallest of their relative nearest distances.
        rank: 1 % of `n`, at least 1.
        n: Unseen images measured.
        kind: What they are, for people.
    """

    train: Tensor
    positions: np.ndarray[tuple[int], np.dtype[np.int64]]
    distance: float
    ratio: float
    rank: int
    n: int
    kind: str


@dataclass
class Memorisation(Check):
    """More samples than chance allows are nearer to a training image than 99 % of unseen real images are.

    A sample counts when its nearest training image (mirrored or not) is nearer than the 1 % quantile of the
    same distance of held-out images, and also when that distance, divided by the mean distance to its 50
    nearest (Carlini et al. 2023), is below the 1 % quantile of that ratio. The second condition is needed
    because smooth pictures are near to everything: of CIFAR-10 images blurred by 4 pixels 20 % meet the
    first, 3 % both; of copies with noise 100 % meet both.

    If samples were as good as unseen images, the number below the j-th smallest of n distances would follow a
    beta-binomial distribution, exactly; a finding needs a count that is very unlikely under it. Without
    enough held-out images, training images among the others stand in for them.
    """

    name: ClassVar[str] = "memorisation"
    clear_after: ClassVar[int] = 2

    quantile: float = 0.01
    """Quantile of the unseen images' distances that counts as too near."""
    p_value: float = 1e-4
    """Probability of so many by chance; the test is made at every grid, some twenty times a run."""
    share: float = 0.05
    """… and at least this share of the samples: less is not worth an alarm."""
    critical: float = 0.5
    """Critical above this share."""
    neighbours: int = 50
    """Neighbours in the ratio (Carlini et al. 2023 take 50)."""
    min_unseen: int = 50
    """Held-out images that are enough; with fewer, training images are measured against the others."""
    max_unseen: int = 1000
    """Unseen images measured at most."""
    max_train: int = 20_000
    """Training images compared with, at most (a fixed random part of larger sets: then of the copies only as
    large a part is found). Bounds memory to 61 MB."""
    min_samples: int = 16
    """With fewer samples nothing is said."""
    max_samples: int = 256
    """The first so many samples are used."""

    _cache: dict[str, _Yardstick | None] = field(default_factory=dict, init=False, repr=False)

    def on_samples(self, step: int, samples: Samples, dataset: Dataset) -> Verdict:
        """Compare with training images; None for anything but images of the data set's shape."""
        if not isinstance(samples, ImageSamples) or not isinstance(dataset, ImageData):
            return None
        if len(samples) < self.min_samples or samples.images.shape[1:] != dataset.images.shape[1:]:
            return None
        key = data_key(dataset, dataset.spec.fingerprint)
        if key not in self._cache:
            self._cache = {key: self._measure(dataset)}
        yardstick = self._cache[key]
        if yardstick is None:
            return None
        images = small(samples.images[: self.max_samples])
        m = len(images)
        distances, places = nearest(images, yardstick.train, self._k(len(yardstick.train)))
        copies = (distances[:, 0] < yardstick.distance) & (_ratio(distances) < yardstick.ratio)
        count = int(copies.sum())
        chance = _chance(count, m, yardstick.rank, yardstick.n)
        seen = (
            f"{count} of {m} samples ({count / m:.0%}) are nearer to a training image than 99 % of "
            f"{yardstick.n} {yardstick.kind} are (within {yardstick.distance:.1f} grey levels, root mean "
            f"square); by chance so many have probability {chance:.1g}."
        )
        if chance > self.p_value or count < self.share * m:
            return Healthy(seen)
        nearest_sample = int(distances[:, 0].argmin())
        position = int(yardstick.positions[int(places[nearest_sample, 0])])
        targets = len(set(places[copies, 0].tolist()))
        seen += (
            f"They repeat {targets} different training image{'s' * (targets != 1)}; the nearest is sample "
            f"{nearest_sample} to image {position} of the data ({distances[nearest_sample, 0]:.1f})."
        )
        severity: Severity = "critical" if count >= self.critical * m else "warning"
        return Symptom(severity, count / m, seen, _WHY, _ADVICE)

    def _k(self, n_train: int) -> int:
        """Neighbours in the ratio; fewer for a handful of training images."""
        return max(2, min(self.neighbours, n_train // 2))

    def _measure(self, dataset: ImageData) -> _Yardstick | None:
        """Measure the unseen images; None when there are too few images for any of it."""
        positions = pick(dataset.train_index, self.max_train, 1)
        positions.sort()
        if len(positions) < 8:
            return None
        train = small(dataset.images, positions, note="the doctor reads the training images")
        k = self._k(len(train))
        if len(dataset.held_out_index) >= self.min_unseen:
            kind = "held-out images"
            unseen = small(dataset.images, pick(dataset.held_out_index, self.max_unseen, 2))
            distances, _ = nearest(unseen, train, k)
        elif len(train) >= self.min_unseen:
            kind = "training images are to another one"
            own = pick(np.arange(len(train)), self.max_unseen, 3)
            distances, _ = nearest(train[own], train, k, skip_self=own)
        else:
            return None
        n = len(distances)
        rank = max(1, int(self.quantile * n))
        return _Yardstick(
            train,
            positions,
            distances[:, 0].sort().values[rank - 1].item(),
            _ratio(distances).sort().values[rank - 1].item(),
            rank,
            n,
            kind,
        )


def _ratio(distances: Tensor) -> Tensor:
    """Nearest distance over the mean of the k nearest (N,): near 1 in a crowd, near 0 for a copy."""
    return distances[:, 0] / distances.mean(1).clamp_min(1e-6)


def _chance(count: int, m: int, rank: int, n: int) -> float:
    """P(at least `count` of `m` draws lie below the `rank`-th smallest of `n` others, all alike).

    That order statistic cuts off a share that is Beta(rank, n - rank + 1), so the count is beta-binomial.
    """
    # The sum of the tail, since 1 - cdf loses what is below 1e-13.
    return min(1.0, float(betabinom.pmf(np.arange(count, m + 1), m, rank, n - rank + 1).sum()))
