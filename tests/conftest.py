"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("OMP_NUM_THREADS", "1" if "PYTEST_XDIST_WORKER" in os.environ else "2")


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """Path of a real data file by name; skips, saying so, where it is absent."""

    def find(name: str) -> Path:
        folder = Path(os.environ.get("GANWRIGHT_TEST_DATA", ROOT.parent / "shared" / "data"))
        path = folder / name
        if not path.exists():
            pytest.skip(f"real data {name} is not in {folder} (set GANWRIGHT_TEST_DATA)")
        return path

    return find


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests never read or write the user's cache."""
    monkeypatch.setenv("GANWRIGHT_CACHE", str(tmp_path_factory.getbasetemp() / "ganwright-cache"))
