"""Trains a domain extractor: a small classifier of the user's labelled data, whose features then measure GANs of it.

The network is in `networks/domain_classifier.py`, the file in `extractor_domain.py`. Images held out by the data's own
split are not trained on, and choose nothing: the accuracy on them is a plain estimate.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ganwright.config import DataSettings
from ganwright.console import console, progress
from ganwright.data.images import ImageDataset
from ganwright.data.opening import open_dataset
from ganwright.data.spec import DataKind
from ganwright.errors import MetricError, SettingsError
from ganwright.metrics.class_accuracy import _one_thread, wilson_interval
from ganwright.metrics.extractor_base import usable_device
from ganwright.metrics.extractor_domain import (
    DOMAIN_ENDING,
    LARGEST,
    SMALLEST,
    DomainDescription,
    is_domain_file,
    write_domain_file,
)
from ganwright.metrics.resizing import clean
from ganwright.networks.domain_classifier import DomainClassifier, augmented

_BATCH = 64
_EPOCHS, _FEWEST_STEPS, _MOST_STEPS = 8, 600, 6000
_LR, _WEIGHT_DECAY, _SMOOTHING = 3e-3, 0.02, 0.1
_BALANCE = 0.999
"""β of the effective number of images of a class (Cui et al. 2019)."""


@dataclass(frozen=True)
class DomainExtractorInfo:
    """What was trained.

    Attributes:
        path: The file; `--extractor PATH` uses it.
        accuracy: Share of held-out real images read right; NaN where none were held out.
        low: Lower end of its 95 % Wilson interval.
        high: Upper end.
        n: How many those are.
        balanced_accuracy: Mean over classes of the share read right.
        commonest: Accuracy on them of always saying the commonest class of the training images.
        classes: Names of the classes.
        n_train: Images trained on.
        steps: Steps done.
        stopped_by: "steps": the plan was done; "time" or "interrupt": it was cut short.
        seconds: How long it trained.
    """

    path: Path
    accuracy: float
    low: float
    high: float
    n: int
    balanced_accuracy: float
    commonest: float
    classes: tuple[str, ...]
    n_train: int
    steps: int
    stopped_by: str
    seconds: float

    def __str__(self) -> str:
        """A few lines for people."""
        checked = "no images were held out: its accuracy is unknown"
        if self.n:
            checked = (
                f"{self.accuracy:.1%} [{self.low:.1%}, {self.high:.1%}] of {self.n} held-out real images read right "
                f"(mean over classes {self.balanced_accuracy:.1%}; always the commonest class: {self.commonest:.1%})"
            )
        cut = {"time": ", cut short by the clock", "interrupt": ", interrupted"}.get(self.stopped_by, "")
        return (
            f"{checked}\n{len(self.classes)} classes, {self.n_train} training images, {self.steps} steps in "
            f"{self.seconds:.0f} s{cut}\n{self.path}"
        )


def train_extractor(
    data: Any,
    *,
    out: str | Path | None = None,
    resolution: int = 0,
    channels: Literal["auto", "1", "3"] = "auto",
    steps: int | None = None,
    max_minutes: float = 5.0,
    seed: int = 0,
    flip: bool = False,
    held_out: float = 0.1,
    device: torch.device | str = "cpu",
    quiet: bool = False,
) -> DomainExtractorInfo:
    """Train a feature extractor of a domain on labelled images of it, and write it to one file.

    On a CPU it trains in one thread, so that the same data, settings and seed give the same weights, to rounding,
    whatever the number of cores, if `max_minutes` did not cut it short. Ctrl-C keeps what is trained so far.

    Args:
        data: Labelled images: a path, a bundled set's name, `(images, labels)`, … or an open `ImageDataset`, which
            keeps its own channels and held-out split.
        out: The file to write; None: `<name of the data>-extractor.safetensors` here.
        resolution: Side of the network's input, 8 to 64 pixels; 0: the data's, at most 64.
        channels: 1: grey, 3: RGB, auto: as found.
        steps: Training steps of 64 images; None: 8 epochs, within 600 to 6000 steps.
        max_minutes: Stop then, the learning rate having come down in time; 0: no bound.
        seed: Seed of weights, order, augmentation and held-out split (as in `ganwright train`).
        flip: Mirror half of the training images left to right.
        held_out: Share of the images kept out of training, as in `ganwright train`.
        device: Where to train.
        quiet: Show nothing.

    Raises:
        DataError: The data cannot be read or has no labels.
        MetricError: There is only one class.
        SettingsError: An impossible setting, or `out` is another kind of file.
        KeyboardInterrupt: Ctrl-C before anything was trained.
    """
    if resolution and not SMALLEST <= resolution <= LARGEST:
        raise SettingsError(
            f"A domain extractor's input is {SMALLEST} to {LARGEST} pixels, not {resolution}.",
            where="resolution",
            fix="leave it out, or choose one in that range; larger images are reduced",
        )
    if (steps is not None and steps < 1) or max_minutes < 0 or not math.isfinite(max_minutes):
        raise SettingsError("Training needs at least one step and minutes of 0 or more.", where="steps, max_minutes")
    settings = DataSettings(resolution=resolution, channels=channels, held_out=held_out)
    labelled = frozenset({DataKind.LABELLED_IMAGES})
    dataset = open_dataset(data, settings, accepts=labelled, seed=seed, min_count=2)
    assert isinstance(dataset, ImageDataset) and dataset.labels is not None
    if len(np.unique(dataset.labels[dataset.train_index])) < 2:
        raise MetricError("A domain extractor needs images of at least two classes.", where=dataset.spec.name)
    path = _checked_out(out, dataset.spec.name)
    size = resolution or max(SMALLEST, min(LARGEST, dataset.spec.resolution))
    steps = steps or min(_MOST_STEPS, max(_FEWEST_STEPS, _EPOCHS * math.ceil(len(dataset.train_index) / _BATCH)))
    training = _Training(dataset, size, seed, flip, device)
    started = time.monotonic()
    done, stopped_by = training.run(steps, max_minutes * 60, quiet)
    seconds = time.monotonic() - started
    network, held = training.average, dataset.held_out_index
    right = training.classify(held) == dataset.labels[held]
    per_class = [right[dataset.labels[held] == k].mean() for k in np.unique(dataset.labels[held])]
    low, high = wilson_interval(int(right.sum()), len(held))
    commonest = np.bincount(dataset.labels[dataset.train_index]).argmax()
    description = DomainDescription(
        classes=dataset.spec.class_names,
        resolution=size,
        channels=dataset.spec.channels,
        mean=training.mean,
        std=training.std,
        accuracy=float(right.mean()) if len(held) else math.nan,
        n_held_out=len(held),
        fingerprint=dataset.spec.fingerprint,
        seed=seed,
        steps=done,
        stopped_by=stopped_by,
    )
    write_domain_file(path, network, description)
    return DomainExtractorInfo(
        path=path,
        accuracy=description.accuracy,
        low=low,
        high=high,
        n=len(held),
        balanced_accuracy=float(np.mean(per_class)) if per_class else math.nan,
        commonest=float((dataset.labels[held] == commonest).mean()) if len(held) else math.nan,
        classes=description.classes,
        n_train=len(dataset.train_index),
        steps=done,
        stopped_by=stopped_by,
        seconds=seconds,
    )


def _checked_out(out: str | Path | None, name: str) -> Path:
    plain = "".join(c if c.isalnum() or c in "-_" else "-" for c in Path(name).stem).strip("-") or "data"
    path = Path(out) if out is not None else Path(f"{plain}-extractor{DOMAIN_ENDING}")
    if path.suffix != DOMAIN_ENDING:
        raise SettingsError(f"The file's name must end in {DOMAIN_ENDING}.", where=path)
    if path.exists() and not is_domain_file(path):
        raise SettingsError(
            "This file exists and is not a domain extractor; it is left alone.", where=path, fix="name another --out"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"The folder cannot be made: {error.strerror or error}.", where=path.parent) from error
    return path


class _Training:
    """One training: the network, its moving average, and batches of normalised images."""

    def __init__(self, dataset: ImageDataset, size: int, seed: int, flip: bool, device: torch.device | str) -> None:
        assert dataset.labels is not None
        self.dataset, self.size, self.seed, self.flip = dataset, size, seed, flip
        self.device = usable_device(device)
        self.labels = dataset.labels
        self.mean, self.std = _pixel_statistics(dataset)
        self._statistics = tuple(torch.tensor(v, device=self.device).view(1, -1, 1, 1) for v in (self.mean, self.std))
        classes = dataset.spec.num_classes
        counts = np.bincount(self.labels[dataset.train_index], minlength=classes)
        self.weights = class_weights(counts).to(self.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = DomainClassifier(dataset.spec.channels, classes, size)
            self.average = DomainClassifier(dataset.spec.channels, classes, size)
        self.average.load_state_dict(self.network.state_dict())
        for network in (self.network, self.average):
            network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network.train()
        self.average.eval().requires_grad_(False)

    def run(self, steps: int, seconds: float, quiet: bool) -> tuple[int, str]:
        """Train; returns the steps done and what ended them."""
        optimizer = torch.optim.AdamW(self._parameter_groups(), lr=0.0)
        live, mean = self._averaged(self.network), self._averaged(self.average)
        done, shown, started = 0, 0, time.monotonic()
        try:
            with (
                torch.random.fork_rng(devices=[]),
                _one_thread(),
                progress("training the extractor (%)", 100, quiet=quiet) as advance,
            ):
                torch.manual_seed(self.seed)  # dropout draws from it
                for images, labels in self._batches(steps):
                    elapsed = (time.monotonic() - started) / seconds if seconds else 0.0
                    if elapsed >= 1:
                        return done, "time"
                    # What is through: of the steps or of the time, whichever ends first.
                    through = max(done / steps, elapsed)
                    for group in optimizer.param_groups:
                        group["lr"] = _learning_rate(through, done)
                    _, logits = self.network(images)
                    loss = F.cross_entropy(logits, labels, self.weights, label_smoothing=_SMOOTHING)
                    optimizer.zero_grad(set_to_none=True)
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                    # The average is over about the last tenth of the steps done. One call for all tensors, so that
                    # Ctrl-C finds it before the call or after it.
                    torch._foreach_lerp_(mean, live, 10 / (10 + done))
                    done += 1
                    if int(100 * through) > shown:
                        advance(int(100 * through) - shown, note=f"step {done}, loss {float(loss.detach()):.3f}")
                        shown = int(100 * through)
                advance(100 - shown)
        except KeyboardInterrupt:
            if done == 0:
                raise
            if not quiet:
                console.print("[yellow]interrupted; what is trained so far is kept")
            return done, "interrupt"
        return done, "steps"

    @torch.no_grad()
    def classify(self, index: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The average network's class of each image."""
        with _one_thread():
            parts = [
                self.average(self._normalised(index[start : start + 256]))[1].argmax(1).cpu().numpy()
                for start in range(0, len(index), 256)
            ]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def _batches(self, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
        generator = np.random.default_rng(self.seed)
        index = self.dataset.train_index
        size, order = min(_BATCH, len(index)), np.zeros(0, np.int64)
        for _ in range(steps):
            if len(order) < size:
                order = np.concatenate([order, generator.permutation(index)])
            rows, order = order[:size], order[size:]
            images = augmented(self._normalised(rows), generator, self.flip)
            yield images, torch.from_numpy(self.labels[rows]).long().to(self.device)

    def _normalised(self, rows: npt.NDArray[np.int64]) -> Tensor:
        """Images (n, C, S, S) as the extractor will see them."""
        x = torch.from_numpy(np.array(self.dataset.images[rows])).to(self.device).permute(0, 3, 1, 2).float()
        mean, std = self._statistics
        return ((clean(x, self.size) - mean) / std).contiguous(memory_format=torch.channels_last)

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """Convolutions and the last layer decay; biases and norms do not."""
        parameters = list(self.network.parameters())
        return [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": _WEIGHT_DECAY},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]

    @staticmethod
    def _averaged(network: DomainClassifier) -> list[Tensor]:
        """What is averaged: weights and batch statistics."""
        return [t for t in network.state_dict().values() if t.is_floating_point()]


def class_weights(counts: npt.NDArray[np.int64]) -> Tensor:
    """Weight of each class in the loss: the inverse of its effective number of images (Cui et al. 2019).

    For few images this is 1 / count, for many (over about 1/(1 - β) = 1,000) it is constant. The mean over the
    training images is 1; a class without images has weight 0.

    Args:
        counts: Training images of each class (K,).

    Returns:
        float32 (K,).
    """
    effective = (1 - _BALANCE ** counts.astype(np.float64)) / (1 - _BALANCE)
    weights = np.where(counts > 0, 1 / np.maximum(effective, 1), 0)
    return torch.from_numpy(weights * counts.sum() / (weights * counts).sum()).float()


def _learning_rate(through: float, done: int) -> float:
    """A cosine from the peak to 0, after 50 steps of warming up."""
    return _LR * min(1.0, (done + 1) / 50) * 0.5 * (1 + math.cos(math.pi * min(1.0, through)))


def _pixel_statistics(dataset: ImageDataset) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over (at most 10,000 of) the training images, in 0..255."""
    index = dataset.train_index[:: max(1, len(dataset.train_index) // 10_000)]
    total, squares, count = 0.0, 0.0, 0
    for start in range(0, len(index), 500):
        pixels = dataset.images[index[start : start + 500]].reshape(-1, dataset.spec.channels).astype(np.float64)
        total, squares, count = total + pixels.sum(0), squares + (pixels**2).sum(0), count + len(pixels)
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 1.0))  # an even image has none
    return tuple(float(v) for v in np.atleast_1d(mean)), tuple(float(v) for v in np.atleast_1d(std))
