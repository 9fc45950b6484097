"""Which mutation survived when: the report's section on a population of generators (recipe `e-gan`).

It reads the shares `survived_<mutation>` from the log, each of the survivors since the line before; a run that logged
none has no such section.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup, escape

from ganwright.report.charts import COLOURS, nice_ticks, number
from ganwright.report.story import Story, finite

PREFIX = "survived_"
COLUMNS = 120
"""Columns of the picture at most; more log lines are put together."""

_WIDTH, _HEIGHT = 960.0, 250.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 56.0, 12.0, 10.0, 34.0
_FIRST_COLOUR = 3
_THIRDS = ("first third", "middle third", "last third")


@dataclass(frozen=True)
class Stretch:
    """Steps over which shares were counted together.

    Attributes:
        start: Steps done before it.
        end: Steps done after it.
        shares: By mutation, in the order of `MutationView.names`; they add up to 1.
    """

    start: float
    end: float
    shares: tuple[float, ...]


@dataclass(frozen=True)
class MutationView:
    """What the section shows.

    Attributes:
        names: Mutations for people, in the order of the log, which is also that of the picture from bottom to top.
        colours: Colour index of each.
        sentences: The result in words.
        phases: Column titles of the table: parts of the run, then the whole.
        shares: By mutation, its share in each phase.
        picture: The shares over the run, as SVG.
    """

    names: list[str]
    colours: list[int]
    sentences: list[str]
    phases: list[str]
    shares: list[list[float]]
    picture: Markup


def mutation_view(story: Story) -> MutationView | None:
    """The section's content, or None for a run that logged no survivors."""
    keys, stretches = _stretches(story)
    if not stretches:
        return None
    names = [key.removeprefix(PREFIX).replace("_", " ") for key in keys]
    last = stretches[-1].end
    whole = _mean(stretches, 0, last)
    thirds = [_mean(stretches, i * last / 3, (i + 1) * last / 3) for i in range(3)]
    colours = [_FIRST_COLOUR + i % (COLOURS - _FIRST_COLOUR + 1) for i in range(len(names))]
    return MutationView(
        names,
        colours,
        _sentences(names, thirds, whole, last),
        [*_THIRDS, "whole run"],
        [[phase[i] for phase in (*thirds, whole)] for i in range(len(names))],
        _picture(names, colours, _together(stretches)),
    )


def _stretches(story: Story) -> tuple[list[str], list[Stretch]]:
    """Names of the logged shares, and the shares line by line; of a step logged twice the later line counts."""
    lines = {float(r["step"]): r for r in story.records if any(k.startswith(PREFIX) and finite(r[k]) for k in r)}
    keys = list(dict.fromkeys(k for line in lines.values() for k in line if k.startswith(PREFIX)))
    found, start = [], 0.0
    for step, line in sorted(lines.items()):
        values = [max(0.0, float(line[key])) if finite(line.get(key)) else 0.0 for key in keys]
        if sum(values) > 0 and step > start:
            found.append(Stretch(start, step, tuple(value / sum(values) for value in values)))
            start = step
    return keys, found


def _mean(stretches: Sequence[Stretch], start: float, end: float) -> list[float]:
    """Shares over steps start to end, each stretch weighing as many steps as lie within."""
    weights = [max(0.0, min(s.end, end) - max(s.start, start)) for s in stretches]
    total = sum(weights)
    columns = zip(*(s.shares for s in stretches), strict=True)
    return [sum(w * share for w, share in zip(weights, column, strict=True)) / total for column in columns]


def _together(stretches: Sequence[Stretch]) -> list[Stretch]:
    """At most `COLUMNS` stretches."""
    if len(stretches) <= COLUMNS:
        return list(stretches)
    edges = [stretches[0].start + i * (stretches[-1].end - stretches[0].start) / COLUMNS for i in range(COLUMNS + 1)]
    return [Stretch(a, b, tuple(_mean(stretches, a, b))) for a, b in pairwise(edges)]


def _sentences(
    names: Sequence[str], thirds: Sequence[Sequence[float]], whole: Sequence[float], last: float
) -> list[str]:
    if len(names) == 1:
        return [f"There was one mutation, {names[0]}, so all survivors came from it."]
    order = sorted(range(len(names)), key=lambda i: -whole[i])
    parts = [f"{_percent(whole[i])} {'were mutated by' if i == order[0] else 'by'} {names[i]}" for i in order]
    said = [f"Of the survivors of {number(last)} steps, {_listed(parts)}."]
    leaders = [names[max(range(len(names)), key=phase.__getitem__)] for phase in thirds]
    if len(set(leaders)) == 1:
        said.append(f"The most frequent in each third of the run was {leaders[0]}.")
    else:
        by_third = [f"{name} in the {third}" for name, third in zip(leaders, _THIRDS, strict=True)]
        said.append(f"The most frequent was {_listed(by_third)}.")
    return said


def _listed(parts: Sequence[str]) -> str:
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _picture(names: Sequence[str], colours: Sequence[int], stretches: Sequence[Stretch]) -> Markup:
    """Shares stacked over the steps: one area a mutation, the first at the bottom."""
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    last = stretches[-1].end

    def px(step: float) -> float:
        return _LEFT + step / last * (right - _LEFT)

    def py(share: float) -> float:
        return bottom - share * (bottom - _TOP)

    parts = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{py(tick):.1f}" y2="{py(tick):.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{py(tick) + 5:.1f}" text-anchor="end">{_percent(tick)}</text>')
    for tick in nice_ticks(0, last):
        parts.append(f'<text x="{px(tick):.1f}" y="{_HEIGHT - 14}" text-anchor="middle">{number(tick)}</text>')
    parts.append(f'<text x="{right}" y="{_HEIGHT - 1}" text-anchor="end">step</text>')
    for i, colour in enumerate(colours):
        upper, lower = [], []
        for s in stretches:
            low, high = py(sum(s.shares[:i])), py(sum(s.shares[: i + 1]))
            upper += [f"{px(s.start):.1f},{high:.1f}", f"{px(s.end):.1f},{high:.1f}"]
            lower += [f"{px(s.start):.1f},{low:.1f}", f"{px(s.end):.1f},{low:.1f}"]
        parts.append(f'<polygon class="area c{colour}" points="{" ".join(upper + lower[::-1])}"/>')
    head = f'<svg class="chart-svg" viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" role="img">'
    told = "; ".join(
        f"{name}: first {_percent(stretches[0].shares[i])}, last {_percent(stretches[-1].shares[i])}"
        for i, name in enumerate(names)
    )
    title = f"<title>Surviving mutations by step</title><desc>{escape(told)}</desc>"
    return Markup(head + title + "".join(parts) + "</svg>")  # noqa: S704  (all texts are escaped above)
