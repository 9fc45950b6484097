"""What is in a set, for `ganwright data DATA`: counts, sizes, modes, classes, broken files and duplicates."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from ganwright.config import DataSettings
from ganwright.data import domains, pairs, single, text
from ganwright.data.decode import BrokenImageError, as_uint8, pixel_hash
from ganwright.data.groups import split_groups
from ganwright.data.perceptual_hash import BYTES, near_duplicate_groups, perceptual_hash
from ganwright.data.prepared import Prepared, known_groups, with_groups
from ganwright.data.probe import choose_resolution
from ganwright.data.sources import ImageSource, open_images, printable
from ganwright.data.spec import DataKind
from ganwright.data.stream import over
from ganwright.errors import DataError

_FEW_IMAGES = 1000
_FEW_COMPARED = 5000
"""Of more images, near-duplicates are not looked for here: the time grows with the square of their number."""
_IMBALANCE = 5.0
_SHOWN = 20


@dataclass
class DataReport:
    """What was found in a set.

    Attributes:
        kind: The kind of data.
        name: A short name.
        location: Where it is.
        count: Usable samples.
        facts: Figures by name, in the order they are shown.
        classes: Usable samples of each class.
        broken: (name, reason) of each sample that cannot be used.
        duplicates: Groups of samples with identical content, by name.
        notes: How it was read.
        advice: What to do about what was found.
    """

    kind: DataKind
    name: str
    location: str
    count: int
    facts: dict[str, Any] = field(default_factory=dict)
    classes: dict[str, int] = field(default_factory=dict)
    broken: list[tuple[str, str]] = field(default_factory=list)
    duplicates: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "kind": self.kind.value, "broken": [list(pair) for pair in self.broken]}

    def render(self) -> RenderableType:
        """Tables for a rich console."""
        facts = Table(title=f"{escape(self.name)}: {self.count} {self.kind.value}", show_header=False)
        facts.add_column(style="bold")
        facts.add_column()
        facts.add_row("where", escape(self.location))
        for key, value in self.facts.items():
            facts.add_row(key, escape(_shown(value)))
        copies = sum(len(group) - 1 for group in self.duplicates)
        facts.add_row("exact duplicates", f"{copies} copies in {len(self.duplicates)} groups" if copies else "none")
        facts.add_row("broken", str(len(self.broken)) if self.broken else "none")
        parts: list[RenderableType] = [facts]
        parts += [_table("classes", ("class", "count"), list(self.classes.items()))] if self.classes else []
        parts += [_table("broken", ("file", "reason"), self.broken)] if self.broken else []
        if self.duplicates:
            rows = [(group[0], ", ".join(group[1:4]) + (" …" if len(group) > 4 else "")) for group in self.duplicates]
            parts.append(_table("duplicates", ("file", "has the same content as"), rows))
        parts += [f"note: {escape(note)}" for note in self.notes]
        parts += [f"[yellow]advice: {escape(line)}" for line in self.advice]
        return Group(*parts)


def _table(title: str, columns: tuple[str, str], rows: Sequence[tuple[str, Any]]) -> Table:
    table = Table(title=title)
    for column in columns:
        table.add_column(column)
    for name, value in rows[:_SHOWN]:
        table.add_row(escape(printable(name)), escape(str(value)))
    if len(rows) > _SHOWN:
        table.add_row(f"… and {len(rows) - _SHOWN} more", "")
    return table


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {count}" for key, count in value.items())
    return str(value)


def inspect_data(source: Any, settings: DataSettings | None = None, *, kind: str = "") -> DataReport:
    """Look at all of a set, decoding every image once at native size, and at what training would make of it.

    Args:
        source: Anything `open_dataset` takes.
        settings: Resolution, channels and held-out share training would use.
        kind: "pairs" for aligned pairs side by side in one picture, which cannot be told from other pictures; "": as
            the data looks.

    Raises:
        DataError: There is no such data, or it is unsafe. Broken files are no error here; they are listed.
    """
    settings = settings or DataSettings()
    if kind == DataKind.PAIRS or pairs.is_matched(source):
        from ganwright.data.pair_inspection import inspect_pairs  # it builds on this module

        return inspect_pairs(source, settings)
    if text.recognises(source):
        return _inspect_text(source)
    if domains.recognises(source):
        return _inspect_domains(source, settings)
    opened = open_images(source, settings=settings)
    try:
        report = _inspect_images(opened, settings)
    finally:
        if opened is not source:
            opened.close()
    if single.recognises(source) and report.count == 1:
        report.kind, report.advice = DataKind.SINGLE_IMAGE, []
    return report


@dataclass(frozen=True)
class _Seen:
    """What is kept of one picture."""

    shape: tuple[int, ...] = ()
    mode: str = ""
    format: str = ""
    hash: bytes = b""
    look: bytes = b""
    limits: tuple[int, int] = (0, 0)
    reason: str = ""


def _inspect_images(source: ImageSource, settings: DataSettings) -> DataReport:
    def look(i: int) -> _Seen:
        try:
            picture = source.picture(i)
        except BrokenImageError as error:
            return _Seen(reason=error.what)
        pixels = as_uint8(picture.pixels)
        look = perceptual_hash(picture.pixels) if len(source) <= _FEW_COMPARED else b""
        limits = (int(pixels.min()), int(pixels.max()))
        return _Seen(pixels.shape, picture.mode, picture.format, pixel_hash(picture.pixels), look, limits)

    seen = list(over(source, look, f"inspecting {source.name}"))
    good = [i for i, one in enumerate(seen) if not one.reason]
    names = [printable(name) for name in source.names]
    report = DataReport(
        DataKind.IMAGES if source.labels is None else DataKind.LABELLED_IMAGES,
        source.name,
        source.location,
        len(good),
        broken=[(names[i], one.reason) for i, one in enumerate(seen) if one.reason],
        notes=source.notes,
    )
    if not good:
        report.advice.append("there is nothing to train on: JPEG, PNG, WebP, TIFF, BMP, NIfTI and DICOM can be read")
        return report
    shapes = np.array([seen[i].shape for i in good])
    for label, side in (("width", shapes[:, 1]), ("height", shapes[:, 0])):
        report.facts[label] = f"{side.min()} … {side.max()}, median {np.median(side):g}"
    channels = {"grey": int((shapes[:, 2] == 1).sum()), "colour": int((shapes[:, 2] == 3).sum())}
    report.facts["channels"] = {name: count for name, count in channels.items() if count}
    report.facts["modes"] = dict(Counter(seen[i].mode for i in good).most_common())
    report.facts["formats"] = dict(Counter(seen[i].format for i in good).most_common())
    report.facts |= source.told()
    if source.labels is not None:
        counts = np.bincount(source.labels[good], minlength=len(source.class_names))
        report.classes = {name: int(n) for name, n in zip(source.class_names, counts, strict=True)}
    groups: dict[bytes, list[str]] = {}
    for i in good:
        groups.setdefault(seen[i].hash, []).append(names[i])
    report.duplicates = [group for group in groups.values() if len(group) > 1]
    resolution = choose_resolution(source, settings)
    report.advice += _advice(report, channels, shapes, resolution, settings)
    _inspect_split(report, source, settings, [seen[i] for i in good], good, resolution)
    return report


def _inspect_split(
    report: DataReport,
    source: ImageSource,
    settings: DataSettings,
    seen: Sequence[_Seen],
    positions: Sequence[int],
    resolution: int,
) -> None:
    """How many images a training would hold out, and what of what looks alike the split would part."""
    hashes = np.frombuffer(b"".join(one.hash for one in seen), np.uint8).reshape(-1, 16)
    looks = np.frombuffer(b"".join(one.look for one in seen), np.uint8).reshape(-1, BYTES) if seen[0].look else None
    prepared = Prepared(
        np.array([one.limits for one in seen], np.uint8).reshape(-1, 1, 2, 1),  # enough to see which are blank
        hashes,
        None,
        (),
        [],
        [],
        np.array(positions, np.int64),
        looks=looks,
        known=known_groups(source, positions),
    )
    grouped = with_groups(prepared, source, settings)
    assert grouped.grouping is not None
    split = split_groups(grouped.grouping, hashes, settings.held_out, 0)
    held_out = int(split.held_out.sum())
    report.facts["for training"] = (
        f"{resolution}x{resolution}, {len(seen) - held_out} images, {held_out} held out (seed 0)"
    )
    report.notes += [*grouped.notes, *split.notes]
    if looks is not None and source.bits == 8:  # neighbouring slices of a volume look alike anyway
        groups = int(near_duplicate_groups(looks).max()) + 1
        report.facts["near-duplicates"] = f"{groups} groups of {len(seen)} images that look alike"
        if grouped.grouping.by == "image" and groups < len({one.hash for one in seen}):
            report.advice.append(
                "some images look alike without being exact copies, and may stand on both sides of the split: "
                "--split-by group keeps them together"
            )


def _advice(
    report: DataReport,
    channels: dict[str, int],
    shapes: np.ndarray[Any, np.dtype[np.int64]],
    resolution: int,
    settings: DataSettings,
) -> list[str]:
    found = []
    if settings.channels == "auto" and all(channels.values()):
        found.append("grey and colour are mixed: choose --channels 3 or --channels 1")
    small = int((shapes[:, :2].min(axis=1) < resolution).sum())
    if small:
        found.append(f"{small} images are smaller than {resolution} pixels and will be enlarged")
    aspect = shapes[:, :2].max(axis=1) / shapes[:, :2].min(axis=1)
    if np.median(aspect) > 1.5:
        if (shapes[:, 1] == 2 * shapes[:, 0]).all():
            found.append("all are twice as wide as high: if they are pairs side by side, add --kind pairs")
        found.append("most images are far from square, and only the central square is used: crop them yourself")
    if report.count < _FEW_IMAGES:
        found.append(f"{report.count} images are few for a GAN: expect it to memorise them; watch the doctor")
    if report.classes and min(report.classes.values()) * _IMBALANCE < max(report.classes.values()):
        rarest = min(report.classes, key=lambda name: report.classes[name])
        found.append(f"the classes are unbalanced: {rarest!r} has only {report.classes[rarest]}")
    if report.duplicates:
        found.append("duplicates weigh more in training; they never cross the held-out split")
    return found


def _inspect_text(source: Any) -> DataReport:
    lines, skipped = text.read_lines(source)
    lengths = np.array([len(line.split()) for line in lines])
    words = Counter(word for line in lines for word in line.split())
    copies = {line: count for line, count in Counter(lines).items() if count > 1}
    first: dict[str, list[str]] = {line: [] for line in copies}
    for number, line in enumerate(lines, 1):
        if line in first:
            first[line].append(f"line {number}")
    return DataReport(
        DataKind.TEXT,
        "text" if isinstance(source, list) else Path(source).stem,
        "list" if isinstance(source, list) else os.fspath(source),
        len(lines),
        facts={
            "words a line": f"{lengths.min()} … {lengths.max()}, median {np.median(lengths):g}",
            "vocabulary": f"{len(words)} words, {sum(n == 1 for n in words.values())} of them once",
            "most frequent": dict(words.most_common(5)),
        },
        broken=skipped,
        duplicates=list(first.values()),
        notes=["empty lines are not counted"],
    )


def _inspect_domains(source: Any, settings: DataSettings) -> DataReport:
    parts = source if isinstance(source, tuple) else domains.domain_folders(Path(source))
    if parts is None:
        raise DataError("This is not two domains.", where=source)
    reports = [inspect_data(part, settings) for part in parts]
    whole = DataReport(
        DataKind.DOMAINS,
        "domains" if isinstance(source, tuple) else Path(source).resolve().name,
        ", ".join(report.location for report in reports),
        sum(report.count for report in reports),
    )
    for letter, report in zip("AB", reports, strict=True):
        whole.facts[letter] = f"{report.count} images ({report.name})"
        whole.facts |= {f"{letter}: {key}": value for key, value in report.facts.items()}
        whole.broken += [(f"{letter}/{name}", reason) for name, reason in report.broken]
        whole.duplicates += [[f"{letter}/{name}" for name in group] for group in report.duplicates]
        whole.notes += [f"{letter}: {note}" for note in report.notes]
        whole.advice += [f"{letter}: {line}" for line in report.advice]
    return whole
