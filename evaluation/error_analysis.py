"""Precision, recall and error by slot, by distance and by image, and the calibration of confidences.

Shapes: N images, L slots, P control points, R = 80 rows spread evenly over the image height, D = 10 bands of
R / D rows, from the top of the image (far) to its bottom (near), 2 = (x, y) in [0, 1]. Distances are in px of an
image of TUSIMPLE_SIZE, whatever the image's own size.

A point is where a curve crosses one of the R rows. Points match as TuSimple's do: within 20 px / cos(angle of the
label). A reported lane is matched with the label that shares most points with it, whatever slot that is in, and a
label with the reported lane that does.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from geometry.bezier import x_at_rows
from geometry.decode import points_in_image, rows_from_curves
from geometry.slots import LaneTarget
from metrics.collapse import REFERENCE_WIDTH_PX
from metrics.tusimple import TUSIMPLE_SIZE, TUSIMPLE_TOLERANCE_PX

BANDS = 10
BLOCK = 1000  # images whose points are compared together: 40 MB
ROWS = (torch.arange(8 * BANDS) + 0.5) / (8 * BANDS)  # every 9 px of 720


class RowPositions(NamedTuple):
    """x in [0, 1] of predicted curves and of labels at ROWS, each (N, L, R)."""

    x: Tensor  # of predicted curves, reported or not; -1 where they have no point
    held: Tensor  # of the same, beyond their ends the x of the end
    label_x: Tensor  # -1 where a label has no point
    labelled: Tensor  # where it has one, and is a lane


class PointCounts(NamedTuple):
    """Points of predictions and labels, and which of them match, each (N, L, R) bool."""

    predicted: Tensor  # points of reported lanes, by the lane's own slot
    correct: Tensor  # those of them that match a label
    labelled: Tensor  # points of labelled lanes, by the label's slot
    detected: Tensor  # those of them that a reported lane matches


class Rates(NamedTuple):
    """Fractions of the points, NaN where there are none, and the numbers of points that they are of."""

    precision: np.ndarray
    recall: np.ndarray
    predicted: np.ndarray
    labelled: np.ndarray


def row_positions(points: Tensor, target: LaneTarget) -> RowPositions:
    """Where predicted curves (N, L, P, 2) and the labels are at ROWS."""
    x, t = x_at_rows(points, ROWS)
    held = torch.where(t < 0, points[..., 0, 0, None], torch.where(t > 1, points[..., -1, 0, None], x))
    label_x = rows_from_curves(target.points, ROWS, tolerance=0.0)
    return RowPositions(points_in_image(points, x, t, tolerance=0.0), held, label_x,
                        (label_x >= 0) & target.exists.unsqueeze(-1))


def point_counts(positions: RowPositions, reported: Tensor) -> PointCounts:
    """Points of predicted curves, where reported (N, L), against those of the labels; a few images at a time."""
    parts = [_point_counts(RowPositions(*group), part)
             for *group, part in zip(*(tensor.split(BLOCK) for tensor in (*positions, reported)), strict=True)]
    return PointCounts(*map(torch.cat, zip(*parts, strict=True)))


def _point_counts(positions: RowPositions, reported: Tensor) -> PointCounts:
    x, _, label_x, labelled = positions
    predicted = (x >= 0) & reported.unsqueeze(-1)
    tolerance = tolerance_px(label_x, labelled) / TUSIMPLE_SIZE[0]  # (N, L)

    matches = (label_x.unsqueeze(2) - x.unsqueeze(1)).abs() < tolerance[..., None, None]  # (N, L label, L predicted, R)
    matches &= labelled.unsqueeze(2) & predicted.unsqueeze(1)
    num_matches = matches.sum(-1)
    best_prediction, best_label = num_matches.argmax(2), num_matches.argmax(1)  # (N, L) each
    rows = len(ROWS)
    detected = matches.gather(2, best_prediction[:, :, None, None].expand(-1, -1, 1, rows)).squeeze(2)
    correct = matches.gather(1, best_label[:, None, :, None].expand(-1, 1, -1, rows)).squeeze(1)
    return PointCounts(predicted, correct, labelled, detected)


def tolerance_px(x: Tensor, valid: Tensor) -> Tensor:
    """(...) TuSimple's 20 px / cos(angle) of lanes x (..., R) at ROWS where valid: the slope is least squares."""
    width, height = TUSIMPLE_SIZE
    count = valid.sum(-1, keepdim=True).clamp(min=1)
    dy = torch.where(valid, ROWS - (valid * ROWS).sum(-1, keepdim=True) / count, 0) * height
    dx = torch.where(valid, x - (valid * x).sum(-1, keepdim=True) / count, 0) * width
    slope = (dx * dy).sum(-1) / (dy * dy).sum(-1).clamp(min=1e-6)
    return TUSIMPLE_TOLERANCE_PX * (1 + slope**2).sqrt()  # 1 / cos(arctan(slope))


def by_slot(counts: PointCounts) -> Rates:
    """Precision by the slot of the reported lane and recall by that of the label, (L)."""
    return _rates(*(part.sum((0, 2)) for part in counts))


def by_band(counts: PointCounts) -> Rates:
    """Precision and recall by distance, (D) from far to near."""
    return _rates(*(part.sum((0, 1)).view(BANDS, -1).sum(1) for part in counts))


def by_image(counts: PointCounts) -> np.ndarray:
    """(N) F1 of each image's points: (correct + detected) / (predicted + labelled); NaN where there is neither."""
    predicted, correct, labelled, detected = (part.sum((1, 2)) for part in counts)
    return ((correct + detected) / (predicted + labelled)).numpy()


def _rates(predicted: Tensor, correct: Tensor, labelled: Tensor, detected: Tensor) -> Rates:
    # 0 / 0 of tensors is NaN, which is what is meant
    return Rates(*(part.numpy() for part in (correct / predicted, detected / labelled, predicted, labelled)))


def errors_px(positions: RowPositions) -> np.ndarray:
    """(N, L, R) horizontal distance of curves to the label of their slot; NaN where it has no point.

    As in `metrics.collapse.mean_x_error`: reported or not, and where the prediction ends before the label, its end
    counts.
    """
    distance = (positions.held - positions.label_x).abs() * REFERENCE_WIDTH_PX
    return torch.where(positions.labelled, distance, torch.nan).numpy()


def mean_error_px(errors: np.ndarray, by: str) -> np.ndarray:
    """Mean of `errors_px` by "slot" (L), "band" (D) or "image" (N): each labelled point counts once; NaN for none."""
    order = {"slot": (1, 0, 2), "band": (2, 0, 1), "image": (0, 1, 2)}[by]
    groups = {"slot": errors.shape[1], "band": BANDS, "image": errors.shape[0]}[by]
    grouped = errors.transpose(order).reshape(groups, -1)
    count = (~np.isnan(grouped)).sum(1)
    return np.where(count > 0, np.nansum(grouped, 1) / np.maximum(count, 1), np.nan)


class Calibration(NamedTuple):
    """Slots in equal bins of confidence, arrays (bins)."""

    count: np.ndarray
    confidence: np.ndarray  # mean; NaN in an empty bin, as is frequency
    frequency: np.ndarray  # share of slots that have a lane
    error: float  # expected calibration error: mean over slots of |confidence - frequency| of their bin


def calibration(confidence: np.ndarray, exists: np.ndarray, bins: int = 10) -> Calibration:
    """Reliability of confidence (any shape) that a lane exists (Guo et al. 2017, arXiv:1706.04599)."""
    confidence, exists = np.ravel(confidence).astype(float), np.ravel(exists)
    indices = np.minimum((confidence * bins).astype(int), bins - 1)
    count = np.bincount(indices, minlength=bins)
    sums = (np.bincount(indices, weights, bins) for weights in (confidence, exists))
    mean, frequency = (np.where(count > 0, part / np.maximum(count, 1), np.nan) for part in sums)
    error = float(np.nansum(count * np.abs(mean - frequency)) / max(count.sum(), 1))
    return Calibration(count, mean, frequency, error)


def worst_first(point_f1: np.ndarray, error_px: np.ndarray) -> np.ndarray:
    """Images from the worst to the best: by `by_image`, among equals by mean error, without a label (NaN) first.

    Images without a reported or labelled lane are left out, unless all are such.
    """
    order = np.lexsort((-np.nan_to_num(error_px, nan=np.inf), point_f1))
    with_lanes = order[np.isfinite(point_f1[order])]
    return with_lanes if len(with_lanes) else order


def best_median_worst(order: np.ndarray, best: int, median: int, worst: int) -> dict[str, list[int]]:
    """That many images of either end and the middle of an order from worst to best, none of them twice.

    Of few images a third may go to each, and at least one.
    """
    best, median, worst = (max(1, min(count, len(order) // 3)) for count in (best, median, worst))
    middle = (len(order) - median) // 2
    groups = {"worst": order[:worst], "best": order[::-1][:best], "median": order[middle:middle + median]}
    taken: set[int] = set()
    result = {}
    for name, members in groups.items():
        result[name] = [int(i) for i in members if int(i) not in taken]
        taken.update(result[name])
    return result
