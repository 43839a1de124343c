"""Draws lanes on images. Shapes: L lane slots, P = 6 control points, 2 = (x, y) in [0, 1]; images RGB uint8."""

import math
import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from geometry.bezier import sample_curve

# Okabe and Ito's colors, told apart with every kind of color vision; neighbours differ in lightness too.
COLORS = ((86, 180, 233), (230, 159, 0), (0, 158, 115), (240, 228, 66), (213, 94, 0), (204, 121, 167))
LABEL_COLOR = (255, 255, 255)
DARK = (20, 20, 20)  # around curves and points, and of text

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels


def draw_lanes(image: np.ndarray, points: Tensor, confidence: Tensor | None = None, keep: Tensor | None = None
               ) -> np.ndarray:
    """A copy of the image with the curves points (L, P, 2) where keep (L), numbered by slot from 1.

    Line width and text grow with the image. With confidence (L) the control points and the confidence are drawn
    as well; without it the curves are thin and white, as labels are shown.
    """
    canvas = image.copy()
    width = max(1, round(math.hypot(*image.shape[:2]) / 500))
    shown = range(len(points)) if keep is None else keep.nonzero()[:, 0].tolist()
    if confidence is None:
        for slot in shown:
            _draw_curve(canvas, points[slot], LABEL_COLOR, width)
        return canvas
    taken = []
    for slot in shown:
        color = COLORS[slot % len(COLORS)]
        _draw_curve(canvas, points[slot], DARK, 2 * width + 2)
        _draw_curve(canvas, points[slot], color, 2 * width)
        for x, y in _pixels(points[slot], canvas):
            cv2.circle(canvas, (round(x), round(y)), 2 * width + 2, DARK, -1, cv2.LINE_AA)
            cv2.circle(canvas, (round(x), round(y)), 2 * width + 1, color, -1, cv2.LINE_AA)
    for slot in shown:  # text comes last, on top of all curves
        place = _pixels(points[slot, 4:5], canvas)[0] + (4 * width + 2, 0)
        taken.append(_draw_text(canvas, f"{slot + 1}: {confidence[slot]:.2f}", place, COLORS[slot % len(COLORS)], taken))
    return canvas


def contact_sheet(images: Sequence[np.ndarray], columns: int, width: int = 480) -> np.ndarray:
    """The images side by side, each `width` px wide; all take the height of the first."""
    height = min(max(1, round(width * images[0].shape[0] / images[0].shape[1])), 4 * width)
    tiles = [cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA) for image in images]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    return np.vstack([np.hstack(tiles[i:i + columns]) for i in range(0, len(tiles), columns)])


def _pixels(points: Tensor, canvas: np.ndarray) -> np.ndarray:
    """Points (..., 2) in pixels of the canvas, kept near it so that no drawing overflows."""
    size = np.array(canvas.shape[1::-1], float)
    return np.clip(points.numpy() * size - 0.5, -size, 2 * size)


def _draw_curve(canvas: np.ndarray, points: Tensor, color: tuple[int, int, int], width: int) -> None:
    shift = 4  # sixteenths of a pixel
    pixels = np.round(_pixels(sample_curve(points, 64), canvas) * (1 << shift)).astype(np.int32)
    cv2.polylines(canvas, [pixels], False, color, width, cv2.LINE_AA, shift)


def _draw_text(canvas: np.ndarray, text: str, place: np.ndarray, color: tuple[int, int, int], taken: list[Box]) -> Box:
    """Draw text to the right of a place in pixels, above the boxes that are taken; returns its own box."""
    scale = max(0.45, math.hypot(*canvas.shape[:2]) / 2000)
    thickness = max(1, round(scale * 1.6))
    (w, h), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
    margin = max(2, round(4 * scale))
    w, h = w + 2 * margin, h + base + 2 * margin
    x = int(np.clip(place[0], 0, max(0, canvas.shape[1] - w)))
    y = int(np.clip(place[1] - h / 2, 0, max(0, canvas.shape[0] - h)))
    for left, top, right, bottom in sorted(taken, key=lambda box: -box[1]):
        if x < right and left < x + w and y < bottom and top < y + h:
            y = top - h
    cv2.rectangle(canvas, (x, y), (x + w, y + h), color, -1)  # dark on a light color is legible on any road
    cv2.putText(canvas, text, (x + margin, y + h - base - margin), cv2.FONT_HERSHEY_SIMPLEX, scale, DARK, thickness,
                cv2.LINE_AA)
    return x, y, x + w, y + h


def write_image(path: Path, image: np.ndarray) -> None:
    """Write RGB uint8 to a file, whole or not at all; the suffix chooses the format.

    Raises OSError where it cannot be written.
    """
    quality = [cv2.IMWRITE_JPEG_QUALITY, 90] if path.suffix.lower() in (".jpg", ".jpeg") else []
    try:
        done, data = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), quality)
    except cv2.error:  # a format that OpenCV does not know
        done = False
    if not done:
        raise OSError(f"{path}: a picture of {image.shape[1]}x{image.shape[0]} cannot be written in this format")
    unfinished = path.with_name(f"{path.name}.part")
    try:
        unfinished.write_bytes(data.tobytes())  # cv2.imwrite fails on non-ASCII names on Windows
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
