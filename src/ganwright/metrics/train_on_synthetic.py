"""Classification accuracy score (Ravuri & Vinyals 2019): can a classifier learn from generated images alone?

A small network is trained on labelled synthetic images and tested on real ones that nobody trained on, beside the same
network trained on as many real images. It is the judge's network (`class_accuracy.py`), small enough to train in a
minute; published scores are of a ResNet-50 on ImageNet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganwright.console import progress
from ganwright.data.images import ImageDataset
from ganwright.errors import MetricError
from ganwright.files import hash_bytes
from ganwright.metrics.class_accuracy import _SIDE, JUDGE_VERSION, JudgeNetwork, _one_thread, _to_float, wilson_interval
from ganwright.metrics.constants import Z95
from ganwright.metrics.estimate import Estimate, Provenance
from ganwright.metrics.pixels import pick

if TYPE_CHECKING:
    from ganwright.metrics.measured import Measured

Images = npt.NDArray[np.uint8]
Classes = npt.NDArray[np.int64]
_EPOCHS, _FEWEST_STEPS, _MOST_STEPS = 4, 200, 3000
_BATCH = 64
_MOST_TEST = 10_000
"""Real test images, at most."""
_NAMED = 3
"""Classes told in a warning, at most."""


@dataclass(frozen=True)
class Comparison:
    """What the two classifiers read on the same real images.

    Attributes:
        truth: int64 (m,), the classes of the test images.
        by_synthetic: int64 (m,), read by the classifier that was trained on synthetic images.
        by_real: The same of the one trained on real images.
        n: Training images of each.
    """

    truth: Classes
    by_synthetic: Classes
    by_real: Classes
    n: int

    @property
    def accuracies(self) -> tuple[float, float]:
        """Of the classifier trained on synthetic and of the one trained on real images."""
        return float((self.by_synthetic == self.truth).mean()), float((self.by_real == self.truth).mean())

    @property
    def gap(self) -> tuple[float, float, float]:
        """Accuracy on synthetic minus on real training data, and its 95 % interval; both read the same images."""
        difference = (self.by_synthetic == self.truth).astype(float) - (self.by_real == self.truth)
        half = Z95 * float(difference.std(ddof=1)) / math.sqrt(len(difference))
        mean = float(difference.mean())
        return mean, mean - half, mean + half

    def per_class(self, num_classes: int) -> npt.NDArray[np.float64]:
        """Accuracy of each class, (num_classes, 2): trained on synthetic, on real images; NaN where none is tested."""
        found = np.full((num_classes, 2), np.nan)
        for k in np.unique(self.truth):
            rows = self.truth == k
            found[k] = (self.by_synthetic[rows] == k).mean(), (self.by_real[rows] == k).mean()
        return found


def train_on_synthetic(
    synthetic_images: Images,
    synthetic_labels: npt.ArrayLike,
    dataset: ImageDataset,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    quiet: bool = False,
) -> Estimate:
    """Accuracy on held-out real images of a classifier trained on synthetic ones, beside one trained on real ones.

    Both are trained on equally many images (as many as the smaller set has), for equally many steps, from the same
    initial weights; the real ones are from the training split only.

    Args:
        synthetic_images: uint8 (N, H, W, C), of the data set's size and channels.
        synthetic_labels: Their classes (N,), in 0 to K - 1.
        dataset: Labelled real images with a held-out split.
        seed: Of initial weights, order and choice of images.
        device: Where to train.
        quiet: Show no progress.

    Raises:
        MetricError: The data has no labels or no held-out images, or the synthetic images do not fit it.
    """
    labels = np.asarray(synthetic_labels)
    _check(synthetic_images, labels, dataset)
    compared = compare_training(
        synthetic_images, labels.astype(np.int64), dataset, seed=seed, device=device, quiet=quiet
    )
    m, (accuracy, baseline) = len(compared.truth), compared.accuracies
    low, high = wilson_interval(round(accuracy * m), m)
    real_low, real_high = wilson_interval(round(baseline * m), m)
    gap, gap_low, gap_high = compared.gap
    names, k = dataset.spec.class_names, dataset.spec.num_classes
    warnings = [
        f"the same network reads {baseline:.1%} [{real_low:.1%}, {real_high:.1%}] right after {compared.n:,} real "
        f"ones: the difference is {100 * gap:+.1f} points [{100 * gap_low:+.1f}, {100 * gap_high:+.1f}]"
    ]
    by_class = compared.per_class(k)
    lost = by_class[:, 1] - by_class[:, 0]
    worst = [int(i) for i in np.argsort(-np.nan_to_num(lost, nan=-1))[:_NAMED] if lost[i] > 0.1]
    if worst:
        told = ", ".join(f"{names[i]} {by_class[i, 0]:.0%} (real {by_class[i, 1]:.0%})" for i in worst)
        warnings.append(f"least is learnt of {told}")
    missing = sorted(set(range(k)) - set(labels.tolist()))
    if missing:
        warnings.append(f"no synthetic image is of {', '.join(names[i] for i in missing[:_NAMED])}, among the classes")
    if len(synthetic_images) > compared.n:
        warnings.append(f"{compared.n:,} of {len(synthetic_images):,} synthetic images were used, as many as are real")
    warnings.append("the interval counts the test images, not another training with another seed")
    return Estimate(
        "cas",
        "accuracy on real images after training on synthetic ones (small network)",
        accuracy,
        low,
        high,
        m,
        Provenance(
            f"classifier {JUDGE_VERSION}, {training_steps(compared.n)} steps on {compared.n} images",
            f"at most {_SIDE}x{_SIDE}, x / 127.5 - 1",
            dataset.spec.fingerprint + hash_bytes(dataset.train_index.tobytes())[:8],
            compared.n,
        ),
        "95 %, Wilson",
        True,
        tuple(warnings),
        {
            "real_baseline": baseline,
            "real_baseline_low": real_low,
            "real_baseline_high": real_high,
            "gap": gap,
            "gap_low": gap_low,
            "gap_high": gap_high,
            "largest_class": float(np.bincount(compared.truth).max()) / m,
            "n_training": float(compared.n),
        },
    )


def compare_training(
    synthetic_images: Images,
    synthetic_labels: Classes,
    dataset: ImageDataset,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    quiet: bool = False,
) -> Comparison:
    """Train both classifiers and let them read the held-out images; see `train_on_synthetic`."""
    assert dataset.labels is not None
    n, k = min(len(synthetic_images), len(dataset.train_index)), dataset.spec.num_classes
    made = np.sort(pick(np.arange(len(synthetic_images)), n, seed))
    real = np.sort(pick(dataset.train_index, n, seed))
    test = np.sort(pick(dataset.held_out_index, _MOST_TEST, 0))
    read = []
    for images, labels, index, what in (
        (synthetic_images, synthetic_labels, made, "synthetic"),
        (dataset.images, dataset.labels, real, "real"),
    ):
        note = f"training on {what} images"
        network = train_classifier(images, labels, index, k, seed=seed, device=device, note=note, quiet=quiet)
        read.append(classify(network, dataset.images, test))
    return Comparison(dataset.labels[test], read[0], read[1], n)


def training_steps(n: int) -> int:
    """Steps a classifier is trained on `n` images: four epochs, within bounds."""
    return min(_MOST_STEPS, max(_FEWEST_STEPS, _EPOCHS * math.ceil(n / _BATCH)))


def train_classifier(
    images: Images,
    labels: Classes,
    index: npt.NDArray[np.int64],
    num_classes: int,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    note: str = "training a classifier",
    quiet: bool = False,
) -> JudgeNetwork:
    """Train the judge's network on some labelled images, by steps and never by the clock.

    Args:
        images: uint8 (N, H, W, C), perhaps memory-mapped.
        labels: int64 (N,).
        index: Positions of those to train on.
        num_classes: K.
        seed: Of weights and order.
        device: Where to train.
        note: What progress calls it.
        quiet: Show no progress.

    Returns:
        The network, in `eval` mode.
    """
    steps = training_steps(len(index))
    with torch.random.fork_rng(devices=[]), _one_thread():
        torch.manual_seed(seed)
        network = JudgeNetwork(images.shape[-1], num_classes)
        network.to(torch.device(device), memory_format=torch.channels_last)  # type: ignore[call-overload]
        network.train()
        optimizer = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
        generator, order = np.random.default_rng(seed), np.zeros(0, np.int64)
        with progress(note, steps, quiet=quiet) as advance:
            for _ in range(steps):
                while len(order) < min(_BATCH, len(index)):
                    order = np.concatenate([order, generator.permutation(index)])
                rows, order = np.sort(order[:_BATCH]), order[_BATCH:]
                loss = F.cross_entropy(network(_to_float(images[rows]).to(device)), _classes(labels[rows], device))
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
                advance()
    network.eval().requires_grad_(False)
    return network


@torch.no_grad()
def classify(network: nn.Module, images: Images, index: npt.NDArray[np.int64]) -> Classes:
    """The class that the network reads in each of some images, int64 (n,)."""
    device = next(network.parameters()).device
    found = [
        network(_to_float(images[index[start : start + 500]]).to(device)).argmax(1).cpu()
        for start in range(0, len(index), 500)
    ]
    result: Classes = torch.cat(found).numpy()
    return result


def _classes(labels: Classes, device: torch.device | str) -> Tensor:
    return torch.from_numpy(np.asarray(labels, np.int64)).to(device)


def _check(images: Images, labels: npt.NDArray[np.generic], dataset: ImageDataset) -> None:
    if dataset.labels is None:
        raise MetricError("Training on synthetic images needs labelled real data.", fix="give data with classes")
    if len(dataset.held_out_index) < 2 or len(dataset.train_index) < 2:
        raise MetricError(
            f"The data set has {len(dataset.held_out_index)} held-out images to test on.",
            fix="open it with a held-out share (held_out=0.1, say)",
        )
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != dataset.images.shape[1:]:
        raise MetricError(
            f"The synthetic images are {images.dtype} {images.shape[1:]}, and the real ones uint8 "
            f"{dataset.images.shape[1:]}.",
            fix="give uint8 (N, H, W, C) images of the data set's size and channels",
        )
    if labels.shape != (len(images),) or len(images) < 2:
        raise MetricError(f"{len(images)} synthetic images need as many labels, not {labels.shape}, and at least two.")
    if labels.dtype.kind not in "iu" or not np.isin(labels, np.arange(dataset.spec.num_classes)).all():
        raise MetricError(
            f"The labels of synthetic images must be whole numbers from 0 to {dataset.spec.num_classes - 1}.",
            fix="number the classes as the data set does: " + ", ".join(dataset.spec.class_names[:10]),
        )


def estimate(measured: Measured) -> list[Estimate]:
    """The score of a run's labelled samples."""
    if measured.dataset is None or measured.images is None or measured.asked is None:
        return []
    return [train_on_synthetic(measured.images, measured.asked, measured.dataset)]
