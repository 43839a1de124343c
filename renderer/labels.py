"""Which lines of a rendered scene are labelled, and from where to where: what an annotator could see.

A lane is (N, 2) float32 pixel points (x, y), one a row, far to near; lanes come left to right.
"""

import cv2
import numpy as np

from renderer.camera import Camera
from renderer.road import Road

MAX_LINES_PER_SIDE = 3  # no line past the third on either side is labelled
START_LANE_WIDTH = 0.05  # of the image's width: where a lane is so wide labels begin, TuSimple's median (67 of 1280 px)
MIN_LENGTH = 0.06  # of the image's height: the shortest labels of TuSimple, 50 of 720 rows
MIN_CONTRAST = 8  # levels of 255 by which visible paint differs from the road without it
MIN_VISIBLE = 0.06  # fraction of a line on which paint must be visible: two short dashes


def lane_polylines(camera: Camera, road: Road) -> list[np.ndarray]:
    """Lanes of the lines next to the camera, visible or not.

    Each begins where a lane is START_LANE_WIDTH wide and ends where the line leaves the image.
    """
    left = [line for line in road.lines if line.offset < 0][-MAX_LINES_PER_SIDE:]
    right = [line for line in road.lines if line.offset >= 0][:MAX_LINES_PER_SIDE]
    z = camera.depths
    y = camera.project(0.0, z)[:, 1]  # near to far
    lane_m = (road.borders[-1] - road.borders[0]) / (len(road.borders) - 1)
    row = np.interp(camera.focal_x * lane_m / (START_LANE_WIDTH * camera.width), z, y)
    first_row = max(row, y[-1] + camera.height / 120)  # on a hill's crest the lines end before they converge
    lanes = [_nearest_run(camera.project(line.u(z), z), camera, first_row) for line in left + right]
    return [points for points in lanes if len(points) >= MIN_LENGTH * camera.height]


def _nearest_run(points: np.ndarray, camera: Camera, first_row: float) -> np.ndarray:
    """(N, 2) far to near: one point a row of the stretch inside the image that is nearest to the camera."""
    rows = np.arange(np.ceil(first_row), camera.height, 1.0)
    if not len(rows):
        return np.zeros((0, 2), np.float32)
    x = np.interp(rows, points[::-1, 1], points[::-1, 0])
    inside = (x >= 0) & (x <= camera.width - 1)
    if not inside.any():
        return np.zeros((0, 2), np.float32)
    last = np.flatnonzero(inside)[-1]
    outside_above = np.flatnonzero(~inside[:last])
    first = outside_above[-1] + 1 if len(outside_above) else 0
    return np.stack([x, rows], -1)[first : last + 1].astype(np.float32)


def visible_fractions(lanes: list[np.ndarray], image: np.ndarray, unpainted: np.ndarray) -> list[float]:
    """Fraction of each lane's length along which its paint is visible.

    Paint is visible where the image differs from the same one without lane lines; both are uint8 RGB (H, W, 3).
    """
    reach = 2 * (image.shape[1] // 80) + 1  # the middle of a double line has no paint
    red, green, blue = cv2.split(cv2.absdiff(image, unpainted))
    contrast = cv2.dilate(cv2.max(cv2.max(red, green), blue), np.ones((3, reach), np.uint8))
    return [_visible_fraction(points, contrast) for points in lanes]


def _visible_fraction(points: np.ndarray, contrast: np.ndarray) -> float:
    x, y = np.round(points).astype(int).T
    length = np.hypot(*np.gradient(points, axis=0).T)  # (N) of each point's stretch
    return float((length * (contrast[y, x] >= MIN_CONTRAST)).sum() / length.sum())


def select_labelled(lanes: list[np.ndarray], fractions: list[float]) -> list[np.ndarray]:
    """The lanes that are labelled, given the visible fraction of each.

    A line of which nothing is visible, for darkness, wear or a lorry before it, is labelled only where it lies between
    two that are visible: a label that nothing in the image shows would train a network to guess.
    """
    visible = [i for i, fraction in enumerate(fractions) if fraction >= MIN_VISIBLE]
    return lanes[visible[0] : visible[-1] + 1] if visible else []
