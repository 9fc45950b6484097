"""What needs a trained run: path length, training on synthetic images, protocols with counts of their own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from image_sets import pictures

import ganwright as gw
from ganwright.cli import main
from ganwright.config import DataSettings, EvalSettings
from ganwright.data.opening import open_dataset
from ganwright.metrics.evaluator import Evaluator
from ganwright.samples import ImageSamples


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> gw.TrainedRun:
    """Two steps on dark and bright squares: what it makes does not matter here."""
    folder = tmp_path_factory.mktemp("runs")
    labels = np.arange(300) % 2
    images = (pictures(0, 300, side=16, channels=1) // 4 + labels[:, None, None, None] * 180).astype(np.uint8)
    np.savez(folder / "squares.npz", images=images, labels=labels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GANWRIGHT_CACHE", str(folder / "cache"))
        return gw.train(
            "cgan",
            str(folder / "squares.npz"),
            out=folder / "run",
            steps=2,
            batch_size=16,
            width_g=8,
            width_d=8,
            resolution=16,
            evaluate_every=-1,
            write_html=False,
        )


def test_held_out_images_of_a_run_serve_memorisation(tmp_path: Path, pool: str) -> None:
    data = open_dataset(pictures(7, 600), DataSettings(held_out=0.3))
    evaluator = Evaluator(data, EvalSettings(extractor=pool, metrics=("nn-ratio", "authenticity")), quiet=True)
    copies = evaluator.evaluate(ImageSamples(data.images[data.train_index[:150]]))
    unseen = evaluator.evaluate(ImageSamples(data.images[data.held_out_index[:150]]))
    assert copies["nn-ratio"].value == 1 and copies["authenticity"].value == 0
    assert unseen["nn-ratio"].value <= 0.05


def test_a_run_is_measured_by_all_that_fits(run: gw.TrainedRun, pool: str, tmp_path: Path) -> None:
    found = gw.evaluate(run, extractor=pool, n=60, quiet=True, report=tmp_path / "evaluation.html")
    expected = {"fd", "kid", "precision", "recall", "density", "coverage", "vendi", "class-accuracy", "class-coverage"}
    assert expected <= set(found)
    assert not {"cas", "path-length", "is"} & set(found)  # on request only; this extractor does not classify
    page = (tmp_path / "evaluation.html").read_text()
    assert "Least realistic samples" in page and "http" not in page.replace("http-equiv", "").replace(
        "http://www.w3.org", ""
    )
    against = gw.evaluate(run, reference=pictures(1, 50, side=16, channels=1), extractor=pool, n=40, quiet=True)
    assert against["fd"].n == 40 and against["fd"].provenance.n_reference == 40


def test_metrics_on_request(run: gw.TrainedRun, pool: str) -> None:
    found = gw.evaluate(run, extractor=pool, n=80, metrics=("cas", "path-length"), quiet=True)
    assert set(found) == {"cas", "path-length"}
    assert 0 <= found["cas"].value <= 1 and found["cas"].low <= found["cas"].value <= found["cas"].high
    assert found["path-length"].value >= 0


def test_generator_passes_its_latent_space(run: gw.TrainedRun) -> None:
    from ganwright.training.restore import load_recipe

    space = load_recipe(run).latent_space()
    assert space is not None and space.num_classes == 2
    images = space.generate(torch.randn(3, space.latent_dim), torch.tensor([0, 1, 0]))
    assert images.shape == (3, 1, 16, 16) and images.abs().max() <= 1


def test_command_line(run: gw.TrainedRun, pool: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = tmp_path / "x.npy", tmp_path / "y.npy"
    np.save(x, pictures(2, 60))
    np.save(y, pictures(3, 60))
    stats = tmp_path / "y-stats.npz"
    assert main(["statistics", str(y), "--out", str(stats), "--extractor", pool]) == 0
    assert capsys.readouterr().out.strip() == str(stats)
    report = tmp_path / "r.html"
    arguments = ["evaluate", str(x), "--reference", str(stats), "--extractor", pool, "--report", str(report)]
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"fd", "kid", "precision", "vendi"} <= set(found) and report.is_file()
    assert main(["evaluate", str(x), "--reference", str(y), "--paired", "--json", "--metrics", "psnr", "mae"]) == 0
    pairs = json.loads(capsys.readouterr().out)
    difference = pictures(2, 60).astype(float) - pictures(3, 60)
    assert pairs["mae"]["value"] == pytest.approx(np.abs(difference).mean(), rel=0.3)
    assert set(pairs) == {"psnr", "mae"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["evaluate", "x.npy", "--paired"], "--reference"),
        (["evaluate", "x.npy", "--reference", "x.npy", "--protocol", "cleanfid"], "Did you mean 'clean-fid'"),
        (["evaluate", "x.npy", "--reference", "x.npy", "--extractor", "inceptoin"], "Did you mean 'inception'"),
        (["evaluate", "x.npy", "--reference", "x.npy", "--metrics", "recal"], "Did you mean 'recall'"),
        (["evaluate", "x.npy", "--reference", "x.npy", "--extractor", "none.safetensors"], "none.safetensors"),
        (["statistics", "missing", "--out", "s.npz"], "no such data"),
        (["extractor", "teach", "x.npy"], "can only train"),
    ],
)
def test_mistakes_are_told(
    arguments: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", pictures(4, 30))
    assert main(arguments) == 1
    printed = " ".join(capsys.readouterr().err.split())
    assert told in printed and "Traceback" not in printed
