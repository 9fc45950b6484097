"""Two unpaired sets of images, A and B, as CycleGAN trains on: batches of `images_a` and `images_b`."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from ganwright.config import DataSettings
from ganwright.data.images import ImageDataset
from ganwright.data.pack import prepare
from ganwright.data.probe import choose_channels, choose_resolution
from ganwright.data.sources import open_images
from ganwright.data.spec import Batch, DataKind, Dataset, DataSpec
from ganwright.errors import DataError
from ganwright.files import hash_bytes
from ganwright.samples import ImageSamples

FOLDER_NAMES = (("trainA", "trainB"), ("A", "B"), ("a", "b"), ("domainA", "domainB"))
"""Names of the two sub-folders, in order of preference."""


def domain_folders(path: Path) -> tuple[Path, Path] | None:
    """The two domain folders in `path`, or None."""
    for a, b in FOLDER_NAMES:
        if (path / a).is_dir() and (path / b).is_dir():
            return path / a, path / b
    return None


def recognises(source: object) -> bool:
    """Whether `source` is two sets: a pair of paths, or a folder with two domain folders."""
    if isinstance(source, tuple):
        return len(source) == 2 and all(isinstance(part, str | os.PathLike) for part in source)
    return isinstance(source, str | os.PathLike) and domain_folders(Path(source)) is not None


class DomainsDataset(Dataset):
    """Two image sets, shuffled independently.

    Attributes:
        a: The first set.
        b: The second set.
        spec: `count` is that of the larger set; `extra` has `count_a`, `count_b` and the domains' names.
    """

    def __init__(self, a: ImageDataset, b: ImageDataset, name: str, domain_names: tuple[str, str]) -> None:
        self.a, self.b = a, b
        self.skipped = [*a.skipped, *b.skipped]
        self.notes = [*(f"A: {note}" for note in a.notes), *(f"B: {note}" for note in b.notes)]
        self.duplicates = a.duplicates + b.duplicates
        self.spec = DataSpec(
            kind=DataKind.DOMAINS,
            name=name,
            count=max(a.spec.count, b.spec.count),
            fingerprint=hash_bytes(a.spec.fingerprint.encode(), b.spec.fingerprint.encode()),
            resolution=a.spec.resolution,
            channels=a.spec.channels,
            extra={"domains": list(domain_names), "count_a": a.spec.count, "count_b": b.spec.count},
        )

    def batch(self, index: int, size: int, *, seed: int) -> Batch:
        """`images_a` and `images_b`, each float32 (B, C, H, W) in [-1, 1], drawn independently."""
        # Two seeds: with one, sets of equal size would be shuffled alike, and paired ones would stay paired.
        return {
            "images_a": self.a.batch(index, size, seed=2 * seed)["images"],
            "images_b": self.b.batch(index, size, seed=2 * seed + 1)["images"],
        }

    def real_samples(self, n: int, *, seed: int, held_out: bool = False) -> ImageSamples | None:
        """Images of domain B, the one translated into."""
        return self.b.real_samples(n, seed=seed, held_out=held_out)


def open_domains(source: Any, settings: DataSettings, *, seed: int) -> DomainsDataset:
    """Open a folder with `trainA` and `trainB` (or `A` and `B`), or a tuple of two sets of images.

    Both get the same size: the smaller of the two automatic resolutions where none is asked for.

    Raises:
        DataError: It is neither, or one is grey and the other colour.
    """
    if isinstance(source, tuple) and len(source) == 2:
        parts: tuple[Any, Any] = source
        name = "domains"
    else:
        folders = domain_folders(Path(source)) if isinstance(source, str | os.PathLike) else None
        if folders is None:
            raise DataError(
                "This is not two domains.",
                where=source if isinstance(source, str | os.PathLike) else type(source).__name__,
                fix="give a folder with trainA and trainB (or A and B); from Python, a tuple of two sets",
            )
        parts, name = folders, Path(source).resolve().name
    sources = [open_images(part, settings=settings) for part in parts]
    if not settings.resolution:
        settings = replace(settings, resolution=min(choose_resolution(s, settings) for s in sources))
    if settings.channels == "auto":
        channels = [choose_channels(s, settings) for s in sources]
        if channels[0] != channels[1]:
            raise DataError(
                f"Domain A has {channels[0]} channel(s) and domain B {channels[1]}.",
                where=f"{sources[0].location}, {sources[1].location}",
                fix="--channels 3 makes both colour, --channels 1 makes both grey",
            )
    a, b = (ImageDataset(prepare(s, settings), settings, seed=seed, name=s.name).without_labels() for s in sources)
    dataset = DomainsDataset(a, b, name, (sources[0].name, sources[1].name))
    if isinstance(source, str | os.PathLike) and (Path(source) / "testA").is_dir():
        dataset.notes.append("testA and testB are not used for training")
    return dataset
