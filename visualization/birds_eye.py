"""A road from above: the ground that an image shows, with its lanes and a grid of metres; and notes on an image.

Legend: X, Z metres to the right of and ahead of the camera. Shapes: L lanes, P control points, 2 = (x, y) in [0, 1];
images RGB uint8 (height, width, 3).
"""

from collections.abc import Sequence

import cv2
import numpy as np
from torch import Tensor

from geometry.bezier import sample_curve
from geometry.ground_plane import GroundPlane
from visualization.draw import DARK, LABEL_COLOR, blank, draw_text, text_width

AHEAD_M, ASIDE_M = 40.0, 10.0  # that a view shows; it is half as wide as high, and both ways a metre is as long
GRID_M = 10, 5  # ahead, aside
GRID_COLOR, WARNING_COLOR = (150, 150, 150), (255, 90, 60)
CURVE_POINTS = 64
NOTE_ROWS = 26  # lines of text in the height of an image
OPACITY = 0.6  # of the box below notes

Color = tuple[int, int, int]


def birds_eye(image: np.ndarray, ground: GroundPlane | None, curves: Tensor, colors: Sequence[Color]) -> np.ndarray:
    """The road from above, as high as the image and half as wide, with curves (L, P, 2) in their colors.

    Without ground it says that there is none.
    """
    height = image.shape[0]
    size = 2 * max(1, round(height / 4)), height
    if ground is None:
        view = blank(*size, DARK)
        draw_text(view, "no position", (size[0] // 10, height // 2), LABEL_COLOR, height / NOTE_ROWS)
        return view
    scale = height / AHEAD_M
    columns, rows = np.arange(size[0]) + 0.5, np.arange(size[1])[:, None] + 0.5
    source = ground.pixels_at(columns / scale - size[0] / scale / 2, AHEAD_M - rows / scale)
    source = np.nan_to_num(source, nan=-1e4).clip(-1e4, 1e5).astype(np.float32) - 0.5
    view = cv2.remap(image, source, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=DARK)
    _draw_grid(view, scale)
    line_px = max(1, round(height / 240))
    for lane, color in zip(curves, colors, strict=True):
        points = sample_curve(lane, CURVE_POINTS).double().numpy() * image.shape[1::-1]
        x, z = ground.to_metres(points).T
        shown = np.isfinite(x) & (np.abs(x) < 5 * ASIDE_M) & (z < 3 * AHEAD_M)
        pixels = np.stack((size[0] / 2 + x[shown] * scale, height - z[shown] * scale), axis=-1)
        pixels = [np.round(pixels * 16).astype(np.int32)]
        cv2.polylines(view, pixels, False, DARK, 2 * line_px + 2, cv2.LINE_AA, 4)
        cv2.polylines(view, pixels, False, color, 2 * line_px, cv2.LINE_AA, 4)
    _draw_camera(view)
    return view


def _draw_grid(view: np.ndarray, scale: float) -> None:
    """Thin lines every few metres, and the distance ahead beside those across."""
    height, width = view.shape[:2]
    for aside in np.arange(-ASIDE_M + GRID_M[1], ASIDE_M, GRID_M[1]):
        x = round(width / 2 + aside * scale)
        cv2.line(view, (x, 0), (x, height), GRID_COLOR, 1)
    for ahead in range(GRID_M[0], int(AHEAD_M), GRID_M[0]):
        y = round(height - ahead * scale)
        cv2.line(view, (0, y), (width, y), GRID_COLOR, 1)
        draw_text(view, f"{ahead} m", (3, y - 3), LABEL_COLOR, max(9, height / NOTE_ROWS))


def _draw_camera(view: np.ndarray) -> None:
    """A triangle in the middle of the lower edge."""
    height, width = view.shape[:2]
    half = max(3, height // 60)
    left, right, top = width // 2 - half, width // 2 + half, height - 3 * half
    corners = np.array([(left, height - 1), (right, height - 1), (width // 2, top)])
    cv2.fillPoly(view, [corners], LABEL_COLOR, cv2.LINE_AA)


def draw_notes(image: np.ndarray, lines: Sequence[str], is_warning: bool = False) -> np.ndarray:
    """A copy of the image with lines of text in a dark box in its upper left corner; the last one red for a warning."""
    canvas = image.copy()
    size_px = max(9.0, image.shape[0] / NOTE_ROWS)
    if (widest := max(text_width(line, size_px) for line in lines) + size_px) > image.shape[1]:
        size_px *= image.shape[1] / widest  # of a portrait
    step, margin = round(1.35 * size_px), round(0.5 * size_px)
    width = min(image.shape[1], max(text_width(line, size_px) for line in lines) + 2 * margin)
    box = canvas[:step * len(lines) + margin, :width]
    box[:] = (box * (1 - OPACITY) + np.array(DARK) * OPACITY).astype(np.uint8)
    for number, line in enumerate(lines, start=1):
        color = WARNING_COLOR if is_warning and number == len(lines) else LABEL_COLOR
        draw_text(canvas, line, (margin, number * step), color, size_px)
    return canvas
