"""The door to all data: what a source is, which kind a recipe accepts, and the table of kinds."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
from rich.markup import escape

from ganwright.config import DataSettings
from ganwright.console import console
from ganwright.data import domains, pairs, single, text
from ganwright.data.images import ImageDataset, image_dataset, require_enough
from ganwright.data.patches import open_patches
from ganwright.data.sources import open_images
from ganwright.data.spec import DataKind, Dataset
from ganwright.errors import DataError

_NAMED_SKIPPED = 10


@dataclass(frozen=True)
class Opener:
    """One row of the table of kinds.

    Attributes:
        kinds: What it can open a source as.
        recognises: Whether a source is plainly of this kind; rows are asked in order.
        open: Opens it: `(source, settings, seed=…) -> Dataset`.
    """

    kinds: frozenset[DataKind]
    recognises: Callable[[object], bool]
    open: Callable[..., Dataset]


def _open_images(source: Any, settings: DataSettings, *, seed: int) -> Dataset:
    opened = open_images(source, settings=settings)
    try:
        make = open_patches if settings.crop == "random" else image_dataset
        return make(opened, settings, seed=seed)
    finally:
        if opened is not source:
            opened.close()


OPENERS = [
    Opener(frozenset({DataKind.DOMAINS}), domains.recognises, domains.open_domains),
    Opener(frozenset({DataKind.PAIRS}), pairs.recognises, pairs.open_pairs),
    Opener(frozenset({DataKind.TEXT}), text.recognises, text.open_text),
    Opener(frozenset({DataKind.SINGLE_IMAGE}), single.recognises, single.open_single),
    # Last: everything else is taken for a set of images.
    Opener(frozenset({DataKind.IMAGES, DataKind.LABELLED_IMAGES}), lambda source: True, _open_images),
]
"""The kinds of data there are; a new one is a file and a row."""


def opener_for(source: object, accepts: frozenset[DataKind]) -> Opener:
    """The row that opens `source`: the first that recognises it, of those that make what is accepted.

    Raises:
        DataError: No row makes what is accepted, or the source is plainly of another kind.
    """
    wanted = " or ".join(sorted(kind.value for kind in accepts))
    fitting = [opener for opener in OPENERS if opener.kinds & accepts]
    if not fitting:
        raise DataError(f"This version cannot open data of the kind {wanted}.", where=_place(source))
    # A picture file may be a set of one, and a pair of paths only two domains; but text is never images.
    if text.recognises(source) and DataKind.TEXT not in accepts:
        raise DataError(f"This is text, and the recipe needs {wanted}.", where=_place(source), fix=_recipes_fix())
    return next((opener for opener in fitting if opener.recognises(source)), fitting[-1])


def open_dataset(
    source: Any,
    settings: DataSettings | None = None,
    *,
    accepts: frozenset[DataKind] = frozenset({DataKind.IMAGES, DataKind.LABELLED_IMAGES}),
    seed: int = 0,
    min_count: int = 1,
    labels: Sequence[Any] | npt.NDArray[Any] | None = None,
) -> Dataset:
    """Open data for a recipe.

    Args:
        source: A path (folder, archive, array file, text file, picture), a bundled set's name, "hf:NAME", an
            array or tensor, `(images, labels)`, two sets for domains, or a `Dataset` already open.
        settings: Size, channels, mirroring and held-out share.
        accepts: The kinds the recipe trains on.
        seed: Seed of the held-out split.
        min_count: Fewest training samples (a batch).
        labels: One value an image, in place of the labels the source has.

    Returns:
        A dataset whose `spec.kind` is one of `accepts`. Labels that are found but not accepted are dropped.

    Raises:
        DataError: The data cannot be read, is unsafe, does not fit what is accepted, or is too little.
        MissingExtraError: An optional package is needed.
    """
    settings = settings or DataSettings()
    if isinstance(source, Dataset):
        dataset = source
    else:
        opener = opener_for(source, accepts)
        if labels is not None:
            if DataKind.LABELLED_IMAGES not in opener.kinds:
                raise DataError("Labels are for sets of images only.", where=_place(source))
            source = (source, labels)
        dataset = opener.open(source, settings, seed=seed)
        _report_skipped(dataset)
    if dataset.spec.kind == DataKind.LABELLED_IMAGES and dataset.spec.kind not in accepts:
        dataset = dataset.without_labels() if isinstance(dataset, ImageDataset) else dataset
    if dataset.spec.kind not in accepts:
        raise _wrong_kind(dataset, accepts)
    if dataset.spec.kind != DataKind.SINGLE_IMAGE:  # one picture is repeated as often as a batch needs it
        require_enough(dataset, min_count)
    return dataset


def _wrong_kind(dataset: Dataset, accepts: frozenset[DataKind]) -> DataError:
    wanted = " or ".join(sorted(kind.value for kind in accepts))
    if dataset.spec.kind == DataKind.IMAGES and DataKind.LABELLED_IMAGES in accepts:
        notes = "; ".join(note for note in getattr(dataset, "notes", []) if "label" in note)
        return DataError(
            "The recipe needs labelled images, and these have no labels.",
            where=f"{dataset.spec.name}: {notes}" if notes else dataset.spec.name,
            fix="put each class in its own folder, add StyleGAN's dataset.json, or choose another recipe",
        )
    return DataError(
        f"The recipe needs {wanted}, and this is {dataset.spec.kind.value}.",
        where=dataset.spec.name,
        fix=_recipes_fix(),
    )


def _recipes_fix() -> str:
    return "`ganwright recipes` says which data each recipe takes"


def _place(source: object) -> str:
    return str(Path(source)) if isinstance(source, str | os.PathLike) else type(source).__name__


def _report_skipped(dataset: Dataset) -> None:
    skipped: list[tuple[str, str]] = getattr(dataset, "skipped", [])
    for name, reason in skipped[:_NAMED_SKIPPED]:
        console.print(f"[yellow]skipped {escape(name)}: {escape(reason)}")
    if skipped:
        more = f" (the first {_NAMED_SKIPPED} are named)" if len(skipped) > _NAMED_SKIPPED else ""
        console.print(f"[yellow]{len(skipped)} samples could not be used{more}; `ganwright data` names them all")
