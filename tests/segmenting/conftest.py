"""One toy run, its annotated pictures and its label head, for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from ganwright.segmenting import HeadSettings, make_pictures, train_head

from . import toy

QUICK = HeadSettings(members=4, steps=300, pixels=128, lr=5e-3)


@pytest.fixture(autouse=True, scope="session")
def _toys() -> None:
    toy.install()


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, _toys: None) -> Path:
    return toy.trained(tmp_path_factory.mktemp("run") / "toy")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory, run: Path) -> Path:
    folder = tmp_path_factory.mktemp("pictures") / "to-annotate"
    make_pictures(run, folder, n=6, device="cpu", quiet=True)
    toy.paint(folder)
    return folder


@pytest.fixture(scope="session")
def head(tmp_path_factory: pytest.TempPathFactory, run: Path, pictures: Path) -> Path:
    folder = tmp_path_factory.mktemp("head") / "head"
    train_head(run, pictures, folder, settings=QUICK, device="cpu", quiet=True)
    return folder
