"""Which lines of a rendered scene are labelled, and from where to where: what an annotator could know.

Label points are (N, 2) float32 pixels (x, y), one a row, far to near; lines come left to right.
"""

import cv2
import numpy as np

MOST_PER_SIDE = 3  # no line past the third on either side is labelled
FIRST_WIDTH = 0.05  # of the image: so wide is a lane where labels begin, the median of TuSimple's (67 of 1280 px)
CONTRAST = 8  # levels of 255 by which paint that can be seen differs from the bare road
SEEN = 0.06  # share of a line on which paint must be seen: two short dashes


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


def seen_shares(lanes: list[np.ndarray], image: np.ndarray, bare: np.ndarray) -> list[float]:
    """Share of each line's length along which its paint is seen: what differs from the image without lane lines.

    Both images are uint8 RGB.
    """
    reach = 2 * (image.shape[1] // 80) + 1  # the middle of a double line is bare
    red, green, blue = cv2.split(cv2.absdiff(image, bare))
    contrast = cv2.dilate(cv2.max(cv2.max(red, green), blue), np.ones((3, reach), np.uint8))
    return [_seen_share(points, contrast) for points in lanes]


def labelled(lanes: list[np.ndarray], shares: list[float]) -> list[np.ndarray]:
    """The lanes that are labelled, given how much of each is seen.

    A line of which nothing is seen, for darkness, wear or a lorry before it, is labelled only where it lies between
    two that are seen: what nobody can know teaches a network to guess.
    """
    seen = [i for i, share in enumerate(shares) if share >= SEEN]
    return lanes[seen[0] : seen[-1] + 1] if seen else []


def _seen_share(points: np.ndarray, contrast: np.ndarray) -> float:
    """Share of a line's length along which its paint stands out."""
    x, y = np.round(points).astype(int).T
    length = np.hypot(*np.gradient(points, axis=0).T)  # (N) of each point's stretch
    return float((length * (contrast[y, x] >= CONTRAST)).sum() / length.sum())
