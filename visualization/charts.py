"""Pictures that show how a training goes: its curve, and what a model says about images beside their labels.

Shapes: L lane slots, P = 6 control points, 2 = (x, y) in [0, 1]; images RGB uint8.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from torch import Tensor

from visualization.draw import contact_sheet, draw_lanes

PANEL_PX = (760, 420)  # width, height of one diagram
MARGIN_PX = (70, 54, 20, 44)  # left, top, right, bottom of its axes
INK, GREY, GRID, PAPER = (30, 30, 30), (110, 110, 110), (225, 225, 225), (255, 255, 255)
BLUE, ORANGE, GREEN = (0, 114, 178), (213, 94, 0), (0, 158, 115)  # of Okabe and Ito, dark enough for white paper


class Line(NamedTuple):
    """One curve of a diagram: what the legend calls it, the key of its values, its color, and their factor."""

    name: str
    key: str
    color: tuple[int, int, int]
    factor: float = 1.0


PANELS = (
    ("Loss", (Line("training, all terms", "train_loss", BLUE), Line("validation", "val_loss", ORANGE))),
    ("Error, px of 1280", (Line("model", "error_px", BLUE), Line("constant prediction", "constant_error_px", GREY))),
    ("Validation score, %", (Line("F1", "f1", BLUE, 100), Line("accuracy", "accuracy", ORANGE, 100))),
    ("Diversity (1: as varied as the roads)", (Line("predictions", "diversity", GREEN),)),
)


def training_curve(records: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Four diagrams over the epochs of a training, from the records of log.jsonl; null values leave gaps.

    Raises ValueError where there is no record.
    """
    if not records:
        raise ValueError("no epoch to draw, expected the records of log.jsonl")
    panels = [diagram(title, records, lines) for title, lines in PANELS]
    return np.vstack([np.hstack(panels[:2]), np.hstack(panels[2:])])


def diagram(title: str, records: Sequence[Mapping[str, Any]], lines: Sequence[Line]) -> np.ndarray:
    """One diagram of PANEL_PX: lines over records' "epoch", from 0 upward; what is not a number leaves a gap."""
    (width, height), (left, top, right, bottom) = PANEL_PX, MARGIN_PX
    canvas = np.full((height, width, 3), PAPER, np.uint8)
    epochs = np.array([record["epoch"] for record in records], float)
    values = [np.array([record.get(line.key) for record in records], float) * line.factor for line in lines]
    finite = np.concatenate(values)[np.isfinite(np.concatenate(values))]
    x_ticks = [tick for tick in ticks(epochs.min(), max(epochs.max(), epochs.min() + 1), 8) if tick == int(tick)]
    x_range = (epochs.min() - 0.5, epochs.max() + 0.5) if len(set(epochs)) == 1 else (epochs.min(), epochs.max())
    y_ticks = ticks(0.0, max(finite.max(initial=0), 1e-3), 5)

    def place(x: float, y: float) -> tuple[float, float]:
        share = (x - x_range[0]) / (x_range[1] - x_range[0]), y / y_ticks[-1]
        return left + share[0] * (width - left - right), height - bottom - share[1] * (height - top - bottom)

    for tick in y_ticks:
        y = round(place(x_range[0], tick)[1])
        cv2.line(canvas, (left, y), (width - right, y), GRID, 1)
        write(canvas, f"{tick:g}", (left - 8, y + 5), GREY, anchor=1.0)
    for tick in x_ticks:
        x = round(place(tick, 0)[0])
        if left <= x <= width - right:
            cv2.line(canvas, (x, height - bottom), (x, height - bottom + 5), GREY, 1)
            write(canvas, f"{tick:g}", (x, height - bottom + 20), GREY, anchor=0.5)
    cv2.line(canvas, (left, height - bottom), (width - right, height - bottom), GREY, 1)
    write(canvas, "epoch", (width - right, height - 6), GREY, anchor=1.0)
    write(canvas, title, (left, 22), INK, scale=0.6)

    legend_x = left
    for line, ys in zip(lines, values, strict=True):
        _polyline(canvas, [place(x, y) for x, y in zip(epochs, ys, strict=True)], line.color)
        cv2.line(canvas, (legend_x, 38), (legend_x + 22, 38), line.color, 3, cv2.LINE_AA)
        known = ys[np.isfinite(ys)]
        text = f"{line.name} {known[-1]:.4g}" if len(known) else f"{line.name}: no value"
        legend_x = write(canvas, text, (legend_x + 28, 43), INK) + 24
    return canvas


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) from at or below low to at or above high > low."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def _polyline(canvas: np.ndarray, places: Sequence[tuple[float, float]], color: tuple[int, int, int]) -> None:
    """Draw the pieces between gaps; few points, or one without neighbours, get a dot each."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for place in places:
        if math.isfinite(place[1]):
            pieces[-1].append(place)
        elif pieces[-1]:
            pieces.append([])
    for piece in pieces:
        pixels = np.round(np.array(piece).reshape(-1, 2) * 16).astype(np.int32)  # sixteenths of a pixel
        cv2.polylines(canvas, [pixels], False, color, 2, cv2.LINE_AA, 4)
        if len(places) <= 40 or len(piece) == 1:
            for x, y in pixels.tolist():
                cv2.circle(canvas, (x, y), 4 * 16, color, -1, cv2.LINE_AA, 4)


def write(canvas: np.ndarray, text: str, place: tuple[int, int], color: tuple[int, int, int], scale: float = 0.48,
          anchor: float = 0.0) -> int:
    """Draw text whose share `anchor` lies left of the place on its base line; returns where it ends, in px."""
    (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    x = round(place[0] - anchor * width)
    cv2.putText(canvas, text, (x, place[1]), cv2.FONT_HERSHEY_SIMPLEX, scale, color, 1, cv2.LINE_AA)
    return x + width


def overlay(image: np.ndarray, points: Tensor, confidence: Tensor, reported: Tensor, label_points: Tensor,
            label_exists: Tensor, width: int) -> np.ndarray:
    """The image `width` px wide with reported lanes in color and its labelled ones in thin white on top.

    points, label_points (L, P, 2); confidence, reported, label_exists (L).
    """
    height = max(1, round(width * image.shape[0] / image.shape[1]))
    method = cv2.INTER_AREA if image.shape[1] > width else cv2.INTER_LINEAR
    canvas = draw_lanes(cv2.resize(image, (width, height), interpolation=method), points, confidence, reported)
    return draw_lanes(canvas, label_points, keep=label_exists)


def captioned_sheet(images: Sequence[np.ndarray], captions: Sequence[str], columns: int) -> np.ndarray:
    """Images in a grid, each with a line of text above it; all get the first one's size, with borders if need be."""
    height, width = images[0].shape[:2]
    tiles = []
    for image, caption in zip(images, captions, strict=True):
        tile = np.full((height + 30, width, 3), INK, np.uint8)
        scale = min(width / image.shape[1], height / image.shape[0])
        size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
        x, y = (width - size[0]) // 2, 30 + (height - size[1]) // 2
        tile[y:y + size[1], x:x + size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        # OpenCV's letters are ASCII
        write(tile, caption.encode("ascii", "replace").decode(), (8, 20), PAPER, scale=0.5)
        tiles.append(tile)
    return contact_sheet(tiles, columns, width)
