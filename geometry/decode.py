"""From predicted slots to the lanes of an image: NMS between neighbouring slots, and x at given rows.

Shapes: B batch, L slots, P control points, R rows, T thresholds, N pairs of lanes, S samples, 2 = (x, y) in [0, 1].
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from geometry.bezier import sample_basis, x_at_rows
from geometry.lane_arrays import MIN_GAP, x_at

NMS_BASIS = sample_basis(16).double().numpy()  # (S, P) points of a curve at which it is compared with its neighbour


class DecodeSettings(NamedTuple):
    """How predicted curves become reported lanes."""

    threshold: float = 0.5  # confidence from which a lane is reported
    end_tolerance: float = 0.007  # of the image height: half of TuSimple's 10 px between rows


def lane_nms(points: Tensor, confidence: Tensor, threshold: float | Tensor) -> Tensor:
    """Mask (B, L) of the lanes to report: those at or above the threshold, and of two duplicates the more confident.

    points (B, L, P, 2) and confidence (B, L) are float32; of thresholds (T, 1, 1) it has a mask each, (T, B, L).
    Neighbouring slots are duplicates where their curves, in the rows that both cover, are on average less than MIN_GAP
    of the image width apart (19 px of 1280): both are the line under the camera, which may be counted to either side.
    """
    keep = confidence >= threshold
    mask = keep.numpy(force=True)
    neighbours = mask[..., :-1] & mask[..., 1:]
    images, slots = (neighbours if neighbours.ndim == 2 else neighbours.any(0)).nonzero()  # (N) of the left ones
    if not len(images):
        return keep
    curves = points.to("cpu", torch.float32).numpy(force=True)
    are_close = _are_close(curves[images, slots].astype(float), curves[images, slots + 1].astype(float))
    if not are_close.any():
        return keep
    close = np.zeros((len(points), points.shape[1] - 1), bool)
    close[images[are_close], slots[are_close]] = True
    scores, mask = confidence.numpy(force=True), mask.copy()
    right_wins = scores[:, 1:] > scores[:, :-1]
    for slot in close.any(0).nonzero()[0]:  # in turn, since a lane that is left out hides no other
        duplicate = mask[..., slot] & mask[..., slot + 1] & close[:, slot]
        mask[..., slot] &= ~(duplicate & right_wins[:, slot])
        mask[..., slot + 1] &= ~(duplicate & ~right_wins[:, slot])
    return torch.from_numpy(mask).to(keep.device)


def _are_close(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Whether curves left (N, P, 2) and right (N, P, 2) are less than MIN_GAP apart; not where no row has both."""
    with np.errstate(invalid="ignore", over="ignore"):  # of a model that has diverged
        samples = NMS_BASIS @ right  # (N, S, 2)
        x, on_left = x_at(left[..., 0], left[:, [0, -1], 1], samples[..., 1])
        gap = np.abs(x - samples[..., 0])
        return np.where(on_left, gap, 0).sum(1) < MIN_GAP * on_left.sum(1)


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
