"""Checkpoints: what is kept, what happens when they are damaged or cannot be written."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ganwright as gw
from ganwright.errors import CheckpointError, DataError, TrainingError
from ganwright.training import checkpoint

from .helpers import SMALL_NETWORKS, TINY, assert_identical, without_times, write_arrays

OPTIONS = {**TINY, **SMALL_NETWORKS, "write_html": False}


def train(tmp_path: Path, name: str, **changes: Any) -> Any:
    data = tmp_path / "images.npz"
    if not data.exists():
        write_arrays(data)
    return gw.train("dcgan", data, out=tmp_path / name, **{**OPTIONS, **changes})


def test_the_same_seed_gives_the_same_run_and_another_does_not(tmp_path: Path) -> None:
    train(tmp_path, "a")
    train(tmp_path, "b")
    train(tmp_path, "c", seed=1)
    assert_identical(tmp_path / "a", tmp_path / "b", 12)
    with pytest.raises(AssertionError):
        assert_identical(tmp_path / "a", tmp_path / "c", 12)


def test_from_run_repeats_a_run(tmp_path: Path) -> None:
    train(tmp_path, "a", lr_g=3e-4)
    gw.train(from_run=tmp_path / "a", out=tmp_path / "b", write_html=False)
    assert_identical(tmp_path / "a", tmp_path / "b", 12)


def test_resuming_with_more_steps_equals_a_longer_run(tmp_path: Path) -> None:
    options = {"ema_half_life": 5.0}  # by default it depends on the number of steps
    train(tmp_path, "long", **options)
    short = train(tmp_path, "short", steps=6, **options)
    gw.resume(short, steps=12, write_html=False)
    assert_identical(tmp_path / "long", tmp_path / "short", 12)


def test_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    assert [step for step, _ in train(tmp_path, "two").checkpoints()] == [9, 12]
    assert [step for step, _ in train(tmp_path, "all", keep_last=9).checkpoints()] == [3, 6, 9, 12]


def test_the_best_checkpoint_is_kept(tmp_path: Path) -> None:
    run = train(tmp_path, "a", keep_last=9)
    checkpoint.prune(run, 1, best_step=6)
    assert [step for step, _ in run.checkpoints()] == [6, 12]


@pytest.mark.parametrize("file", ["networks.safetensors", "optimizers.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, file: str) -> None:
    train(tmp_path, "whole")
    run = train(tmp_path, "hurt")
    damaged = run.path / "checkpoints" / "step-000012" / file
    damaged.write_bytes(damaged.read_bytes()[:-20])
    step, _, passed_over = checkpoint.last_good_checkpoint(run)
    assert step == 9 and [path.name for path in passed_over] == ["step-000012"]
    gw.resume(run, write_html=False)
    assert_identical(tmp_path / "whole", tmp_path / "hurt", 12)


def test_a_full_disk_is_reported_and_the_last_checkpoint_is_intact(tmp_path: Path, monkeypatch: Any) -> None:
    train(tmp_path, "whole")
    save = checkpoint.save_file

    def fails_at_nine(tensors: dict[str, torch.Tensor], path: Path) -> None:
        if "step-000009" in str(path):
            Path(path).write_bytes(b"half of it")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(tensors, path)

    monkeypatch.setattr(checkpoint, "save_file", fails_at_nine)
    with pytest.raises(CheckpointError, match="last good checkpoint is of step 6") as caught:
        train(tmp_path, "full")
    assert "ganwright resume" in str(caught.value)
    monkeypatch.undo()
    assert sorted(p.name for p in (tmp_path / "full" / "checkpoints").iterdir()) == ["step-000003", "step-000006"]
    gw.resume(tmp_path / "full", write_html=False)
    assert_identical(tmp_path / "whole", tmp_path / "full", 12)


def test_weights_that_are_no_numbers_are_never_saved(tmp_path: Path) -> None:
    with pytest.raises(TrainingError):
        train(tmp_path, "nan", lr_g=1e30, lr_d=1e30, log_every=1)
    run = gw.load_run(tmp_path / "nan")
    for _, folder in run.checkpoints():
        weights = checkpoint.read_checkpoint(folder)["networks"]
        assert all(t.isfinite().all() for t in weights.values() if t.is_floating_point())
    assert run.events("stopped")


def test_changed_data_is_refused(tmp_path: Path) -> None:
    run = train(tmp_path, "a", steps=6)
    write_arrays(tmp_path / "images.npz", n=40)
    with pytest.raises(DataError, match="changed"):
        gw.resume(run, steps=12)


def test_what_a_killed_write_leaves_is_removed(tmp_path: Path) -> None:
    train(tmp_path, "whole")
    run = train(tmp_path, "killed")
    shutil.rmtree(run.path / "checkpoints" / "step-000012")
    torn = run.path / "checkpoints" / ".step-000012.tmp-99"
    torn.mkdir()
    (torn / "networks.safetensors").write_bytes(b"half")
    with (run.path / "log.jsonl").open("a") as file:
        file.write('{"step": 13, "loss_gen')
    gw.resume(run, write_html=False)
    assert not torn.exists()
    assert_identical(tmp_path / "whole", tmp_path / "killed", 12)
    whole = gw.load_run(tmp_path / "whole")
    assert without_times(whole.log_records()) == without_times(run.log_records())


def test_adams_moments_keep_the_layout_of_their_weights(tmp_path: Path) -> None:
    run = train(tmp_path, "a")
    from ganwright.data.opening import open_dataset
    from ganwright.training.ema import MovingAverage
    from ganwright.training.loop import build_recipe
    from ganwright.training.settings import resolve

    recipe = build_recipe(resolve("dcgan", run.config["settings"]), open_dataset(tmp_path / "images.npz"))
    parts = checkpoint.TrainingParts(recipe, recipe.optimizers(), MovingAverage(recipe, ("generator",), 1.0, 0.0))
    checkpoint.restore(parts, checkpoint.read_checkpoint(run.checkpoints()[-1][1]))
    compared = 0
    for optimizer in parts.optimizers.values():
        for parameter, state in optimizer.state.items():
            assert state["exp_avg"].stride() == parameter.stride()
            compared += parameter.dim() == 4
    assert compared >= 4


LEAVES = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text(max_size=5)
TENSORS = st.sampled_from(
    [
        torch.tensor(3.5),
        torch.zeros(0, 2),
        torch.arange(6).view(2, 3).t(),
        torch.tensor([True, False]),
        torch.ones(2, dtype=torch.bfloat16),
    ]
)
NESTED = st.recursive(
    LEAVES | TENSORS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(st.characters(categories=["Ll"]), max_size=4), inner, max_size=3)
        | st.dictionaries(st.integers(0, 9), inner, max_size=3)
    ),
    max_leaves=8,
)


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal, a, b))
    return type(a) is type(b) and a == b


@settings(max_examples=100, deadline=None)
@given(NESTED)
def test_pack_and_unpack_are_inverse(value: Any) -> None:
    tensors: dict[str, torch.Tensor] = {}
    description = json.loads(json.dumps(checkpoint.pack(value, tensors)))
    assert equal(checkpoint.unpack(description, tensors), value)


def test_a_damaged_newest_checkpoint_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_arrays(tmp_path / "images.npz")
    run = gw.train("dcgan", data, out=tmp_path / "run", write_html=False, **{**TINY, **SMALL_NETWORKS, "keep_last": 3})
    newest = run.checkpoints()[-1][1]
    (newest / "networks.safetensors").write_bytes(b"cut")
    capsys.readouterr()
    gw.resume(run, write_html=False)
    told = capsys.readouterr()
    assert "step-000012 is damaged" in told.err + told.out and "going on from step 9" in told.err + told.out
    assert run.checkpoints()[-1][0] == 12


def test_a_best_by_that_is_not_measured_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_arrays(tmp_path / "images.npz", classes=2)
    options = {**TINY, **SMALL_NETWORKS, "evaluate_every": 6, "eval_samples": 16, "metrics": ("class-coverage",)}
    gw.train("dcgan", data, out=tmp_path / "run", write_html=False, best_by="foo", **options)
    told = capsys.readouterr()
    said = " ".join((told.err + told.out).split())
    assert said.count("'foo' was not measured") == 1 and "one of class-coverage" in said


def test_a_report_that_fails_does_not_undo_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("no luck")

    monkeypatch.setattr("ganwright.api.write_html_report", fail)
    run = gw.train("dcgan", write_arrays(tmp_path / "i.npz"), out=tmp_path / "run", **{**TINY, **SMALL_NETWORKS})
    assert run.checkpoints()[-1][0] == 12
    assert "the report could not be written (no luck)" in " ".join("".join(capsys.readouterr()).split())
