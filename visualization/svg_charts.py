"""Diagrams as SVG text for a web page: bars and lines, colored by the page's style sheet (classes a, b, grid).

A diagram is 380 units wide and meant to be shown about as many px wide, so that its letters keep their size.
"""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from visualization.charts import ticks

WIDTH = 380
CLASSES = ("a", "b")  # of the series, in order


class Bar(NamedTuple):
    """One row of a bar diagram: a value for each series, NaN for none, and the text to show beside it."""

    name: str
    values: Sequence[float]
    texts: Sequence[str]


def bars(title: str, rows: Sequence[Bar], series: Sequence[str] = ("",), highest: float | None = None) -> str:
    """Horizontal bars from 0 to `highest` (default: the largest value), a group a row, with a legend for two series."""
    left, right, thick = 86, 62, 12
    finite = [value for row in rows for value in row.values if math.isfinite(value)]
    scale = (WIDTH - left - right) / max(highest or max(finite, default=0.0), 1e-9)
    pitch = thick * len(series) + 12
    parts, y = [], 8
    for row in rows:
        middle = y + thick * len(series) / 2
        parts.append(_text(left - 8, middle + 4, row.name, "end"))
        for i, (value, text) in enumerate(zip(row.values, row.texts, strict=True)):
            length = max(0.0, value) * scale if math.isfinite(value) else 0.0
            parts.append(f'<rect class="{CLASSES[i]}" x="{left}" y="{y + i * thick}" width="{length:.1f}" '
                         f'height="{thick - 2}" rx="2"/>')
            parts.append(_text(left + length + 5, y + i * thick + 9, text, kind="small"))
        y += pitch
    parts.append(f'<path class="axis" d="M{left} 2V{y}"/>')
    return _figure(title, parts, y + 4, series if len(series) > 1 else ())


def lines(title: str, series: Sequence[tuple[str, Sequence[float], Sequence[float]]], x_name: str, y_name: str,
          marks: Sequence[tuple[float, float, str]] = (), diagonal: bool = False, dots: bool = False) -> str:
    """Lines through x, y in [0, 1] of each series, with a text at every mark (x, y); NaN leaves a gap.

    `diagonal` draws y = x for comparison, `dots` a dot at each point.
    """
    left, right, top, bottom, height = 46, 16, 12, 44, 300

    def place(x: float, y: float) -> tuple[float, float]:
        return left + x * (WIDTH - left - right), height - bottom - y * (height - top - bottom)

    parts = []
    for tick in ticks(0, 1, 5):
        (x, _), (_, y) = place(tick, 0), place(0, tick)
        parts.append(f'<path class="grid" d="M{left} {y:.1f}H{WIDTH - right}M{x:.1f} {top}V{height - bottom}"/>')
        parts.append(_text(left - 6, y + 4, f"{tick:g}", "end", kind="small"))
        parts.append(_text(x, height - bottom + 16, f"{tick:g}", "middle", kind="small"))
    parts.append(_text(WIDTH - right, height - 8, x_name, "end"))
    parts.append(f'<text transform="translate(13 {top}) rotate(-90)" text-anchor="end">{escape(y_name)}</text>')
    if diagonal:
        (x0, y0), (x1, y1) = place(0, 0), place(1, 1)
        parts.append(f'<path class="ideal" d="M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}"/>')
    for i, (_, xs, ys) in enumerate(series):
        path, pen = "", "M"
        for x, y in zip(xs, ys, strict=True):
            if not (math.isfinite(x) and math.isfinite(y)):
                pen = "M"
                continue
            px, py = place(x, y)
            path, pen = f"{path}{pen}{px:.1f} {py:.1f}", "L"
            if dots:
                parts.append(f'<circle class="{CLASSES[i]}" cx="{px:.1f}" cy="{py:.1f}" r="4"/>')
        parts.append(f'<path class="line {CLASSES[i]}" d="{path}"/>')
    for number, (x, y, text) in enumerate(marks):
        px, py = place(x, y)
        parts.append(f'<path class="mark" d="M{px:.1f} {top}V{height - bottom}"/>'
                     f'<circle class="ring" cx="{px:.1f}" cy="{py:.1f}" r="5"/>')
        # Below the curve, one under the other, and on the side where there is room
        side, anchor = (-8, "end") if x > 0.5 else (8, "start")
        parts.append(_text(px + side, height - bottom - 12 - 18 * number, text, anchor, "over"))
    return _figure(title, parts, height, [name for name, _, _ in series] if len(series) > 1 else ())


def _text(x: float, y: float, text: str, anchor: str = "start", kind: str = "plain") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _figure(title: str, parts: Sequence[str], height: float, legend: Sequence[str]) -> str:
    keys = "".join(f'<span class="key {CLASSES[i]}">{escape(name)}</span>' for i, name in enumerate(legend))
    return (f'<figure class="chart"><figcaption>{escape(title)}{" " + keys if keys else ""}</figcaption>'
            f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(title)}">'
            f'{"".join(parts)}</svg></figure>\n')
