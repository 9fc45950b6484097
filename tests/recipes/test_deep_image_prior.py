"""Deep Image Prior: it stops near its best without the truth, resumes exactly, and leaves known pixels alone."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import load_file
from torch import Tensor

import ganwright as gw
from ganwright.data.single import SingleImageDataset
from ganwright.errors import DataError, GanwrightError, SettingsError
from ganwright.networks.skip import PLANS, SkipPlan
from ganwright.recipes.deep_image_prior import DeepImagePrior, DeepImagePriorSettings, masked_error, picture_and_known
from ganwright.training.restore import load_recipe

Floats = npt.NDArray[np.float64]
TINY = SkipPlan(8, down=(16, 32, 32), up=(16, 32, 32), skip=(4, 4, 4), padding="zeros")


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PLANS, "tiny", TINY)  # type: ignore[arg-type]


def painting(side: int) -> Floats:
    """Smooth shades, a disc, a bar and stripes, (side, side, 3) in [0, 1]."""
    y, x = np.mgrid[0:side, 0:side] / side
    picture = np.stack([0.3 + 0.4 * x, 0.5 + 0.3 * np.sin(6 * y), 0.6 - 0.3 * x * y], -1)
    picture[(x - 0.5) ** 2 + (y - 0.4) ** 2 < 0.06] = [0.9, 0.2, 0.1]
    picture[int(0.7 * side) : int(0.85 * side), int(0.1 * side) : int(0.8 * side)] = [0.1, 0.3, 0.8]
    picture[:, ::8] *= 0.8
    return picture


def noisy(picture: Floats, sigma: float = 25.0, seed: int = 0) -> npt.NDArray[np.uint8]:
    values = picture + np.random.default_rng(seed).normal(0, sigma / 255, picture.shape)
    return np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)


def psnr(a: Any, b: Any) -> float:
    return float(-10 * np.log10(np.mean((np.asarray(a) - np.asarray(b)) ** 2)))


class Context:
    """One process, no loop."""

    def __init__(self, recipe: DeepImagePrior) -> None:
        self.optimizers, self.generator = recipe.optimizers(), torch.Generator().manual_seed(0)

    def normal(self, rows: int, *shape: int) -> Tensor:
        return torch.randn(rows, *shape, generator=self.generator)

    def minimise(self, loss: Tensor, optimizer: str) -> None:
        self.optimizers[optimizer].zero_grad()
        loss.backward()
        self.optimizers[optimizer].step()


def fit(data: SingleImageDataset, steps: int, **given: Any) -> tuple[DeepImagePrior, list[Tensor]]:
    """Fit until it is finished or the steps are done; also every 10th average."""
    torch.manual_seed(0)
    recipe = DeepImagePrior(data.spec, DeepImagePriorSettings(network="tiny", **given)).train()
    context, batch, averages = Context(recipe), data.batch(0, 1, seed=0), []
    for step in range(1, steps + 1):
        recipe.step(batch, context)  # type: ignore[arg-type]
        if step % 10 == 0:
            averages.append(recipe.best.average[0].permute(1, 2, 0).clone())
        if step % 25 == 0 and recipe.finished():
            break
    return recipe, averages


def as_picture(tensor: Tensor) -> Floats:
    return tensor[0].permute(1, 2, 0).double().numpy()


def test_it_stops_within_half_a_decibel_of_the_best_without_the_truth() -> None:
    truth = painting(40)
    recipe, averages = fit(SingleImageDataset(noisy(truth), "p"), 1500, patience=300)
    assert "held-out pixels was lowest at step" in recipe.finished()
    # Fitted much longer than the best step, so the best of all averages is among these.
    best = max(psnr(average, truth) for average in averages)
    assert best > psnr(noisy(truth) / 255, truth) + 5
    assert psnr(as_picture(recipe.restored()), truth) > best - 0.5
    assert psnr(averages[-1], truth) < best - 0.3  # it would have gone wrong


def test_held_out_pixels_are_neither_fitted_nor_forgotten() -> None:
    picture = noisy(painting(24))
    known = np.random.default_rng(0).random((24, 24)) > 0.2
    data = SingleImageDataset(picture, "p", known)
    torch.manual_seed(0)
    recipe = DeepImagePrior(data.spec, DeepImagePriorSettings(network="tiny", task="inpaint", code_noise=0.0)).train()
    batch = data.batch(0, 1, seed=0)
    x0, mask = picture_and_known(batch)
    held_out = recipe.held_out(mask)
    assert not (held_out & ~mask).any() and 0.02 < float(held_out.sum() / mask.sum()) < 0.06
    with torch.no_grad():
        output = recipe.network(recipe._code_and_held_out(mask)[0])
    log = recipe.step(batch, Context(recipe))  # type: ignore[arg-type]
    fitted = (mask & ~held_out).expand_as(output)
    assert float(log["loss_fit"]) == pytest.approx(float((output - x0)[fitted].square().mean()), rel=1e-5)
    average = recipe.best.average
    wrong = (average - x0)[held_out.expand_as(average)].square().mean()
    assert float(log["held_out"]) == pytest.approx(float(wrong), rel=1e-5)
    assert float(masked_error(x0, x0, mask)) == 0


def test_known_pixels_stay_and_holes_are_filled() -> None:
    truth = painting(40)
    known = np.ones((40, 40), bool)
    known[:, 5::9] = False
    holed = np.where(known[..., None], noisy(truth, 0), 0).astype(np.uint8)
    recipe, _ = fit(SingleImageDataset(holed, "p", known), 400, task="inpaint")
    made = as_picture(recipe.restored())
    np.testing.assert_allclose(made[known], holed[known] / 255, atol=1e-6)
    grey = np.where(known[..., None], holed / 255, 0.5)
    assert psnr(made[~known], truth[~known]) > psnr(grey[~known], truth[~known]) + 8


def test_upscaling_fits_the_small_picture() -> None:
    truth = painting(48)
    small = truth.reshape(12, 4, 12, 4, 3).mean((1, 3))
    recipe, _ = fit(SingleImageDataset(noisy(small, 0), "p"), 300, task="upscale", factor=4, stopping="none")
    made = recipe.restored()
    assert made.shape == (1, 3, 48, 48)
    assert psnr(as_picture(recipe.downsample(made)), small) > 25
    assert int(recipe.best.best_step) == 300 and not recipe.finished()


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(8, 37), st.integers(8, 37), st.sampled_from([1, 3]), st.sampled_from(["denoise", "deblock", "upscale"])
)
def test_any_size_and_grey(height: int, width: int, channels: int, task: str) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)
    recipe, _ = fit(SingleImageDataset(picture, "p"), 2, task=task, factor=2)
    scale = 2 if task == "upscale" else 1
    assert recipe.restored().shape == (1, channels, height * scale, width * scale)
    assert bool(recipe.restored().isfinite().all())


RUN: dict[str, Any] = {"network": "tiny", "sample_every": 20, "log_every": 10, "write_html": False, "seed": 3}


def write(path: Path, picture: npt.NDArray[np.uint8]) -> Path:
    Image.fromarray(picture).save(path)
    return path


@pytest.mark.parametrize("stopping", ["held-out", "variance"])
def test_a_resumed_run_is_bit_identical(tmp_path: Path, stopping: str) -> None:
    picture = write(tmp_path / "p.png", noisy(painting(24)))
    how = {**RUN, "stopping": stopping, "checkpoint_every": 35}
    gw.train("deep-image-prior", picture, out=tmp_path / "whole", steps=70, **how)
    gw.train("deep-image-prior", picture, out=tmp_path / "parts", steps=35, **how)
    gw.resume(tmp_path / "parts", steps=70, write_html=False)
    for name in ("networks", "optimizers"):
        whole, parts = (
            load_file(tmp_path / r / f"checkpoints/step-000070/{name}.safetensors") for r in ("whole", "parts")
        )
        assert whole.keys() == parts.keys()
        assert all(whole[key].tobytes() == parts[key].tobytes() for key in whole)


def test_the_loop_stops_by_itself_and_samples_are_the_best(tmp_path: Path) -> None:
    picture = write(tmp_path / "p.png", noisy(painting(24)))
    run = gw.train("deep-image-prior", picture, out=tmp_path / "run", steps=900, patience=60, patience_share=0.0, **RUN)
    (event,) = run.events("finished")
    assert event["step"] < 900 and "held-out" in event["reason"]
    recipe = load_recipe(run)
    assert isinstance(recipe, DeepImagePrior)
    sheet = run.sample().images  # type: ignore[attr-defined]
    np.testing.assert_array_equal(sheet[0], np.rint(as_picture(recipe.restored()) * 255))
    assert gw.write_report(run).exists()
    assert 0 < recipe.evaluate(0)["best_step"] <= event["step"]


def test_ctrl_c_keeps_the_best_so_far(tmp_path: Path) -> None:
    truth = painting(32)
    picture = write(tmp_path / "p.png", noisy(truth))
    threading.Timer(6.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    run = gw.train("deep-image-prior", picture, out=tmp_path / "run", steps=10**6, patience=0, **RUN)
    assert run.events("stopped")[0]["reason"] == "interrupted"
    recipe = load_recipe(run)
    assert isinstance(recipe, DeepImagePrior)
    best = int(recipe.best.best_step)
    assert 50 <= best <= run.events("stopped")[0]["step"]
    assert psnr(as_picture(recipe.restored()), truth) > psnr(noisy(truth) / 255, truth)


def test_two_processes_agree(tmp_path: Path) -> None:
    picture = write(tmp_path / "p.png", noisy(painting(24)))
    how = {**RUN, "network": "small", "devices": 2, "batch_size": 2}
    run = gw.train("deep-image-prior", picture, out=tmp_path / "run", steps=400, patience=50, patience_share=0.0, **how)
    assert run.events("finished")[0]["step"] < 400


def test_masks_come_from_files_and_from_transparency(tmp_path: Path) -> None:
    picture, hole = noisy(painting(24)), np.full((24, 24), 255, np.uint8)
    hole[4:9, 3:20] = 0
    file = write(tmp_path / "p.png", picture)
    mask = write(tmp_path / "m.png", hole)
    clear = write(tmp_path / "clear.png", np.dstack([picture, hole]))
    how: dict[str, Any] = {**RUN, "steps": 2, "task": "inpaint"}
    a = gw.train("deep-image-prior", file, out=tmp_path / "a", mask=str(mask), **how)
    b = gw.train("deep-image-prior", clear, out=tmp_path / "b", mask="alpha", **how)
    assert a.config["data"]["fingerprint"] == b.config["data"]["fingerprint"]
    write(tmp_path / "m.png", 255 - hole)
    with pytest.raises(DataError, match="The data has changed"):
        gw.resume(a, steps=4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "offical"}, "Did you mean 'official'"),
        ({"downsampler": "lanczos"}, "Did you mean 'lanczos"),
        ({"task": "upscale", "factor": 1}, "'factor' must be between 2 and 16"),
        ({"averaging": 1.0}, "'averaging' must be between"),
        ({"held_out_pixels": 0.0}, "'held_out_pixels' must be"),
        ({"mask": "alpha"}, "no transparency"),
        ({"mask": "nowhere.png"}, "cannot be read"),
        ({"mask": "small.png"}, "The mask is 8x8 pixels and the picture 24x24"),
        ({"mask": "white.png"}, "every pixel is known"),
        ({"mask": "white.png", "resolution": 16}, "taken at its own size"),
        ({"task": "inpaint"}, "told which pixels are missing"),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    picture = write(tmp_path / "p.png", noisy(painting(24)))
    write(tmp_path / "small.png", np.zeros((8, 8), np.uint8))
    write(tmp_path / "white.png", np.full((24, 24), 255, np.uint8))
    if changes.get("mask", "").endswith(".png"):
        changes = {**changes, "mask": str(tmp_path / changes["mask"])}
    with pytest.raises(GanwrightError, match=message):
        gw.train("deep-image-prior", picture, out=tmp_path / "run", steps=1, **{**RUN, **changes})
    assert not (tmp_path / "run").exists()


def test_tiny_pictures_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="shorter side is 5 pixels"):
        gw.train("deep-image-prior", np.zeros((5, 40, 3), np.uint8), out=tmp_path / "r", steps=1)
    write(tmp_path / "a.png", noisy(painting(24)))
    write(tmp_path / "b.png", noisy(painting(24), seed=1))
    with pytest.raises(DataError, match="One picture is wanted, but there are 2"):
        gw.train("deep-image-prior", tmp_path, out=tmp_path / "r", steps=1)
