"""Which charts a run's log and evaluations make, and how to read them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ganwright.metrics.estimate import Estimate
from ganwright.report.charts import COLOURS, MAX_POINTS, Chart, Series, bin_curve
from ganwright.report.mutations import PREFIX
from ganwright.report.story import Measured, Record, Story, as_dict, finite

_NOT_CURVES = {"step", "images_seen", "stage", "seconds", "epoch", "event"}
_MAX_OTHER = 12


@dataclass(frozen=True)
class _Group:
    key: str
    title: str
    belongs: Callable[[str], bool]
    explain: str
    log_y: bool = False
    y_range: tuple[float, float] | None = None
    lines: tuple[tuple[float, str], ...] = ()


_GROUPS = (
    _Group(
        "losses",
        "Losses",
        lambda name: name == "loss" or name.startswith("loss_"),
        "What each network tries to make small. The two work against each other, so neither falls steadily: "
        "a healthy training swings around a level. Read quality from the samples and metrics, not from here.",
    ),
    _Group(
        "d-accuracy",
        "Discriminator accuracy",
        lambda name: name in ("d_accuracy", "accuracy"),
        "Share of real and generated images the discriminator tells apart. 0.5: it cannot; "
        "close to 1 for long: the generator learns little from it.",
        y_range=(0.0, 1.0),
        lines=((0.5, "guessing"),),
    ),
    _Group(
        "d-outputs",
        "Discriminator outputs",
        lambda name: name in ("d_real", "d_fake"),
        "Its mean output on real and on generated images, before any sigmoid. The further apart the two, the "
        "surer it is of the difference.",
    ),
    _Group(
        "fitness-quality",
        "Fitness: quality",
        lambda name: name == "fitness_quality",
        "How real the discriminator takes the fittest generator's images to be: its mean output as a probability.",
    ),
    _Group(
        "fitness-diversity",
        "Fitness: diversity",
        lambda name: name == "fitness_diversity",
        "Minus the logarithm of the discriminator's gradient on the fittest generator's images, before it is weighed. "
        "High: the discriminator has no easy countermove, as it would have against images that crowd together.",
    ),
    _Group(
        "learning-rates",
        "Learning rates",
        lambda name: name == "lr" or name.startswith("lr_"),
        "How large the steps of each optimiser are.",
    ),
    _Group(
        "gradient-norms",
        "Gradient norms",
        lambda name: name.startswith("grad_norm"),
        "How strongly each network is being pushed. A generator's norm that sinks towards 0 means it no "
        "longer learns; one that shoots up means training is coming apart.",
        log_y=True,
    ),
    _Group(
        "throughput",
        "Throughput",
        lambda name: name == "images_per_second",
        "Training images a second. It says nothing about quality.",
    ),
)


def log_charts(story: Story) -> list[Chart]:
    """Charts of the logged scalars: losses, accuracy, learning rates, gradients, throughput, and the rest."""
    names = [name for name in _scalar_names(story.records) if not name.startswith(PREFIX)]  # their section has them
    marks = tuple((float(f["step"]), str(f.get("check", "finding"))) for f in _grave(story.findings))
    charts = []
    for group in _GROUPS:
        chosen = [name for name in names if group.belongs(name)]
        if chosen:
            charts.append(_chart(group, chosen, story.records, marks))
    rest = [name for name in names if not any(group.belongs(name) for group in _GROUPS)]
    for i, name in enumerate(rest[:_MAX_OTHER]):
        group = _Group(f"other-{i}", readable(name), lambda _: True, "Logged by this recipe.")
        charts.append(_chart(group, [name], story.records, ()))
    return charts


def metric_charts(story: Story) -> list[Chart]:
    """A chart per metric with its interval band and best step, then one per figure the recipe itself gave."""
    charts = [_metric_chart(i, measured) for i, measured in enumerate(story.measured)]
    records = [{"step": r["step"], **as_dict(r.get("scalars"))} for r in story.metric_records]
    for i, name in enumerate(_scalar_names(records)[:_MAX_OTHER]):
        group = _Group(
            f"figure-{i}",
            readable(name),
            lambda _: True,
            "A figure only this recipe gives; it has no interval.",
        )
        charts.append(_chart(group, [name], records, (), points=True))
    return charts


def readable(name: str) -> str:
    """A logged name for people: `survivors_mean` becomes "Survivors mean"."""
    return re.sub(r"[_/]+", " ", name).strip().capitalize() or name


def _metric_chart(index: int, measured: Measured) -> Chart:
    estimates, best = measured.estimates, measured.best
    provenance = estimates[best].provenance
    how = [f"n = {estimates[best].n:,}", f"interval: {estimates[best].interval}"]
    if provenance.n_reference:
        how.append(f"against {provenance.n_reference:,} real samples")
    if provenance.extractor:
        how.append(f"extractor {provenance.extractor}")
    series = Series(
        estimates[best].label,
        [e.value for e in estimates],
        [e.low for e in estimates],
        [e.high for e in estimates],
        colour=1,
        points=True,
    )
    return Chart(
        f"metric-{index}",
        estimates[best].label,
        [float(step) for step in measured.steps],
        [series],
        explain=measured.meaning,
        notes=[", ".join(how) + ".", *_beside(measured), *_warnings(measured)],
        marks=((float(measured.steps[best]), f"best: {estimates[best].value:.4g}"),),
        lines=tuple((e.value, _baseline(e)) for e in measured.beside),
    )


def _baseline(estimate: Estimate) -> str:
    return estimate.name.partition(":")[2]


def _beside(measured: Measured) -> list[str]:
    """What simple methods scored on the same samples, and which of them the recipe did not beat."""
    best, lines = measured.estimates[measured.best], []
    for simple in measured.beside:
        ahead = simple.value > best.value if best.higher_is_better else simple.value < best.value
        told = " That is better than the recipe's best." if ahead else ""
        name, interval = _baseline(simple), f"{simple.low:.4g} to {simple.high:.4g}"
        lines.append(f"Beside it, {name}: {simple.value:.4g} ({interval}), on the same samples.{told}")
    return lines


def _warnings(measured: Measured) -> list[str]:
    """What was said of every evaluation, then what was said of the best and the last alone."""
    of_all = [w for w in measured.estimates[0].warnings if all(w in e.warnings for e in measured.estimates)]
    # A warning may begin with a symbol ("n = 100"), which keeps its case.
    lines = [(w if w[1:2] == " " else w[:1].upper() + w[1:]) + "." for w in of_all]
    for i in sorted({measured.best, len(measured.estimates) - 1}):
        own = [warning for warning in measured.estimates[i].warnings if warning not in of_all]
        lines += [f"At step {measured.steps[i]:,}: {warning}." for warning in own]
    return lines


def _chart(
    group: _Group,
    names: Sequence[str],
    records: Sequence[Record],
    marks: Sequence[tuple[float, str]],
    *,
    points: bool = False,
) -> Chart:
    # One row a step: of a step that was logged twice, the later line counts.
    rows = list({float(r["step"]): r for r in records if any(name in r for name in names)}.values())
    steps = np.array([float(r["step"]) for r in rows])
    binned = len(rows) > MAX_POINTS
    edges = np.linspace(steps.min(), steps.max(), MAX_POINTS + 1) if binned else np.array([0.0])
    notes = []
    series = []
    for name in names:
        values = np.array([float(r[name]) if finite(r.get(name)) else np.nan for r in rows])
        lost = [i for i, r in enumerate(rows) if name in r and not finite(r[name])]
        if lost:
            notes.append(
                f"{len(lost):,} value(s) of {name} are not finite numbers, the first at step {int(steps[lost[0]]):,}."
            )
        label, colour = _label(name, group), _colour(name, names)
        if binned:
            mean, low, high = bin_curve(steps, values, edges)
            spread = any(a != b for a, b in zip(low, high, strict=True))
            series.append(Series(label, mean, low if spread else None, high if spread else None, colour))
        else:
            listed = [None if np.isnan(v) else float(v) for v in values]
            series.append(Series(label, listed, colour=colour, points=points))
    series = _merge_equal(series)
    x = [float(round(v)) for v in (edges[:-1] + edges[1:]) / 2] if binned else steps.tolist()
    if binned:
        notes.append(f"{len(rows):,} log lines are drawn as {MAX_POINTS} means; bands reach from lowest to highest.")
    return Chart(
        group.key,
        group.title,
        x,
        series,
        explain=group.explain,
        notes=notes,
        log_y=group.log_y,
        y_range=group.y_range,
        marks=marks,
        lines=group.lines,
    )


def _merge_equal(series: Sequence[Series]) -> list[Series]:
    """Curves that lie on top of each other (equal learning rates) become one, named after all of them."""
    merged: list[Series] = []
    for candidate in series:
        twin = next((i for i, s in enumerate(merged) if s.y == candidate.y and s.low == candidate.low), None)
        if twin is None or not candidate.finite():
            merged.append(candidate)
        else:
            merged[twin] = replace(merged[twin], label=f"{merged[twin].label}, {candidate.label}")
    return merged


def _scalar_names(records: Sequence[Record]) -> list[str]:
    """Names of numbers in the records, in order of first appearance."""
    names: dict[str, None] = {}
    for record in records:
        for name, value in record.items():
            if name not in _NOT_CURVES and isinstance(value, int | float) and not isinstance(value, bool):
                names[name] = None
    return list(names)


def _grave(findings: Sequence[Record]) -> list[Record]:
    return [f for f in findings if f.get("severity") == "critical"][:6]


def _label(name: str, group: _Group) -> str:
    for prefix in ("loss_", "lr_", "grad_norm_"):
        if name.startswith(prefix) and group.key in ("losses", "learning-rates", "gradient-norms"):
            return name.removeprefix(prefix).replace("_", " ")
    if group.key == "d-outputs":
        return {"d_real": "on real images", "d_fake": "on generated images"}[name]
    return "share told apart" if group.key == "d-accuracy" else readable(name).lower()


def _colour(name: str, names: Sequence[str]) -> int:
    """The discriminator's and the generator's colours are the same in every chart."""
    for words, colour in ((("discriminator", "critic"), 1), (("generator",), 2)):
        if any(name.endswith(word) for word in words):
            return colour
    others = [n for n in names if not n.endswith(("discriminator", "critic", "generator"))]
    return 1 if len(names) == 1 else 3 + others.index(name) % (COLOURS - 2)
