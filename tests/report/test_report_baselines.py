"""Baselines in a report: beside the metric that they are baselines of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ganwright.metrics.estimate import Estimate, Provenance
from ganwright.report.build import render_report
from ganwright.report.curves import metric_charts
from ganwright.report.story import read_story
from ganwright.run import Run


def test_baselines_stand_beside_what_they_are_baselines_of(tmp_path: Path) -> None:
    """A baseline is a line and a sentence, and not a metric of its own; where it is better, that is said."""
    provenance = Provenance("", "8-bit pixels", "targets", 9)

    def estimate(name: str, value: float) -> dict[str, Any]:
        return Estimate(name, "PSNR (dB)", value, value - 1, value + 1, 9, provenance, "95 %", True).to_dict()

    run = Run.create(
        tmp_path / "run", {"recipe": "pix2pix", "settings": {"best_by": "psnr"}, "data": {"kind": "pairs"}}
    )
    for step, value in ((1, 20.0), (2, 24.0)):
        found = {"psnr": estimate("psnr", value), "psnr:bicubic": estimate("psnr:bicubic", 25.5)}
        run.log_metrics({"step": step, "estimates": found, "scalars": {}, "seconds": 1.0})
    story = read_story(run)
    assert [m.estimates[0].name for m in story.measured] == ["psnr"]
    chart = metric_charts(story)[0]
    assert list(chart.lines) == [(25.5, "bicubic")]
    assert any("bicubic: 25.5" in note and "better than the recipe's best" in note for note in chart.notes)
    html = render_report(run)
    assert "simple methods scored: bicubic 25.5" in html
