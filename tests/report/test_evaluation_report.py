"""The report of an evaluation: what stands in it, and that it is quiet and offline in a real browser."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ganwright as gw
from ganwright.report.plane import PlanePoint, plane_svg


class Pool(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(x, 2).flatten(1)


def squares(seed: int, n: int, low: int, high: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    grey = rng.integers(low, high, (n, 2, 2, 3))
    return np.clip(grey.repeat(4, 1).repeat(4, 2) + rng.integers(-9, 10, (n, 8, 8, 3)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Samples: bright squares, 5 copies of real ones and 5 that are nothing like them; real: bright and dark ones."""
    folder = tmp_path_factory.mktemp("evaluation")
    torch.jit.script(Pool()).save(str(folder / "pool.pt"))
    real = np.concatenate([squares(0, 150, 150, 200), squares(1, 50, 20, 60)])
    odd = np.zeros((5, 8, 8, 3), np.uint8)
    odd[..., 0] = 255
    odd[:, :4] = [0, 0, 255]
    samples = np.concatenate([squares(2, 90, 150, 200), real[:5], odd])
    (folder / "<samples>").mkdir()
    for i, image in enumerate(samples):
        Image.fromarray(image).save(folder / "<samples>" / f"{i:03d}.png")
    gw.evaluate(
        folder / "<samples>",
        reference=real,
        extractor=f"{folder / 'pool.pt'}@8",
        report=folder / "evaluation.html",
        quiet=True,
    )
    return folder / "evaluation.html"


def section(page: str, key: str) -> str:
    return page.split(f'<section id="{key}"')[1].split("</section>")[0]


def test_worst_missed_and_copied_images_are_named(report: Path) -> None:
    page = report.read_text(encoding="utf-8")
    worst = re.findall(r'alt="([^"]*)"', section(page, "worst"))
    assert set(worst[:5]) == {f"{i:03d}.png" for i in range(95, 100)}
    copies = re.findall(r'alt="([^"]*)"', section(page, "copies"))
    assert {tuple(copies[i : i + 2]) for i in range(0, 10, 2)} == {(f"{90 + i:03d}.png", f"{i:06d}") for i in range(5)}
    missed = [int(name) for name in re.findall(r'alt="([^"]*)"', section(page, "missed"))]
    assert missed and min(missed) >= 150  # dark squares are not made
    assert "5 of 100 samples are images of the reference to the pixel" in page
    assert "&lt;samples&gt;" in page and "<samples>" not in page
    assert len(page) < 2_000_000


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_quiet_offline_and_fits(open_page, report: Path, width: int, scheme: str) -> None:
    page = open_page(report, viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert page.locator("h1").inner_text() == "<samples> against array"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("svg.plane circle").count() == 2
    assert page.eval_on_selector_all("img", "images => images.every(i => i.naturalWidth > 0)")


def test_plane_places_points() -> None:
    svg = str(plane_svg([PlanePoint("<a>", 0.0, 0.0), PlanePoint("b", 1.0, 1.0, (0.9, 1.2), (0.9, 1.0))]))
    (x0, y0), (x1, y1) = ((float(x), float(y)) for x, y in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', svg))
    assert x0 < x1 and y0 > y1  # recall to the right, precision upwards
    assert "<a>" not in svg and "&lt;a&gt;" in svg
