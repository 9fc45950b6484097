"""The report's section on which mutation survived when, against shares worked out by hand."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from fake_run import config, make_run

from ganwright.report import write_report
from ganwright.report.mutations import COLUMNS, mutation_view
from ganwright.report.story import read_story
from ganwright.run import Run


def run_with(path: Path, lines: list[dict]) -> Run:
    run = Run.create(path, config(recipe="e-gan"))
    for line in lines:
        run.log({"stage": "train", "loss_generator": 1.0, **line})
    return run


def shares(step: int, minimax: float, heuristic: float) -> dict:
    return {"step": step, "survived_minimax": minimax, "survived_least_squares": 1 - minimax - heuristic,
            "survived_heuristic": heuristic}  # fmt: skip


def areas(svg: str) -> list[list[tuple[float, float]]]:
    found = ET.fromstring(svg).iter("polygon")
    return [[tuple(map(float, p.split(","))) for p in area.get("points").split()] for area in found]


def test_shares_weigh_by_the_steps_they_were_counted_over(tmp_path):
    # 10 steps all minimax, then 20 with a half each for minimax and heuristic, then 30 all heuristic.
    run = run_with(tmp_path / "run", [shares(10, 1, 0), shares(30, 0.5, 0.5), shares(60, 0, 1)])
    view = mutation_view(read_story(run))
    assert view.names == ["minimax", "least squares", "heuristic"]
    # Thirds are steps 0-20, 20-40 and 40-60: minimax had 10 + 5 of 20, 5 of 20 and none; of all 60 it had 20.
    assert view.shares[0] == pytest.approx([15 / 20, 5 / 20, 0, 20 / 60])
    assert view.shares[1] == pytest.approx([0, 0, 0, 0])
    assert view.shares[2] == pytest.approx([5 / 20, 15 / 20, 1, 40 / 60])
    assert view.sentences == [
        "Of the survivors of 60 steps, 67 % were mutated by heuristic, 33 % by minimax and 0 % by least squares.",
        "The most frequent was minimax in the first third, heuristic in the middle third "
        "and heuristic in the last third.",
    ]


def test_the_picture_stacks_to_the_whole(tmp_path):
    run = run_with(tmp_path / "run", [shares(10, 1, 0), shares(30, 0.5, 0.5), shares(60, 0, 1)])
    minimax, squares, heuristic = areas(str(mutation_view(read_story(run)).picture))
    bottom, top = minimax[-1][1], min(y for _, y in minimax)  # all of the first ten steps
    assert [round((bottom - y) / (bottom - top), 2) for _, y in minimax[:6]] == [1, 1, 0.5, 0.5, 0, 0]
    assert [y for _, y in squares[:6]] == [y for _, y in minimax[:6]]  # nothing of its own
    assert {y for _, y in heuristic[:6]} == {top}
    left, right = minimax[0][0], minimax[5][0]
    assert [round((x - left) / (right - left) * 60) for x, _ in minimax[:6]] == [0, 10, 10, 30, 30, 60]


def test_long_logs_are_put_together_and_damaged_lines_left_out(tmp_path):
    lines = [shares(step, (step // 10) % 2, 1 - (step // 10) % 2) for step in range(10, 10_010, 10)]
    lines[5] = {"step": 60, "survived_minimax": float("nan"), "survived_heuristic": None}
    lines[6] = {"step": 70, "survived_minimax": 0.0, "survived_heuristic": 0.0}
    view = mutation_view(read_story(run_with(tmp_path / "run", lines)))
    assert view.shares[0] == pytest.approx([0.5] * 4, abs=0.02)
    assert len(areas(str(view.picture))[0]) == 4 * COLUMNS


def test_only_runs_with_survivors_have_the_section(tmp_path):
    html = write_report(make_run(tmp_path / "cgan", steps=200, stages=3)).read_text(encoding="utf-8")
    assert "mutations" not in re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL).lower()
    lines = [{**shares(50 * i, 0.5, 0.5), "fitness_quality": 0.4, "fitness_diversity": -1.0} for i in range(1, 9)]
    html = write_report(run_with(tmp_path / "egan", lines)).read_text(encoding="utf-8")
    assert '<section id="mutations"' in html and '<a href="#mutations">' in html
    assert "Fitness: quality" in html and "Fitness: diversity" in html
    assert "Survived minimax" not in html  # no curves of their own beside the section
    body = html[html.index('<section id="mutations"') :]
    assert body.index("Share of the survivors") < body.index('<section id="metrics"')


def test_a_single_mutation_is_said_to_be_one_and_hostile_names_are_text(tmp_path):
    name = "survived_<script>alert(1)</script>"
    run = run_with(tmp_path / "run", [{"step": 10, name: 1.0}, {"step": 20, name: 1.0}])
    html = write_report(run).read_text(encoding="utf-8")
    assert "There was one mutation" in html and "<script>alert(1)" not in html
