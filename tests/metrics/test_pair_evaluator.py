"""Evaluation of what is made of given inputs: against targets, or against the other domain and the way back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ganwright as gw
from ganwright.config import DataSettings, EvalSettings
from ganwright.data.opening import open_dataset
from ganwright.data.spec import DataKind, Dataset
from ganwright.errors import SettingsError
from ganwright.metrics.domain_evaluator import DomainEvaluator
from ganwright.metrics.evaluator import make_evaluator
from ganwright.metrics.pair_evaluator import PairEvaluator
from ganwright.metrics.paired import mae, psnr, ssim
from ganwright.samples import DomainSamples, ImageSamples, PairSamples, save_png

PAIRS, DOMAINS = frozenset({DataKind.PAIRS}), frozenset({DataKind.DOMAINS})
PIXELS = EvalSettings(metrics=("psnr", "ssim", "mae"))


def noise(n: int, seed: int, channels: int = 3, side: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, channels), np.uint8)


def data(accepts: frozenset[DataKind] = PAIRS, **changes: Any) -> Dataset:
    return open_dataset((noise(40, 0), noise(40, 1)), DataSettings(resolution=32, **changes), accepts=accepts)


def samples(channels: int = 3) -> PairSamples:
    targets = noise(12, 2, channels)
    near = np.clip(targets.astype(int) + noise(12, 3, channels) % 9, 0, 255).astype(np.uint8)
    return PairSamples(noise(12, 4), near, targets, {"grey": np.full_like(targets, 128)})


def test_outputs_and_baselines_are_measured_on_the_same_pairs() -> None:
    made = samples()
    evaluator = make_evaluator(data(), PIXELS)
    assert isinstance(evaluator, PairEvaluator) and evaluator.fits(made)
    found = evaluator.evaluate(made)
    assert set(found) == {f"{name}{which}" for name in ("psnr", "ssim", "mae") for which in ("", ":grey")}
    for function in (psnr, ssim, mae):
        name = function.__name__
        for key, images in ((name, made.outputs), (f"{name}:grey", made.baselines["grey"])):
            values = function(images, made.targets)
            assert found[key].value == pytest.approx(values.mean(), rel=1e-9)
            assert found[key].n == 12 and found[key].low < values.mean() < found[key].high
    assert found["psnr"].value > found["psnr:grey"].value
    assert found["psnr:grey"].label == "PSNR (dB), grey"
    # Baselines are kept for the same targets only.
    assert evaluator.evaluate(PairSamples(made.inputs, made.outputs, made.targets))["mae:grey"] == found["mae:grey"]
    others = PairSamples(made.inputs, made.outputs, made.targets[::-1].copy())
    assert "mae:grey" not in evaluator.evaluate(others)


def test_what_has_no_target_is_not_measured() -> None:
    evaluator = PairEvaluator(data(), PIXELS)
    assert not evaluator.fits(PairSamples(noise(2, 0), noise(2, 1)))
    assert not evaluator.fits(ImageSamples(noise(2, 0)))


@pytest.mark.parametrize("channels", [2, 4])
def test_bands_are_measured_one_by_one(channels: int) -> None:
    made = samples(channels)
    assert made.targets is not None
    found = PairEvaluator(data(), EvalSettings(metrics=("mae", "psnr", "feature-distance"))).evaluate(made)
    assert found["mae"].value == pytest.approx(abs(made.outputs.astype(float) - made.targets).mean(), rel=1e-9)
    assert found["mae"].n == 12 and "feature-distance" not in found


def test_small_images_go_without_the_metrics_they_are_too_small_for() -> None:
    small = noise(4, 5, side=16)
    found = PairEvaluator(data(), EvalSettings(metrics=("ssim", "ms-ssim", "mae"))).evaluate(
        PairSamples(small, small, small)
    )
    assert set(found) == {"ssim", "mae"} and found["ssim"].value == pytest.approx(1)


def test_training_data_is_named_as_such() -> None:
    found = PairEvaluator(data(held_out=0.0), PIXELS).evaluate(samples())
    assert all(any("nothing was held out" in warning for warning in e.warnings) for e in found.values())
    assert not PairEvaluator(data(), PIXELS).evaluate(samples())["mae"].warnings


def test_metrics_are_chosen_by_name() -> None:
    assert PairEvaluator(data(), EvalSettings(metrics=("fd", "mae"))).metrics == ("mae",)
    with pytest.raises(SettingsError, match=r"no metric 'psrn'.*Did you mean 'psnr'"):
        PairEvaluator(data(), EvalSettings(metrics=("psrn",)))
    with pytest.raises(SettingsError, match="no metric 'cycel-mae'"):
        DomainEvaluator(data(DOMAINS), EvalSettings(metrics=("cycel-mae",)))


def test_domains_are_measured_in_both_directions() -> None:
    dataset = data(DOMAINS, held_out=0.3)
    a, b = (dataset.held_out_batch(10, seed=0)[name] for name in ("images_a", "images_b"))
    a, b = ((x.permute(0, 2, 3, 1).numpy() * 127.5 + 127.5).round().astype(np.uint8) for x in (a, b))
    dark, back = a // 2, np.clip(a.astype(int) + 5, 0, 255).astype(np.uint8)
    made = DomainSamples({"a2b": PairSamples(a, dark, cycled=back), "b2a": PairSamples(b, b, cycled=b)})
    evaluator = make_evaluator(dataset, EvalSettings(metrics=("fd", "cycle-mae")), quiet=True)
    assert evaluator is not None and evaluator.fits(made) and not evaluator.fits(made.directions["a2b"])
    found = evaluator.evaluate(made)
    assert set(found) == {"cycle-mae/a2b", "cycle-mae/b2a"} | {
        f"fd/{direction}{which}" for direction in ("a2b", "b2a") for which in ("", ":unchanged")
    }
    assert found["cycle-mae/a2b"].value == pytest.approx(abs(back.astype(float) - a).mean())
    assert found["cycle-mae/b2a"].value == 0
    assert found["fd/b2a"].value == pytest.approx(found["fd/b2a:unchanged"].value)
    assert found["fd/a2b"].value > found["fd/a2b:unchanged"].value


def test_a_runs_evaluation_is_the_one_it_logged(tmp_path: Path) -> None:
    """The same weights, inputs and targets give the same figures, as does the folder `test` where it is asked for."""
    for part, n in (("train", 12), ("val", 5), ("test", 7)):
        (tmp_path / "s" / part).mkdir(parents=True)
        for i, image in enumerate(noise(n, n, side=32)):
            save_png(tmp_path / "s" / part / f"{i}.png", np.concatenate([image, 255 - image], axis=1))
    run = gw.train(
        "pix2pix",
        tmp_path / "s",
        out=tmp_path / "run",
        resolution=32,
        steps=4,
        batch_size=2,
        width_g=2,
        width_d=2,
        evaluate_every=2,
        metrics=["mae", "psnr"],
        best_by="mae",
        write_html=False,
        accelerator="cpu",
    )
    logged = run.metric_records()[-1]["estimates"]
    found = gw.evaluate(run, device="cpu", quiet=True)
    assert {name: e.value for name, e in found.items()} == {name: e["value"] for name, e in logged.items()}
    assert found["mae"].n == 5 and "mae:unchanged" in found
    tested = gw.evaluate(run, reference=tmp_path / "s", device="cpu", quiet=True)
    assert tested["mae"].n == 7 and not any("held out" in warning for warning in tested["mae"].warnings)
    made = gw.sample(run, 3, device="cpu")
    assert isinstance(made, PairSamples) and len(made) == 3
