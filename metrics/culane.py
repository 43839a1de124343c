"""The official CULane metric in NumPy and OpenCV, with nothing to compile.

Follows github.com/XingangPan/SCNN, tools/lane_evaluation: spline.cpp, lane_compare.cpp, counter.cpp and
hungarianGraph.hpp. Their quirks are kept, since their figures are the published ones. The matching is our own for the
same reason: scipy's linear_sum_assignment decides near ties otherwise.

Lanes are (N, 2) points in pixels of the benchmark's image. T IoU thresholds.
"""

import math

import cv2
import numpy as np

CULANE_SIZE = (1640, 590)  # width, height
CULANE_LANE_WIDTH = 30  # px
CULANE_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))

_SPLINE_SAMPLES = 50  # points that the evaluator draws between two given points
_MATCH_TOLERANCE = 1e-2  # slack up to which its matching counts a pair as tight
_INT_OF_NAN = -(2**31)  # what C++ makes of a NaN that is rounded to an int on x86


def _spline_points(lane: np.ndarray) -> np.ndarray:
    """(50 (N-1) + 1, 2) float32 points of the polyline that is drawn for a `lane` (N >= 3, 2) float32.

    A natural cubic spline over chord length, in float64 over float32 differences, as spline.cpp. A point given twice
    in a row makes 0/0 in its equations, and NaN of all points but the last.
    """
    step = np.diff(lane, axis=0).astype(float)  # (N-1, 2)
    h = np.sqrt((step**2).sum(1))[:, None]  # (N-1, 1)
    if not h.all():
        points = np.full(((len(lane) - 1) * _SPLINE_SAMPLES + 1, 2), np.nan, np.float32)
        points[-1] = lane[-1]
        return points
    inner = np.diag(2 * (h[:-1] + h[1:])[:, 0]) + np.diag(h[1:-1, 0], 1) + np.diag(h[1:-1, 0], -1)
    bend = np.zeros((len(lane), 2))  # second derivatives, 0 at both ends
    bend[1:-1] = np.linalg.solve(inner, 6 * np.diff(step / h, axis=0))
    slope = step / h - h * (2 * bend[:-1] + bend[1:]) / 6
    cubic = np.diff(bend, axis=0) / (6 * h)
    t = (h / _SPLINE_SAMPLES * np.arange(_SPLINE_SAMPLES))[..., None]  # (N-1, 50, 1)
    points = lane[:-1, None] + t * (slope[:, None] + t * (bend[:-1, None] / 2 + t * cubic[:, None]))
    return np.concatenate([points.reshape(-1, 2), lane[-1:]]).astype(np.float32)


def _lane_mask(lane, size, lane_width: int, name: str):
    """(mask uint8 {0, 1}, left, top, area) of a drawn lane, cropped to its bounding box; None below two points.

    The box ends no earlier than the lane or the image does, so that its pixels are those of a drawing on the whole
    image. `name` is what error messages call the lane.
    """
    lane = np.asarray(lane, np.float32)
    if lane.size and (lane.ndim != 2 or lane.shape[1] != 2):
        raise ValueError(f"{name} lane has shape {lane.shape}, expected (N, 2) points in pixels")
    if not np.isfinite(lane).all():
        raise ValueError(f"{name} lane has NaN or infinity, expected (N, 2) points in pixels")
    if len(lane) < 2:
        return None
    points = np.rint(lane if len(lane) == 2 else _spline_points(lane)).astype(float)
    points = np.where(np.isfinite(points), points, _INT_OF_NAN).clip(_INT_OF_NAN, -_INT_OF_NAN - 1).astype(np.int64)
    distinct = np.ones(len(points), bool)
    distinct[1:] = (points[1:] != points[:-1]).any(1)
    points = points[distinct]  # most of the 50 round to their neighbour's pixel; drawing it again changes nothing
    start = (points.min(0) - lane_width - 2).clip(0, size)
    stop = (points.max(0) + lane_width + 3).clip(0, size)
    mask = np.zeros((stop - start)[::-1], np.uint8)
    if mask.size:
        cv2.polylines(mask, [(points - start).clip(_INT_OF_NAN).astype(np.int32)], False, 1, lane_width)
    return mask, *start.tolist(), int(cv2.countNonZero(mask)) if mask.size else 0


def _mask_iou(a, b) -> float:
    """IoU of two cropped masks of `_lane_mask`: 0 when one is None, NaN (0/0) when neither has a pixel."""
    if a is None or b is None:
        return 0.0
    (mask_a, left_a, top_a, area_a), (mask_b, left_b, top_b, area_b) = a, b
    left, top = max(left_a, left_b), max(top_a, top_b)
    width = min(left_a + mask_a.shape[1], left_b + mask_b.shape[1]) - left
    height = min(top_a + mask_a.shape[0], top_b + mask_b.shape[0]) - top
    intersection = 0
    if width > 0 and height > 0:
        part_a = mask_a[top - top_a : top - top_a + height, left - left_a : left - left_a + width]
        part_b = mask_b[top - top_b : top - top_b + height, left - left_b : left - left_b + width]
        intersection = cv2.countNonZero(cv2.bitwise_and(part_a, part_b))
    union = area_a + area_b - intersection
    return intersection / union if union else math.nan


def culane_iou(pred, gt, size=CULANE_SIZE, lane_width: int = CULANE_LANE_WIDTH) -> np.ndarray:
    """(n_pred, n_gt) float IoU of lanes drawn `lane_width` px wide, as lane_compare.cpp.

    `pred`, `gt`: sequences of lanes (N, 2), points in order, in pixels of an image of `size` = (width, height). Three
    points or more are joined by a spline, two by a line; fewer have IoU 0. Two lanes that both lie outside the image
    have NaN, as in the evaluator. Raises ValueError for another shape, NaN or infinity, or a width below 1.
    """
    if lane_width < 1:
        raise ValueError(f"lane_width is {lane_width}, expected at least 1 px")
    pred_masks = [_lane_mask(lane, size, lane_width, "pred") for lane in pred]
    gt_masks = [_lane_mask(lane, size, lane_width, "gt") for lane in gt]
    iou = [[_mask_iou(a, b) for b in gt_masks] for a in pred_masks]
    return np.array(iou, float).reshape(len(pred_masks), len(gt_masks))


def assign(weight: np.ndarray) -> list[tuple[int, int]]:
    """One-to-one (row, column) pairs of the largest total weight (rows, columns), as hungarianGraph.hpp.

    Kuhn-Munkres on potentials, where a pair within 0.01 of tight counts as tight: the first such pair in order is
    taken, so that the total may lie up to 0.01 a pair below the optimum. A NaN is never taken, and a row of NaN alone
    ends the search.
    """
    rows, columns = weight.shape
    if rows > columns:
        return [(row, column) for column, row in assign(weight.T)]
    w = weight.tolist()
    row_potential = [max((x for x in line if x == x), default=-1e5) for line in w]
    column_potential = [0.0] * columns
    matched_row = [-1] * columns  # of each column

    def augment(row):
        rows_visited.add(row)
        for column in range(columns):
            slack = row_potential[row] + column_potential[column] - w[row][column]
            if column not in columns_visited and abs(slack) < _MATCH_TOLERANCE:
                columns_visited.add(column)
                if matched_row[column] < 0 or augment(matched_row[column]):
                    matched_row[column] = row
                    return True
        return False

    for row in range(rows):
        rows_visited, columns_visited = set(), set()
        while not augment(row):
            unvisited = [column for column in range(columns) if column not in columns_visited]
            slacks = [row_potential[r] + column_potential[c] - w[r][c] for r in rows_visited for c in unvisited]
            delta = min((slack for slack in slacks if slack == slack), default=None)
            if delta is None:
                return [(r, c) for c, r in enumerate(matched_row) if r >= 0]
            for r in rows_visited:
                row_potential[r] -= delta
            for c in columns_visited:
                column_potential[c] += delta
            rows_visited, columns_visited = set(), set()
    return [(row, column) for column, row in enumerate(matched_row) if row >= 0]


def culane_counts(
    pred, gt, thresholds=CULANE_THRESHOLDS, size=CULANE_SIZE, lane_width: int = CULANE_LANE_WIDTH
) -> np.ndarray:
    """(T, 3) int counts of tp, fp, fn for one image, a row per IoU threshold, as counter.cpp.

    Lanes are matched once, by IoU alone; a matched pair is a tp where its IoU exceeds the threshold. Lanes and errors
    are those of `culane_iou`.
    """
    return culane_counts_from_iou(culane_iou(pred, gt, size, lane_width), thresholds)


def culane_counts_from_iou(iou: np.ndarray, thresholds=CULANE_THRESHOLDS) -> np.ndarray:
    """(T, 3) int counts as `culane_counts`, of an IoU matrix (n_pred, n_gt) of `culane_iou`."""
    # The evaluator has the labels as rows, and the order decides between near ties.
    matched = np.array([iou[p, g] for g, p in assign(iou.T)] if iou.size else [], float)
    tp = (matched[None] > np.asarray(thresholds, float)[:, None]).sum(1)  # (T,)
    return np.stack([tp, len(iou) - tp, iou.shape[1] - tp], axis=1)


def culane_score(counts: np.ndarray) -> dict:
    """CULane's figures as fractions: "precision", "recall" and "f1", each {threshold: value}, and "f1@50",
    "f1@75" and "mf1", the mean f1 over the ten thresholds from 0.50 to 0.95.

    counts (..., T, 3) at CULANE_THRESHOLDS are summed over images. A ratio without a denominator is 0, where the
    evaluator prints -1 or nan. Raises ValueError for counts of another shape.
    """
    if counts.ndim < 2 or counts.shape[-2:] != (len(CULANE_THRESHOLDS), 3):
        raise ValueError(f"counts have shape {counts.shape}, expected (..., {len(CULANE_THRESHOLDS)}, 3)")
    tp, fp, fn = counts.reshape(-1, *counts.shape[-2:]).sum(0).T.astype(float)  # (T,) each
    table = {
        "precision": tp / np.maximum(tp + fp, 1),
        "recall": tp / np.maximum(tp + fn, 1),
        "f1": 2 * tp / np.maximum(2 * tp + fp + fn, 1),
    }
    score = {name: dict(zip(CULANE_THRESHOLDS, row.tolist(), strict=True)) for name, row in table.items()}
    return score | {"f1@50": score["f1"][0.5], "f1@75": score["f1"][0.75], "mf1": float(table["f1"].mean())}
