"""Runs of the toys."""

from __future__ import annotations

from pathlib import Path

import pytest

import ganwright as gw
from ganwright.exploring import Explorer

from ..training.helpers import TINY, write_arrays
from .toys import ConditionalStyleToy, Nothing, PlainToy, StyleToy, register_toys, spec


def _train(folder: Path, recipe: str, classes: int = 0, **options: object) -> Path:
    register_toys()
    data = write_arrays(folder / "images.npz", classes=classes, channels=3)
    return gw.train(recipe, data, out=folder / "run", write_html=False, **{**TINY, "steps": 2, **options}).path


@pytest.fixture(scope="module")
def style_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _train(tmp_path_factory.mktemp("style"), "style-toy", resolution=16)


@pytest.fixture(scope="module")
def plain_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _train(tmp_path_factory.mktemp("plain"), "plain-toy", resolution=16)


@pytest.fixture
def style() -> Explorer:
    return Explorer(StyleToy(spec(), Nothing()).eval(), "toys")


@pytest.fixture
def conditional() -> Explorer:
    return Explorer(ConditionalStyleToy(spec(3), Nothing()).eval(), "kinds")


@pytest.fixture
def plain() -> Explorer:
    return Explorer(PlainToy(spec(), Nothing()).eval(), "plain")
