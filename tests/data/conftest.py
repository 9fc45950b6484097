"""Fixtures of the data tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from picture_sets import Files, encode, noise


@pytest.fixture
def two_classes() -> Files:
    """40 noise pictures of 32x32 in two class folders below one folder."""
    return {f"set/{'cat' if i % 2 else 'dog'}/{i:02d}.png": encode(noise(i)) for i in range(40)}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own."""
    monkeypatch.setenv("GANWRIGHT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def packs_small_sets(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sets of more than ten files are packed; gives the folder of packs."""
    monkeypatch.setattr("ganwright.data.pack.MANY_IMAGES", 10)
    return cache / "packed"
