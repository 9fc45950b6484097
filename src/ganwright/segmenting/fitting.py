"""Fits the ensemble to annotated pixels, and tests it on images it has not seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ganwright.console import progress
from ganwright.errors import SettingsError
from ganwright.segmenting.classes import IGNORE
from ganwright.segmenting.ensemble import PixelEnsemble
from ganwright.segmenting.features import features_at
from ganwright.segmenting.generator import StyleGenerator
from ganwright.segmenting.pairs import Pairs

_MOST_FOLDS = 16
_WEIGHTS, _PIXELS, _BATCHES = 11, 12, 13
"""Streams of random numbers."""


@dataclass(frozen=True)
class HeadSettings:
    """How the label head is trained."""

    members: int = 10
    """Networks of the ensemble."""
    hidden: tuple[int, int] = (128, 32)
    """Units of their two hidden layers; the paper's code has 256 and 128 for 32 classes or more."""
    steps: int = 1500
    """Training steps."""
    pixels: int = 128
    """Pixels of a step's batch, for each network."""
    lr: float = 1e-3
    """Adam's learning rate at the start; it falls to 0 along a cosine."""
    memory_mb: int = 1024
    """Memory for the features of annotated pixels; where all do not fit, a random part of each image's is used."""

    def __post_init__(self) -> None:
        if min(self.members, self.steps, self.memory_mb, *self.hidden) < 1 or self.pixels < 2 or self.lr <= 0:
            raise SettingsError("A setting of the label head is impossible.", where=str(self))


@dataclass(frozen=True)
class PixelTable:
    """Annotated pixels: features (P, inputs), classes int64 (P,), and which image each is of, int64 (P,)."""

    features: Tensor
    classes: Tensor
    image: Tensor
    widths: tuple[int, ...]


def tabulate(
    generator: StyleGenerator, w: Tensor, pairs: Pairs, settings: HeadSettings, *, seed: int, quiet: bool = False
) -> PixelTable:
    """The features of annotated pixels; ignored ones are left out.

    Args:
        generator: Whose features.
        w: Style vectors of the pairs' images, (N, style_dim).
        pairs: The images and their masks.
        settings: Its `memory_mb` bounds the table.
        seed: Of the choice of pixels.
        quiet: Show no progress.
    """
    features: list[Tensor] = []
    classes, image = [], []
    size = (int(pairs.masks.shape[1]), int(pairs.masks.shape[2]))
    widths: tuple[int, ...] = ()
    with progress("features", len(pairs), quiet=quiet) as advance:
        for i, mask in enumerate(pairs.masks):
            maps = [fmap[0] for fmap in generator.features(w[i : i + 1])[1]]
            widths = tuple(int(fmap.shape[0]) for fmap in maps)
            most = max(1, (settings.memory_mb << 20) // (4 * sum(widths) * len(pairs)))
            usable = np.flatnonzero(mask.ravel() != IGNORE)
            if len(usable) > most:
                random = np.random.default_rng([abs(seed), _PIXELS, i])
                usable = np.sort(random.choice(usable, most, replace=False))
            features.append(features_at(maps, size, torch.from_numpy(usable).to(generator.device)))
            classes.append(torch.from_numpy(mask.ravel()[usable].astype(np.int64)))
            image.append(torch.full((len(usable),), i))
            advance()
    device = generator.device
    return PixelTable(torch.cat(features), torch.cat(classes).to(device), torch.cat(image), widths)


def fit(
    table: PixelTable,
    rows: Sequence[Tensor],
    num_classes: int,
    settings: HeadSettings,
    *,
    seed: int,
    description: str = "label head",
    quiet: bool = False,
) -> PixelEnsemble:
    """An ensemble with one member for each entry of `rows`.

    Args:
        table: Annotated pixels.
        rows: The rows of the table each member may see, int64.
        num_classes: K.
        settings: Steps, batch, learning rate.
        seed: Of weights and batches.
        description: For the progress bar.
        quiet: Show no progress.

    Returns:
        The ensemble in `eval` mode.
    """
    device = table.features.device
    ensemble = PixelEnsemble(len(rows), table.widths, num_classes, hidden=settings.hidden, seed=seed + _WEIGHTS)
    ensemble = ensemble.to(device).train()
    ensemble.scale_like(table.features)
    ensemble.rule_out_unseen(table.classes)
    # Scaled once here; `ensemble.first` sees the same numbers later, from unscaled features.
    features = (table.features - ensemble.mean) * ensemble.scale
    optimizer = torch.optim.Adam(ensemble.parameters(), settings.lr, fused=device.type in ("cpu", "cuda"))
    random = np.random.default_rng([abs(seed), _BATCHES])
    with progress(description, settings.steps, quiet=quiet) as advance:
        for step in range(settings.steps):
            for group in optimizer.param_groups:
                group["lr"] = settings.lr * 0.5 * (1 + math.cos(math.pi * step / settings.steps))
            picked = torch.stack(
                [own[torch.from_numpy(random.integers(len(own), size=settings.pixels))] for own in rows]
            )
            picked = picked.to(device)
            logits = ensemble.from_scaled(features[picked])
            # The sum over members: each has its own parameters, so each sees the mean of its own batch.
            loss = F.cross_entropy(logits.flatten(0, 1), table.classes[picked].flatten()) * len(rows)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            advance()
    return ensemble.eval()


def fit_ensemble(
    table: PixelTable, num_classes: int, settings: HeadSettings, *, seed: int, quiet: bool = False
) -> PixelEnsemble:
    """The ensemble of all annotated pixels; its members differ in their first weights and their batches."""
    everything = torch.arange(len(table.classes))
    return fit(table, [everything] * settings.members, num_classes, settings, seed=seed, quiet=quiet)


@torch.no_grad()
def leave_one_out(
    generator: StyleGenerator,
    w: Tensor,
    table: PixelTable,
    pairs: Pairs,
    settings: HeadSettings,
    *,
    seed: int,
    quiet: bool = False,
) -> npt.NDArray[np.uint8]:
    """Each image labelled by one network that was trained on the others; uint8 (N, H, W).

    Beyond 16 images, groups of images are left out together.
    """
    folds = np.arange(len(pairs)) % min(len(pairs), _MOST_FOLDS)
    of_row = torch.from_numpy(folds)[table.image]
    rows = [torch.nonzero(of_row != fold)[:, 0] for fold in range(int(folds.max()) + 1)]
    with torch.enable_grad():
        networks = fit(
            table, rows, len(pairs.classes), settings, seed=seed + 1, description="leave one out", quiet=quiet
        )
    found = np.empty_like(pairs.masks)
    size = (int(found.shape[1]), int(found.shape[2]))
    for i in range(len(pairs)):
        maps = [fmap[0] for fmap in generator.features(w[i : i + 1])[1]]
        for band in networks.bands(size):
            own = networks.probabilities(maps, size, band)[folds[i]]
            found[i, band.start : band.stop] = own.argmax(0).to(torch.uint8).cpu().numpy()
    return found
