"""Where predictions are right and where not: by slot, by distance and by image, and what their confidence is worth.

Shapes: N images, L slots, P = 6 control points, R = 80 rows spread evenly over the image height, D = 10 bands of
R / D rows, from the top of the image (far) to its bottom (near), 2 = (x, y) in [0, 1]. Distances are in px of a
1280x720 image, whatever the image's own size.

A point is where a curve is on one of the R rows. A reported lane answers for the label that shares most right
points with it, and a label is answered by the reported lane that does, each counted as TuSimple counts points:
right within 20 px / cos(angle of the label). Which slot the other is in plays no part.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from geometry.bezier import x_at_rows
from geometry.decode import rows_from_curves
from geometry.slots import LaneTarget
from metrics.tusimple import TUSIMPLE_SIZE, TUSIMPLE_TOLERANCE_PX

BANDS = 10
ROWS = (torch.arange(8 * BANDS) + 0.5) / (8 * BANDS)  # every 9 px of 720


class PointCounts(NamedTuple):
    """Which points there are and which of them agree, each (N, L, R) bool."""

    predicted: Tensor  # points of reported lanes, by the lane's own slot
    right: Tensor  # those of them that lie on a label
    labelled: Tensor  # points of labelled lanes, by the label's slot
    found: Tensor  # those of them that a reported lane lies on


class Rates(NamedTuple):
    """Fractions of the points, and how many they are of; NaN where they are of none."""

    precision: np.ndarray
    recall: np.ndarray
    predicted: np.ndarray
    labelled: np.ndarray


def point_counts(points: Tensor, reported: Tensor, target: LaneTarget) -> PointCounts:
    """Points of predicted curves (N, L, P, 2), where reported (N, L), against those of the labels."""
    x = rows_from_curves(points, ROWS, tolerance=0.0)
    label_x = rows_from_curves(target.points, ROWS, tolerance=0.0)
    predicted = (x >= 0) & reported.unsqueeze(-1)
    labelled = (label_x >= 0) & target.exists.unsqueeze(-1)
    near = near_px(label_x, labelled) / TUSIMPLE_SIZE[0]  # (N, L)

    agree = (label_x.unsqueeze(2) - x.unsqueeze(1)).abs() < near[..., None, None]  # (N, L label, L predicted, R)
    agree &= labelled.unsqueeze(2) & predicted.unsqueeze(1)
    shared = agree.sum(-1)
    answering, answered = shared.argmax(2), shared.argmax(1)  # (N, L) each
    rows = len(ROWS)
    found = agree.gather(2, answering[:, :, None, None].expand(-1, -1, 1, rows)).squeeze(2)
    right = agree.gather(1, answered[:, None, :, None].expand(-1, 1, -1, rows)).squeeze(1)
    return PointCounts(predicted, right, labelled, found)


def near_px(x: Tensor, there: Tensor) -> Tensor:
    """(...) TuSimple's 20 px / cos(angle) of lanes x (..., R) at ROWS, where there: the slope is least squares."""
    width, height = TUSIMPLE_SIZE
    count = there.sum(-1, keepdim=True).clamp(min=1)
    dy = torch.where(there, ROWS - (there * ROWS).sum(-1, keepdim=True) / count, 0) * height
    dx = torch.where(there, x - (there * x).sum(-1, keepdim=True) / count, 0) * width
    slope = (dx * dy).sum(-1) / (dy * dy).sum(-1).clamp(min=1e-6)
    return TUSIMPLE_TOLERANCE_PX * (1 + slope**2).sqrt()  # 1 / cos(arctan(slope))


def by_slot(counts: PointCounts) -> Rates:
    """Precision by the slot of the reported lane and recall by that of the label, (L)."""
    return _rates(*(part.sum((0, 2)) for part in counts))


def by_band(counts: PointCounts) -> Rates:
    """Precision and recall by distance, (D) from far to near."""
    return _rates(*(part.sum((0, 1)).view(BANDS, -1).sum(1) for part in counts))


def by_image(counts: PointCounts) -> np.ndarray:
    """(N) F1 of each image's points: 2 x agreeing / (predicted + labelled); NaN where there is neither."""
    predicted, right, labelled, found = (part.sum((1, 2)) for part in counts)
    return ((right + found) / (predicted + labelled)).numpy()


def _rates(predicted: Tensor, right: Tensor, labelled: Tensor, found: Tensor) -> Rates:
    # 0 / 0 of tensors is NaN, which is what is meant
    return Rates(*(part.numpy() for part in (right / predicted, found / labelled, predicted, labelled)))


def errors_px(points: Tensor, target: LaneTarget) -> np.ndarray:
    """(N, L, R) horizontal distance of curves (N, L, P, 2) to the label of their slot; NaN where it has no point.

    As in `metrics.mean_x_error`, reported or not, and where the prediction ends before the label, its end stands in.
    """
    label_x = rows_from_curves(target.points, ROWS, tolerance=0.0)
    there = (label_x >= 0) & target.exists.unsqueeze(-1)
    distance = (x_at_rows(points, ROWS)[0] - label_x).abs() * TUSIMPLE_SIZE[0]
    return torch.where(there, distance, torch.nan).numpy()


def mean_error_px(errors: np.ndarray, by: str) -> np.ndarray:
    """Mean of `errors_px` by "slot" (L), "band" (D) or "image" (N): each labelled point counts once; NaN for none."""
    order = {"slot": (1, 0, 2), "band": (2, 0, 1), "image": (0, 1, 2)}[by]
    groups = {"slot": errors.shape[1], "band": BANDS, "image": errors.shape[0]}[by]
    grouped = errors.transpose(order).reshape(groups, -1)
    count = (~np.isnan(grouped)).sum(1)
    return np.where(count > 0, np.nansum(grouped, 1) / np.maximum(count, 1), np.nan)


class Calibration(NamedTuple):
    """Slots sorted by confidence into equal bins, each (bins): how sure the model was and how often it was right."""

    count: np.ndarray
    confidence: np.ndarray  # mean; NaN in an empty bin, as is share
    share: np.ndarray  # of slots that have a lane
    error: float  # expected calibration error: mean over slots of |confidence - share| of their bin


def calibration(confidence: np.ndarray, exists: np.ndarray, bins: int = 10) -> Calibration:
    """Reliability of confidence (any shape) that there is a lane where exists (Guo et al. 2017, arXiv:1706.04599)."""
    confidence, exists = np.ravel(confidence).astype(float), np.ravel(exists)
    chosen = np.minimum((confidence * bins).astype(int), bins - 1)
    count = np.bincount(chosen, minlength=bins)
    sums = (np.bincount(chosen, weights, bins) for weights in (confidence, exists))
    mean, share = (np.where(count > 0, part / np.maximum(count, 1), np.nan) for part in sums)
    return Calibration(count, mean, share, float(np.nansum(count * np.abs(mean - share)) / max(count.sum(), 1)))


def worst_first(point_f1: np.ndarray, error_px: np.ndarray) -> np.ndarray:
    """Images from the worst to the best: by `by_image`, among equals by mean error, without a label (NaN) first.

    Images where nothing was said and nothing is labelled show nothing and are left out, unless all are such.
    """
    order = np.lexsort((-np.nan_to_num(error_px, nan=np.inf), point_f1))
    shown = order[np.isfinite(point_f1[order])]
    return shown if len(shown) else order


def best_median_worst(order: np.ndarray, best: int, median: int, worst: int) -> dict[str, list[int]]:
    """That many images of either end and the middle of an order from worst to best, none of them twice.

    Of few images a third may go to each, and at least one.
    """
    best, median, worst = (max(1, min(wanted, len(order) // 3)) for wanted in (best, median, worst))
    middle = (len(order) - median) // 2
    groups = {"worst": order[:worst], "best": order[::-1][:best], "median": order[middle:middle + median]}
    seen: set[int] = set()
    result = {}
    for name, members in groups.items():
        result[name] = [int(i) for i in members if int(i) not in seen]
        seen.update(result[name])
    return result
