"""The report of an evaluation: one self-contained HTML file about two sets of images."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from ganwright.errors import RunError
from ganwright.files import write_atomic
from ganwright.metrics.estimate import Estimate, Evaluation
from ganwright.metrics.examples import Example, Examples, find_examples
from ganwright.metrics.registry import METRICS
from ganwright.metrics.sets import Comparison
from ganwright.report.build import environment, page_parts
from ganwright.report.charts import number
from ganwright.report.pictures import Picture, array_picture
from ganwright.report.plane import PlanePoint, plane_svg

COUNT = 16
"""Images in each row of examples."""


@dataclass(frozen=True)
class ExampleView:
    """An example on the page."""

    picture: Picture
    beside: Picture | None
    name: str
    beside_name: str
    score: float


@dataclass(frozen=True)
class RowView:
    """A row of examples: what they are, how to read them, and the pictures."""

    key: str
    title: str
    explain: str
    score: str
    examples: list[ExampleView]


def write_evaluation_report(found: Comparison, evaluation: Evaluation, path: Path, *, quiet: bool = False) -> Path:
    """Write the report of an evaluation.

    Args:
        found: What was compared.
        evaluation: Its estimates.
        path: The HTML file.
        quiet: Show no progress.

    Raises:
        RunError: It cannot be written.
    """
    examples = find_examples(found, count=COUNT)
    first = next(iter(evaluation.values()))
    points = _plane(evaluation, examples)
    html = (
        environment()
        .get_template("evaluation.html.j2")
        .render(
            title=f"{found.samples.name} against {found.reference.name}",
            samples=found.samples,
            reference=found.reference,
            estimates=[(estimate, _meaning(estimate)) for estimate in evaluation.values()],
            notes=_notes(evaluation),
            provenance=first.provenance,
            protocol=found.measured.protocol,
            plane=plane_svg(points) if points else None,
            points=points,
            examples=examples,
            rows=[] if examples is None else _rows(examples),
            command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            details=_details(evaluation),
            **page_parts(("report.js",), ("report.css",)),
        )
    )
    try:
        write_atomic(path, html)
    except OSError as error:
        raise RunError(f"The report cannot be written: {error.strerror}.", where=path) from error
    return path


def _meaning(estimate: Estimate) -> str:
    known = METRICS.get(estimate.name)
    return known.what if known else ""


def _notes(evaluation: Evaluation) -> list[tuple[str, str]]:
    """(metrics, what a reader must know), each text once."""
    found: dict[str, list[str]] = {}
    for estimate in evaluation.values():
        for warning in estimate.warnings:
            found.setdefault(warning, []).append(estimate.label)
    every = len(evaluation)
    return [("all" if len(of) == every else ", ".join(of), text) for text, of in found.items()]


def _details(evaluation: Evaluation) -> list[tuple[str, list[tuple[str, str]]]]:
    return [
        (estimate.label, [(name.replace("_", " "), number(value)) for name, value in estimate.details.items()])
        for estimate in evaluation.values()
        if estimate.details
    ]


def _plane(evaluation: Evaluation, examples: Examples | None) -> list[PlanePoint]:
    precision, recall = evaluation.get("precision"), evaluation.get("recall")
    if precision is None or recall is None:
        return []
    points = []
    if examples is not None and examples.real_values:
        real = examples.real_values
        label = f"real images against others, {examples.real_n:,} on each side: what to hope for"
        points.append(PlanePoint(label, real["recall"], real["precision"], colour=2))
    intervals = (recall.low, recall.high), (precision.low, precision.high)
    label = f"these samples, n = {precision.n:,}, with their intervals"
    return [*points, PlanePoint(label, recall.value, precision.value, *intervals)]


def _rows(examples: Examples) -> list[RowView]:
    rows = [
        (
            "worst",
            "Least realistic samples",
            "Samples farthest from the real images, the worst first. Below 1, a sample may lie outside what is real.",
            "realism",
            examples.worst,
        ),
        (
            "best",
            "Most realistic samples",
            "Samples deepest inside the real images. Copies of real images score highest: compare with the last row.",
            "realism",
            examples.best,
        ),
        (
            "missed",
            "Real images that are missed",
            "Real images that no sample comes near: what the generator does not make, the farthest first.",
            "distance to the nearest sample, median 1",
            examples.missed,
        ),
        (
            "copies",
            "Samples nearest to a real image",
            "Each sample (left) beside the real image nearest to it by features (right). The figure is their distance "
            "over that of the real image to its own nearest real neighbour: well below 1 is a suspected copy.",
            "distance, real neighbour 1",
            examples.copies,
        ),
    ]
    return [
        RowView(key, title, explain, score, [_view(e) for e in found]) for key, title, explain, score, found in rows
    ]


def _view(example: Example) -> ExampleView:
    beside = None if example.beside is None else array_picture(example.beside, largest=128)
    return ExampleView(
        array_picture(example.image, largest=128), beside, example.name, example.beside_name, example.score
    )
