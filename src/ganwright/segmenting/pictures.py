"""Pictures to annotate: a few that stand for many, written with what is needed to make them again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor

from ganwright.console import progress
from ganwright.errors import DataError, SettingsError
from ganwright.files import atomic_path, write_atomic
from ganwright.run import Run
from ganwright.samples import ImageSamples, save_png
from ganwright.segmenting.classes import SegmentClasses
from ganwright.segmenting.generator import CANDIDATES, StyleGenerator, open_generator
from ganwright.training.restore import default_device

TRUNCATION = 0.7
"""Psi of the truncation trick, as in the authors' code."""
_CANDIDATES_EACH = 20
_FORMAT = 1

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PictureRecord:
    """What `pictures.yaml` and `latents.safetensors` say.

    Attributes:
        run: The run's folder.
        step: Its checkpoint.
        fingerprint: Of the weights.
        truncation: Psi of the style vectors.
        names: Of the pictures' files, without ending.
        w: Style vectors (n, style_dim), truncated.
    """

    run: str
    step: int
    fingerprint: str
    truncation: float
    names: tuple[str, ...]
    w: Tensor


def make_pictures(
    run: str | Path | Run,
    out: str | Path,
    *,
    n: int = 16,
    seed: int = 0,
    truncation: float = TRUNCATION,
    candidates: int | None = None,
    classes: SegmentClasses | None = None,
    checkpoint: int | str = "last",
    batch_size: int = 16,
    device: str | None = None,
    quiet: bool = False,
) -> Path:
    """Write pictures to annotate: the medoids of many candidates.

    Args:
        run: A run of a style-based recipe.
        out: The folder; must not hold pictures yet.
        n: How many pictures.
        seed: Of the candidates.
        truncation: Psi, in (0, 1].
        candidates: How many to choose from; None: 20 n.
        classes: For `classes.yaml`; None: background and three parts to rename.
        checkpoint: A step, "last" or "best".
        batch_size: Candidates made at a time.
        device: Where to compute; None: a GPU where there is one.
        quiet: Show no progress.

    Returns:
        The folder.

    Raises:
        DataError: The folder holds pictures already: masks may have been painted on them.
        SettingsError: An impossible number.
        RunError: See `open_generator`.
    """
    folder = Path(out)
    if (folder / "pictures.yaml").exists():
        raise DataError("There are pictures in this folder already.", where=folder, fix="choose another --out")
    many = candidates or _CANDIDATES_EACH * n
    if n < 2 or many < n:
        raise SettingsError(
            f"{n} pictures of {many} candidates cannot be chosen.", where="n", fix="choose at least 2 of as many"
        )
    generator = open_generator(run, checkpoint=checkpoint, device=device or default_device())
    w, summaries = _candidates(generator, many, seed, truncation, batch_size, quiet)
    chosen = k_medoids(_distances(summaries), n)
    kept = w[torch.from_numpy(chosen)]
    images = np.concatenate([generator.features(row[None])[0] for row in kept])
    names = [f"{i:06d}" for i in range(n)]
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in zip(names, images, strict=True):
        save_png(folder / f"{name}.png", image)
    ImageSamples(images).save_overview(folder / "overview.png")
    if not (folder / "classes.yaml").exists():
        (classes or SegmentClasses.numbered()).save(folder)
    with atomic_path(folder / "latents.safetensors") as temporary:
        save_file({"w": kept.contiguous()}, temporary)
    record: dict[str, Any] = {
        "format": _FORMAT,
        "run": str(generator.run.path.resolve()),
        "checkpoint": generator.step,
        "fingerprint": generator.fingerprint,
        "seed": seed,
        "truncation": truncation,
        "pictures": {name: {"candidate": int(i)} for name, i in zip(names, chosen, strict=True)},
    }
    write_atomic(folder / "pictures.yaml", yaml.safe_dump(record, sort_keys=False))  # last: it marks the folder whole
    return folder


def read_record(folder: Path) -> PictureRecord:
    """What `make_pictures` wrote down.

    Raises:
        DataError: The folder is none of its own, or damaged.
    """
    path = folder / "pictures.yaml"
    if not path.is_file():
        raise DataError(
            "This folder was not made by `ganwright segment pictures`: it has no pictures.yaml.",
            where=folder,
            fix="a label head learns from the run's own pictures: ganwright segment pictures RUN --out FOLDER",
        )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        w = load_file(folder / "latents.safetensors")["w"]
        names = tuple(content["pictures"])
        if len(names) != len(w):
            raise ValueError(f"{len(names)} names and {len(w)} style vectors")
        return PictureRecord(
            content["run"], content["checkpoint"], content["fingerprint"], float(content["truncation"]), names, w
        )
    except Exception as error:  # YAML, keys, safetensors: each has its own errors
        raise DataError(
            f"The record of the pictures is damaged ({error}).", where=folder, fix="restore it, or make new pictures"
        ) from error


def _candidates(
    generator: StyleGenerator, n: int, seed: int, truncation: float, batch_size: int, quiet: bool
) -> tuple[Tensor, Array]:
    """Style vectors (n, style_dim) on the CPU, and mean and deviation of each feature over the picture, (n, 2 C)."""
    styles, summaries = [], []
    with progress("candidates", n, quiet=quiet) as advance:
        for start in range(0, n, batch_size):
            rows = range(start, min(start + batch_size, n))
            w, _ = generator.draw(rows, seed=seed, stream=CANDIDATES, truncation=truncation)
            _, maps = generator.features(w)
            parts = [part for m in maps for part in (m.float().mean((2, 3)), m.float().std((2, 3), correction=0))]
            styles.append(w.cpu())
            summaries.append(torch.cat(parts, 1).cpu())
            advance(len(rows))
    return torch.cat(styles), torch.cat(summaries).double().numpy()


def _distances(features: Array) -> Array:
    """Euclidean distances (n, n) of features that are scaled to variance 1."""
    deviation = features.std(0)
    x = (features - features.mean(0)) / np.where(deviation > 1e-12, deviation, np.inf)
    squares = np.square(x).sum(1)
    distance: Array = np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * x @ x.T, 0))
    return distance


def k_medoids(distances: Array, k: int) -> npt.NDArray[np.int64]:
    """Choose k of n points such that the sum of the distances of all points to their nearest one is small.

    Greedy start, then swaps until none helps (Kaufman & Rousseeuw 1990, PAM); nothing is random.

    Args:
        distances: (n, n).
        k: How many.

    Returns:
        int64 (k,), in ascending order.
    """
    chosen = [int(distances.sum(0).argmin())]
    nearest = distances[chosen[0]].copy()
    while len(chosen) < k:
        gain = np.maximum(nearest[None] - distances, 0).sum(1)
        gain[chosen] = -1
        chosen.append(int(gain.argmax()))
        nearest = np.minimum(nearest, distances[chosen[-1]])
    improved = True
    while improved:
        improved = False
        for place in range(k):
            others = np.array([c for i, c in enumerate(chosen) if i != place], np.int64)
            without = distances[others].min(0) if len(others) else np.full(len(distances), np.inf)
            cost = np.minimum(without[None], distances).sum(1)
            cost[others] = np.inf
            best = int(cost.argmin())
            if cost[best] < cost[chosen[place]] * (1 - 1e-9):
                chosen[place], improved = best, True
    return np.sort(np.array(chosen, np.int64))
