"""Two gloo processes give the loss trajectory of one, at the same global batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import ganwright as gw

from .helpers import SMALL_NETWORKS, TINY, weights, write_arrays

RECIPES = {
    "dcgan": {**SMALL_NETWORKS},  # batch norm in both networks
    "wgan-gp": {**SMALL_NETWORKS, "d_steps": 2, "resolution": 16, "lr_schedule": "constant"},  # double backward
    "cgan": {**SMALL_NETWORKS, "resolution": 16, "conditioning": "auxiliary"},
}


@pytest.mark.parametrize("recipe", list(RECIPES))
def test_two_processes_equal_one(recipe: str, tmp_path: Path) -> None:
    data = write_arrays(tmp_path / "images.npz", classes=3 if recipe == "cgan" else 0)
    settings = {**TINY, "log_every": 1, "steps": 8, "checkpoint_every": 8, **RECIPES[recipe]}
    one = gw.train(recipe, data, out=tmp_path / "one", write_html=False, **settings)
    two = gw.train(recipe, data, out=tmp_path / "two", write_html=False, devices=2, **settings)
    records = list(zip(one.log_records(), two.log_records(), strict=True))
    assert len(records) == 8
    for mine, theirs in records:
        losses = [name for name in mine if name.startswith(("loss_", "d_real", "d_fake", "penalty"))]
        assert len(losses) >= 4
        for name in losses:
            assert theirs[name] == pytest.approx(mine[name], rel=2e-3, abs=2e-4), (mine["step"], name)
    a, b = weights(one.path, 8)["networks"], weights(two.path, 8)["networks"]
    for name in a:
        if a[name].dtype.kind == "f":
            assert np.abs(a[name] - b[name]).max() < 5e-3, name
