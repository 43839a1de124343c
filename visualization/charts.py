"""Line and bar charts, laid out as shapes that `to_image` and `to_svg` of visualization.shapes draw.

    chart = line_chart("Loss", [Series("training", epochs, losses, "blue")], x_label="epoch")
    write_image(path, to_image(chart))  # RGB uint8 (height, width, 3), on white paper
    page += to_svg(chart)  # an <svg> element; a style sheet gives its classes, the names of COLORS, their colors

Several charts with one legend: `line_chart(..., show_legend=False)` each, and `legend(series, width)`; their images
are put together with numpy.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from visualization.draw import text_width
from visualization.shapes import COLORS, Chart, Dot, Lines, Point, Rect, Shape, Text

SERIES_COLORS = tuple(COLORS)[4:]
TITLE_PX, SMALL_PX = 15, 11  # font sizes of titles and beside bars
ROW_PX = 21  # height of the title, of a row of the legend, of the labels of an axis
PAD = 10
DOTS_UP_TO = 40  # points: so few get a dot each


class Series(NamedTuple):
    """One line of a chart; a value that is not finite leaves a gap."""

    name: str  # in the legend, where it is not empty
    x: Sequence[float]
    y: Sequence[float]
    color: str = "blue"  # a name of COLORS
    width: float = 2


class Mark(NamedTuple):
    """A ring at a point of a chart, with a broken line down to the x axis and a text."""

    x: float
    y: float
    text: str


class BarGroup(NamedTuple):
    """One row of a bar chart: a value for each series, NaN for none, and the text beside each bar."""

    name: str
    values: Sequence[float]
    texts: Sequence[str]


class Axes(NamedTuple):
    """Where the data lie in a chart: the inner rectangle in px and the values at its edges."""

    left: float
    top: float
    right: float
    bottom: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def at(self, x: float, y: float) -> Point:
        """Position in px of a value."""
        (x0, x1), (y0, y1) = self.x_range, self.y_range
        return (self.left + (x - x0) / (x1 - x0) * (self.right - self.left),
                self.bottom - (y - y0) / (y1 - y0) * (self.bottom - self.top))


def line_chart(title: str, series: Sequence[Series], x_label: str = "", y_label: str = "",
               size: tuple[int, int] = (760, 420), x_range: tuple[float, float] | None = None,
               y_range: tuple[float, float] | None = None, marks: Sequence[Mark] = (), diagonal: bool = False,
               show_legend: bool = True) -> Chart:
    """Lines over common axes, later series on top.

    size is (width, height) in px. The y axis has y_range (default: 0 and all values), extended to round numbers; the
    x axis has x_range (default: all x). `diagonal` draws y = x for comparison.
    """
    width, height = size
    xs, ys = (_finite(value for line in series for value in line[axis]) for axis in (1, 2))
    x_low, x_high = x_range or (min(xs, default=0.0), max(xs, default=0.0))
    if x_low == x_high:  # one epoch: in the middle
        x_low, x_high = x_low - 0.5, x_high + 0.5
    y_low, y_high = y_range or (min([0.0, *ys]), max([0.0, *ys]))
    y_ticks = ticks(y_low, max(y_high, y_low + 0.001), 5)
    x_ticks = [x for x in ticks(x_low, x_high, width // 70) if x_low <= x <= x_high]
    if all(x == int(x) for x in xs):
        x_ticks = [x for x in x_ticks if x == int(x)]

    legend_shapes, top = _legend(series if show_legend else (), width, ROW_PX * bool(title))
    top += ROW_PX * bool(y_label) + PAD
    axes = Axes(left=max(text_width(f"{y:g}") for y in y_ticks) + PAD + 6, top=top, right=width - 2 * PAD,
                bottom=height - ROW_PX * (1 + bool(x_label)) - 4, x_range=(x_low, x_high),
                y_range=(y_ticks[0], y_ticks[-1]))
    labels = [Text(PAD, ROW_PX - 4, title, size=TITLE_PX), Text(PAD, top - PAD - 3, y_label, "soft"),
              Text(axes.right, height - 7, x_label, "soft", 1.0)]
    shapes = [*(label for label in labels if label.text), *legend_shapes, *_axes_shapes(axes, x_ticks, y_ticks)]
    if diagonal:
        ends = max(x_low, y_ticks[0]), min(x_high, y_ticks[-1])
        shapes.append(Lines(_dashes(*(axes.at(end, end) for end in ends)), "soft"))
    for line in series:
        shapes += _line_shapes(line, axes)
    for number, mark in enumerate(marks):
        shapes += _mark_shapes(mark, axes, number)
    return Chart(title, width, height, shapes)


def bar_chart(title: str, groups: Sequence[BarGroup], series: Sequence[tuple[str, str]] = (("", "blue"),),
              highest: float | None = None, width: int = 380) -> Chart:
    """Horizontal bars from 0 to `highest` (default: the largest value), a group a row.

    series: name and color of the bars in each group.
    """
    thick = 12
    legend_shapes, y = _legend([Series(name, (), (), color) for name, color in series], width, ROW_PX)
    left = max((text_width(group.name) for group in groups), default=0) + 2 * PAD
    room = max((text_width(text) for group in groups for text in group.texts), default=0) + 2 * PAD
    longest = highest or max(_finite(value for group in groups for value in group.values), default=0.0)
    scale = (width - left - room) / max(longest, 1e-9)
    shapes = [Text(PAD, ROW_PX - 4, title, size=TITLE_PX), *legend_shapes]
    top = y = y + 6
    for group in groups:
        y += 6
        shapes.append(Text(left - 8, y + thick * len(series) / 2 + 4, group.name, anchor=1.0))
        for (_, color), value, text in zip(series, group.values, group.texts, strict=True):
            length = max(0.0, value) * scale if math.isfinite(value) else 0.0
            shapes += [Rect(left, y, length, thick - 2, color),
                       Text(left + length + 6, y + 9, text, "soft", size=SMALL_PX)]
            y += thick
        y += 6
    shapes.append(Lines([[(left, top), (left, y)]], "soft"))
    return Chart(title, width, y + 4, shapes)


def legend(series: Sequence[Series], width: int) -> Chart:
    """The names of the series beside their colors, in as many rows as they need."""
    shapes, height = _legend(series, width, 0)
    return Chart("", width, height, shapes)


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) from at or below low to at or above high > low."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def _finite(values: Iterable[float]) -> list[float]:
    return [float(value) for value in values if math.isfinite(value)]


def _legend(series: Sequence[Series], width: int, top: int) -> tuple[list[Shape], int]:
    """Shapes of the names and colors of the series from `top` down, and where they end; none for an empty name."""
    shapes, x, y = [], PAD, top + ROW_PX // 2
    for line in (line for line in series if line.name):
        needed = 28 + text_width(line.name)
        if x > PAD and x + needed > width - PAD:
            x, y = PAD, y + ROW_PX
        shapes += [Lines([[(x, y), (x + 22, y)]], line.color, max(3, line.width)), Text(x + 28, y + 5, line.name)]
        x += needed + 18
    return shapes, y + ROW_PX // 2 + 1 if shapes else top


def _axes_shapes(axes: Axes, x_ticks: Sequence[float], y_ticks: Sequence[float]) -> list[Shape]:
    """Lines across at the y ticks, strokes below at the x ticks, and their numbers."""
    shapes = []
    for value in y_ticks:
        y = axes.at(axes.x_range[0], value)[1]
        shapes += [Lines([[(axes.left, y), (axes.right, y)]], "soft" if value in (0, y_ticks[0]) else "grid"),
                   Text(axes.left - 6, y + 4, f"{value:g}", "soft", 1.0)]
    for value in x_ticks:
        x = axes.at(value, axes.y_range[0])[0]
        shapes += [Lines([[(x, axes.bottom), (x, axes.bottom + 4)]], "soft"),
                   Text(x, axes.bottom + 18, f"{value:g}", "soft", 0.5)]
    return shapes


def _dashes(start: Point, end: Point, length: float = 5) -> list[list[Point]]:
    """A broken line."""
    count = max(1, round(math.dist(start, end) / length) // 2 * 2 + 1)
    points = np.linspace(start, end, count + 1).tolist()
    return [[tuple(points[i]), tuple(points[i + 1])] for i in range(0, count, 2)]


def _line_shapes(line: Series, axes: Axes) -> list[Shape]:
    """The pieces between gaps; few points, or one without neighbors, get a dot each."""
    pieces: list[list[Point]] = [[]]
    for x, y in zip(line.x, line.y, strict=True):
        if math.isfinite(x) and math.isfinite(y):
            pieces[-1].append(axes.at(x, y))
        elif pieces[-1]:
            pieces.append([])
    connected = [piece for piece in pieces if len(piece) > 1]
    dots = [Dot(*point, 2 * line.width, line.color) for piece in pieces
            if len(line.x) <= DOTS_UP_TO or len(piece) == 1 for point in piece]
    return [Lines(connected, line.color, line.width), *dots] if connected else dots


def _mark_shapes(mark: Mark, axes: Axes, number: int) -> list[Shape]:
    """The texts of marks stand below the curve, one above the other, on the side where there is room."""
    x, y = axes.at(mark.x, mark.y)
    side, anchor = (-8, 1.0) if x > (axes.left + axes.right) / 2 else (8, 0.0)
    return [Lines(_dashes((x, axes.top), (x, axes.bottom), 3), "soft"), Dot(x, y, 6, "ink"), Dot(x, y, 4, "paper"),
            Text(x + side, axes.bottom - 12 - 18 * number, mark.text, anchor=anchor, halo=True)]
