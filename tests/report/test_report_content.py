"""What the report says, for whole, damaged, empty and hostile runs."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from fake_run import config, digit_sheet, estimate, log_line, make_run, neighbour_sheet
from PIL import Image

from ganwright.errors import RunError
from ganwright.report import write_report
from ganwright.run import Run


class _Page(HTMLParser):
    """Elements and visible text of a page, checked for tags that are opened and closed in order."""

    _VOID = frozenset({"meta", "link", "img", "input", "line", "circle", "polyline", "polygon", "br"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self._open = "", []
        self.specs: list[dict] = []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self._VOID:
            self._open.append((tag, dict(attrs)))

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop()[0] == tag

    def handle_data(self, data):
        tag, attrs = self._open[-1] if self._open else ("", {})
        if tag == "script" and "data-spec" in attrs:
            self.specs.append(json.loads(data))
        elif tag not in ("script", "style"):
            self.text += data + " "


def page(run: Run, **options) -> _Page:
    html = write_report(run, **options).read_text(encoding="utf-8")
    parsed = _Page(html)
    parsed.text = " ".join(parsed.text.split())
    return parsed


def spec(parsed: _Page, title: str) -> dict:
    return next(s for s in parsed.specs if s["title"] == title)


def test_a_finished_run_is_told_in_plain_sentences(tmp_path):
    shown = page(make_run(tmp_path / "mnist-cgan-3f2a"))
    assert (
        "The recipe cgan trained for 4,000 steps (256,000 images seen) in 5 min 31 s "
        "on mnist (9,000 images of 10 classes)" in shown.text
    )
    assert "It finished as planned, after 4,000 steps." in shown.text
    # Of 142, 61.5, 34.2 ± 4 % and 36.9 ± 4 %: the third is best, and [32.83, 35.57] meets [35.42, 38.38].
    assert (
        "Its best FD (efficientnet-lite0) was 34.2, with an interval of 32.83 to 35.57 (95 %, bootstrap), "
        "at step 3,000" in shown.text
    )
    assert "the end (36.9) is not clearly worse: the intervals overlap" in shown.text
    assert "The doctor gave 1 warning" in shown.text


def test_sections_come_in_reading_order(tmp_path):
    shown = page(make_run(tmp_path / "run"), neighbours=neighbour_sheet())
    ids = [attrs["id"] for tag, attrs in shown.tags if tag == "section"]
    assert ids == [
        "summary",
        "samples",
        "curves",
        "metrics",
        "doctor",
        "neighbours",
        "settings",
        "data",
        "machine",
        "repeat",
    ]


def test_curves_hold_the_logged_numbers(tmp_path):
    run = make_run(tmp_path / "run")
    losses = spec(page(run), "Losses")
    logged = run.log_records()
    assert losses["x"] == [r["step"] for r in logged]
    generator = next(s for s in losses["series"] if s["label"] == "generator")
    np.testing.assert_allclose(generator["y"], [r["loss_generator"] for r in logged], rtol=1e-4)
    titles = [s["title"] for s in page(run).specs]
    assert titles[:5] == [
        "Losses",
        "Discriminator accuracy",
        "Learning rates",
        "Gradient norms",
        "Throughput",
    ]


def test_curves_that_coincide_are_named_together(tmp_path):
    run = Run.create(tmp_path / "run", config())
    for step in (50, 100):
        run.log({"step": step, "lr_generator": 1e-3, "lr_discriminator": 1e-3, "lr_encoder": 1e-4 * step})
    shown = page(run)
    assert [s["label"] for s in spec(shown, "Learning rates")["series"]] == ["generator, discriminator", "encoder"]


def test_metric_curve_has_interval_and_best_step(tmp_path):
    fd = spec(page(make_run(tmp_path / "run")), "FD (efficientnet-lite0)")
    assert fd["x"] == [1000, 2000, 3000, 4000]
    assert fd["series"][0]["y"] == [142, 61.5, 34.2, 36.9]
    np.testing.assert_allclose(fd["series"][0]["low"], [142 * 0.96, 61.5 * 0.96, 34.2 * 0.96, 36.9 * 0.96], rtol=1e-4)
    assert fd["marks"] == [[3000, "best: 34.2"]]


def test_best_is_the_highest_where_higher_is_better(tmp_path):
    accuracy = spec(page(make_run(tmp_path / "run")), "class accuracy")
    assert accuracy["marks"] == [[4000, "best: 0.95"]]


def test_estimates_of_different_provenance_share_no_curve(tmp_path):
    run = make_run(tmp_path / "run")
    other = estimate("fd", 9.0, 0.5, extractor="inception")
    run.log_metrics({"step": 4000, "estimates": {"fd": other.to_dict()}, "scalars": {}, "seconds": 1.0})
    shown = page(run)
    assert spec(shown, "FD (efficientnet-lite0)")["x"] == [1000, 2000, 3000, 4000]
    assert spec(shown, "FD (inception)")["x"] == [4000]
    assert "measured in more than one way" in shown.text


def test_warnings_of_estimates_are_told(tmp_path):
    run = make_run(tmp_path / "run", stages=2)
    for step, accuracy, own in ((4100, 0.99, "rare: 7"), (4200, 0.5, "rare: 8"), (4300, 0.6, "rare: 9")):
        found = replace(estimate("class-accuracy", accuracy, 0.01, n=500), warnings=("n is small", own))
        run.log_metrics({"step": step, "estimates": {"class-accuracy": found.to_dict()}, "scalars": {}})
    text = page(run).text
    assert text.count("n is small.") == 1
    assert "At step 4,100: rare: 7." in text and "At step 4,300: rare: 9." in text and "rare: 8" not in text


def test_findings_and_checks(tmp_path):
    shown = page(make_run(tmp_path / "run"))
    for part in (
        "warning",
        "discriminator-saturation",
        "step 2,000",
        "threshold 0.98",
        "next to no gradient",
        "label smoothing",
    ):
        assert part in shown.text
    assert ("code", {}) in shown.tags and "the recipe `" not in shown.text  # backticks became code


def test_no_findings_says_what_was_checked(tmp_path):
    run = Run.create(tmp_path / "run", config())
    run.log(log_line(50, np.random.default_rng(0)))
    shown = page(run)
    assert "No findings." in shown.text
    assert re.search(r"memorisation : whether .*? \(this run gave it nothing to look at\)", shown.text)
    assert not re.search(r"non-finite : whether [^:]*? \(this run gave it nothing to look at\)", shown.text)


def test_neighbours_show_pairs_and_yardstick(tmp_path):
    sheet = neighbour_sheet(12)
    shown = page(make_run(tmp_path / "run"), neighbours=sheet)
    images = [attrs["alt"] for tag, attrs in shown.tags if tag == "img"]
    assert sum(alt == "Training image nearest to it" for alt in images) == 12
    assert sheet.verdict in shown.text
    below = int((sheet.distances < 20).sum())
    assert 0 < below < 12
    assert shown.text.count("below the 1 %") == below


def test_neighbours_without_a_yardstick(tmp_path):
    sheet = replace(neighbour_sheet(4), held_out_distances=np.zeros(0), threshold=math.nan, share_below=math.nan)
    text = page(make_run(tmp_path / "run", stages=2), neighbours=sheet).text
    assert "below the 1 %" not in text
    assert "nan" not in text[text.index("Did it learn, or copy?") : text.index("Changed from the recipe")].lower()
    assert "Nearest neighbours were not looked up" in page(make_run(tmp_path / "other", stages=2)).text


def test_settings_changed_come_first(tmp_path):
    text = page(make_run(tmp_path / "run")).text
    assert (
        text.index("conditioning projection")
        < text.index("13 settings at their defaults")
        < text.index("batch_size 64")
    )


def test_how_to_repeat_quotes_the_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = page(make_run(tmp_path / "runs" / "my run; rm", stages=2)).text
    for command in ("train --from-run", "resume", "evaluate"):
        assert f"ganwright {command} 'runs/my run; rm'" in text
    assert "ganwright sample 'runs/my run; rm' -n 64" in text


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{7*7}}\u2028"


def test_hostile_names_are_inert(tmp_path):
    data = {**config()["data"], "name": HOSTILE, "class_names": [HOSTILE, "b"], "extra": {HOSTILE: HOSTILE}}
    run = make_run(
        tmp_path / "run",
        stages=2,
        recipe=HOSTILE,
        data=data,
        data_source=HOSTILE,
        command=HOSTILE,
        device=HOSTILE,
    )
    run.log({**log_line(4000, np.random.default_rng(0)), HOSTILE: 1.0, "loss_" + HOSTILE: 2.0})
    run.log(
        {
            "event": "finding",
            "step": 4000,
            "check": HOSTILE,
            "severity": HOSTILE,
            "seen": HOSTILE,
            "why": "`" + HOSTILE,
            "try": f"`{HOSTILE}`",
        }
    )
    bad = {**estimate("fd", 1.0, 0.1).to_dict(), "label": HOSTILE, "interval": HOSTILE, "warnings": [HOSTILE]}
    run.log_metrics({"step": 4000, "estimates": {HOSTILE: bad}, "scalars": {HOSTILE: 1.0}, "seconds": 1})
    shown = page(run)
    scripts = [attrs for tag, attrs in shown.tags if tag == "script"]
    assert all(attrs == {} or attrs.get("type") == "application/json" for attrs in scripts)
    assert sum(attrs == {} for attrs in scripts) == 3  # uPlot, the charts, the report
    for tag, attrs in shown.tags:
        assert not any(name.startswith("on") for name in attrs), (tag, attrs)
        assert tag != "img" or attrs["src"].startswith("data:image/")
    assert "{{7*7}}" in shown.text and "alert(1)" in shown.text  # shown as text
    assert any(s["title"].startswith("</script>") for s in shown.specs)


def test_nothing_is_fetched_from_elsewhere(tmp_path):
    shown = page(make_run(tmp_path / "run", stages=2), neighbours=neighbour_sheet(2))
    for tag, attrs in shown.tags:
        for name in ("src", "href", "srcset", "action", "poster", "data"):
            value = attrs.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, name, value)
    policy = next(
        a["content"] for t, a in shown.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; img-src data:;") and "unsafe" not in policy


def test_an_empty_run_says_so(tmp_path):
    text = page(Run.create(tmp_path / "run", config())).text
    assert "Nothing was logged" in text and "There are no samples in this run." in text
    assert "has not been measured" in text and "nothing to look at" in text


def test_a_bare_run_yaml_is_enough(tmp_path):
    run = Run.create(tmp_path / "run", {})
    assert "The recipe (not recorded) has not trained yet" in page(run).text


def test_a_killed_run_says_where_its_log_ends(tmp_path):
    run = Run.create(tmp_path / "run", config())
    rng = np.random.default_rng(0)
    for step in (50, 100, 150):
        run.log(log_line(step, rng))
    with (run.path / "log.jsonl").open("a") as file:
        file.write('{"step": 200, "loss_gen')  # killed while writing
    shown = page(run)
    assert "It has not finished: its log ends at step 150 of 4,000. It is still training, or was killed." in shown.text
    assert spec(shown, "Losses")["x"] == [50, 100, 150]


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("time", "it had used the time it was given"),
        ("interrupted", "interrupted from the keyboard"),
        ("odd <b>", "odd <b>"),
    ],
)
def test_a_stopped_run_says_why(tmp_path, reason, words):
    run = Run.create(tmp_path / "run", config())
    run.log(log_line(50, np.random.default_rng(0)))
    run.log({"step": 60, "event": "stopped", "reason": reason, "seconds": 5.0})
    assert "It was stopped at step 60 of 4,000: " in (text := page(run).text) and words in text


def test_a_run_that_goes_on_after_a_stop_is_not_called_stopped(tmp_path):
    run = Run.create(tmp_path / "run", config())
    run.log({"step": 60, "event": "stopped", "reason": "time", "seconds": 5.0})
    run.log({"step": 60, "event": "resumed"})
    run.log(log_line(100, np.random.default_rng(0)))
    assert "its log ends at step 100" in page(run).text


def test_not_finite_numbers_are_gaps_and_are_named(tmp_path):
    run = make_run(tmp_path / "run", steps=500, stages=2)
    run.log({**log_line(525, np.random.default_rng(0)), "loss_generator": math.nan, "d_accuracy": math.inf})
    run.log({**log_line(550, np.random.default_rng(0)), "loss_generator": -math.inf})
    run.log({"step": math.nan, "loss_generator": 1.0})
    broken = {**estimate("fd", math.nan, 1.0).to_dict()}
    run.log_metrics(
        {
            "step": 550,
            "estimates": {"fd": broken, "kid": {"value": 3}, "x": None},
            "scalars": {"a": math.nan},
            "seconds": 1,
        }
    )
    shown = page(run)
    generator = next(s for s in spec(shown, "Losses")["series"] if s["label"] == "generator")
    assert generator["y"][-2:] == [None, None]
    assert "2 value(s) of loss_generator are not finite numbers, the first at step 525." in shown.text
    assert "3 estimate(s) in metrics.jsonl are damaged or not finite" in shown.text


def test_a_critical_end_is_told(tmp_path):
    run = Run.create(tmp_path / "run", config())
    run.log(log_line(50, np.random.default_rng(0)))
    run.log(
        {
            "step": 60,
            "event": "finding",
            "check": "non-finite",
            "severity": "critical",
            "seen": "NaN",
            "why": "w",
            "try": "t",
        }
    )
    text = page(run).text
    assert (
        "its log ends at step 60 of 4,000 with a critical finding of the doctor" in text
        and "1 critical finding" in text
    )


def test_text_runs_show_their_lines(tmp_path):
    run = Run.create(
        tmp_path / "run",
        config(recipe="seqgan", data={**config()["data"], "kind": "text", "class_names": []}),
    )
    (run.path / "samples" / "000100.txt").write_text("a man rides <i>a</i> horse .\nzwei\n" + "x" * 5000 + "\n")
    (run.path / "samples" / "000200.txt").write_text("")
    shown = page(run)
    assert "a man rides <i>a</i> horse ." in shown.text and ("i", {}) not in shown.tags
    assert "x" * 300 in shown.text and "x" * 400 not in shown.text
    assert "(no text)" in shown.text


def test_broken_images_are_named(tmp_path):
    run = make_run(tmp_path / "run", stages=3)
    good = run.sample_path(2000, "png").read_bytes()
    run.sample_path(2000, "png").write_bytes(good[: len(good) // 2])
    run.sample_path(2500, "png").write_text("<svg onload=alert(1)>")
    shown = page(run)
    assert (
        "002000.png cannot be read as an image" in shown.text and "002500.png cannot be read as an image" in shown.text
    )
    captions = [attrs["data-caption"] for tag, attrs in shown.tags if tag == "li" and "data-caption" in attrs]
    assert captions == ["step 0, 0 images seen", "step 4,000, 256,000 images seen"]


def test_a_decompression_bomb_is_left_out(tmp_path, monkeypatch):
    run = make_run(tmp_path / "run", stages=2)
    Image.fromarray(np.zeros((300, 300), np.uint8)).save(run.sample_path(1000, "png"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 80_000)  # the digits' sheets have 72,000 and 59,000
    assert "001000.png cannot be read as an image" in page(run).text


def test_static_charts_are_well_formed(tmp_path):
    html = write_report(make_run(tmp_path / "run", stages=2)).read_text(encoding="utf-8")
    drawings = re.findall(r"<svg.*?</svg>", html, re.S)
    assert len(drawings) == 9  # five of the log, three metrics, one figure of the recipe
    for drawing in drawings:
        root = ET.fromstring(drawing)
        assert root.find("title").text and root.find(".//polyline") is not None
        width, height = (float(v) for v in root.get("viewBox").split()[2:])
        for line in root.iter("polyline"):
            for pair in line.get("points").split():
                x, y = map(float, pair.split(","))
                assert 0 <= x <= width and 0 <= y <= height


def test_the_path_can_be_chosen_and_errors_are_for_people(tmp_path):
    run = make_run(tmp_path / "run", stages=2)
    assert write_report(run, path=tmp_path / "elsewhere" / "r.html").read_text().startswith("<!doctype html>")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        write_report(run, path=tmp_path / "file" / "r.html")


def test_a_long_run_stays_small(tmp_path):
    run = Run.create(tmp_path / "run", config())
    rng = np.random.default_rng(0)
    lines = [
        json.dumps(log_line(step, rng) | {f"extra_{i}": rng.normal() for i in range(6)}) for step in range(1, 20_001)
    ]
    (run.path / "log.jsonl").write_text("\n".join(lines) + "\n")
    # 16 photographs-like images of 256x256 a grid, with the noise that makes PNG large: 2.4 MB a stage.
    for i in range(40):
        smooth = np.linspace(0, 255, 1032)[:, None, None] * np.ones((1, 1032, 3))
        sheet = np.clip(smooth + rng.normal(0, 25, smooth.shape), 0, 255).astype(np.uint8)
        Image.fromarray(sheet).save(run.sample_path(500 * (i + 1), "png"), compress_level=0)
    digit_sheet(1.0).save(run.path / "samples" / "real.png")
    path = write_report(run, neighbours=neighbour_sheet(64))
    assert path.stat().st_size < 5_000_000
    shown = _Page(path.read_text(encoding="utf-8"))
    stages = [attrs for tag, attrs in shown.tags if tag == "li" and "data-caption" in attrs]
    assert len(stages) >= 20 and stages[-1]["data-caption"].startswith("step 20,000")
    losses = next(s for s in shown.specs if s["title"] == "Losses")
    assert len(losses["x"]) <= 400
    # The mean of the bins is the mean of the log, and their band holds every value.
    logged = np.array([r["loss_generator"] for r in run.log_records()])
    generator = next(s for s in losses["series"] if s["label"] == "generator")
    assert np.mean(generator["y"]) == pytest.approx(logged.mean(), abs=2e-3)
    assert min(generator["low"]) == pytest.approx(logged.min(), rel=1e-4)
    assert max(generator["high"]) == pytest.approx(logged.max(), rel=1e-4)


def test_a_damaged_run_yaml_is_an_error_for_people(tmp_path):
    run = Run.create(tmp_path / "run", config())
    (run.path / "run.yaml").write_text("recipe: [unclosed")
    with pytest.raises(RunError, match=r"run\.yaml"):
        write_report(run)
