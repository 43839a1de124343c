"""From slots back to the lanes of an image: which to report, and where they are on given rows.

Shapes: B batch, L slots, P = 6 control points, R rows, 2 = (x, y).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from geometry.bezier import sample_curve, x_at_rows


class DecodeSettings(NamedTuple):
    """How predicted curves become reported lanes: by confidence, and with what tolerance at their ends."""

    threshold: float = 0.5  # of the confidence from which a lane is reported
    end_tolerance: float = 0.007  # of the image height: half of TuSimple's 10 px between rows


def lane_nms(points: Tensor, confidence: Tensor, threshold: float, min_gap: float = 0.015) -> Tensor:
    """Which predicted lanes (B, L) to report: confident ones, the better of two that lie on each other.

    Neighbouring slots whose curves, in the rows that both reach, are on average less than min_gap of the image
    width apart (19 px of 1280) answer for the same line, as happens when the camera stands on it.
    """
    keep = confidence >= threshold
    curves = sample_curve(points, 16)
    for slot in range(points.shape[1] - 1):
        x, t = x_at_rows(points[:, slot], curves[:, slot + 1, :, 1])
        shared = (t >= 0) & (t <= 1)  # rows that both reach
        gap = ((x - curves[:, slot + 1, :, 0]).abs() * shared).sum(-1) / shared.sum(-1)  # not a number: no such row
        double = keep[:, slot] & keep[:, slot + 1] & (gap < min_gap)
        right_wins = confidence[:, slot + 1] > confidence[:, slot]
        keep[:, slot] &= ~(double & right_wins)
        keep[:, slot + 1] &= ~(double & ~right_wins)
    return keep


def rows_from_curves(points: Tensor, rows: Tensor, tolerance: float = 5 / 720) -> Tensor:
    """x (..., R) in [0, 1] of curves points (..., P, 2) at rows (R) in [0, 1]; -1 where a lane has no point.

    A lane reaches `tolerance` of the image height straight on beyond its ends: labels are drawn at rows 10 px of 720
    apart, so an end is known to half of that. A point left or right of the image is no point.
    """
    x, t = x_at_rows(points, rows)
    height = (points[..., -1, 1, None] - points[..., 0, 1, None]).clamp(min=1e-6)
    inside = (t * height >= -tolerance) & ((t - 1) * height <= tolerance) & (x >= 0) & (x < 1)
    return torch.where(inside, x, torch.full_like(x, -1.0))
