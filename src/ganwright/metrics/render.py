"""An evaluation as a table for people."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group
from rich.markup import escape
from rich.table import Table

from ganwright.metrics.estimate import Estimate


def render(evaluation: Mapping[str, Estimate]) -> Group:
    """A table of value, interval, n and extractor, with the warnings below it."""
    table = Table(title="evaluation", title_justify="left")
    for heading, justify in (
        ("metric", "left"),
        ("value", "right"),
        ("95 % interval", "right"),
        ("n", "right"),
        ("n real", "right"),
        ("measured with", "left"),
        ("better", "left"),
    ):
        table.add_column(heading, justify=justify, overflow="fold")  # type: ignore[arg-type]
    notes: dict[str, list[str]] = {}
    for estimate in evaluation.values():
        table.add_row(
            escape(estimate.label),
            f"{estimate.value:.4g}",
            f"{estimate.low:.4g} … {estimate.high:.4g}",
            str(estimate.n),
            str(estimate.provenance.n_reference or "–"),
            escape(estimate.provenance.extractor),
            "higher" if estimate.higher_is_better else "lower",
        )
        for warning in estimate.warnings:
            notes.setdefault(warning, []).append(estimate.label)
    return Group(table, *(f"[yellow]note[/] {escape(', '.join(of))}: {escape(text)}." for text, of in notes.items()))
