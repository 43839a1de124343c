"""The official TuSimple metric, and what shows a collapsed model, in numpy alone. CULane's is in culane.py.

Shapes: N images, L lane slots, P control points, R rows, 2 = (x, y). TuSimple lanes are in its pixels; the
`*_points` arrays hold Bezier control points in [0, 1].
"""

import math
from typing import NamedTuple

import numpy as np

TUSIMPLE_SIZE = (1280, 720)  # width, height
TUSIMPLE_ROWS = tuple(range(160, 711, 10))
TUSIMPLE_NEAR_PX = 20  # a point is right within this distance, measured across the lane
TUSIMPLE_FOUND = 0.85  # share of rows that makes a lane found


class TuSimpleScore(NamedTuple):
    """TuSimple's three fractions: `accuracy`, `fp` (of the predictions), `fn` (of the labels)."""

    accuracy: float
    fp: float
    fn: float


def _lane_table(lanes, rows: int, whose: str) -> np.ndarray:
    """(lanes, R) float x, -100 where a lane has no point; ValueError for a wrong length or a NaN."""
    for index, lane in enumerate(lanes):
        if len(lane) != rows:
            raise ValueError(
                f"{whose} lane {index} has {len(lane)} x values, expected {rows}, one per row of h_samples"
            )
    table = np.array([np.asarray(lane, float) for lane in lanes], float).reshape(len(lanes), rows)
    if not np.isfinite(table).all():
        raise ValueError(f"{whose} lanes hold NaN or infinity, expected pixels or -2 for no point")
    return np.where(table >= 0, table, -100.0)


def tusimple_image(pred, gt, h_samples, run_time_ms: float = 0.0) -> TuSimpleScore:
    """TuSimple's accuracy, fp and fn for one image, each a fraction.

    `pred`, `gt`: sequences of lanes, each an x in pixels per row of `h_samples` (R,), negative = no point.
    A row is right when pred and label lie within 20 px / cos(angle of the label), or when both lack a
    point; a label is found when its best prediction has 85 % of the rows right. One prediction may find two
    labels, so that `fp` may be negative. Of more than four labels the worst is left out and the rest divided
    by four, so that six may reach 1.25. More than two surplus predictions or over 200 ms score (0, 0, 1).
    All this is github.com/TuSimple/tusimple-benchmark, evaluate/lane.py.

    Raises ValueError for no rows, a lane whose length differs from `h_samples`, and NaN or infinity.
    """
    rows_right = tusimple_rows_right(pred, gt, h_samples)
    count_gt, count_pred = rows_right.shape
    if run_time_ms > 200 or count_pred > count_gt + 2:
        return TuSimpleScore(0.0, 0.0, 1.0)
    best = rows_right.max(1, initial=0)  # (gt,)
    found = int((best >= TUSIMPLE_FOUND).sum())
    fn, total = count_gt - found, best.sum()
    if count_gt > 4:
        fn, total = max(fn - 1, 0), total - best.min()
    scored = max(min(count_gt, 4), 1)
    fp = (count_pred - found) / count_pred if count_pred else 0.0
    return TuSimpleScore(float(total / scored), fp, fn / scored)


def tusimple_rows_right(pred, gt, h_samples) -> np.ndarray:
    """(gt, pred) share of the rows in which a prediction is right about a label, as `tusimple_image` has it.

    Raises ValueError as `tusimple_image`.
    """
    rows = np.asarray(h_samples, float)
    if rows.ndim != 1 or len(rows) == 0:
        raise ValueError(f"h_samples has shape {rows.shape}, expected (R,) with R >= 1")
    pred_x, gt_x = _lane_table(pred, len(rows), "pred"), _lane_table(gt, len(rows), "gt")

    has_point = gt_x >= 0  # (gt, R)
    count = np.maximum(has_point.sum(1, keepdims=True), 1)
    dy = np.where(has_point, rows - (has_point * rows).sum(1, keepdims=True) / count, 0)
    dx = np.where(has_point, gt_x - (has_point * gt_x).sum(1, keepdims=True) / count, 0)
    spread = (dy * dy).sum(1)
    slope = (dx * dy).sum(1) / np.where(spread > 0, spread, 1)  # 0 for fewer than two points
    near_px = TUSIMPLE_NEAR_PX / np.cos(np.arctan(slope))  # (gt,)

    right = np.abs(gt_x[:, None] - pred_x[None]) < near_px[:, None, None]  # (gt, pred, R)
    return right.sum(2) / len(rows)


def tusimple_f1(fp: float, fn: float) -> float:
    """F1 from the mean fp and fn (fractions), as the literature derives it from TuSimple's rates.

    P = 1 - fp, R = (1 - fp) / (1 - fp + fn), F1 = 2PR / (P + R); 0 when nothing was found (fp >= 1).
    """
    precision = 1.0 - fp
    if precision <= 0:
        return 0.0
    recall = precision / (precision + fn)
    return 2 * precision * recall / (precision + recall)


def tusimple_score(pairs) -> dict:
    """{"accuracy", "fp", "fn", "f1"} as fractions: means over images, and the F1 of those means.

    `pairs`: an iterable of (pred, gt, h_samples), one an image, as for `tusimple_image`.
    Raises ValueError for an empty iterable, and as `tusimple_image`.
    """
    scores = [tusimple_image(pred, gt, h_samples) for pred, gt, h_samples in pairs]
    if not scores:
        raise ValueError("no image to score, expected at least one (pred, gt, h_samples)")
    accuracy, fp, fn = (float(mean) for mean in np.mean(scores, axis=0))
    return {"accuracy": accuracy, "fp": fp, "fn": fn, "f1": tusimple_f1(fp, fn)}


def _lane_points(points, exists, whose: str) -> tuple[np.ndarray, np.ndarray]:
    """`points` (..., L, P, 2) as floats and `exists` (..., L) as bools (nonzero = there), checked."""
    points, exists = np.asarray(points, float), np.asarray(exists) != 0
    if points.ndim < 3 or points.shape[-1] != 2 or points.shape[:-2] != exists.shape:
        raise ValueError(
            f"{whose} {points.shape} and existence {exists.shape}: expected (..., L, P, 2) and (..., L)"
        )
    if not np.isfinite(points[exists]).all():
        raise ValueError(f"{whose} holds NaN or infinity in a lane that exists, expected x and y in [0, 1]")
    return points, exists


def diversity(pred_points, label_points, label_exists) -> float:
    """How much predictions vary over images, relative to the labels: 0 = the same lanes for every image (a
    collapsed model), 1 = as varied as the roads.

    `pred_points`, `label_points`: (N, L, P, 2) in [0, 1]; `label_exists`: (N, L), nonzero where there is a
    lane. The spread is the standard deviation over images of each control point's x, averaged over P, then
    over slots weighted by their images. Predictions are taken at the labels' entries whether or not the
    model claims the lane: the question is where it puts lanes, and both spreads must cover the same images.
    NaN (undefined) when no slot has two images or when the labels do not vary. Raises ValueError for shapes
    that disagree and NaN coordinates.
    """
    label, exists = _lane_points(label_points, label_exists, "label_points")
    pred, _ = _lane_points(pred_points, label_exists, "pred_points")
    if label.ndim != 4 or pred.shape != label.shape:
        raise ValueError(f"pred_points {pred.shape} and label_points {label.shape} must both be (N, L, P, 2)")
    spread = np.zeros(2)  # pred, label
    for slot in np.flatnonzero(exists.sum(0) >= 2):
        there = exists[:, slot]
        for which, points in enumerate((pred, label)):
            spread[which] += there.sum() * points[there, slot, :, 0].std(0).mean()
    return float(spread[0] / spread[1]) if spread[1] > 0 else math.nan


def constant_prediction(label_points, label_exists) -> np.ndarray:
    """(L, P, 2) the best that a model can say without looking at the image: each slot's median lane.

    `label_points`: (N, L, P, 2) in [0, 1]; `label_exists`: (N, L). The median per coordinate and not the
    mean, because it is to be compared by `mean_x_error`, an absolute error. A slot without any lane is
    zeros. Raises ValueError for shapes that disagree and NaN coordinates.
    """
    points, exists = _lane_points(label_points, label_exists, "label_points")
    constant = np.zeros(points.shape[1:])
    for slot in np.flatnonzero(exists.any(0)):
        constant[slot] = np.median(points[exists[:, slot], slot], axis=0)
    return constant


def _bernstein(t: np.ndarray, count: int) -> np.ndarray:
    """(..., P) weights of `count` = P Bezier control points at t (...) in [0, 1]."""
    k = np.arange(count)
    choose = np.array([math.comb(count - 1, i) for i in k], float)
    return choose * t[..., None] ** k * (1 - t[..., None]) ** (count - 1 - k)


def mean_x_error(
    pred_points, label_points, exists, width_px: float = TUSIMPLE_SIZE[0], samples: int = 32
) -> float:
    """Mean horizontal distance in px between predicted and labelled curves, over the lanes of the label.

    `pred_points`, `label_points`: (..., L, P, 2) Bezier control points in [0, 1] with y equally spaced, so
    that y is linear in t; `exists`: (..., L). Compared at `samples` rows spread evenly over the label's
    vertical extent; where the prediction ends before the label, its end point stands in (t clamped to [0,
    1]). NaN when no lane exists. Raises ValueError for shapes that disagree and NaN coordinates.
    """
    label, there = _lane_points(label_points, exists, "label_points")
    pred, _ = _lane_points(pred_points, exists, "pred_points")
    if pred.shape != label.shape:
        raise ValueError(f"pred_points {pred.shape} and label_points {label.shape} must have the same shape")
    pred, label = pred[there], label[there]  # (lanes, P, 2)
    if len(label) == 0:
        return math.nan
    t_label = np.linspace(0, 1, samples)
    rows = label[:, :1, 1] + t_label * (label[:, -1:, 1] - label[:, :1, 1])  # (lanes, samples)
    extent = pred[:, -1:, 1] - pred[:, :1, 1]
    t_pred = ((rows - pred[:, :1, 1]) / np.where(extent == 0, 1, extent)).clip(0, 1)
    x_label = label[..., 0] @ _bernstein(t_label, label.shape[1]).T
    x_pred = (_bernstein(t_pred, pred.shape[1]) * pred[:, None, :, 0]).sum(-1)
    return float(np.abs(x_pred - x_label).mean() * width_px)
