"""Projection recovers what the generator made, and keeps what it has when it is interrupted."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from ganwright.errors import DataError, SettingsError
from ganwright.exploring import Explorer
from ganwright.exploring import projection as projecting
from ganwright.exploring.perceptual import PerceptualLoss
from ganwright.exploring.projection import noise_regularisation, ramp
from ganwright.exploring.result import read_target
from ganwright.metrics.extractor_base import Extractor


class Filters(Extractor):
    """A tiny network of random convolutions."""

    name, version, feature_dim, has_logits, preprocessing, size = "filters", "1", 6, False, "x / 255", 64

    def __init__(self) -> None:
        super().__init__("cpu")
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.network = nn.Sequential(
                nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(5, 5, 3, padding=1), nn.AvgPool2d(8), nn.Conv2d(5, 6, 3, 4)
            )

    def forward(self, images: Tensor) -> tuple[Tensor | None, ...]:
        return self.network(images / 255).mean((2, 3)), None


@pytest.fixture
def with_filters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ganwright.exploring.explorer.open_extractor", lambda name, **_: Filters())


def test_an_image_of_the_generator_is_found_again_in_w_plus(style: Explorer) -> None:
    rows, columns = style.latents([3]), style.latents([4])
    mixed = rows.with_values(torch.cat([rows.values[:, :3], columns.values[:, 3:]], 1))
    target = style.space.images(mixed)[0]
    found = style.project(target, extractor=None, steps=400, lr=0.2, quiet=True)
    assert found.quality.psnr > 35
    assert found.in_w is not None and found.in_w[2].psnr < found.quality.psnr
    assert np.abs(style.space.images(found.latents)[0].astype(int) - found.image).max() <= 1
    assert (found.latents.values - mixed.values).abs().max() < 0.3
    assert found.loss.startswith("pixels") and found.quality.feature_distance is None
    assert found.sheet().images.shape[:2] == (1, len(found.snapshots) + 2)


def test_an_image_of_one_style_is_found_again_in_w(style: Explorer) -> None:
    target = style.images([6]).images[0]
    found = style.project(target, extractor=None, space="w", steps=300, quiet=True)
    assert found.quality.psnr > 35 and found.in_w is None
    assert (found.latents.values == found.latents.values[:, :1]).all()
    assert (found.latents.values - style.latents([6]).values).abs().max() < 0.3


def test_an_image_is_found_again_in_z(plain: Explorer) -> None:
    target = plain.images([6]).images[0]
    found = plain.project(target, extractor=None, steps=300, quiet=True)
    assert found.quality.psnr > 35 and found.latents.kind == "z"
    assert "times as long" in " ".join(found.notes)


def test_the_perceptual_loss_leads_there_too(style: Explorer, with_filters: None) -> None:
    target = style.images([6]).images[0]
    found = style.project(target, extractor="filters", pixel_weight=0.0, steps=300, quiet=True)
    assert found.quality.psnr > 30
    assert found.loss == "filters maps at 64x64 + pixels" and found.quality.feature_distance < 0.01


def test_equal_seeds_give_equal_results(style: Explorer, plain: Explorer) -> None:
    for explorer in (style, plain):
        target = explorer.images([6]).images[0]
        runs = [explorer.project(target, extractor=None, steps=30, seed=s, quiet=True) for s in (1, 1, 2)]
        assert torch.equal(runs[0].latents.values, runs[1].latents.values)
        assert not torch.equal(runs[0].latents.values, runs[2].latents.values)


def test_nothing_of_the_generator_is_changed(style: Explorer) -> None:
    recipe = style.space.recipe
    before = {name: t.clone() for name, t in recipe.state_dict().items()}
    style.project(style.images([6]).images[0], extractor=None, steps=10, noise=True, quiet=True)
    assert all(torch.equal(before[name], t) for name, t in recipe.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in recipe.parameters())
    assert not any(b.requires_grad for b in recipe.buffers())


def test_noise_is_fitted_kept_and_used(style: Explorer, tmp_path: Path) -> None:
    target = style.images([6]).images[0]
    found = style.project(target, extractor=None, steps=40, noise=True, quiet=True)
    (name, noise), *rest = found.latents.noise.items()
    assert not rest and name == "generator.noise_const" and noise.shape == (16, 16)
    assert float(noise.mean()) == pytest.approx(0, abs=1e-4) and float(noise.square().mean()) == pytest.approx(
        1, abs=1e-3
    )
    again = style.load(style.save(found.latents, tmp_path / "w.safetensors"))
    assert torch.equal(again.noise[name], noise)
    assert np.abs(style.space.images(again)[0].astype(int) - found.image).max() <= 1
    moved = style.edited(again, {"sefa-0": 1}, style.directions("sefa", 1, n=100))
    assert torch.equal(moved.noise[name], noise)


def test_a_file_made_by_projection_is_used_elsewhere(style: Explorer, tmp_path: Path) -> None:
    found = style.project(style.images([6]).images[0], extractor=None, steps=20, quiet=True)
    path = str(style.save(found.latents, tmp_path / "w.safetensors"))
    assert np.abs(style.mix([path], ["1"], "b16.torgb").images[1, 0].astype(int) - found.image).max() <= 1
    assert np.abs(style.interpolate([path, 2], 3).images[0, 0].astype(int) - found.image).max() <= 1
    assert style.edit(path, {"sefa-0": 1}, style.directions("sefa", 1, n=100)).images.shape[:2] == (1, 2)


@pytest.mark.parametrize("at", [1, 20, 60])
def test_ctrl_c_keeps_the_best_so_far(style: Explorer, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    calls = 0

    def interrupted(t: float) -> float:
        nonlocal calls
        calls += 1
        if calls == at:
            raise KeyboardInterrupt
        return ramp(t)

    monkeypatch.setattr(projecting, "ramp", interrupted)
    target = style.images([6]).images[0]
    found = style.project(target, extractor=None, steps=100, quiet=True)
    assert found.interrupted and calls == at
    assert np.isfinite(found.quality.psnr) and "interrupted" in found.notes[-1]
    assert found.sheet().picture().ndim == 3


def test_an_interrupted_projection_keeps_the_newest_step(style: Explorer, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def interrupted(t: float) -> float:
        nonlocal calls
        calls += 1
        if calls == 60:  # of 5,000 steps in W, of which every 200th is looked at
            raise KeyboardInterrupt
        return ramp(t)

    monkeypatch.setattr(projecting, "ramp", interrupted)
    target = style.images([6]).images[0]
    short = style.project(target, extractor=None, steps=10_000, quiet=True)
    monkeypatch.setattr(projecting, "ramp", lambda t: 0.0)
    start = style.project(target, extractor=None, steps=2, quiet=True)
    assert short.quality.psnr > start.quality.psnr


def test_the_ramp_is_the_papers() -> None:
    assert ramp(0) < 0.05 and ramp(0.025) == pytest.approx(0.5, abs=0.03) and ramp(0.5) == 1
    assert ramp(0.875) == pytest.approx(0.5) and ramp(1) == pytest.approx(0)


def test_noise_regularisation_against_loops() -> None:
    noise = torch.randn(16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected, n = 0.0, noise.numpy()
    while True:
        side = len(n)
        across = sum(n[y, x] * n[y, x - 1] for y in range(side) for x in range(side)) / side**2
        down = sum(n[y, x] * n[y - 1, x] for y in range(side) for x in range(side)) / side**2
        expected += across**2 + down**2
        if side <= 8:
            break
        n = np.array(
            [[n[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].mean() * 2 for x in range(side // 2)] for y in range(side // 2)]
        )
    assert float(noise_regularisation([noise])) == pytest.approx(expected, rel=1e-6)
    assert float(noise_regularisation([])) == 0
    smooth = torch.ones(8, 8)
    assert float(noise_regularisation([smooth])) == pytest.approx(2)


def test_the_perceptual_loss_is_the_sum_over_resolutions_of_unit_features() -> None:
    extractor = Filters()
    loss = PerceptualLoss(extractor, 16)
    a, b = (torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(i)) * 2 - 1 for i in (0, 1))
    found = loss.distance(loss.features(a), loss.features(b))
    expected = np.zeros(2)
    with torch.no_grad():
        x, y = (t * 0.5 + 0.5 for t in (a, b))  # the network takes 0..1
        fine = [extractor.network[:2](t).double().numpy() for t in (x, y)]
        middle = [extractor.network[:3](t).double().numpy() for t in (x, y)]
    for u, v in (fine, middle):  # the last maps are 2x2, too small
        u, v = u / np.sqrt((u**2).sum(1, keepdims=True)), v / np.sqrt((v**2).sum(1, keepdims=True))
        expected += ((u - v) ** 2).sum(1).mean((1, 2))
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-4)
    assert float(loss.distance(loss.features(a), loss.features(a)).detach().max()) == 0


def test_grey_images_are_compared_as_rgb() -> None:
    loss = PerceptualLoss(Filters(), 16)
    grey = torch.rand(1, 1, 16, 16) * 2 - 1
    maps = loss.features(grey)
    assert maps[0].shape[-1] == loss.side == 64
    torch.testing.assert_close(maps[0], loss.features(grey.expand(-1, 3, -1, -1))[0])


def test_an_extractor_without_maps_is_refused() -> None:
    class Closed(Filters):
        def __init__(self) -> None:
            super().__init__()
            self.network = None  # type: ignore[assignment]

    with pytest.raises(SettingsError, match="cannot be reached"):
        PerceptualLoss(Closed(), 16)


def test_images_of_other_sizes_are_resized_with_a_note(tmp_path: Path) -> None:
    Image.fromarray(np.full((40, 60, 3), 99, np.uint8)).save(tmp_path / "wide.png")
    pixels, name, notes = read_target(tmp_path / "wide.png", 16, 1)
    assert pixels.shape == (16, 16, 1) and name == "wide.png"
    assert "60x40" in notes[0] and "central square" in notes[0] and "grey" in notes[1]
    assert read_target(np.zeros((16, 16, 3), np.uint8), 16, 3)[2] == []


@pytest.mark.parametrize("image", ["nowhere.png", np.zeros((4, 4)), np.zeros((4, 4, 2), np.uint8)])
def test_images_that_cannot_be_read(image: object) -> None:
    with pytest.raises(DataError):
        read_target(image, 16, 3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"space": "w++"}, {"lr": 0}, {"lr": math.nan}, {"stpes": 4}, {"starts": 0}]
)
def test_settings_that_cannot_be(style: Explorer, wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        style.project(np.zeros((16, 16, 3), np.uint8), extractor=None, quiet=True, **wrong)
