"""The report in real headless Chromium: quiet, offline, by keyboard, on a phone, dark and light."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fake_run import config, make_run, neighbour_sheet

from ganwright.report import write_report
from ganwright.run import Run

sync_api = pytest.importorskip("playwright.sync_api", reason="the Python package playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome is installed"),
]


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    return write_report(make_run(tmp_path_factory.mktemp("runs") / "mnist-cgan-3f2a"), neighbours=neighbour_sheet())


def shown_caption(page) -> list[str]:
    return page.eval_on_selector_all(
        "[data-list] > li", "items => items.filter(i => i.checkVisibility()).map(i => i.dataset.caption)"
    )


def test_slider_moves_the_image_by_keyboard(open_page):
    page = open_page()
    assert shown_caption(page) == ["step 4,000, 256,000 images seen"]  # starts at the end
    slider = page.locator("[data-slider]")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    assert shown_caption(page) == ["step 3,733, 238,912 images seen"]
    page.keyboard.press("Home")
    assert shown_caption(page) == ["step 0, 0 images seen"]
    assert slider.get_attribute("aria-valuetext") == "step 0, 0 images seen"
    assert page.locator("[data-where]").inner_text() == "step 0, 0 images seen"
    visible = page.locator("[data-list] > li:not([hidden]) img")
    assert visible.evaluate("image => image.complete && image.naturalWidth > 0")


def test_play_runs_to_the_end_and_stops(open_page, tmp_path):
    page = open_page(write_report(make_run(tmp_path / "run", steps=200, stages=3)))
    page.locator("[data-play]").click()
    assert page.locator("[data-play]").inner_text() == "Pause"
    assert shown_caption(page)[0].startswith("step 0,")
    sync_api.expect(page.locator("[data-play]")).to_have_text("Play", timeout=20_000)
    assert shown_caption(page) == ["step 200, 12,800 images seen"]


def test_charts_are_drawn_with_their_static_form_replaced(open_page):
    page = open_page()
    figures = page.locator("[data-chart]").count()
    assert figures == 9
    sync_api.expect(page.locator(".uplot canvas")).to_have_count(9)
    assert page.locator(".chart-svg").count() == 0
    drawn = page.eval_on_selector_all(
        ".uplot canvas",
        """canvases => canvases.map(c => new Set(new Uint32Array(
            c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer)).size)""",
    )
    assert min(drawn) > 8  # curve, grid and text, antialiased, not an empty canvas


def test_legend_reads_the_value_and_hides_a_curve(open_page):
    page = open_page()
    chart = page.locator("#chart-losses")
    chart.locator("[data-plot]").focus()
    page.keyboard.press("Home")
    assert chart.locator(".where").inner_text() == "step 25"
    first = float(chart.locator(".legend .value").first.inner_text())
    spec = chart.locator("[data-spec]").evaluate("s => JSON.parse(s.textContent)")
    assert first == pytest.approx(spec["series"][0]["y"][0], rel=1e-3)
    page.keyboard.press("ArrowRight")
    assert chart.locator(".where").inner_text() == "step 50"
    assert "step 50, discriminator" in chart.locator("[role=status]").inner_text()
    toggle = chart.locator(".legend button").first
    toggle.press("Enter")
    assert toggle.get_attribute("aria-pressed") == "false"


def test_dragging_zooms_every_chart_and_zooming_out_resets(open_page):
    page = open_page()
    page.locator("#chart-losses").scroll_into_view_if_needed()
    over = page.locator("#chart-losses .u-over").bounding_box()
    page.mouse.move(over["x"] + over["width"] * 0.25, over["y"] + 50)
    page.mouse.down()
    page.mouse.move(over["x"] + over["width"] * 0.5, over["y"] + 60, steps=5)
    page.mouse.up()
    for key in ("losses", "gradient-norms"):
        assert page.locator(f"#chart-{key} .tools button", has_text="Zoom out").is_enabled()
    page.locator("#chart-losses .tools button", has_text="Zoom out").click()
    assert page.locator("#chart-gradient-norms .tools button", has_text="Zoom out").is_disabled()
    page.locator("#chart-losses [data-plot]").focus()
    page.keyboard.press("+")
    assert page.locator("#chart-losses .tools button", has_text="Zoom out").is_enabled()
    page.keyboard.press("Escape")
    assert page.locator("#chart-losses .tools button", has_text="Zoom out").is_disabled()


@pytest.mark.parametrize("width", [320, 375, 1280])
def test_no_horizontal_scroll(open_page, width):
    page = open_page(viewport={"width": width, "height": 800})
    sync_api.expect(page.locator(".uplot canvas")).to_have_count(9)
    page.eval_on_selector_all("details", "all => all.forEach(d => { d.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate("window.scrollTo(200, 0)")
    assert page.evaluate("window.scrollX") == 0


def luminance(rgb: str) -> float:
    """Relative luminance of "rgb(r, g, b)" (WCAG 2.1)."""
    parts = [int(v) / 255 for v in rgb.removeprefix("rgb(").removesuffix(")").split(",")]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_scheme_follows_the_system_and_the_toggle(open_page, scheme):
    page = open_page(color_scheme=scheme)
    background = "getComputedStyle(document.body).backgroundColor"
    first = page.evaluate(background)
    assert (luminance(first) < 0.05) == (scheme == "dark")
    page.locator("[data-theme-toggle]").click()
    second = page.evaluate(background)
    assert (luminance(second) < 0.05) == (scheme == "light")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_and_curves_have_contrast(open_page, scheme):
    page = open_page(color_scheme=scheme)
    pairs = page.evaluate(
        """() => {
          const ground = (e) => {
            for (; e; e = e.parentElement) {
              const c = getComputedStyle(e).backgroundColor;
              if (!c.endsWith(', 0)')) return c;
            }
          };
          return [...document.querySelectorAll(
              'p, dt, dd, a, th, td, h1, h2, h3, code, .severity, .badge, .legend li, figcaption')]
            .map((e) => [e.className + ' ' + e.tagName, getComputedStyle(e).color, ground(e)]);
        }"""
    )
    assert len(pairs) > 100
    for what, text, ground in pairs:
        light, dark = sorted((luminance(text), luminance(ground)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (what, text, ground)
    swatches = page.eval_on_selector_all(
        ".legend button .swatch", "all => all.map(e => getComputedStyle(e).backgroundColor)"
    )
    panel = luminance(page.eval_on_selector(".chart", "e => getComputedStyle(e).backgroundColor"))
    for colour in swatches:
        light, dark = sorted((luminance(colour), panel), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 3


def test_without_javascript_everything_is_there(open_page):
    page = open_page(java_script_enabled=False)
    assert page.locator("[data-list] > li").count() == 16
    assert all(page.locator("[data-list] > li").nth(i).is_visible() for i in (0, 7, 15))
    assert page.locator(".chart-svg").count() == 9 and page.locator(".chart-svg").first.is_visible()
    assert not page.locator("[data-controls]").is_visible() and not page.locator("[data-theme-toggle]").is_visible()


def test_every_control_has_a_name(open_page):
    page = open_page()
    names = page.eval_on_selector_all(
        "button, input, a, [tabindex='0']",
        """all => all.filter(e => e.checkVisibility()).map(e =>
            e.getAttribute('aria-label') || e.textContent.trim()
            || e.closest('label')?.textContent.trim() || '')""",
    )
    assert len(names) > 20 and all(names)
    assert page.eval_on_selector_all("img", "all => all.every(e => e.alt)")


def test_an_empty_and_a_one_point_run_are_quiet_too(open_page, tmp_path):
    open_page(write_report(Run.create(tmp_path / "empty", config())))
    run = Run.create(tmp_path / "one", config())
    run.log({"step": 50, "loss_generator": 1.0, "loss_discriminator": -0.5, "grad_norm_generator": 0.0})
    page = open_page(write_report(run))
    sync_api.expect(page.locator(".uplot canvas")).to_have_count(2)
