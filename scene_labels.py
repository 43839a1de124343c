"""Which lines of a rendered scene are labelled, from where to where, and whether an annotator could know.

Label points are (N, 2) float32 pixels (x, y), one a row, far to near; lines come left to right.
"""

import cv2
import numpy as np

MOST_PER_SIDE = 3  # no line past the third on either side is labelled
FIRST_WIDTH = 0.05  # of the image: so wide is a lane where labels begin, the median of TuSimple's (67 of 1280 px)
CONTRAST = 8  # levels of 255 by which paint that can be seen differs from the bare road
CLEAR = 0.12  # share of a line on which paint must be seen for nobody to doubt that it is there: four short dashes


def lane_points(view, road) -> list[np.ndarray]:
    """Label points of the lines next to the camera, seen or not, from where a lane is FIRST_WIDTH wide to where the
    line leaves the image.
    """
    left = [line for line in road.lines if line.offset < 0][-MOST_PER_SIDE:]
    right = [line for line in road.lines if line.offset >= 0][:MOST_PER_SIDE]
    y = view.project(0.0, view.z)[:, 1]  # near to far
    lane_m = (road.borders[-1] - road.borders[0]) / (len(road.borders) - 1)
    row = np.interp(view.focal_x * lane_m / (FIRST_WIDTH * view.width), view.z, y)
    start = max(row, y[-1] + view.height / 120)  # on a hill's crest the lines end before they meet
    lanes = [_visible_run(view.project(line.u(view.z), view.z), view, start) for line in left + right]
    return [points for points in lanes if len(points) >= view.height * 0.06]  # the shortest real ones: 50 of 720 rows


def _visible_run(points: np.ndarray, view, start: float) -> np.ndarray:
    """(N, 2) far to near: one point a row of the stretch inside the image that is nearest to the camera."""
    rows = np.arange(np.ceil(start), view.height, 1.0)
    if not len(rows):
        return np.zeros((0, 2), np.float32)
    x = np.interp(rows, points[::-1, 1], points[::-1, 0])
    inside = (x >= 0) & (x <= view.width - 1)
    if not inside.any():
        return np.zeros((0, 2), np.float32)
    last = np.flatnonzero(inside)[-1]
    outside_above = np.flatnonzero(~inside[:last])
    first = outside_above[-1] + 1 if len(outside_above) else 0
    return np.stack([x, rows], -1)[first : last + 1].astype(np.float32)


def are_certain(lanes: list[np.ndarray], image: np.ndarray, bare: np.ndarray) -> bool:
    """Whether anybody who sees the image would label these lanes, given the same image without lane lines (uint8 RGB).

    That hangs on the outermost ones: a line of which little is seen, for darkness, wear or a lorry before it, is
    labelled between two that are clear, and beyond those it is a guess, which is not to be learned or scored.
    """
    reach = 2 * (image.shape[1] // 80) + 1  # the middle of a double line is bare
    red, green, blue = cv2.split(cv2.absdiff(image, bare))
    contrast = cv2.dilate(cv2.max(cv2.max(red, green), blue), np.ones((3, reach), np.uint8))
    return all(_seen_share(points, contrast) >= CLEAR for points in (*lanes[:1], *lanes[-1:]))


def _seen_share(points: np.ndarray, contrast: np.ndarray) -> float:
    """Share of a line's length along which its paint stands out."""
    x, y = np.round(points).astype(int).T
    length = np.hypot(*np.gradient(points, axis=0).T)  # (N) of each point's stretch
    return float((length * (contrast[y, x] >= CONTRAST)).sum() / length.sum())
