"""What is in a set of pairs, for `ganwright data DATA --kind pairs`."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from ganwright.config import DataSettings
from ganwright.data.decode import BrokenImageError
from ganwright.data.inspection import DataReport
from ganwright.data.pair_sources import Side, find_pairs
from ganwright.data.pairs import open_pairs
from ganwright.data.sources import printable
from ganwright.data.spec import DataKind

_FEW_PAIRS = 100


def inspect_pairs(source: Any, settings: DataSettings) -> DataReport:
    """Look at all pairs, and at what training would make of them.

    Args:
        source: What `find_pairs` takes.
        settings: Of the training.

    Raises:
        DataError: There are no pairs, or pictures have no partner; names them.
    """
    found = find_pairs(source, settings)
    dataset = open_pairs(source, settings, seed=0)
    spec, report = dataset.spec, DataReport(DataKind.PAIRS, found.name, found.location, 0)
    report.count = len(dataset.hashes)
    report.facts["matched"] = found.notes[0]
    report.facts["folders"] = dict(Counter(found.splits))
    for letter, (base, chosen), half in zip("AB", (found.a, found.b), found.halves, strict=True):
        report.facts[letter] = _sizes(Side(base, chosen, half))
    arrow = "B → A" if settings.pair_direction == "b2a" else "A → B"
    report.facts["for training"] = (
        f"{arrow}, {spec.resolution}x{spec.resolution}, {spec.channels} to {spec.channels_out} channels, "
        f"{spec.count} pairs, {len(dataset.held_out_index)} held out"
    )
    report.broken = [(printable(name), reason) for name, reason in dataset.skipped]
    groups: dict[bytes, list[str]] = {}
    names = Side(found.a[0], found.a[1]).names
    for k, row in zip(dataset.inputs.prepared.positions[dataset.inputs.rows], dataset.hashes, strict=True):
        groups.setdefault(row.tobytes(), []).append(printable(names[int(k)]))
    report.duplicates = [group for group in groups.values() if len(group) > 1]
    report.notes = [note for note in dataset.notes if note != found.notes[0]]
    if spec.count < _FEW_PAIRS:
        report.advice.append(f"{spec.count} pairs are few (pix2pix's facades are 400): mirror them and use --jitter")
    if dataset.nothing_held_out:
        report.advice.append("nothing is held out, so nothing can be measured on new pairs: --held-out 0.1")
    return report


def _sizes(side: Side) -> str:
    """Widths and heights of a side's pictures, from their headers."""
    sizes = []
    for i in range(len(side)):
        try:
            header = side.header(i)
        except BrokenImageError:
            continue
        sizes.append((header.width, header.height))
    if not sizes:
        return "none is readable"
    low, high = np.min(sizes, axis=0), np.max(sizes, axis=0)
    one = f"{low[0]}x{low[1]}"
    return f"{one} pixels" if (low == high).all() else f"{one} to {high[0]}x{high[1]} pixels"
