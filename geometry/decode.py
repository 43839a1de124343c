"""From predicted slots to the lanes of an image: NMS between neighbouring slots, and x at given rows.

Shapes: B batch, L slots, P control points, R rows, T thresholds, 2 = (x, y) in [0, 1].
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from geometry.bezier import sample_curve, x_at_rows

NMS_SAMPLES = 16  # points of a curve at which it is compared with its neighbour

MIN_GAP = 0.015  # of the image width


class DecodeSettings(NamedTuple):
    """How predicted curves become reported lanes."""

    threshold: float = 0.5  # confidence from which a lane is reported
    end_tolerance: float = 0.007  # of the image height: half of TuSimple's 10 px between rows


def lane_nms(points: Tensor, confidence: Tensor, threshold: float | Tensor) -> Tensor:
    """Mask (B, L) of the lanes to report: those at or above the threshold, and of two duplicates the more confident.

    points (B, L, P, 2), confidence (B, L); of thresholds (T, 1, 1) it has a mask each, (T, B, L). Neighbouring slots
    are duplicates where their curves, in the rows that both cover, are on average less than MIN_GAP of the image width
    apart (19 px of 1280): both are the line under the camera, which may be counted to either side.
    """
    keep = confidence >= threshold
    curves = sample_curve(points[:, 1:], NMS_SAMPLES)  # (B, L - 1, S, 2) of the right one of each two neighbours
    x, t = x_at_rows(points[:, :-1], curves[..., 1])
    overlap = (t >= 0) & (t <= 1)  # rows that both cover
    gap = ((x - curves[..., 0]).abs() * overlap).sum(-1) / overlap.sum(-1)  # (B, L - 1); NaN where there are none
    close, right_wins = gap < MIN_GAP, confidence[:, 1:] > confidence[:, :-1]
    if not (close & keep[..., 1:] & keep[..., :-1]).any():
        return keep
    for slot in range(points.shape[1] - 1):  # in turn, since a lane that is left out hides no other
        duplicate = keep[..., slot] & keep[..., slot + 1] & close[:, slot]
        keep[..., slot] &= ~(duplicate & right_wins[:, slot])
        keep[..., slot + 1] &= ~(duplicate & ~right_wins[:, slot])
    return keep


def by_threshold(thresholds: np.ndarray) -> Tensor:
    """Thresholds (T, 1, 1) as `lane_nms` takes many at once, rounded as a single one is beside float32 confidences."""
    return torch.from_numpy(np.asarray(thresholds, np.float32))[:, None, None]


def rows_from_curves(points: Tensor, rows: Tensor, tolerance: float) -> Tensor:
    """x (..., R) in [0, 1] of curves points (..., P, 2) at rows (R) in [0, 1]; -1 where a lane has no point.

    A lane continues straight beyond its ends for `tolerance` of the image height: TuSimple's labels have a point every
    10 of 720 px, so that the position of an end is exact to half of that. Points outside the image are left out.
    """
    return points_in_image(points, *x_at_rows(points, rows), tolerance)


def points_in_image(points: Tensor, x: Tensor, t: Tensor, tolerance: float) -> Tensor:
    """`rows_from_curves` of the x and t (..., R) that x_at_rows has for the curves."""
    height = (points[..., -1, 1, None] - points[..., 0, 1, None]).clamp(min=1e-6)
    inside = (t * height >= -tolerance) & ((t - 1) * height <= tolerance) & (x >= 0) & (x < 1)
    return torch.where(inside, x, torch.full_like(x, -1.0))
