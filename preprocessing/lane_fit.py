"""Labels to curves: lanes cut at the image border and fitted; which of them cannot be taught.

Shapes: B images, K lanes of all their labels, C of those that are taught, N points of a lane, P control points,
2 = (x, y) in [0, 1]. Without PyTorch: processes that fill the cache import this and start fast.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from formats.base import Label
from geometry.curve_fit import CONTROL_POINTS, FIT_TOLERANCE, fit_polylines
from geometry.polyline import first_points, inside_image, lane_of_points, turned_back

MIN_HEIGHT = 1e-3  # of the image's height: a lane without it has no x at a row
LEVEL = 0.02  # height over width of a stop line, clicked with a few pixels of care
FAR = 20 / 1280  # of the image's width, for an upright lane: TuSimple's tolerance for a point,
FAR_SHARE = 0.15  # and the share of points beyond it with which a lane counts as missed
IN_ANY_ORDER = 2 / 1280  # of the image's width: a curve so near to all points is right, in whatever order they come


class LaneProblems(NamedTuple):
    """How many lanes of labels a target has not, or not as they were drawn."""

    unassigned: int = 0  # their side has no free slot
    too_short: int = 0  # fewer than two points in the image
    level: int = 0  # stop lines
    turned_back: int = 0  # down the image and up again: U-turns, and lines drawn all around
    far_off: int = 0  # no curve is near
    imprecise: int = 0  # in the target, by a curve that misses a point by more than FIT_TOLERANCE

    @property
    def left_out(self) -> int:
        """How many lanes are not in the target."""
        return sum(self) - self.imprecise


PROBLEMS = LaneProblems(*range(len(LaneProblems._fields)))  # the place of each in an array of counts
LANE_PROBLEMS = {
    "unassigned": "do not fit the {slots} slots (model.slots)",
    "too_short": "have fewer than two points in the image",
    "level": "run level, as stop lines do, and are left out",
    "turned_back": "turn back, as U-turns and lines drawn all around do, and are left out",
    "far_off": "are far from every curve that the network can predict, and are left out",
    "imprecise": "are represented by a curve that misses a point by more than 8 px of 1280",
}


class FittedLanes(NamedTuple):
    """The lanes of B images that are taught, as curves, and how many of each image have which problem."""

    image: np.ndarray  # (C) int, ascending
    number: np.ndarray  # (C) int, the lane's position in its label
    curves: np.ndarray  # (C, P, 2) float64
    per_image: np.ndarray  # (B) lanes of each label
    problems: np.ndarray  # (B, fields of LaneProblems) int; unassigned is 0 before slots are known


def fit_lanes(labels: Sequence[Label], sizes_px: Sequence[tuple[int, int]]) -> FittedLanes:
    """The curves of B labels; `sizes_px` are the (width, height) of the images in whose pixels they are."""
    per_image = np.array([len(label.lanes) for label in labels], int)
    image = lane_of_points(per_image)
    number = np.arange(len(image)) - first_points(per_image)[image]
    lanes = [lane for label in labels for lane in label.lanes]
    chosen, curves, problem = _curves(lanes, np.asarray(sizes_px, float).reshape(-1, 2)[image])
    kinds = len(PROBLEMS)
    counts = np.bincount(image[problem >= 0] * kinds + problem[problem >= 0], minlength=kinds * len(labels))
    return FittedLanes(image[chosen], number[chosen], curves, per_image, counts.reshape(len(labels), kinds))


def _curves(lanes: Sequence[np.ndarray], size_px: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The C of K lanes that are taught, ascending; their control points (C, P, 2); and the problem of each of the K:
    its place in LaneProblems, or -1.

    lanes (N, 2) are in pixels of images of size_px (K, 2).
    """
    lane = lane_of_points(np.array([len(points) for points in lanes], int))
    points = np.concatenate([np.zeros((0, 2)), *lanes]) / size_px[lane]
    points, lane = inside_image(points, lane)
    counts = np.bincount(lane, minlength=len(lanes))
    problem = np.where(counts < 2, PROBLEMS.too_short, -1)
    points, kept = points[counts[lane] >= 2], np.flatnonzero(counts >= 2)
    if len(kept):
        starts = first_points(counts[kept])
        extent = np.maximum.reduceat(points, starts) - np.minimum.reduceat(points, starts)
        width_px, height_px = (extent * size_px[kept]).T
        is_level = (extent[:, 1] < MIN_HEIGHT) | (height_px < LEVEL * width_px)
        problem[kept[is_level]] = PROBLEMS.level
        slant = np.hypot(width_px, height_px)[~is_level] / height_px[~is_level]  # TuSimple's tolerance grows with it
        points, kept = points[np.repeat(~is_level, counts[kept])], kept[~is_level]
    if not len(kept):
        return kept, np.zeros((0, CONTROL_POINTS, 2)), problem
    counts = counts[kept]
    curves, off = fit_polylines(points, counts)
    starts = first_points(counts)
    worst, far = np.maximum.reduceat(off, starts), np.add.reduceat((off > np.repeat(FAR * slant, counts)) * 1, starts)
    aspect = size_px[kept, 1] / size_px[kept, 0]
    turned = (turned_back(points[:, 1], counts) * aspect > FIT_TOLERANCE) & (worst > IN_ANY_ORDER)
    problem[kept] = np.select((turned, far > FAR_SHARE * counts, worst > FIT_TOLERANCE),
                              (PROBLEMS.turned_back, PROBLEMS.far_off, PROBLEMS.imprecise), -1)
    taught = ~turned & (far <= FAR_SHARE * counts)
    return kept[taught], curves[taught], problem
