"""Labels against hand-worked cases."""

from __future__ import annotations

import json
import posixpath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganwright.data.labels import (
    common_folder,
    labels_from_dataset_json,
    labels_from_folders,
    labels_from_values,
)
from ganwright.errors import DataError

CASES = {
    "class folders": (["cat/1.png", "dog/1.png", "dog/2.png"], ["cat", "dog"], [0, 1, 1]),
    "below a common folder": (["s/t/cat/1.png", "s/t/dog/1.png"], ["cat", "dog"], [0, 1]),
    "deeper folders belong to their class": (
        ["cat/a/1.png", "cat/b/1.png", "dog/1.png"],
        ["cat", "dog"],
        [0, 0, 1],
    ),
    "split folders are no classes": (
        ["test/a/1.png", "train/a/1.png", "train/b/1.png"],
        ["a", "b"],
        [0, 0, 1],
    ),
    "splits in capitals": (["Test/a/1.png", "Train/b/1.png"], ["a", "b"], [0, 1]),
    "one split alone": (["train/a/1.png", "train/b/1.png"], ["a", "b"], [0, 1]),
    "numbers in numerical order": (["10/a.png", "2/a.png", "9/a.png"], ["2", "9", "10"], [2, 0, 1]),
    "flat": (["1.png", "2.png"], [], None),
    "one folder": (["cat/1.png", "cat/2.png"], [], None),
    "splits only": (["test/1.png", "train/1.png", "val/1.png"], [], None),
    "one outside": (["0.png", "cat/1.png", "dog/1.png"], [], None),
    "splits among others, deeper": (["extra/a/1.png", "train/a/1.png", "train/b/1.png"], [], None),
    "splits among others": (["extra/1.png", "train/a/1.png", "train/b/1.png"], [], None),
}


@pytest.mark.parametrize("case", CASES)
def test_folders(case: str) -> None:
    names, classes, labels = CASES[case]
    found = labels_from_folders(names)
    assert list(found.class_names) == classes
    assert (None if found.labels is None else found.labels.tolist()) == labels
    assert bool(found.notes) == (
        case
        in (
            "split folders are no classes",
            "splits in capitals",
            "splits only",
            "one outside",
            "splits among others",
            "splits among others, deeper",
        )
    )


segments = st.lists(st.sampled_from("abc"), min_size=1, max_size=4)


@given(st.lists(segments, min_size=1, max_size=6))
def test_common_folder_is_the_common_path(paths: list[list[str]]) -> None:
    folders = ["/".join(["r", *path]) for path in paths]
    names = sorted(f"{folder}/{i}.png" for i, folder in enumerate(folders))
    assert common_folder(names) == posixpath.commonpath([posixpath.dirname(n) for n in names]) + "/"


def test_values() -> None:
    found = labels_from_values(np.array([[3], [7], [3]], np.uint8))
    assert (found.class_names, found.labels.tolist()) == (("3", "7"), [0, 1, 0])
    assert labels_from_values(["b", "a"]).labels.tolist() == [1, 0]
    assert labels_from_values([[0, 1, 0], [1, 0, 0]]).labels.tolist() == [1, 0]
    assert labels_from_values([1.0, 0.0]).class_names == ("0", "1")
    assert labels_from_values([5, 5]).labels is None
    for bad in ([0.5, 1.0], [[1, 2], [3, 4]], [None, 1], [float("nan"), 1.0]):
        with pytest.raises(DataError, match="one integer or one name"):
            labels_from_values(bad)


def test_dataset_json() -> None:
    names = ["s/00/a.png", "s/00/b.png"]
    content = json.dumps({"labels": [["00/b.png", 4], ["00/a.png", 9]]}).encode()
    found = labels_from_dataset_json(content, "s/", names)
    assert (found.class_names, found.labels.tolist()) == (("4", "9"), [1, 0])
    assert labels_from_dataset_json(b'{"labels": null}', "", names).labels is None
    with pytest.raises(DataError, match=r"no label for 1 of 2 images, such as s/00/b\.png"):
        labels_from_dataset_json(b'{"labels": [["00/a.png", 1]]}', "s/", names)
    for bad in (b"[", b"[]", b"{}", b'{"labels": [1]}', b"\xff", b'{"labels": ' + b"[" * 100_000):
        with pytest.raises(DataError, match="StyleGAN"):
            labels_from_dataset_json(bad, "", names)
    with pytest.raises(DataError, match="must be integers"):
        labels_from_dataset_json(b'{"labels": [["a", [0.1, 0.9]]]}', "", ["a"])
