"""The precision and recall plane: where a generator stands between "real looking" and "all of it"."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup, escape

_SIZE, _LEFT, _BOTTOM, _TOP, _RIGHT = 420.0, 52.0, 46.0, 12.0, 12.0


@dataclass(frozen=True)
class PlanePoint:
    """A point of the plane.

    Attributes:
        label: What it is.
        recall: In [0, 1].
        precision: In [0, 1].
        recall_interval: Ends of its interval, or None.
        precision_interval: Ends of its interval, or None.
        colour: Number of its colour in the style sheet.
    """

    label: str
    recall: float
    precision: float
    recall_interval: tuple[float, float] | None = None
    precision_interval: tuple[float, float] | None = None
    colour: int = 1


def plane_svg(points: list[PlanePoint]) -> Markup:
    """The plane as inline SVG: recall to the right, precision upwards, intervals as bars.

    Labels belong into a legend beside it: the points of a good generator lie on each other.
    """

    def px(value: float) -> float:
        return _LEFT + min(1.0, max(0.0, value)) * (_SIZE - _LEFT - _RIGHT)

    def py(value: float) -> float:
        return _SIZE - _BOTTOM - min(1.0, max(0.0, value)) * (_SIZE - _BOTTOM - _TOP)

    parts = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(f'<line class="grid" x1="{px(0):.1f}" x2="{px(1):.1f}" y1="{py(tick):.1f}" y2="{py(tick):.1f}"/>')
        parts.append(f'<line class="grid" x1="{px(tick):.1f}" x2="{px(tick):.1f}" y1="{py(0):.1f}" y2="{py(1):.1f}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{py(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
        parts.append(f'<text x="{px(tick):.1f}" y="{py(0) + 18:.1f}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<text x="{px(1):.1f}" y="{_SIZE - 8}" text-anchor="end">recall: how much of the real is made</text>')
    parts.append(
        f'<text x="{px(0) + 8:.1f}" y="{py(1) + 16:.1f}" text-anchor="start">precision: how much looks real</text>'
    )
    for point in points:
        x, y, colour = px(point.recall), py(point.precision), f"c{point.colour}"
        if point.recall_interval:
            a, b = (px(v) for v in point.recall_interval)
            parts.append(f'<line class="curve {colour}" x1="{a:.1f}" x2="{b:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        if point.precision_interval:
            a, b = (py(v) for v in point.precision_interval)
            parts.append(f'<line class="curve {colour}" x1="{x:.1f}" x2="{x:.1f}" y1="{a:.1f}" y2="{b:.1f}"/>')
        parts.append(f'<circle class="{colour}" cx="{x:.1f}" cy="{y:.1f}" r="5"/>')
    described = "; ".join(f"{p.label}: precision {p.precision:.2f}, recall {p.recall:.2f}" for p in points)
    return Markup(  # noqa: S704  (all texts are escaped above)
        f'<svg class="chart-svg plane" viewBox="0 0 {_SIZE:.0f} {_SIZE:.0f}" role="img">'
        f"<title>precision and recall</title><desc>{escape(described)}</desc>" + "".join(parts) + "</svg>"
    )
