"""Evaluating a data set's samples and two sets of images, over a tiny TorchScript extractor."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from image_sets import Pool, pictures, quarters, write
from PIL import Image
from rich.console import Console

from ganwright.config import DataSettings, EvalSettings
from ganwright.data.opening import open_dataset
from ganwright.data.text import TextDataset
from ganwright.errors import DataError, MetricError, ProvenanceError, SettingsError
from ganwright.files import cache_folder
from ganwright.metrics import evaluator as evaluator_module
from ganwright.metrics import features as features_module
from ganwright.metrics import store as store_module
from ganwright.metrics.estimate import Provenance
from ganwright.metrics.evaluator import make_evaluator
from ganwright.metrics.extractors import Features
from ganwright.metrics.frechet import frechet_distance
from ganwright.metrics.kernel import kernel_distance
from ganwright.metrics.measured import Measured
from ganwright.metrics.registry import METRICS, choose_metrics
from ganwright.metrics.render import render
from ganwright.metrics.sets import evaluate_images
from ganwright.samples import ImageSamples


def test_two_sets_give_the_numbers_of_their_features(pool: str) -> None:
    x, y = pictures(0, 60), pictures(1, 80) // 2
    found = evaluate_images(x, y, extractor=pool, quiet=True)
    assert {"fd", "kid"} <= set(found) and "is" not in found  # this extractor does not classify
    assert found["fd"].value == pytest.approx(frechet_distance(quarters(x), quarters(y)), rel=1e-4)
    assert found["kid"].value == pytest.approx(kernel_distance(quarters(x), quarters(y)).value, rel=1e-4)
    for estimate in (found["fd"], found["kid"]):
        assert estimate.low < estimate.value < estimate.high
        assert (estimate.n, estimate.provenance.n_reference) == (60, 80)
        assert not estimate.higher_is_better
    assert [found[k].label for k in ("fd", "kid")] == ["FD (pool.pt)", "KD (pool.pt)"]
    assert any("biased" in warning for warning in found["fd"].warnings)
    assert not any("biased upwards" in warning for warning in found["kid"].warnings)


def test_folder_array_and_at_most_n(pool: str, tmp_path: Path) -> None:
    x, y = pictures(2, 30), pictures(3, 30)
    from_folder = evaluate_images(write(tmp_path / "x", x), y, extractor=pool, quiet=True)
    assert from_folder["fd"].value == pytest.approx(evaluate_images(x, y, extractor=pool, quiet=True)["fd"].value)
    fewer = [evaluate_images(x, y, extractor=pool, n=12, quiet=True)["fd"] for _ in range(2)]
    assert fewer[0] == fewer[1]
    assert (fewer[0].n, fewer[0].provenance.n_reference) == (12, 12)
    same = evaluate_images(x, x, extractor=pool, quiet=True)["fd"]
    assert same.value == pytest.approx(0, abs=1e-8)


def test_mixed_sizes_and_broken_files(pool: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "mixed", pictures(4, 20))
    Image.fromarray(pictures(5, 1, side=40)[0]).save(folder / "large.png")
    Image.fromarray(pictures(6, 1, side=9, channels=1)[0, ..., 0]).save(folder / "grey.png")
    whole = (folder / "0003.png").read_bytes()
    (folder / "0003.png").write_bytes(whole[: len(whole) // 2])
    for attempt in ("computed", "cached"):
        found = evaluate_images(folder, pictures(7, 20), extractor=pool, quiet=True)["fd"]
        assert found.n == 21, attempt
        assert any("1 unreadable" in warning and "0003.png" in warning for warning in found.warnings), attempt


def test_features_of_files_are_cached(pool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = write(tmp_path / "x", pictures(8, 20)), write(tmp_path / "y", pictures(9, 20))
    first = evaluate_images(x, y, extractor=pool, quiet=True)

    def never(*arguments: object, **options: object) -> None:
        raise AssertionError("computed again")

    with monkeypatch.context() as patched:
        patched.setattr(store_module, "_extract_shard", never)
        assert evaluate_images(x, y, extractor=pool, quiet=True) == first
    Image.fromarray(pictures(10, 1)[0]).save(x / "0000.png")  # other content: other features
    changed = evaluate_images(x, y, extractor=pool, quiet=True)
    assert changed["fd"].value != first["fd"].value
    for file in (cache_folder() / "features").rglob("*.*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:50])
    assert evaluate_images(x, y, extractor=pool, quiet=True) == changed


def test_cache_tells_extractors_of_one_name_apart(tmp_path: Path) -> None:
    class Scaled(Pool):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 3 * torch.nn.functional.adaptive_avg_pool2d(x, 2).flatten(1)

    x, y = write(tmp_path / "x", pictures(17, 20)), write(tmp_path / "y", pictures(18, 20))
    values = []
    for folder, network in (("a", Pool()), ("b", Scaled())):
        (tmp_path / folder).mkdir()
        torch.jit.script(network).save(str(tmp_path / folder / "net.pt"))
        values.append(evaluate_images(x, y, extractor=f"{tmp_path / folder / 'net.pt'}@8", quiet=True)["fd"].value)
    assert values[1] == pytest.approx(9 * values[0], rel=1e-4)


def test_large_images_are_handed_over_a_few_at_a_time() -> None:
    photographs = iter(np.zeros((5, 3000, 2000, 1), np.uint8))
    assert [len(chunk) for chunk in features_module.chunks(photographs)] == [2, 2, 1]
    assert [len(chunk) for chunk in features_module.chunks(iter(np.zeros((150, 8, 8, 3), np.uint8)))] == [64, 64, 22]


def test_reference_is_known_by_its_pixels(pool: str, tmp_path: Path) -> None:
    """The same pictures elsewhere, in an archive or in an array are the same reference; others are not."""
    x, y = pictures(19, 20), pictures(20, 20)
    folder = write(tmp_path / "real", y)
    archive = shutil.make_archive(str(tmp_path / "other-name"), "zip", folder)
    found = [evaluate_images(x, real, extractor=pool, quiet=True)["fd"] for real in (folder, archive, y)]
    assert not found[0].better_than(found[1]) and not found[1].better_than(found[2])
    other = evaluate_images(x, pictures(21, 20), extractor=pool, quiet=True)["fd"]
    with pytest.raises(ProvenanceError):
        other.better_than(found[0])


def test_refuses_what_cannot_be_measured(pool: str, tmp_path: Path) -> None:
    x = pictures(11, 20)
    with pytest.raises(MetricError, match="too few"):
        evaluate_images(x[:1], x, extractor=pool, quiet=True)
    with pytest.raises(SettingsError, match="Did you mean 'kid'"):
        evaluate_images(x, x, metrics=("kidd",), extractor=pool, quiet=True)
    with pytest.raises(MetricError, match="None of the metrics"):
        evaluate_images(x, x, metrics=("is", "class-accuracy"), extractor=pool, quiet=True)
    with pytest.raises(DataError, match="no such data"):
        evaluate_images(tmp_path / "missing", x, extractor=pool, quiet=True)
    for n in (1, 0, -3):
        with pytest.raises(SettingsError, match="too few"):
            evaluate_images(x, x, n=n, extractor=pool, quiet=True)
    constant = evaluate_images(np.full_like(x, 7), x, extractor=pool, quiet=True)
    assert np.isfinite(constant["fd"].value) and constant["fd"].value > 0
    assert any("one image" in warning for warning in constant["fd"].warnings)


def test_features_that_are_not_finite(tmp_path: Path) -> None:
    class Overflow(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 1 / (x.mean((2, 3)) - x.mean((2, 3)))

    path = tmp_path / "overflow.pt"
    torch.jit.script(Overflow()).save(str(path))
    with pytest.raises(MetricError, match="NaN or infinite features for 10 of 10"):
        evaluate_images(pictures(12, 10), pictures(13, 10), extractor=f"{path}@8", quiet=True)


def digits(n: int = 400):
    """Dark and bright images, labelled so."""
    labels = np.arange(n) % 2
    images = (pictures(14, n, channels=1) // 4 + labels[:, None, None, None] * 180).astype(np.uint8)
    return open_dataset(images, DataSettings(resolution=8, held_out=0.2), labels=labels)


def test_a_runs_evaluator(pool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = digits()
    settings = EvalSettings(extractor=pool, eval_samples=50)
    evaluator = make_evaluator(data, settings, quiet=True)
    assert evaluator is not None
    real = data.real_samples(50, seed=1, held_out=True)
    found = evaluator.evaluate(real)
    assert set(found) == {"fd", "kid", "class-accuracy", "class-coverage"}
    assert found["class-accuracy"].value >= 0.97 and found["class-coverage"].value == 1.0
    assert found["fd"].provenance.n_reference == len(data.train_index)  # all: there are fewer than 2,000
    assert found["fd"].provenance.reference == data.spec.fingerprint
    wrong = ImageSamples(real.images, 1 - real.labels)
    assert evaluator.evaluate(wrong)["class-accuracy"].value <= 0.03
    assert "class-accuracy" not in evaluator.evaluate(ImageSamples(real.images))
    one_class = ImageSamples(real.images[real.labels == 1])
    found = evaluator.evaluate(one_class)
    assert found["class-coverage"].value == 0.5
    unlabelled = make_evaluator(data.without_labels(), settings, quiet=True)
    assert set(unlabelled.evaluate(real)) == {"fd", "kid"}

    calls = []
    extract = evaluator_module.extract
    monkeypatch.setattr(evaluator_module, "extract", lambda *a, **k: calls.append(k["note"]) or extract(*a, **k))
    make_evaluator(data, settings, quiet=True).evaluate(real)
    assert calls == ["features of the samples"]  # the reference comes from the cache
    with pytest.raises(MetricError, match="too few"):
        evaluator.evaluate(ImageSamples(real.images[:1]))


def test_data_without_images_has_no_evaluator(tmp_path: Path) -> None:
    file = tmp_path / "lines.txt"
    file.write_text("".join(f"a line with number {i}\n" for i in range(50)))
    from ganwright.data.spec import DataKind

    text = open_dataset(str(file), DataSettings(), accepts=frozenset({DataKind.TEXT}))
    assert isinstance(text, TextDataset)
    assert make_evaluator(text, EvalSettings()) is None


def test_unknown_metric_is_named_before_anything_is_computed(pool: str) -> None:
    with pytest.raises(SettingsError, match="Did you mean 'class-coverage'"):
        make_evaluator(digits(40), EvalSettings(metrics=("fd", "class-covrage"), extractor=pool))


def test_metrics_whose_needs_are_not_met_are_left_out() -> None:
    assert set(choose_metrics(METRICS, {"moments"})) == {"fd"}
    assert {"fd", "kid"} <= set(choose_metrics(METRICS, {"moments", "samples", "reference"}))
    assert not {"is", "class-coverage"} & set(choose_metrics(METRICS, {"moments", "samples", "reference"}))
    assert {"is", "class-coverage"} == set(choose_metrics(("is", "class-coverage", "fd"), {"logits", "judge"}))


@pytest.mark.parametrize(
    ("extractor", "labels"),
    [
        ("inception/6726825d", ["FID", "KID", "IS"]),
        ("inception/custom-1234", ["FD (inception)", "KD (inception)", "IS (inception)"]),
        ("net/1", ["FD (net)", "KD (net)", "IS (net)"]),
    ],
)
def test_published_names_only_over_the_published_weights(extractor: str, labels: list[str]) -> None:
    rng = np.random.default_rng(0)
    side = Features(rng.normal(size=(30, 4)).astype(np.float32), rng.normal(size=(30, 5)).astype(np.float32))
    measured = Measured(side, side, Provenance(extractor, "none", "real", 30))
    found = [METRICS[name].compute(measured)[0] for name in ("fd", "kid", "is")]
    assert [estimate.label for estimate in found] == labels


def test_table_says_how_each_number_was_measured(pool: str) -> None:
    evaluation = evaluate_images(pictures(15, 30), pictures(16, 40), extractor=pool, quiet=True)
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(render(evaluation))
    text = console.export_text()
    for word in ("FD (pool.pt)", "KD (pool.pt)", "30", "40", "lower", "biased"):
        assert word in text
    assert f"{evaluation['fd'].low:.4g}" in text


def test_the_default_extractor_ranks_blur() -> None:
    """End to end over EfficientNet-Lite0: more blur is further away, and labels are never plain FID."""
    data = open_dataset("mnist", DataSettings(resolution=32, held_out=0.5))
    real, other = data.images[data.train_index[:24]], data.images[data.held_out_index[:24]]
    noisy = np.clip(other.astype(int) + np.random.default_rng(0).normal(0, 80, other.shape), 0, 255).astype(np.uint8)
    good = evaluate_images(other, real, quiet=True)
    bad = evaluate_images(noisy, real, quiet=True)
    assert good["fd"].value < bad["fd"].value and good["kid"].value < bad["kid"].value
    assert good["is"].value >= 1
    assert good["fd"].label == "FD (efficientnet-lite0)"
    assert good["fd"].better_than(bad["fd"])


def test_every_metric_has_a_row_for_each_number_it_gives() -> None:
    """A family's function may give several numbers; each is a row, so that it can be asked for by name."""
    rng = np.random.default_rng(5)

    def side(seed: int, n: int) -> Features:
        draw = np.random.default_rng(seed)
        parts = (draw.normal(size=(n, d)).astype(np.float32) for d in (6, 5, 7))
        return Features(*parts)

    n, m = 1200, 1300
    measured = Measured(
        side(0, n),
        side(1, m),
        Provenance("net/1", "none", "real", m),
        class_names=("a", "b"),
        held_out=side(2, 300),
        sample_classes=rng.integers(0, 2, n),
        reference_classes=rng.integers(0, 2, m),
    )
    functions = {metric.compute for metric in METRICS.values() if not metric.needs & {"judge", "asked", "latent"}}
    given = [estimate for function in functions for estimate in function(measured)]
    assert {estimate.name for estimate in given} == {
        name for name, metric in METRICS.items() if metric.compute in functions
    }
    for estimate in given:
        assert estimate.low <= estimate.value <= estimate.high and np.isfinite(estimate.value), estimate.name
        assert estimate.interval and estimate.n == n
        assert estimate.provenance.extractor == "net/1"


def test_named_numbers_only(pool: str) -> None:
    x, y = pictures(30, 60), pictures(31, 60)
    assert set(evaluate_images(x, y, extractor=pool, quiet=True, metrics=("recall", "fd"))) == {"recall", "fd"}
    assert "path-length" not in evaluate_images(x, y, extractor=pool, quiet=True)


def test_functions_on_arrays_are_found_by_name() -> None:
    import ganwright as gw

    for name in gw.metrics.__all__:
        assert getattr(gw.metrics, name) is not None
    x, y = np.random.default_rng(0).normal(size=(2, 50, 4))
    assert gw.metrics.frechet_distance(x, y) == pytest.approx(frechet_distance(x, y))
    with pytest.raises(AttributeError, match="no attribute 'fid'"):
        gw.metrics.fid  # noqa: B018
