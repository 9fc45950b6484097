"""Beginning with another run's weights, and FreezeD."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import ganwright as gw
from ganwright.errors import RunError, SettingsError

from .helpers import SMALL_NETWORKS, TINY, assert_identical, weights, write_arrays

OPTIONS = {**TINY, **SMALL_NETWORKS, "write_html": False}


@pytest.fixture
def source(tmp_path: Path) -> gw.TrainedRun:
    data = write_arrays(tmp_path / "images.npz")
    return gw.train("dcgan", data, out=tmp_path / "source", norm_d="none", **OPTIONS)


def test_the_first_step_begins_with_the_weights_of_the_run(source: gw.TrainedRun, tmp_path: Path) -> None:
    """With a learning rate of 0 nothing but batch statistics moves, so the weights stay those of the source."""
    options = {**OPTIONS, "norm_d": "none", "steps": 3, "lr_g": 0.0, "lr_d": 0.0, "seed": 5}
    gw.train("dcgan", tmp_path / "images.npz", out=tmp_path / "tuned", init_from=str(source.path), **options)
    before, after = weights(source.path, 12), weights(tmp_path / "tuned", 3)
    moving = ("running_mean", "running_var", "num_batches_tracked", "last_penalty")
    compared = 0
    for name, value in before["networks"].items():
        if not name.endswith(moving):
            assert value.tobytes() == after["networks"][name].tobytes(), name
            compared += 1
    assert compared > 8


def test_the_average_begins_with_the_average(source: gw.TrainedRun, tmp_path: Path) -> None:
    options = {**OPTIONS, "norm_d": "none", "steps": 1, "checkpoint_every": 1, "lr_g": 0.0, "lr_d": 0.0}
    options |= {"ema_half_life": 1e9, "ema_ramp_up": 0.0}
    gw.train("dcgan", tmp_path / "images.npz", out=tmp_path / "tuned", init_from=str(source.path), **options)
    before, after = weights(source.path, 12)["ema"], weights(tmp_path / "tuned", 1)["ema"]
    name = next(name for name in before if name.endswith("weight"))
    live = weights(source.path, 12)["networks"][name]
    np.testing.assert_allclose(after[name], before[name], atol=1e-6)
    assert np.abs(before[name] - live).max() > 1e-5, "the average and the weights differ, or this shows nothing"


def test_layers_of_another_shape_are_left_and_named(
    source: gw.TrainedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_arrays(tmp_path / "labelled.npz", classes=3)
    options = {**OPTIONS, "norm_d": "none", "conditioning": "projection"}
    gw.train("dcgan", data, out=tmp_path / "tuned", init_from=str(source.path), **options)
    told = capsys.readouterr()
    assert "left as drawn: generator.embedding.weight" in told.out + told.err


@pytest.mark.parametrize("architecture", ["dcgan", "resnet", "mlp"])
def test_frozen_blocks_keep_their_weights_and_the_others_learn(architecture: str, tmp_path: Path) -> None:
    data = write_arrays(tmp_path / "images.npz")
    options = {**OPTIONS, "norm_d": "none", "architecture": architecture, "checkpoint_every": 1, "keep_last": 20}
    gw.train("dcgan", data, out=tmp_path / "run", freeze_d=1, **options)
    first, last = weights(tmp_path / "run", 1)["networks"], weights(tmp_path / "run", 12)["networks"]
    of_d = [name for name in first if name.startswith("discriminator.") and name.endswith("weight")]
    same = [name for name in of_d if first[name].tobytes() == last[name].tobytes()]
    assert same and len(same) < len(of_d)
    assert all(name.startswith(("discriminator.layers.0.", "discriminator.blocks.0.")) for name in same), same


def test_resumed_fine_tuning_is_identical(source: gw.TrainedRun, tmp_path: Path) -> None:
    options = {**OPTIONS, "norm_d": "none", "freeze_d": 1, "init_from": str(source.path)}
    whole = gw.train("dcgan", tmp_path / "images.npz", out=tmp_path / "whole", **options)
    half = gw.train("dcgan", tmp_path / "images.npz", out=tmp_path / "half", **{**options, "steps": 6})
    gw.resume(half, steps=12, write_html=False)
    assert_identical(whole.path, half.path, 12)


def test_what_cannot_be(source: gw.TrainedRun, tmp_path: Path) -> None:
    data = tmp_path / "images.npz"
    with pytest.raises(SettingsError, match="has no weights that fit"):
        gw.train("dcgan", data, out=tmp_path / "a", init_from=str(source.path), **{**OPTIONS, "architecture": "mlp"})
    with pytest.raises(RunError, match="not a run folder"):
        gw.train("dcgan", data, out=tmp_path / "b", init_from=str(tmp_path / "nowhere"), **OPTIONS)
    with pytest.raises(SettingsError, match=r"this recipe has \d"):
        gw.train("dcgan", data, out=tmp_path / "c", freeze_d=50, **OPTIONS)
