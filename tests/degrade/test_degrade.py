"""Degradations have the moments their formulas say, are what files and papers do, and repeat themselves exactly."""

from __future__ import annotations

import io
import math
import zipfile
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from PIL import Image
from torch import Tensor

from ganwright.degrade import (
    DEGRADATIONS,
    DegradationSettings,
    SeededDraws,
    check_degradation,
    downsample,
    gaussian,
    jpeg,
    low_dose_ct,
    make_degradation,
    poisson,
    rician,
    stored,
    upsample,
)
from ganwright.degrade.classical import classical, estimated_sigma, stabilised, unstabilised
from ganwright.degrade.ct import backproject, project, ramp_filter
from ganwright.degrade.noise import invert_rician_mean, rician_mean
from ganwright.errors import SettingsError
from ganwright.metrics.paired import psnr
from ganwright.samples import to_uint8

N = 256 * 256
GREYS = (0.0, 0.05, 0.3, 0.8, 1.0)


def flat(value: float, rows: int = 1, side: int = 256) -> Tensor:
    """Grey images of value v in [0, 1]."""
    return torch.full((rows, 1, side, side), 2 * value - 1, dtype=torch.float64)


def values(images: Tensor) -> np.ndarray:
    return ((images.double() + 1) / 2).numpy().ravel()


def assert_moments(found: np.ndarray, mean: float, variance: float) -> None:
    error = math.sqrt(variance / len(found))
    assert abs(found.mean() - mean) < 5 * error + 1e-9
    # the variance of a sample variance is about (kurtosis - 1) σ⁴ / n, and kurtosis is below 20 here
    assert abs(found.var() - variance) < 5 * variance * math.sqrt(19 / len(found)) + 1e-12


# Moments. -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("v", GREYS)
def test_gaussian_noise_is_not_clipped(v: float) -> None:
    found = values(gaussian(flat(v), torch.tensor([0.2]), SeededDraws(1)))
    assert_moments(found, v, 0.04)
    assert scipy.stats.kstest((found - v)[:5000] / 0.2, "norm").pvalue > 1e-4


@pytest.mark.parametrize("peak", [0.5, 30.0, 5000.0])
@pytest.mark.parametrize("v", GREYS)
def test_photon_counts_are_poisson(v: float, peak: float) -> None:
    found = values(poisson(flat(v), torch.tensor([peak]), SeededDraws(2)))
    if v == 0:
        assert not found.any()
        return
    assert_moments(found, v, v / peak)
    counts = found * peak
    assert np.allclose(counts, counts.round(), atol=1e-3)
    for k in (0, round(v * peak)):
        share = (counts.round() == k).mean()
        exact = scipy.stats.poisson.pmf(k, v * peak)
        assert abs(share - exact) < 5 * math.sqrt(exact / N) + 1e-9


@pytest.mark.parametrize("sigma", [0.05, 0.2])
@pytest.mark.parametrize("v", GREYS)
def test_rician_moments_are_those_of_the_distribution(v: float, sigma: float) -> None:
    by_scipy = scipy.stats.rice(v / sigma, scale=sigma)
    assert rician_mean(v, sigma) == pytest.approx(by_scipy.mean(), rel=1e-6)
    variance = v**2 + 2 * sigma**2 - float(rician_mean(v, sigma)) ** 2
    assert variance == pytest.approx(by_scipy.var(), rel=1e-4)
    assert_moments(values(rician(flat(v), torch.tensor([sigma]), SeededDraws(3))), float(by_scipy.mean()), variance)


def test_the_rician_mean_is_inverted() -> None:
    signal = np.array([0.0, 0.01, 0.1, 0.5, 1.0, 7.0])
    for sigma in (0.01, 0.1, 0.3):
        back = invert_rician_mean(rician_mean(signal, sigma), sigma)
        assert np.allclose(back[1:], signal[1:], atol=2e-3 * sigma)
        assert back[0] < 0.05 * sigma
    assert invert_rician_mean(np.array([0.05]), 0.1)[0] == 0  # below the mean of pure noise


def test_levels_belong_to_images() -> None:
    images = flat(0.5, 3)
    spoilt = gaussian(images, torch.tensor([0.0, 0.1, 0.3]), SeededDraws(0))
    assert [values(row).std() for row in spoilt] == pytest.approx([0.0, 0.1, 0.3], rel=0.02)


# Low-dose CT. -------------------------------------------------------------------------------------------------


def disc(side: int, radius: float, value: float) -> Tensor:
    at = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    inside = at[None].square() + at[:, None].square() < radius**2
    return torch.where(inside, 2 * value - 1, -1.0)[None, None].double()


def test_projections_of_a_disc_are_its_chords_and_reconstruct_it() -> None:
    side, radius = 64, 24.0
    angles = [math.pi * k / 96 for k in range(96)]
    lines = project((disc(side, radius, 1.0)[:, 0] + 1) / 2, angles)
    at = np.arange(lines.shape[-1]) - (lines.shape[-1] - 1) / 2
    chords = 2 * np.sqrt(np.maximum(radius**2 - at**2, 0))
    inner = np.abs(at) < radius - 2  # at the edge chords change by pixels from bin to bin
    assert np.abs(lines[0].mean(0).numpy() - chords)[inner].max() < 0.5
    assert np.abs(lines[0].numpy() - chords).mean() < 0.5
    rebuilt = backproject(ramp_filter(lines, 1.0), angles, side)[0]
    assert rebuilt[28:36, 28:36].mean().item() == pytest.approx(1.0, abs=0.01)
    assert rebuilt[:6, :6].mean().item() == pytest.approx(0.0, abs=0.02)


def test_projections_see_an_off_centre_point_where_it_is() -> None:
    image = torch.zeros(1, 32, 32, dtype=torch.float64)
    image[0, 5, 20] = 1.0  # y = -10.5, x = 4.5 from the centre
    angles = [0.0, math.pi / 3, math.pi / 2]
    lines = project(image, angles)[0]
    middle = (lines.shape[-1] - 1) / 2
    for line, angle in zip(lines, angles, strict=True):
        centre = float((line * torch.arange(len(line))).sum() / line.sum()) - middle
        assert centre == pytest.approx(4.5 * math.cos(angle) - 10.5 * math.sin(angle), abs=0.05)


@pytest.mark.slow
def test_ct_noise_has_the_variance_of_filtered_backprojection() -> None:
    """At the centre of a water disc: π² σ_p² / (12 N τ²) (Kak & Slaney, section 3.3), times 0.464 for the mean effect
    of linear interpolation between neighbours whose correlation is -6 / π²."""
    side, radius, photons = 64, 24.0, 2e4
    clean = disc(side, radius, 0.5).expand(96, -1, -1, -1)
    noise = values(low_dose_ct(clean, torch.full((96,), photons), SeededDraws(5))[..., 29:35, 29:35]) - 0.5
    tau, views = 35 / side, 64
    p = 0.2 * 2 * radius * tau
    variance_p = math.exp(p) / photons + (10 * math.exp(p) / photons) ** 2
    interpolation = 2 / 3 + (1 / 3) * (-6 / math.pi**2)
    expected = math.pi**2 * variance_p / (12 * views * tau**2) * interpolation / (2 * 0.2) ** 2
    assert noise.mean() == pytest.approx(0, abs=5 * math.sqrt(expected / len(noise)) * 3)
    assert noise.var() == pytest.approx(expected, rel=0.12)


def test_ct_noise_falls_with_the_dose_and_grows_behind_dense_tissue() -> None:
    def spread(value: float, photons: float) -> float:
        clean = disc(48, 18, value).expand(8, -1, -1, -1)
        out = low_dose_ct(clean, torch.full((8,), photons), SeededDraws(6))
        return float((out - clean)[..., 20:28, 20:28].std())

    assert spread(0.5, 1e5) / spread(0.5, 1e7) == pytest.approx(10, rel=0.2)
    assert spread(0.6, 1e5) > 1.3 * spread(0.4, 1e5)


# Files. -------------------------------------------------------------------------------------------------------


def test_jpeg_is_what_pillow_writes() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 24, 24, 3), dtype=np.uint8)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    found = to_uint8(jpeg(images, torch.tensor([15.0, 80.0])))
    for picture, quality, mine in zip(pixels, (15, 80), found, strict=True):
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=quality)
        assert np.array_equal(mine, np.asarray(Image.open(file)))
    assert jpeg(images[:, :1], torch.tensor([15.0, 80.0])).shape == (2, 1, 24, 24)


def test_stored_rounds_to_levels_of_the_file() -> None:
    x = torch.linspace(-1.2, 1.2, 1001, dtype=torch.float64)
    eight, sixteen = stored(x, 8), stored(x, 16)
    assert np.array_equal(to_uint8(eight.view(1, 1, 1, -1)), to_uint8(x.view(1, 1, 1, -1)))
    assert len(eight.unique()) == 256 and eight.min() == -1 and eight.max() == 1
    assert (sixteen - x.clamp(-1, 1)).abs().max() <= 1 / 65535 + 1e-12
    assert torch.equal(stored(x, 0), x)


def test_bicubic_is_pillows_in_float() -> None:
    plane = np.random.default_rng(1).random((36, 48), dtype=np.float32) * 2 - 1
    images = torch.from_numpy(plane)[None, None].double()
    for scale in (2, 3, 4):
        size = (48 // scale, 36 // scale)
        expected = np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BICUBIC))
        assert np.abs(downsample(images, scale, bits=0)[0, 0].numpy() - expected).max() < 1e-6
        bigger = np.asarray(Image.fromarray(plane).resize((48 * scale, 36 * scale), Image.Resampling.BICUBIC))
        assert np.abs(upsample(images, scale)[0, 0].numpy() - bigger.clip(-1, 1)).max() < 1e-6


def test_what_does_not_divide_is_cut_off() -> None:
    assert downsample(torch.zeros(1, 3, 35, 50), 4).shape == (1, 3, 8, 12)


def test_bicubic_on_set5_is_the_published_figure(real_data: Any) -> None:
    """28.42 dB in the tables of SRCNN and later papers: ×4, luma, without 4 border pixels."""
    found = []
    with zipfile.ZipFile(real_data("set5_set14_color.zip")) as archive:
        for name in ("baby", "bird", "butterfly", "head", "woman"):
            picture = Image.open(io.BytesIO(archive.read(f"CSet5/{name}.png"))).convert("RGB")
            clean = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].double() / 127.5 - 1
            clean = clean[..., : clean.shape[-2] // 4 * 4, : clean.shape[-1] // 4 * 4]
            enlarged = upsample(downsample(clean, 4), 4)
            found.append(psnr(to_uint8(enlarged), to_uint8(clean), luma=True, shave=4)[0])
    assert np.mean(found) == pytest.approx(28.42, abs=0.02)


# Randomness and settings. -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_a_row_depends_on_its_seed_and_place_alone(name: str) -> None:
    images = torch.rand(5, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    degradation = make_degradation(DegradationSettings(degradation=name, sigma=(0.05, 0.3)))  # type: ignore[arg-type]

    def spoil(first: int, last: int) -> Tensor:
        draws = SeededDraws(7, first_row=first)
        return degradation(images[first:last], degradation.levels(last - first, draws), draws)

    whole = spoil(0, 5)
    assert torch.equal(whole, spoil(0, 5))
    # float32 sums may be ordered otherwise in batches of another size
    assert torch.allclose(whole, torch.cat([spoil(0, 2), spoil(2, 5)]), atol=1e-4)
    assert not torch.equal(whole[0] - images[0], whole[1] - images[1])
    assert not torch.equal(whole, degradation(images, degradation.levels(5, SeededDraws(8)), SeededDraws(8)))


def test_levels_are_drawn_from_the_whole_range() -> None:
    photons = make_degradation(DegradationSettings(degradation="poisson", peak_photons=(1.0, 1e4)))
    levels = photons.levels(4000, SeededDraws(0)).double().log10()
    assert levels.min() >= 0 and levels.max() <= 4
    assert levels.mean().item() == pytest.approx(2, abs=0.1)  # even in the logarithm
    assert not photons.known
    sigma = make_degradation(DegradationSettings(sigma=(0.1, 0.1)))
    assert sigma.known and torch.equal(sigma.levels(3, SeededDraws(0)), torch.full((3,), 0.1))


@pytest.mark.parametrize(
    "changes",
    [
        {"sigma": (0.3, 0.1)},
        {"sigma": (-0.1, 0.1)},
        {"degradation": "poisson", "peak_photons": (0.0, 5.0)},
        {"degradation": "jpeg", "jpeg_quality": (0.0, 50.0)},
    ],
)
def test_impossible_levels_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="cannot have levels"):
        check_degradation(DegradationSettings(**changes))


# Classical baselines. -----------------------------------------------------------------------------------------


def scene(side: int = 48) -> Tensor:
    """A picture with an edge, a ramp and a dark corner, v in [0, 1], as (1, 1, side, side)."""
    y, x = torch.meshgrid(torch.linspace(0, 1, side), torch.linspace(0, 1, side), indexing="ij")
    v = torch.where((x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.1, 0.85, 0.15 + 0.3 * x)
    return (torch.where(x + y < 0.5, torch.zeros(()), v) * 2 - 1)[None, None]


def decibels(a: Tensor, b: Tensor) -> float:
    return float(-10 * ((a.clamp(-1, 1) - b) / 2).square().mean().log10())


@pytest.mark.parametrize("name", ["tv", "nlm"])
@pytest.mark.parametrize(
    ("changes", "gain"),
    [
        ({"degradation": "gaussian", "sigma": (0.1, 0.1)}, 6),
        ({"degradation": "gaussian", "sigma": (0.05, 0.2)}, 6),  # blind: the level is estimated
        ({"degradation": "rician", "sigma": (0.1, 0.1)}, 6),
        ({"degradation": "poisson", "peak_photons": (30.0, 30.0)}, 5),
        ({"degradation": "low-dose-ct", "beam_photons": (1e4, 1e4)}, 1),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else str(value),
)
def test_classical_denoisers_denoise(name: str, changes: dict[str, Any], gain: float) -> None:
    pytest.importorskip("skimage")
    degradation, draws = make_degradation(DegradationSettings(**changes)), SeededDraws(4)
    clean = scene()
    noisy = degradation(clean, degradation.levels(1, draws), draws)
    restored = classical(name, noisy, degradation)
    assert restored.shape == clean.shape and restored.abs().max() <= 1
    assert decibels(restored, clean) > decibels(noisy, clean) + gain


def test_the_rician_bias_is_taken_out_of_baselines() -> None:
    pytest.importorskip("skimage")
    clean = torch.full((1, 1, 48, 48), -1.0)  # air: all that is there is noise
    told = make_degradation(DegradationSettings(degradation="rician", sigma=(0.1, 0.1)))
    noisy = told(clean, torch.tensor([0.1]), SeededDraws(0))
    biased = classical("nlm", noisy, make_degradation(DegradationSettings(sigma=(0.1, 0.1))))
    assert values(biased).mean() == pytest.approx(0.1 * math.sqrt(math.pi / 2), abs=0.005)
    assert values(classical("nlm", noisy, told)).mean() < 0.04


def test_the_noise_level_of_a_picture_is_estimated() -> None:
    clean = ((scene(128)[0, 0, ..., None] + 1) / 2).numpy()
    for sigma in (0.02, 0.1):
        noisy = clean + sigma * np.random.default_rng(0).standard_normal(clean.shape)
        assert estimated_sigma(noisy) == pytest.approx(sigma, rel=0.06)


def test_stabilised_counts_have_unit_variance_and_come_back_without_bias() -> None:
    for v in (0.2, 0.7):
        counts = np.random.default_rng(0).poisson(40 * v, 200_000) / 40
        z = stabilised(counts, 40.0)
        assert z.var() == pytest.approx(1, abs=0.04)
        assert unstabilised(np.array([z.mean()]), 40.0)[0] == pytest.approx(v, rel=4e-3)
