"""The one chart component: data for the browser (uPlot, `assets/chart.js`) and the same chart as static SVG.

`Chart` holds what is drawn; `templates/_chart.html.j2` places it on a page. It knows numbers, not GANs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup, escape

Values = Sequence[float | None]

MAX_POINTS = 320
"""Points of a curve in the page; longer ones are binned."""
COLOURS = 8
"""Series colours in the style sheet, from 1."""

_WIDTH, _HEIGHT = 640.0, 270.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 64.0, 24.0, 12.0, 34.0


@dataclass(frozen=True)
class Series:
    """One curve of a chart.

    Attributes:
        label: Its name in the legend.
        y: A value for each x of the chart; None where there is none.
        low: Lower edge of its band, or None for no band.
        high: Upper edge of its band.
        colour: Index of its colour, 1..`COLOURS`.
        points: Mark each value, with a whisker over its band.
    """

    label: str
    y: Values
    low: Values | None = None
    high: Values | None = None
    colour: int = 1
    points: bool = False

    def finite(self) -> list[float]:
        """Its values without gaps."""
        return [value for value in self.y if value is not None]


@dataclass(frozen=True)
class Chart:
    """Curves over a common x.

    Attributes:
        key: Unique on the page; letters, digits and dashes.
        title: Heading.
        x: Positions, rising.
        series: Curves, each with a value or None per x.
        explain: How to read it, for someone who sees such a chart for the first time.
        notes: What a reader must know about the data (values left out, binning).
        log_y: Start with a logarithmic axis (where all values are positive).
        y_range: Fixed ends of the y axis; None: from the data.
        marks: Vertical lines, (x, label).
        lines: Horizontal reference lines, (y, label).
        x_label: Name of the x axis.
    """

    key: str
    title: str
    x: Sequence[float]
    series: Sequence[Series]
    explain: str = ""
    notes: Sequence[str] = ()
    log_y: bool = False
    y_range: tuple[float, float] | None = None
    marks: Sequence[tuple[float, str]] = ()
    lines: Sequence[tuple[float, str]] = ()
    x_label: str = "step"
    description: str = field(init=False, default="")

    def __post_init__(self) -> None:
        parts = []
        for series in self.series:
            if values := series.finite():
                parts.append(
                    f"{series.label}: {len(values)} values, first {values[0]:.4g}, last {values[-1]:.4g}, "
                    f"lowest {min(values):.4g}, highest {max(values):.4g}"
                )
        object.__setattr__(self, "description", "; ".join(parts) or "no finite values")

    @property
    def all_positive(self) -> bool:
        """Whether a logarithmic axis can show every value."""
        values = [v for s in self.series for part in (s.y, s.low or (), s.high or ()) for v in part if v is not None]
        return bool(values) and min(values) > 0

    def limits(self) -> tuple[float, float]:
        """Ends of the y axis: all curves, and their bands but for the most extreme hundredth of edges."""
        if self.y_range is not None:
            return self.y_range
        values = [v for s in self.series for v in s.finite()]
        edges = [v for s in self.series for part in (s.low or (), s.high or ()) for v in part if v is not None]
        if any(s.points for s in self.series):
            values += edges  # intervals are few, and all of them count
        elif edges:
            values += [float(q) for q in np.quantile(edges, (0.005, 0.995))]
        if not values:
            return (0.0, 1.0)
        low, high = min(values), max(values)
        pad = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
        return (max(0.0, low - pad) if low >= 0 else low - pad, high + pad)

    def to_json(self) -> dict[str, Any]:
        """What `assets/chart.js` draws."""
        return {
            "key": self.key,
            "title": self.title,
            "x": [_short(v) for v in self.x],
            "series": [
                {
                    "label": s.label,
                    "y": [_short(v) for v in s.y],
                    "low": None if s.low is None else [_short(v) for v in s.low],
                    "high": None if s.high is None else [_short(v) for v in s.high],
                    "colour": s.colour,
                    "points": s.points,
                }
                for s in self.series
            ],
            "limits": [_short(v) for v in self.limits()],
            "fixed": self.y_range is not None,
            "log": self.log_y and self.all_positive,
            "can_log": self.all_positive and self.y_range is None,
            "marks": [[_short(x), label] for x, label in self.marks],
            "lines": [[_short(y), label] for y, label in self.lines],
            "x_label": self.x_label,
        }

    def svg(self) -> Markup:
        """The chart as inline SVG, for readers without JavaScript; the style sheet gives its colours."""
        log = self.log_y and self.all_positive
        low, high = self.limits()
        if log:
            low = min(v for s in self.series for v in s.finite()) / 1.2
        x0, x1 = (min(self.x), max(self.x)) if self.x else (0.0, 1.0)
        if x0 == x1:
            x0, x1 = x0 - 1, x1 + 1

        def px(x: float) -> float:
            return _LEFT + (x - x0) / (x1 - x0) * (_WIDTH - _LEFT - _RIGHT)

        def py(y: float) -> float:
            if log:
                share = (math.log(max(y, low)) - math.log(low)) / (math.log(high) - math.log(low))
            else:
                share = (y - low) / (high - low)
            return _HEIGHT - _BOTTOM - min(1.0, max(0.0, share)) * (_HEIGHT - _TOP - _BOTTOM)

        right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
        parts = []
        for tick in _log_ticks(low, high) if log else nice_ticks(low, high):
            parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{py(tick):.1f}" y2="{py(tick):.1f}"/>')
            parts.append(f'<text x="{_LEFT - 6}" y="{py(tick) + 4:.1f}" text-anchor="end">{number(tick)}</text>')
        for tick in nice_ticks(x0, x1):
            parts.append(f'<text x="{px(tick):.1f}" y="{_HEIGHT - 14}" text-anchor="middle">{number(tick)}</text>')
        parts.append(f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 1}" text-anchor="end">{escape(self.x_label)}</text>')
        for y, _ in self.lines:
            if low <= y <= high:
                parts.append(f'<line class="reference" x1="{_LEFT}" x2="{right}" y1="{py(y):.1f}" y2="{py(y):.1f}"/>')
        for x, _ in self.marks:
            if x0 <= x <= x1:
                parts.append(f'<line class="mark" x1="{px(x):.1f}" x2="{px(x):.1f}" y1="{_TOP}" y2="{bottom}"/>')
        for s in self.series:
            if s.low is not None and s.high is not None:
                for run in _runs(self.x, s.low, s.high):
                    edge = [f"{px(x):.1f},{py(b):.1f}" for x, _, b in run]
                    edge += [f"{px(x):.1f},{py(a):.1f}" for x, a, _ in reversed(run)]
                    parts.append(f'<polygon class="band c{s.colour}" points="{" ".join(edge)}"/>')
                    if s.points:
                        parts += [
                            f'<line class="curve c{s.colour}" x1="{px(x):.1f}" x2="{px(x):.1f}" '
                            f'y1="{py(a):.1f}" y2="{py(b):.1f}"/>'
                            for x, a, b in run
                        ]
            for run in _runs(self.x, s.y, s.y):
                points = " ".join(f"{px(x):.1f},{py(y):.1f}" for x, y, _ in run)
                parts.append(f'<polyline class="curve c{s.colour}" points="{points}"/>')
                if s.points or len(run) == 1:
                    parts += [
                        f'<circle class="c{s.colour}" cx="{px(x):.1f}" cy="{py(y):.1f}" r="3.5"/>' for x, y, _ in run
                    ]
        head = f'<svg class="chart-svg" viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" role="img">'
        title = f"<title>{escape(self.title)}</title><desc>{escape(self.description)}</desc>"
        return Markup(head + title + "".join(parts) + "</svg>")  # noqa: S704  (all texts are escaped above)


def bin_curve(
    steps: npt.NDArray[np.float64], values: npt.NDArray[np.float64], edges: npt.NDArray[np.float64]
) -> tuple[list[float | None], list[float | None], list[float | None]]:
    """Mean, smallest and largest value of each bin.

    Args:
        steps: Positions (N,).
        values: Values (N,); those that are not finite are left out.
        edges: Bin edges (B + 1,), rising; the last bin includes its right edge.

    Returns:
        Three lists of length B, None in bins without a finite value.
    """
    bins = len(edges) - 1
    keep = np.isfinite(values)
    index = np.clip(np.searchsorted(edges, steps[keep], side="right") - 1, 0, bins - 1)
    count = np.bincount(index, minlength=bins)
    total = np.bincount(index, weights=values[keep], minlength=bins)
    low, high = np.full(bins, np.inf), np.full(bins, -np.inf)
    np.minimum.at(low, index, values[keep])
    np.maximum.at(high, index, values[keep])
    filled = count > 0

    def listed(numbers: npt.NDArray[np.float64]) -> list[float | None]:
        return [float(v) if ok else None for v, ok in zip(numbers, filled, strict=True)]

    return listed(total / np.maximum(count, 1)), listed(low), listed(high)


def nice_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers within [low, high]: multiples of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    raw = (high - low) / about
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(m * unit for m in (1, 2, 5, 10) if m * unit >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def number(value: float) -> str:
    """A number for people: thousands separated, four significant digits, exponents for the very small."""
    if value == 0:
        return "0"
    if abs(value) >= 1e7 or abs(value) < 1e-3:
        mantissa, exponent = f"{value:.3e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def _log_ticks(low: float, high: float) -> list[float]:
    decades = [10.0**e for e in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]
    return decades if len(decades) >= 2 else nice_ticks(low, high)


def _runs(x: Sequence[float], a: Values, b: Values) -> list[list[tuple[float, float, float]]]:
    """Stretches without gaps of (x, a, b)."""
    runs: list[list[tuple[float, float, float]]] = [[]]
    for at, p, q in zip(x, a, b, strict=True):
        if p is None or q is None:
            if runs[-1]:
                runs.append([])
        else:
            runs[-1].append((at, p, q))
    return [run for run in runs if run]


def _short(value: float | None) -> float | int | None:
    """Five significant digits; steps stay whole."""
    if value is None or not math.isfinite(value):
        return None
    return int(value) if float(value).is_integer() and abs(value) < 2**53 else float(f"{value:.5g}")
