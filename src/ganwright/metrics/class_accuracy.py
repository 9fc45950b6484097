"""Does a generated image show the class that was asked for? Asked of a judge: a small network trained on real images.

The judge is trained here, on nine tenths of the labelled data, so that it fits digits or MRI where ImageNet features do
not; its own accuracy on the tenth it never sees is told beside every number it gives. That split depends on the images
alone and not on a run's seed or held-out share: all runs on a data set have the same judge.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ganwright.console import progress
from ganwright.data.images import ImageDataset
from ganwright.data.split import held_out_mask
from ganwright.errors import MetricError
from ganwright.files import cache_folder, hash_bytes, write_folder_atomic
from ganwright.metrics.constants import Z95
from ganwright.metrics.estimate import Estimate, Provenance

if TYPE_CHECKING:
    from ganwright.metrics.measured import Measured

JUDGE_VERSION = "small-cnn-2"
_EPOCHS = 4
_MOST_STEPS = 3000
_BATCH = 64
_SIDE = 32
"""Larger images are reduced to this side, in pixels, so that the judge is quick at any resolution."""
_SECONDS = 120.0
_HELD_OUT = 0.1
"""Share of the images that the judge is tested on and never sees."""

Index = npt.NDArray[np.int64]


class JudgeNetwork(nn.Module):
    """Three convolutions with batch norm and pooling, then one linear layer; (N, C, H, W) in [-1, 1] to (N, K)."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in ((channels, 16), (16, 32), (32, 64)):
            layers += [
                nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2),
            ]
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Dropout(0.3))
        self.head = nn.Linear(64 * 16, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Class logits."""
        logits: Tensor = self.head(self.body(images))
        return logits


@dataclass(frozen=True)
class Judge:
    """A trained classifier of one data set's classes.

    Attributes:
        network: In `eval` mode.
        accuracy: On real images held out from it, or NaN where there are none.
        n_held_out: How many those are.
        name: Names judge and data.
        shares: Share of each class among the real images (K,), or None.
    """

    network: JudgeNetwork
    accuracy: float
    n_held_out: int
    name: str
    shares: npt.NDArray[np.float64] | None = None

    @torch.no_grad()
    def classify(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
        """Predicted class of each uint8 image (N, H, W, C)."""
        device = next(self.network.parameters()).device
        found = [
            self.network(_to_float(images[start : start + 500]).to(device)).argmax(1).cpu()
            for start in range(0, len(images), 500)
        ]
        result: npt.NDArray[np.int64] = torch.cat(found).numpy() if found else np.zeros(0, np.int64)
        return result


def open_judge(
    dataset: ImageDataset,
    *,
    device: torch.device | str = "cpu",
    quiet: bool = False,
    max_seconds: float = _SECONDS,
) -> Judge:
    """The judge of a labelled data set: from the cache, or trained now (tens of seconds).

    However a run splits the data, its judge is the same (see `judge_split`).

    Raises:
        MetricError: The data has no labels.
    """
    if dataset.labels is None:
        raise MetricError("Class accuracy needs labelled data.")
    train, held_out = judge_split(dataset)
    split = hash_bytes(train.tobytes(), dataset.labels.tobytes())
    key = hash_bytes(dataset.spec.fingerprint.encode(), split.encode(), JUDGE_VERSION.encode())[:16]
    folder = cache_folder() / "judges" / key
    channels, classes = dataset.images.shape[-1], dataset.spec.num_classes
    network = JudgeNetwork(channels, classes).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    meta = _load(network, folder)
    if meta is None:
        cut_at = _train(network, dataset, train, torch.device(device), quiet, max_seconds)
        network.cpu().eval()
        held_out = held_out[:5000]
        judge = Judge(network, math.nan, 0, "")
        accuracy = math.nan
        if len(held_out):
            predicted = judge.classify(dataset.images[held_out])
            accuracy = float((predicted == dataset.labels[held_out]).mean())
        meta = {"accuracy": accuracy, "n_held_out": len(held_out), "cut_at": cut_at}
        _save(network, folder, meta)
    network.eval().requires_grad_(False).to(device)
    shares = np.bincount(dataset.labels, minlength=classes) / len(dataset.labels)
    # One cut short by the clock is another judge than one that was not.
    cut = f" cut at {meta['cut_at']:.0f} steps" if meta["cut_at"] else ""
    name = f"judge {JUDGE_VERSION}/{key[:8]}{cut}"
    return Judge(network, meta["accuracy"], int(meta["n_held_out"]), name, shares)


def judge_split(dataset: ImageDataset) -> tuple[Index, Index]:
    """Positions of the images that the judge is trained on, and of those held out from it.

    By the images' content with a fixed seed, so that copies stay together; a data set that keeps no hashes is split
    as it splits itself.
    """
    hashes = getattr(dataset, "hashes", None)
    if hashes is None:
        return dataset.train_index, dataset.held_out_index
    held_out = held_out_mask(hashes, _HELD_OUT, seed=0)
    if held_out.all():  # one or two images
        held_out[:] = False
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _train(
    network: JudgeNetwork,
    dataset: ImageDataset,
    index: Index,
    device: torch.device,
    quiet: bool,
    max_seconds: float,
) -> int:
    """Train it; returns 0, or the steps done where time ran out."""
    assert dataset.labels is not None
    with torch.random.fork_rng(devices=[]), _one_thread():
        torch.manual_seed(0)
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
                module.reset_parameters()
        network.to(device).train()
        generator = np.random.default_rng(0)
        steps = min(_MOST_STEPS, max(200, _EPOCHS * math.ceil(len(index) / _BATCH)))
        optimizer = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
        labels, order, started = dataset.labels, np.zeros(0, np.int64), time.monotonic()
        with progress("training the judge of classes", steps, quiet=quiet) as advance:
            for done in range(1, steps + 1):
                if len(order) < min(_BATCH, len(index)):
                    order = np.concatenate([order, generator.permutation(index)])
                rows, order = order[:_BATCH], order[_BATCH:]
                images = _to_float(dataset.images[rows]).to(device)
                loss = F.cross_entropy(network(images), torch.from_numpy(labels[rows]).long().to(device))
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
                advance()
                if time.monotonic() - started > max_seconds and done < steps:
                    return done
    return 0


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Train in one thread: sums do not depend on the machine's cores, and steps this small gain nothing from more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _to_float(images: npt.NDArray[np.uint8]) -> Tensor:
    x = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float()
    if max(x.shape[-2:]) > _SIDE:
        x = F.interpolate(x, (_SIDE, _SIDE), mode="bilinear", antialias=True, align_corners=False)
    return x.div_(127.5).sub_(1)


def _save(network: JudgeNetwork, folder: Path, meta: dict[str, float]) -> None:
    def fill(target: Path) -> None:
        tensors = {k: v.detach().contiguous().clone() for k, v in network.state_dict().items()}
        save_file(tensors, target / "judge.safetensors")
        (target / "meta.json").write_text(json.dumps(meta))

    write_folder_atomic(folder, fill)


def _load(network: JudgeNetwork, folder: Path) -> dict[str, float] | None:
    try:
        network.load_state_dict(load_file(folder / "judge.safetensors"))
        meta: dict[str, float] = json.loads((folder / "meta.json").read_text())
        return {key: float(meta[key]) for key in ("accuracy", "n_held_out", "cut_at")}
    except Exception:  # not there yet, or damaged: it is trained anew
        return None


def wilson_interval(successes: int, n: int, z: float = Z95) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def estimate_accuracy(measured: Measured) -> list[Estimate]:
    """Share of samples that the judge reads as the class asked for."""
    assert measured.predicted is not None and measured.asked is not None
    hits = int((measured.predicted == measured.asked).sum())
    low, high = wilson_interval(hits, measured.n)
    return [_judged(measured, "class-accuracy", "class accuracy", hits / measured.n, low, high, "95 %, Wilson", ())]


def estimate_coverage(measured: Measured) -> list[Estimate]:
    """Share of the classes that the judge finds among the samples at least a fifth as often as they should be.

    A class should be there as often as it was asked for; where no classes were asked for, as often as in the
    real images. Classes that should not be there at all do not count.

    The interval counts a class as surely present (absent) if the Wilson interval of its share lies above (below)
    that bound.
    """
    assert measured.predicted is not None
    k, n = len(measured.class_names), measured.n
    counts = np.bincount(measured.predicted, minlength=k)[:k]
    expected = np.full(k, 1 / k)
    if measured.asked is not None:
        expected = np.bincount(measured.asked, minlength=k)[:k] / n
    elif measured.judge is not None and measured.judge.shares is not None:
        expected = measured.judge.shares
    bound, counted = 0.2 * expected, np.flatnonzero(expected > 0)
    intervals = [wilson_interval(int(count), n) for count in counts]
    value = float(np.mean([counts[i] / n >= bound[i] for i in counted]))
    low = float(np.mean([intervals[i][0] >= bound[i] for i in counted]))
    high = float(np.mean([intervals[i][1] >= bound[i] for i in counted]))
    absent = [f"{measured.class_names[int(i)]} ({counts[i] / n:.1%})" for i in counted if counts[i] / n < bound[i]]
    warnings = (f"rare or missing: {', '.join(absent[:20])}",) if absent else ()
    how = "from the Wilson intervals of the classes' shares"
    return [_judged(measured, "class-coverage", "class coverage", value, low, high, how, warnings)]


def _judged(
    measured: Measured,
    name: str,
    label: str,
    value: float,
    low: float,
    high: float,
    interval: str,
    warnings: tuple[str, ...],
) -> Estimate:
    judge = measured.judge
    assert judge is not None
    told = f"the judge reads {judge.accuracy:.1%} of {judge.n_held_out} held-out real images right"
    if judge.n_held_out == 0:
        told = "the judge could not be checked: no real images were held out"
    provenance = Provenance(extractor=judge.name, preprocessing=f"at most {_SIDE}x{_SIDE}, x / 127.5 - 1")
    return Estimate(
        name,
        label,
        value,
        low,
        high,
        measured.n,
        provenance,
        interval,
        True,
        (told, *warnings, *measured.warnings),
    )
