"""Two unpaired sets of images, A and B, as CycleGAN trains on: batches of `images_a` and `images_b`."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ganwright.config import DataSettings
from ganwright.data.images import ImageDataset
from ganwright.data.pack import prepare
from ganwright.data.pair_sources import Half, Side, parse_name
from ganwright.data.probe import choose_channels, choose_resolution, sampled_headers
from ganwright.data.sources import ImageSource, open_images
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
            extra={
                "domains": list(domain_names),
                "count_a": a.spec.count,
                "count_b": b.spec.count,
                "channels_out": b.spec.channels,
            },
        )

    def batch(self, index: int, size: int, *, seed: int) -> Batch:
        """`images_a` and `images_b`, each float32 (B, C, H, W) in [-1, 1], drawn independently."""
        # Two seeds: with one, sets of equal size would be shuffled alike, and paired ones would stay paired.
        return {
            "images_a": self.a.batch(index, size, seed=2 * seed)["images"],
            "images_b": self.b.batch(index, size, seed=2 * seed + 1)["images"],
        }

    @property
    def nothing_held_out(self) -> bool:
        """Whether all images of a set are trained on."""
        return self.a.nothing_held_out or self.b.nothing_held_out

    def held_out_batch(self, n: int, *, seed: int) -> Batch | None:
        """Up to `n` held-out images of each set (training ones, where it has none), as many of both."""
        batches = [one.held_out_batch(n, seed=seed) for one in (self.a, self.b)]
        images = [batch["images"] for batch in batches if batch is not None]
        rows = min(map(len, images))
        return {"images_a": images[0][:rows], "images_b": images[1][:rows]}

    def real_samples(self, n: int, *, seed: int, held_out: bool = False) -> ImageSamples | None:
        """Images of domain B, the one translated into."""
        return self.b.real_samples(n, seed=seed, held_out=held_out)


def open_domains(source: Any, settings: DataSettings, *, seed: int) -> DomainsDataset:
    """Open two sets of images; see `find_domains` for what they may be.

    Both get the same size: the smaller of the two automatic resolutions where none is asked for.

    Raises:
        DataError: They are not two sets, or one is grey and the other colour.
    """
    found = find_domains(source, settings)
    sources = [found.a, found.b]
    if not settings.resolution:
        settings = replace(settings, resolution=min(choose_resolution(s, settings) for s in sources))
    asked = [settings.channels_in, settings.channels_out]
    if settings.channels == "auto" and asked == ["auto", "auto"]:
        channels = [choose_channels(s, settings) for s in sources]
        if channels[0] != channels[1]:
            raise DataError(
                f"Domain A has {channels[0]} channel(s) and domain B {channels[1]}.",
                where=f"{sources[0].location}, {sources[1].location}",
                fix="--channels 3 makes both colour, --channels 1 makes both grey; --channels-in and --channels-out "
                "name those of each",
            )
    sets = []
    for one, wanted in zip(sources, asked, strict=True):
        bands = 0 if wanted == "auto" else int(wanted)
        side = Side(one, range(len(one)), bands=bands) if bands else one
        how: Any = {"channels": wanted} if bands else {}
        how = replace(settings, **how)
        sets.append(ImageDataset(prepare(side, how), how, seed=seed, name=one.name).without_labels())
    dataset = DomainsDataset(sets[0], sets[1], found.name, (sources[0].name, sources[1].name))
    dataset.notes += found.notes
    return dataset


@dataclass(frozen=True)
class Domains:
    """Two sets of images, their name together, and how they were found."""

    a: ImageSource
    b: ImageSource
    name: str
    notes: list[str]


def find_domains(source: Any, settings: DataSettings | None = None) -> Domains:
    """The two sets in a source.

    Args:
        source: A folder or archive with `trainA` and `trainB` (or `A` and `B`) in it, a tuple of two of anything that
            `open_images` opens, or a set of side-by-side pairs, whose halves are taken for two sets.
        settings: How medical files are read.

    Raises:
        DataError: It is none of these.
    """
    if isinstance(source, tuple) and len(source) == 2:
        a, b = (open_images(part, settings=settings) for part in source)
        return Domains(a, b, "domains", [])
    place = source if isinstance(source, str | os.PathLike) else type(source).__name__
    wrong = DataError(
        "This is not two domains.",
        where=place,
        fix="give a folder with trainA and trainB (or A and B); from Python, a tuple of two sets",
    )
    if not isinstance(source, str | os.PathLike):
        raise wrong
    folders = domain_folders(Path(source))
    if folders is not None:
        a, b = (open_images(part, settings=settings) for part in folders)
        unused = ["testA and testB are not used for training"] if (Path(source) / "testA").is_dir() else []
        return Domains(a, b, Path(source).resolve().name, unused)
    base = open_images(source, settings=settings)
    sides, unused = _sides_in(base)
    if not all(sides):
        raise wrong
    halves: tuple[Half, Half] = ("left", "right") if sides[0] == sides[1] else ("", "")
    if halves[0]:
        unused.append("the halves of side-by-side pictures are taken for two sets that are not paired")
    a, b = (Side(base, chosen, half) for chosen, half in zip(sides, halves, strict=True))
    a.name, b.name = "A", "B"
    return Domains(a, b, base.name, unused)


def _sides_in(base: ImageSource) -> tuple[tuple[list[int], list[int]], list[str]]:
    """Positions of each side's pictures in one set, without those of a folder `test`; two empty lists: none."""
    parsed = [parse_name(name) for name in base.names]
    kept = [i for i, (split, _, _) in enumerate(parsed) if split != "test"]
    notes = [f"{len(parsed) - len(kept)} pictures of the folder test are not used for training"]
    if not kept:  # nothing but a folder of that name
        kept, notes = list(range(len(parsed))), []
    notes = notes if len(kept) < len(parsed) else []
    a, b = ([i for i in kept if parsed[i][1] == side] for side in "ab")
    if a or b:
        return (a, b), notes
    headers = [header for _, header in sampled_headers(base)]
    if headers and all(header.width == 2 * header.height for header in headers):
        return (kept, kept), notes
    return ([], []), []
