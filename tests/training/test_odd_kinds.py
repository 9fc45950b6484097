"""The loop, the run folder and resumption are general: four odd kinds of recipe go through them unchanged."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ganwright as gw
from ganwright.recipes.registry import recipes, register
from ganwright.run import Run

from .helpers import TINY, assert_identical, without_times, write_arrays, write_pictures
from .odd_recipes import ODD


@pytest.fixture(autouse=True)
def registered():
    for info in ODD.values():
        register(info)
    yield
    for name in ODD:
        recipes().pop(name, None)


def data_for(name: str, folder: Path) -> Path:
    if name == "odd-population":
        return write_arrays(folder / "images.npz")
    if name == "odd-translator":
        for side, seed in (("trainA", 1), ("trainB", 2)):
            write_pictures(folder / "domains" / side, 10, seed=seed)
        return folder / "domains"
    if name == "odd-text":
        (folder / "lines.txt").write_text("a cat sat\na dog ran off\nthe cat ran\nthe dog sat down\n" * 5)
        return folder / "lines.txt"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / "one.png")
    return folder / "one.png"


@pytest.mark.parametrize("name", list(ODD))
def test_trains_writes_a_run_and_resumes_bit_identically(name: str, tmp_path: Path) -> None:
    data = data_for(name, tmp_path)
    settings = {**TINY, "batch_size": 4, "resolution": 16}
    whole = gw.train(name, data, out=tmp_path / "whole", **settings)

    # A second run loses all that came after step 6, as if it had been killed, and is continued in new objects.
    run = gw.train(name, data, out=tmp_path / "half", **{**settings, "keep_last": 9})
    for step, folder in run.checkpoints():
        if step > 6:
            shutil.rmtree(folder)
    assert max(step for step, _ in run.checkpoints()) < 12
    gw.resume(tmp_path / "half")
    assert_identical(tmp_path / "whole", tmp_path / "half", 12)
    assert without_times(whole.log_records()) == without_times(Run(tmp_path / "half").log_records())

    assert [step for step, _ in whole.sample_files()] == [0, 6, 12]
    suffix = "txt" if name == "odd-text" else "png"
    assert all(path.suffix == f".{suffix}" for _, path in whole.sample_files())
    assert (whole.path / "report.html").stat().st_size > 1000
    assert len(whole.sample(3)) == (1 if name == "odd-prior" else 3)


def test_stages_follow_each_other(tmp_path: Path) -> None:
    run = gw.train("odd-text", data_for("odd-text", tmp_path), out=tmp_path / "run", **{**TINY, "log_every": 1})
    stages = [record["stage"] for record in run.log_records()]
    assert stages == ["mle"] * 6 + ["critic"] * 3 + ["adversarial"] * 3


def test_a_recipe_of_the_wrong_kind_of_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(gw.GanwrightError, match="text"):
        gw.train("odd-population", data_for("odd-text", tmp_path), out=tmp_path / "run", **TINY)
    assert not (tmp_path / "run").exists()
