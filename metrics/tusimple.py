"""The official TuSimple metric in NumPy: github.com/TuSimple/tusimple-benchmark, evaluate/lane.py.

Shapes: R rows, ... any batch. Lanes are x in pixels of the benchmark's images, one a row.
"""

from typing import NamedTuple

import numpy as np

TUSIMPLE_SIZE = (1280, 720)  # width, height
TUSIMPLE_ROWS = tuple(range(160, 711, 10))
TUSIMPLE_TOLERANCE_PX = 20  # distance across the lane within which a point is right
TUSIMPLE_MATCH = 0.85  # share of right rows from which a label is matched
TUSIMPLE_MAX_MS = 200  # run time over which an image scores nothing


class TuSimpleScore(NamedTuple):
    """TuSimple's three fractions: `accuracy`, `fp` (of the predictions), `fn` (of the labels)."""

    accuracy: float
    fp: float
    fn: float


def _lane_table(lanes, rows: int, name: str) -> np.ndarray:
    """(lanes, R) float x of lanes. Raises ValueError, with `name`, for wrong lengths or NaN."""
    for index, lane in enumerate(lanes):
        if len(lane) != rows:
            raise ValueError(
                f"{name} lane {index} has {len(lane)} x values, expected {rows}, one per row of h_samples"
            )
    table = np.array([np.asarray(lane, float) for lane in lanes], float).reshape(len(lanes), rows)
    if not np.isfinite(table).all():
        raise ValueError(f"{name} lanes have NaN or infinity, expected pixels or -2 for no point")
    return table


def tusimple_image(pred, gt, h_samples, run_time_ms: float = 0.0) -> TuSimpleScore:
    """TuSimple's accuracy, fp and fn for one image, each a fraction.

    `pred`, `gt`: sequences of lanes, each an x in pixels per row of `h_samples` (R,), negative = no point. A row is
    right when pred and label lie within 20 px / cos(angle of the label), or when both lack a point; a label is matched
    when its best prediction has 85 % of the rows right. One prediction may match two labels, so that `fp` may be
    negative. Of more than four labels the worst is left out and the sum divided by four, so that six may reach 1.25.
    More than two surplus predictions or over 200 ms score (0, 0, 1).

    Raises ValueError for no rows, a lane whose length differs from `h_samples`, and NaN or infinity.
    """
    rows_right = tusimple_rows_right(pred, gt, h_samples)
    count_gt, count_pred = rows_right.shape
    if run_time_ms > TUSIMPLE_MAX_MS or count_pred > count_gt + 2:
        return TuSimpleScore(0.0, 0.0, 1.0)
    best = rows_right.max(1, initial=0)  # (gt,)
    matched = int((best >= TUSIMPLE_MATCH).sum())
    fn, total = count_gt - matched, best.sum()
    if count_gt > 4:
        fn, total = max(fn - 1, 0), total - best.min()
    scored = max(min(count_gt, 4), 1)
    fp = (count_pred - matched) / count_pred if count_pred else 0.0
    return TuSimpleScore(float(total / scored), fp, fn / scored)


def tusimple_rows_right(pred, gt, h_samples) -> np.ndarray:
    """(gt, pred) share of the rows in which a prediction is right about a label, for arguments of `tusimple_image`."""
    rows = np.asarray(h_samples, float)
    if rows.ndim != 1 or len(rows) == 0:
        raise ValueError(f"h_samples has shape {rows.shape}, expected (R,) with R >= 1")
    return share_of_rows_right(_lane_table(pred, len(rows), "pred"), _lane_table(gt, len(rows), "gt"), rows)


def share_of_rows_right(pred_x: np.ndarray, gt_x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(..., gt, pred) as `tusimple_rows_right`, of finite x (..., pred, R) and (..., gt, R), negative = no point."""
    pred_x, gt_x = (np.where(x >= 0, x, -100.0) for x in (pred_x, gt_x))
    has_point = gt_x >= 0  # (..., gt, R)
    count = np.maximum(has_point.sum(-1, keepdims=True), 1)
    dy = np.where(has_point, rows - (has_point * rows).sum(-1, keepdims=True) / count, 0)
    dx = np.where(has_point, gt_x - (has_point * gt_x).sum(-1, keepdims=True) / count, 0)
    spread = (dy * dy).sum(-1)
    slope = (dx * dy).sum(-1) / np.where(spread > 0, spread, 1)  # 0 for fewer than two points
    near_px = TUSIMPLE_TOLERANCE_PX / np.cos(np.arctan(slope))  # (..., gt)

    right = np.abs(gt_x[..., :, None, :] - pred_x[..., None, :, :]) < near_px[..., None, None]  # (..., gt, pred, R)
    return right.sum(-1) / len(rows)


def tusimple_f1(fp: float, fn: float) -> float:
    """F1 from the mean fp and fn (fractions), as the literature derives it from TuSimple's rates.

    P = 1 - fp, R = (1 - fp) / (1 - fp + fn), F1 = 2PR / (P + R); 0 when nothing is matched (fp >= 1). A negative fp,
    of predictions that match two labels each, is taken for 0: no share exceeds 1.
    """
    precision = 1.0 - max(fp, 0.0)
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
