"""An evaluation as a table for people."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group
from rich.markup import escape
from rich.table import Table

from ganwright.metrics.estimate import Estimate


def render(evaluation: Mapping[str, Estimate]) -> Group:
    """A table of value, interval and n, with what all were measured with above it and the warnings below."""
    estimates = list(evaluation.values())
    table = Table(title="evaluation", title_justify="left")
    for heading, justify in (("metric", "left"), ("value", "right"), ("95 % interval", "right"), ("n", "right")):
        table.add_column(heading, justify=justify, overflow="fold")  # type: ignore[arg-type]
    table.add_column("n real", justify="right")
    table.add_column("better")
    notes: dict[str, list[str]] = {}
    for estimate in estimates:
        table.add_row(
            escape(estimate.label),
            f"{estimate.value:.4g}",
            f"{estimate.low:.4g} … {estimate.high:.4g}",
            f"{estimate.n:,}",
            f"{estimate.provenance.n_reference:,}" if estimate.provenance.n_reference else "–",
            "higher" if estimate.higher_is_better else "lower",
        )
        for warning in estimate.warnings:
            notes.setdefault(warning, []).append(estimate.label)
    lines = [
        f"[yellow]note[/] {'all' if 1 < len(of) == len(estimates) else escape(', '.join(of))}: {escape(text)}."
        for text, of in notes.items()
    ]
    protocols = ", ".join(sorted({e.provenance.protocol for e in estimates if e.provenance.protocol}))
    told = [f"protocol {escape(protocols)}"] if protocols else []
    for extractor, preprocessing in dict.fromkeys(
        (e.provenance.extractor, e.provenance.preprocessing) for e in estimates
    ):
        told.append(escape(f"{extractor}: {preprocessing}" if extractor else preprocessing))
    return Group(table, *([f"[dim]{'; '.join(told)}[/]"] if told else []), *lines)
