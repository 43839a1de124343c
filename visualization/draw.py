"""Draws lanes on images and puts images together.

Shapes: L lane slots, P control points, 2 = (x, y) in [0, 1]; images RGB uint8 (height, width, 3).
"""

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from geometry.bezier import sample_curve
from runtime.files import write_bytes

# Okabe and Ito's colors, distinct for every kind of color vision; neighbours differ in lightness too.
COLORS = ((86, 180, 233), (230, 159, 0), (0, 158, 115), (240, 228, 66), (213, 94, 0), (204, 121, 167))
LABEL_COLOR = (255, 255, 255)
DARK = (20, 20, 20)  # around curves and points, and of text
FONT, FONT_PX = cv2.FONT_HERSHEY_SIMPLEX, 30  # and its size at a scale of 1
TEXT_PX = 13
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff")  # that OpenCV writes
CAPTION_PX = 30  # height of a line of text above an image

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels


def draw_lanes(image: np.ndarray, points: Tensor, confidence: Tensor | None = None, keep: Tensor | None = None,
               ids: Sequence[int] = ()) -> np.ndarray:
    """A copy of the image with the curves points (L, P, 2) where keep (L), numbered by slot from 1.

    Line width and text grow with the image. With confidence (L) the control points and the confidence are drawn
    as well; without it the curves are thin and white, as labels are drawn. With ids (L) the color is that of a lane's
    identity, which is drawn too.
    """
    canvas = image.copy()
    width = max(1, round(math.hypot(*image.shape[:2]) / 500))
    shown = range(len(points)) if keep is None else keep.nonzero()[:, 0].tolist()
    if confidence is None:
        for slot in shown:
            _draw_curve(canvas, points[slot], LABEL_COLOR, width)
        return canvas
    colors = {slot: lane_color(slot, ids) for slot in shown}
    for slot in shown:
        color = colors[slot]
        _draw_curve(canvas, points[slot], DARK, 2 * width + 2)
        _draw_curve(canvas, points[slot], color, 2 * width)
        for x, y in _pixels(points[slot], canvas):
            cv2.circle(canvas, (round(x), round(y)), 2 * width + 2, DARK, -1, cv2.LINE_AA)
            cv2.circle(canvas, (round(x), round(y)), 2 * width + 1, color, -1, cv2.LINE_AA)
    boxes: list[Box] = []
    for slot in shown:  # text comes last, on top of all curves
        position = _pixels(points[slot, -2], canvas) + np.array((4 * width + 2, 0))
        text = f"{slot + 1}: {confidence[slot]:.2f}" + (f" #{ids[slot]}" if ids else "")
        boxes.append(_draw_boxed_text(canvas, text, position, colors[slot], boxes))
    return canvas


def lane_color(slot: int, ids: Sequence[int] = ()) -> tuple[int, int, int]:
    """RGB of the lane in a slot, by its identity where it has one."""
    return COLORS[(ids[slot] - 1 if ids else slot) % len(COLORS)]


def draw_overlay(image: np.ndarray, points: Tensor, confidence: Tensor, reported: Tensor, label_points: Tensor,
                 label_exists: Tensor, width: int) -> np.ndarray:
    """The image `width` px wide with its reported lanes in color and its labels in thin white on top.

    points, label_points (L, P, 2); confidence, reported, label_exists (L).
    """
    height = max(1, round(width * image.shape[0] / image.shape[1]))
    method = cv2.INTER_AREA if image.shape[1] > width else cv2.INTER_LINEAR
    canvas = draw_lanes(cv2.resize(image, (width, height), interpolation=method), points, confidence, reported)
    return draw_lanes(canvas, label_points, keep=label_exists)


def blank(width: int, height: int, color: tuple[int, int, int]) -> np.ndarray:
    """An image (height, width, 3) of one color: np.full writes each pixel anew, which takes ten times as long."""
    row = np.tile(np.array(color, np.uint8), (width, 1))
    return np.repeat(row[None], height, axis=0)


def captioned_sheet(images: Sequence[np.ndarray], captions: Sequence[str], columns: int) -> np.ndarray:
    """Images in a grid, each with a line of text above it; all get the first one's size, with borders if need be."""
    height, width = images[0].shape[:2]
    tiles = []
    for image, caption in zip(images, captions, strict=True):
        tile = blank(width, CAPTION_PX + height, DARK)
        scale = min(width / image.shape[1], height / image.shape[0])
        size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
        x, y = (width - size[0]) // 2, CAPTION_PX + (height - size[1]) // 2
        tile[y:y + size[1], x:x + size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        draw_text(tile, caption, (8, 20), LABEL_COLOR, size_px=15)
        tiles.append(tile)
    return contact_sheet(tiles, columns, width)


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


def _draw_boxed_text(canvas: np.ndarray, text: str, position: np.ndarray, color: tuple[int, int, int],
                     boxes: Sequence[Box]) -> Box:
    """Draw text to the right of a position in pixels, above the boxes that it would cover; returns its own box."""
    scale = max(0.45, math.hypot(*canvas.shape[:2]) / 2000)
    thickness = max(1, round(scale * 1.6))
    (w, h), base = cv2.getTextSize(text, FONT, scale, thickness)
    margin = max(2, round(4 * scale))
    w, h = w + 2 * margin, h + base + 2 * margin
    x = int(np.clip(position[0], 0, max(0, canvas.shape[1] - w)))
    y = int(np.clip(position[1] - h / 2, 0, max(0, canvas.shape[0] - h)))
    for left, top, right, bottom in sorted(boxes, key=lambda box: -box[1]):
        if x < right and left < x + w and y < bottom and top < y + h:
            y = top - h
    cv2.rectangle(canvas, (x, y), (x + w, y + h), color, -1)  # dark on a light color is legible on any road
    cv2.putText(canvas, text, (x + margin, y + h - base - margin), FONT, scale, DARK, thickness, cv2.LINE_AA)
    return x, y, x + w, y + h


def draw_text(canvas: np.ndarray, text: str, origin: tuple[int, int], color: tuple[int, int, int],
              size_px: float = TEXT_PX, thickness: int = 1) -> None:
    """Write a line of text whose base line starts at `origin`; letters beyond ASCII become "?"."""
    cv2.putText(canvas, _ascii(text), origin, FONT, size_px / FONT_PX, color, thickness, cv2.LINE_AA)


def text_width(text: str, size_px: float = TEXT_PX) -> int:
    """Width in px of what `draw_text` writes."""
    return cv2.getTextSize(_ascii(text), FONT, size_px / FONT_PX, 1)[0][0]


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode()


def check_picture(path: Path) -> None:
    """Raise ValueError where the suffix of a file's name is of no format that `write_image` has."""
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        raise ValueError(f"{path}: {path.suffix or 'a name without a suffix'} is no format of pictures that can be "
                         "written; use .jpg, .png or .webp")


def write_image(path: Path, image: np.ndarray) -> None:
    """Write an RGB uint8 image to a file atomically; the suffix chooses the format.

    Raises OSError where it cannot be written.
    """
    encoder = _encoder(path)
    quality = [cv2.IMWRITE_JPEG_QUALITY, 90] if encoder == ".jpg" else []
    try:
        done, data = cv2.imencode(encoder, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), quality)
    except cv2.error:  # a format that OpenCV does not know
        done = False
    if not done:
        raise OSError(f"{path}: a picture of {image.shape[1]}x{image.shape[0]} cannot be written in this format")
    write_bytes(path, data.tobytes())  # cv2.imwrite fails on non-ASCII names on Windows


def _encoder(path: Path) -> str:
    """The suffix by which OpenCV knows the format of a file."""
    return ".jpg" if path.suffix.lower() in (".jpg", ".jpeg", ".jpe", ".jfif") else path.suffix
