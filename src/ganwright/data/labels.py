"""Which class each image belongs to: from class folders, StyleGAN's `dataset.json`, or given values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ganwright.errors import DataError

Labels = npt.NDArray[np.int64]

SPLIT_FOLDERS = frozenset({"train", "training", "test", "testing", "val", "valid", "validation"})
"""First-level folders that hold a split, not a class (compared in lower case)."""


@dataclass(frozen=True)
class Labelling:
    """Labels of a set.

    Attributes:
        labels: int64 (N,), indices into `class_names`, or None where the set has no labels.
        class_names: Names of the classes.
        notes: What a person should know about how they were found.
    """

    labels: Labels | None = None
    class_names: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)


def common_folder(names: Sequence[str]) -> str:
    """The folder all names lie in, with a final slash, or "": `set/` for `set/a/1.png, set/b/2.png`."""
    if not names:
        return ""
    low, high = min(names).split("/")[:-1], max(names).split("/")[:-1]
    shared = []
    for a, b in zip(low, high, strict=False):
        if a != b:
            break
        shared.append(a)
    return "".join(part + "/" for part in shared)


def labels_from_folders(names: Sequence[str]) -> Labelling:
    """Classes from the first folder level below the common one.

    Folders named like splits (train, test, val, …) at that level are no classes: all are used and the level
    below is looked at. There must be two classes or more, and every image must lie in one.

    Args:
        names: Relative paths with forward slashes, in the set's order.
    """
    notes: list[str] = []
    rest = list(names)
    while True:
        shared = len(common_folder(rest))
        rest = [name[shared:] for name in rest]
        outside = [name for name, short in zip(names, rest, strict=True) if "/" not in short]
        first = {short.split("/", 1)[0] for short in rest if "/" in short}
        splits = {folder for folder in first if folder.lower() in SPLIT_FOLDERS}
        if outside or not splits or splits != first:
            break
        notes.append(f"split folders {', '.join(sorted(splits))} are used together")
        rest = [short.split("/", 1)[1] for short in rest]
    if splits and splits != first:
        others = sorted(first - splits)
        notes.append(f"no labels: split folders ({min(splits)}) and others ({others[0]}) are mixed at one level")
        return Labelling(notes=notes)
    if len(first) < 2:
        return Labelling(notes=notes)
    if outside:
        notes.append(f"no labels: {len(outside)} images lie outside the class folders, such as {outside[0]}")
        return Labelling(notes=notes)
    found = labels_from_values([short.split("/", 1)[0] for short in rest])
    return Labelling(found.labels, found.class_names, notes)


def labels_from_values(values: Sequence[Any] | npt.NDArray[Any], *, where: str = "labels") -> Labelling:
    """Classes from one value an image: integers, names, or one-hot rows.

    Classes are the values that occur, numbers in numerical order and names in alphabetical order.

    Raises:
        DataError: The values are neither integers nor names.
    """
    array = np.asarray(values)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2 and _is_one_hot(array):
        array = array.argmax(axis=1)
    if array.dtype == bool:
        array = array.astype(np.int64)
    if array.dtype.kind == "f" and np.isfinite(array).all() and (array == np.round(array)).all():
        array = array.astype(np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iuU":
        raise DataError(
            f"Labels must be one integer or one name an image, not {array.dtype} of shape {array.shape}.",
            where=where,
            fix="give integers 0, 1, 2, …, one for each image",
        )
    if array.dtype.kind == "U" and all(name.isascii() and name.isdigit() for name in set(array.tolist())):
        present = sorted(set(array.tolist()), key=lambda name: (int(name), name))  # "10" comes after "9"
        index = {name: i for i, name in enumerate(present)}
        labels = np.array([index[name] for name in array.tolist()], np.int64)
        names = tuple(present)
    else:
        unique, inverse = np.unique(array, return_inverse=True)
        labels, names = inverse.astype(np.int64), tuple(str(value) for value in unique.tolist())
    if len(names) < 2:
        return Labelling(notes=["no labels: all images have the same one"])
    return Labelling(labels, names)


def _is_one_hot(array: npt.NDArray[Any]) -> bool:
    return array.dtype.kind in "biuf" and bool(((array == 0) | (array == 1)).all() and (array.sum(1) == 1).all())


def labels_from_dataset_json(content: bytes, folder: str, names: Sequence[str]) -> Labelling:
    """StyleGAN's `dataset.json`: `{"labels": [["00000/img00000.png", 6], …]}`, or null for an unlabelled set.

    Args:
        content: The file's content.
        folder: The folder it lies in, with a final slash, or an empty string.
        names: Names of the images.

    Raises:
        DataError: It is not of this form, or images lack a label.
    """
    where = folder + "dataset.json"
    fix = 'it should read {"labels": [["path", 0], …]}; remove it to take labels from folders'
    try:
        found = json.loads(content)["labels"]
        table = None if found is None else {folder + str(name): label for name, label in found}
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise DataError("dataset.json is not in StyleGAN's form.", where=where, fix=fix) from error
    if not table:
        return Labelling(notes=["no labels: dataset.json says so"])
    if not all(isinstance(label, int) and not isinstance(label, bool) for label in table.values()):
        raise DataError("Labels in dataset.json must be integers.", where=where, fix=fix)
    missing = [name for name in names if name not in table]
    if missing:
        raise DataError(
            f"dataset.json gives no label for {len(missing)} of {len(names)} images, such as {missing[0]}.",
            where=where,
            fix="add them, or remove dataset.json to take labels from folders",
        )
    return labels_from_values([table[name] for name in names], where=where)
