"""Pairs in folders, archives and arrays: matching, what is left out, and the mean with its interval."""

from __future__ import annotations

import math
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from ganwright.data.sources import open_images
from ganwright.errors import MetricError, ProvenanceError, SettingsError
from ganwright.metrics import pairs as pairs_module
from ganwright.metrics.extractor_base import Extractor
from ganwright.metrics.paired import mean_interval
from ganwright.metrics.pairs import evaluate_pairs, score_pairs


class Pixels(Extractor):
    """Mean colour as features; all pixels as spatial features."""

    name, version, feature_dim, has_logits, has_spatial = "pixels", "1", 3, False, True
    preprocessing, size = "none", 4

    def forward(self, images: Tensor) -> tuple[Tensor | None, ...]:
        return images.mean((2, 3)), None, images.flatten(1)


def pictures(seed: int, n: int, h: int = 16, w: int = 18, c: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, h, w, c), dtype=np.uint8)


def write(folder: Path, images: Any, names: list[str] | None = None) -> Path:
    for i, image in enumerate(images):
        path = folder / (names[i] if names else f"{i:03d}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return folder


def test_means_and_intervals_are_those_of_the_images() -> None:
    a, b = pictures(0, 30), pictures(1, 30)
    found = evaluate_pairs(a, b, metrics=["psnr", "ssim", "mae"], quiet=True)
    psnr = np.array([peak_signal_noise_ratio(x, y) for x, y in zip(a, b, strict=True)])
    ssim = [
        structural_similarity(x, y, channel_axis=-1, gaussian_weights=True, use_sample_covariance=False)
        for x, y in zip(a, b, strict=True)
    ]
    assert found["psnr"].value == pytest.approx(psnr.mean())
    assert found["ssim"].value == pytest.approx(np.mean(ssim), abs=1e-6)
    assert found["mae"].value == pytest.approx(np.abs(a.astype(int) - b).mean())
    half = 2.045230 * psnr.std(ddof=1) / math.sqrt(30)  # t, 29 degrees of freedom
    assert (found["psnr"].low, found["psnr"].high) == pytest.approx((psnr.mean() - half, psnr.mean() + half))
    assert found["psnr"].higher_is_better and not found["mae"].higher_is_better
    assert found["psnr"].n == found["psnr"].provenance.n_reference == 30
    assert found["psnr"].details["lowest"] == pytest.approx(psnr.min())


def test_files_are_matched_by_stem_below_the_common_folder(tmp_path: Path) -> None:
    a, b = pictures(2, 4), pictures(3, 4)
    names = ["x/cat/1.png", "x/cat/2.png", "x/dog/1.png", "x/dog/10.png"]
    ours = write(tmp_path / "ours", a, names)
    order = [2, 0, 3, 1]
    with zipfile.ZipFile(tmp_path / "theirs.zip", "w") as archive:
        for i in order:
            file = BytesIO()
            Image.fromarray(b[i]).save(file, "BMP")
            archive.writestr(names[i].removeprefix("x/").replace(".png", ".bmp"), file.getvalue())
    scores = score_pairs(ours, tmp_path / "theirs.zip", metrics=["psnr"], quiet=True)
    assert list(scores.names) == names
    expected = [peak_signal_noise_ratio(x, y) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(scores.scores["psnr"], expected)
    worst = scores.worst("psnr", 2)
    assert [name for name, _ in worst] == [names[i] for i in np.argsort(expected)[:2]]


def test_the_worst_by_an_error_is_the_largest() -> None:
    b = np.full((3, 16, 16, 1), 100, np.uint8)
    a = b + np.array([1, 9, 4], np.uint8)[:, None, None, None]
    assert score_pairs(a, b, metrics=["mae"], quiet=True).worst("mae") == [("000001", 9), ("000002", 4), ("000000", 1)]


def test_unmatched_files_are_named(tmp_path: Path) -> None:
    images = pictures(4, 3)
    ours = write(tmp_path / "a", images, ["1.png", "2.png", "odd.png"])
    theirs = write(tmp_path / "b", images, ["1.png", "2.png", "other.png"])
    with pytest.raises(MetricError, match="no partner") as caught:
        evaluate_pairs(ours, theirs, quiet=True)
    assert "odd" in str(caught.value) and "other" in str(caught.value)
    twice = write(tmp_path / "c", images, ["1.png", "2.png", "2.bmp"])
    with pytest.raises(MetricError, match=r"same name but for their endings(.|\n)*2\.bmp"):
        evaluate_pairs(twice, theirs, quiet=True)
    with pytest.raises(MetricError, match="3 images and 2 targets"):
        evaluate_pairs(images, images[:2], quiet=True)


def test_single_files_and_arrays_are_matched_by_order(tmp_path: Path) -> None:
    a, b = pictures(5, 1), pictures(6, 1)
    write(tmp_path, a, ["restored.png"]), write(tmp_path, b, ["truth.png"])
    found = evaluate_pairs(tmp_path / "restored.png", tmp_path / "truth.png", metrics=["psnr"], quiet=True)["psnr"]
    assert found.value == pytest.approx(peak_signal_noise_ratio(a[0], b[0]))
    assert (found.low, found.high) == (0, 100) and "one pair" in found.interval
    folder = write(tmp_path / "f", b)
    assert evaluate_pairs(a, folder, metrics=["psnr"], quiet=True)["psnr"].value == pytest.approx(found.value)


def test_sizes_must_match_or_are_cut(tmp_path: Path) -> None:
    a, b = pictures(7, 2, 20, 21), pictures(8, 2, 22, 20)
    ours = write(tmp_path / "a", a)
    with pytest.raises(MetricError, match=r"differ in size: 21x20 and its target 20x22(.|\n)*000\.png"):
        evaluate_pairs(ours, write(tmp_path / "b", b), quiet=True)
    found = evaluate_pairs(ours, tmp_path / "b", metrics=["psnr"], crop=True, shave=2, quiet=True)["psnr"]
    expected = [peak_signal_noise_ratio(x[2:18, 2:18], y[2:18, 2:18]) for x, y in zip(a, b, strict=True)]
    assert found.value == pytest.approx(np.mean(expected))
    assert "2 pixels shaved" in found.provenance.preprocessing and "cut" in found.provenance.preprocessing
    with pytest.raises(MetricError, match="shaved off"):
        evaluate_pairs(a, a, shave=10, quiet=True)


def test_unreadable_files_are_named_and_left_out(tmp_path: Path) -> None:
    a, b = pictures(9, 5), pictures(10, 5)
    ours, theirs = write(tmp_path / "a", a), write(tmp_path / "b", b)
    (ours / "001.png").write_bytes(b"nothing")
    (theirs / "003.png").write_bytes((theirs / "003.png").read_bytes()[:60])
    scores = score_pairs(ours, theirs, metrics=["psnr"], quiet=True)
    assert scores.names == ("000.png", "002.png", "004.png")
    (warning,) = scores.warnings
    assert "2 pairs" in warning and "a: 001.png" in warning and "b: 003.png" in warning
    np.testing.assert_allclose(
        scores.scores["psnr"], [peak_signal_noise_ratio(a[i], b[i]) for i in (0, 2, 4)], rtol=1e-12
    )
    for path in theirs.iterdir():
        path.write_bytes(b"nothing")
    with pytest.raises(MetricError, match="No pair could be read"):
        evaluate_pairs(ours, theirs, quiet=True)


def test_identical_pairs_count_as_100_decibels() -> None:
    a, b = pictures(11, 12), pictures(12, 12)
    b[:3] = a[:3]
    scores = score_pairs(a, b, metrics=["psnr"], quiet=True)
    assert np.isinf(scores.scores["psnr"]).sum() == 3
    found = scores.evaluation()["psnr"]
    assert found.value == pytest.approx((300 + scores.scores["psnr"][3:].sum()) / 12)
    assert found.details["identical"] == 3 and "3 pairs are identical" in found.warnings[0]
    same = evaluate_pairs(a, a, metrics=["psnr", "ssim"], quiet=True)
    assert (same["psnr"].value, same["psnr"].low, same["psnr"].high) == (100, 100, 100)


def test_mixed_sizes_and_batches_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [(16, 16), (16, 16), (30, 12), (16, 16), (12, 30), (12, 30)]
    a = [pictures(i, 1, *size)[0] for i, size in enumerate(sizes)]
    b = [pictures(i + 50, 1, *size)[0] for i, size in enumerate(sizes)]
    ours, theirs = write(tmp_path / "a", a), write(tmp_path / "b", b)
    found = score_pairs(ours, theirs, extractor=Pixels(), quiet=True)
    monkeypatch.setattr(pairs_module, "_BATCH", 1)
    single = score_pairs(ours, theirs, extractor=Pixels(), quiet=True)
    assert found.scores.keys() == {"psnr", "ssim", "mae", "feature-distance", "feature-distance-spatial"}
    for name, values in found.scores.items():
        np.testing.assert_allclose(values, single.scores[name], rtol=1e-6)
    assert found.targets == single.targets and found.names == single.names
    assert any("MS-SSIM" in warning and "left out" in warning for warning in found.warnings)


def test_asked_for_by_name_a_metric_that_does_not_fit_is_an_error() -> None:
    a = pictures(13, 2)
    with pytest.raises(MetricError, match="at least 161 pixels a side, not 18x16"):
        evaluate_pairs(a, a, metrics=["ms-ssim"], quiet=True)
    with pytest.raises(SettingsError, match="Did you mean 'ssim'"):
        evaluate_pairs(a, a, metrics=["sssim"], quiet=True)
    for options in ({"shave": -1}, {"n": 0}):
        with pytest.raises(SettingsError, match="at least"):
            evaluate_pairs(a, a, quiet=True, **options)


def test_feature_distance_is_named_by_its_extractor_and_has_a_yardstick() -> None:
    a, b = pictures(14, 20), pictures(15, 20)
    found = evaluate_pairs(a, b, metrics=["feature-distance"], extractor=Pixels(), quiet=True)
    distance = found["feature-distance"]
    assert distance.label == "feature distance (pixels)" and "LPIPS" not in str(found)
    assert distance.provenance.extractor == "pixels/1"
    # the pairs are strangers, so they are as far apart as strangers
    assert distance.details["unrelated"] == pytest.approx(distance.value, rel=0.5)
    assert set(found) == {"feature-distance", "feature-distance-spatial"}


def test_only_what_was_measured_alike_is_compared() -> None:
    a, b = pictures(16, 12), pictures(17, 12)
    plain = evaluate_pairs(a, b, metrics=["psnr"], quiet=True)["psnr"]
    luma = evaluate_pairs(a, b, metrics=["psnr"], luma=True, quiet=True)["psnr"]
    other = evaluate_pairs(a, pictures(18, 12), metrics=["psnr"], quiet=True)["psnr"]
    again = evaluate_pairs(pictures(19, 12), b, metrics=["psnr"], quiet=True)["psnr"]
    assert luma.label == "PSNR-Y (dB)"
    for different in (luma, other):
        with pytest.raises(ProvenanceError):
            plain.require_comparable(different)
    plain.require_comparable(again)


def test_n_takes_the_same_pairs_each_time() -> None:
    a, b = pictures(20, 30), pictures(21, 30)
    one, two = (score_pairs(a, b, metrics=["mae"], n=7, quiet=True) for _ in range(2))
    assert one.names == two.names and len(one.names) == 7 and list(one.names) == sorted(one.names)
    for name, value in zip(one.names, one.scores["mae"], strict=True):
        assert value == pytest.approx(np.abs(a[int(name)].astype(int) - b[int(name)]).mean())


def test_an_open_source_stays_open(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for i, image in enumerate(pictures(22, 3)):
            file = BytesIO()
            Image.fromarray(image).save(file, "PNG")
            archive.writestr(f"{i}.png", file.getvalue())
    source = open_images(tmp_path / "a.zip")
    evaluate_pairs(source, source, metrics=["mae"], quiet=True)
    assert source.decode(0).shape == (16, 18, 3)
    source.close()


@pytest.mark.parametrize("n", [5, 14, 100])
def test_the_interval_covers_the_mean(n: int) -> None:
    random = np.random.default_rng(n)
    hits = 0
    for _ in range(600):
        low, high, _ = mean_interval(random.beta(8, 2, n), (0, 1))  # skewed, as SSIM is
        hits += low <= 0.8 <= high
    assert 0.90 < hits / 600 < 0.98


@pytest.mark.parametrize(
    ("folder", "n", "psnr", "ssim"),
    # Bicubic, ×4, in the tables of SRCNN, VDSR and later papers: luma, without 4 border pixels
    [("CSet5/", 5, 28.42, 0.8104), ("CSet14/", 14, 26.00, 0.7027)],
)
def test_bicubic_gives_the_published_figures(
    real_data: Any, tmp_path: Path, folder: str, n: int, psnr: float, ssim: float
) -> None:
    with zipfile.ZipFile(real_data("set5_set14_color.zip")) as archive:
        for name in archive.namelist():
            if not name.startswith(folder) or not name.endswith(".png"):
                continue
            picture = Image.open(BytesIO(archive.read(name)))
            w, h = picture.width // 4 * 4, picture.height // 4 * 4
            small = picture.crop((0, 0, w, h)).resize((w // 4, h // 4), Image.Resampling.BICUBIC)
            restored = small.resize((w, h), Image.Resampling.BICUBIC)
            write(tmp_path / "truth", [np.asarray(picture)], [Path(name).name])
            write(tmp_path / "restored", [np.asarray(restored)], [Path(name).name])
    found = evaluate_pairs(
        tmp_path / "restored", tmp_path / "truth", metrics=["psnr", "ssim"], luma=True, shave=4, crop=True, quiet=True
    )
    assert found["psnr"].n == n
    # to the papers' second decimal, give or take the rounding between the two steps
    assert found["psnr"].value == pytest.approx(psnr, abs=0.02)
    assert found["ssim"].value == pytest.approx(ssim, abs=0.001)
