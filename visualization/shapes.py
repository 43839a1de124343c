"""Shapes of charts, drawn as an RGB image or as SVG text. Coordinates are px from the left top corner."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import cv2
import numpy as np

from visualization.draw import TEXT_PX, blank, draw_text, text_width

Point = tuple[float, float]

COLORS = {  # on white: the first four are of charts themselves, the others of series (Okabe and Ito's, some darkened)
    "ink": (30, 30, 30), "soft": (100, 100, 100), "grid": (225, 225, 225), "paper": (255, 255, 255),
    "blue": (0, 114, 178), "orange": (213, 94, 0), "green": (0, 158, 115), "purple": (204, 121, 167),
    "gold": (230, 159, 0), "sky": (86, 180, 233), "brown": (150, 90, 40), "gray": (125, 125, 125),
}


class Lines(NamedTuple):
    """Connected pieces of two or more points."""

    pieces: Sequence[Sequence[Point]]
    color: str
    width: float = 1


class Dot(NamedTuple):
    x: float
    y: float
    radius: float
    color: str


class Rect(NamedTuple):
    x: float
    y: float
    width: float
    height: float
    color: str


class Text(NamedTuple):
    x: float
    y: float  # of the base line
    text: str
    color: str = "ink"
    anchor: float = 0.0  # share of the text left of x
    size: int = TEXT_PX
    halo: bool = False  # whether paper surrounds the letters


Shape = Lines | Dot | Rect | Text


class Chart(NamedTuple):
    """A chart laid out: its size in px and its shapes from back to front."""

    title: str
    width: int
    height: int
    shapes: Sequence[Shape]


def to_image(chart: Chart) -> np.ndarray:
    """The chart as an RGB uint8 image (height, width, 3) on white paper."""
    canvas = blank(chart.width, chart.height, COLORS["paper"])
    for shape in chart.shapes:
        color = COLORS[shape.color]
        if isinstance(shape, Lines):
            pixels = [np.round(np.array(piece) * 16).astype(np.int32) for piece in shape.pieces]  # 1/16 px
            cv2.polylines(canvas, pixels, False, color, round(shape.width), cv2.LINE_AA, 4)
        elif isinstance(shape, Dot):
            cv2.circle(canvas, (round(shape.x * 16), round(shape.y * 16)), round(shape.radius * 16), color, -1,
                       cv2.LINE_AA, 4)
        elif isinstance(shape, Rect):
            corners = [(round(shape.x), round(shape.y)), (round(shape.x + shape.width), round(shape.y + shape.height))]
            cv2.rectangle(canvas, *corners, color, -1)
        else:
            x = round(shape.x - shape.anchor * text_width(shape.text, shape.size))
            for name, thickness in [("paper", 4)] * shape.halo + [(shape.color, 1)]:
                draw_text(canvas, shape.text, (x, round(shape.y)), COLORS[name], shape.size, thickness)
    return canvas


def to_svg(chart: Chart) -> str:
    """The chart as an <svg> element; each shape has its color's name as class and takes that class's CSS color."""
    return (f'<svg viewBox="0 0 {chart.width} {chart.height}" role="img" aria-label="{escape(chart.title)}">'
            f'{"".join(map(_svg_shape, chart.shapes))}</svg>')


def _svg_shape(shape: Shape) -> str:
    if isinstance(shape, Lines):
        path = "".join("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in piece) for piece in shape.pieces)
        return f'<path class="{shape.color}" stroke-width="{shape.width:g}" d="{path}"/>'
    if isinstance(shape, Dot):
        return f'<circle class="{shape.color}" cx="{shape.x:.1f}" cy="{shape.y:.1f}" r="{shape.radius:g}"/>'
    if isinstance(shape, Rect):
        return (f'<rect class="{shape.color}" x="{shape.x:.1f}" y="{shape.y:.1f}" width="{shape.width:.1f}" '
                f'height="{shape.height:.1f}"/>')
    anchor = {0.0: "start", 0.5: "middle", 1.0: "end"}[shape.anchor]
    return (f'<text class="{shape.color}{" halo" * shape.halo}" x="{shape.x:.1f}" y="{shape.y:.1f}" '
            f'font-size="{shape.size}" text-anchor="{anchor}">{escape(shape.text)}</text>')
