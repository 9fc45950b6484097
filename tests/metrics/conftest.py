"""Fixtures of the metrics' tests."""

from __future__ import annotations

import pytest
import torch
from image_sets import Pool


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("extractor") / "pool.pt"
    torch.jit.script(Pool()).save(str(path))
    return f"{path}@8"
