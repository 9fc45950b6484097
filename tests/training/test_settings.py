"""Settings: one flat set of names, checked, from preset, file and flags."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import ganwright as gw
from ganwright.config import DataSettings, EvalSettings, TrainSettings
from ganwright.errors import SettingsError
from ganwright.recipes.registry import recipes
from ganwright.training.launch import make_fabric
from ganwright.training.settings import read_settings_file, resolve


def test_no_name_occurs_twice() -> None:
    shared = [f.name for group in (TrainSettings, DataSettings, EvalSettings) for f in fields(group)]
    assert len(shared) == len(set(shared))
    for info in recipes().values():
        own = {f.name for f in fields(info.recipe.Settings)}
        assert not own & set(shared), info.name


@pytest.mark.parametrize("name", ["gan", "dcgan", "lsgan", "wgan", "wgan-gp", "sngan", "cgan"])
def test_every_recipe_resolves_and_survives_a_round_trip(name: str) -> None:
    settings = resolve(name)
    assert settings.changed() == {}
    again = resolve(name, settings.flat())
    assert again == settings


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stesp": 3}, "Did you mean 'steps'"),
        ({"lr_gg": 3}, "Did you mean 'lr_g'"),
        ({"steps": "many"}, "whole number"),
        ({"steps": 0}, "at least 1"),
        ({"steps": True}, "whole number"),
        ({"held_out": 1.0}, "between 0 and 0.9"),
        ({"lr_schedule": "cosin"}, "Did you mean 'cosine'"),
        ({"flip": "yes"}, "true or false"),
        ({"metrics": "fd"}, "a list"),
        ({"betas_g": [0.5]}, "a list of 2"),
        ({"batch_size": 9, "devices": 2}, "divisible"),
    ],
)
def test_wrong_settings_say_what_is_wrong(change: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        resolve("dcgan", change)


def test_later_layers_win_and_yaml_text_numbers_are_read(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("lr_g: 2e-4\nsteps: 7\nbatch-size: 5\nchannels: 1\n")
    settings = resolve("dcgan", read_settings_file(tmp_path / "s.yaml"), {"steps": 9})
    assert (settings.recipe.lr_g, settings.train.steps, settings.train.batch_size) == (2e-4, 9, 5)
    assert settings.data.channels == "1"
    assert resolve("dcgan").train.batch_size == 128  # the preset's


@pytest.mark.parametrize("content", ["- a list\n", "a: [1", "\x00\xff"])
def test_a_bad_settings_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "s.yaml").write_bytes(content.encode("latin-1"))
    with pytest.raises(SettingsError):
        read_settings_file(tmp_path / "s.yaml")


def test_half_precision_and_gpus_are_refused_on_a_cpu() -> None:
    for precision in ("bf16", "fp16"):
        with pytest.raises(SettingsError, match="not supported on a CPU"):
            make_fabric(TrainSettings(precision=precision, accelerator="cpu"))


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(SettingsError, match="No recipe"):
        gw.train()
    with pytest.raises(SettingsError, match="No data"):
        gw.train("dcgan")
