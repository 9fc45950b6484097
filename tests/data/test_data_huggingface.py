"""Hugging Face datasets made in memory and on disk; the network is not used."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from picture_sets import encode, noise

from ganwright.config import DataSettings
from ganwright.data.huggingface import parse
from ganwright.data.opening import open_dataset
from ganwright.errors import DataError, MissingExtraError


def test_references() -> None:
    assert parse("hf:mnist") == ("mnist", None, "train")
    assert parse("hf:owner/name?split=test") == ("owner/name", None, "test")
    assert parse("hf:owner/name/config") == ("owner/name", "config", "train")
    assert parse("hf:cifar10?config=plain_text&split=train[:10%25]") == (
        "cifar10",
        "plain_text",
        "train[:10%]",
    )
    for bad in ("hf:", "hf:x?splt=train"):
        with pytest.raises(DataError, match=r"No name|Unknown option 'splt'"):
            parse(bad)


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"ganwright\[huggingface\]"):
        open_dataset("hf:mnist")


def test_in_memory_and_on_disk(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    images = [noise(i, 8, 8) for i in range(12)]
    features = datasets.Features(
        {
            "id": datasets.Value("int64"),
            "img": datasets.Image(),
            "label": datasets.ClassLabel(names=["cat", "dog", "eel"]),
        }
    )
    cells = [{"bytes": encode(image), "path": None} for image in images]
    cells[5] = {"bytes": b"broken", "path": None}
    labels = [i % 2 * 2 for i in range(12)]
    made = datasets.Dataset.from_dict({"id": range(12), "img": cells, "label": labels}, features=features)
    datasets.DatasetDict({"train": made}).save_to_disk(str(tmp_path / "saved"))
    chosen = DataSettings(resolution=8, held_out=0)
    for source in (made, f"hf:{tmp_path / 'saved'}", f"hf:{tmp_path / 'saved'}?split=train"):
        data = open_dataset(source, chosen)
        np.testing.assert_array_equal(data.images, np.stack([x for i, x in enumerate(images) if i != 5]))
        assert data.spec.class_names == ("cat", "eel")
        assert data.labels.tolist() == [label // 2 for i, label in enumerate(labels) if i != 5]
        assert data.skipped[0][0] == "000005"
    with pytest.raises(DataError, match="no split 'test'"):
        open_dataset(f"hf:{tmp_path / 'saved'}?split=test")
    with pytest.raises(DataError, match="no column of images; its columns are id"):
        open_dataset(made.select_columns(["id"]))
