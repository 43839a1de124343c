"""The confidence from which lanes are worth reporting: TuSimple's scores as a function of it.

Shapes: N images, L slots, P = 6 control points, G labelled lanes of an image, T thresholds, R rows, 2 = (x, y).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from formats.base import Label
from formats.scores import label_at_rows
from formats.submission import rows_of, x_px_at_rows
from geometry.decode import lane_nms
from metrics import tusimple

THRESHOLDS = np.linspace(0.02, 0.98, 49).round(2)
SLACK = 0.002  # of F1: less is chance, and must not move the threshold


class ThresholdCurve(NamedTuple):
    """TuSimple's accuracy and F1, fractions (T), of what is reported at each threshold (T)."""

    thresholds: np.ndarray
    accuracy: np.ndarray
    f1: np.ndarray


def threshold_curve(points: Tensor, confidence: Tensor, labels: Sequence[Label],
                    sizes_px: Sequence[tuple[int, int]], end_tolerance: float,
                    thresholds: np.ndarray = THRESHOLDS) -> ThresholdCurve:
    """Scores of the curves points (N, L, P, 2) with confidence (N, L) at every threshold.

    Every lane is compared with every label once; a threshold only chooses among the results.
    """
    true = [label_at_rows(label, size_px) for label, size_px in zip(labels, sizes_px, strict=True)]
    count = np.array([len(lanes) for lanes in true])  # (N) labelled lanes
    most = max(1, count.max())
    right = np.zeros((len(true), most, confidence.shape[1]))  # (N, G, L) share of rows
    scorable = np.zeros(confidence.shape, bool)  # with the two points that a lane must have to be counted
    for i, (label, size_px) in enumerate(zip(labels, sizes_px, strict=True)):
        rows = rows_of(label, size_px)
        said = x_px_at_rows(points[i], rows, size_px, end_tolerance)
        scale_x, scale_y = np.array(tusimple.TUSIMPLE_SIZE) / size_px
        said_px, true_px = (np.where(x >= 0, x * scale_x, -2.0) for x in (said, true[i]))
        right[i, :count[i]] = tusimple.tusimple_rows_right(said_px, true_px, rows * scale_y)
        scorable[i] = (said >= 0).sum(1) >= 2

    scored = np.clip(count, 1, 4)  # of more than four labels the worst is left out, and the rest divided by four
    real = np.arange(most) < count[:, None]  # (N, G)
    accuracy, f1 = np.zeros(len(thresholds)), np.zeros(len(thresholds))
    for t, threshold in enumerate(thresholds):
        kept = lane_nms(points, confidence, float(threshold)).numpy() & scorable  # (N, L)
        best = (right * kept[:, None]).max(2)  # (N, G)
        found, predicted = (best >= tusimple.TUSIMPLE_MATCH).sum(1), kept.sum(1)
        total = best.sum(1) - np.where(count > 4, np.where(real, best, 1).min(1), 0)
        missed = np.maximum(count - found - (count > 4), 0)
        fp = np.where(predicted > 0, (predicted - found) / np.maximum(predicted, 1), 0)
        crowded = predicted > count + 2
        accuracy[t] = np.where(crowded, 0, total / scored).mean()
        f1[t] = tusimple.tusimple_f1(np.where(crowded, 0, fp).mean(), np.where(crowded, 1, missed / scored).mean())
    return ThresholdCurve(np.asarray(thresholds, float), accuracy, f1)


def best_threshold(curve: ThresholdCurve) -> tuple[float, float]:
    """The threshold of the highest F1, and that F1; of near equals (SLACK) the one nearest to 0.5.

    F1 counts for no more than accuracy: TuSimple's F1 is 2/3 for a model that reports nothing, since that has
    no false lane, and a model below 2/3 would be told to be silent.
    """
    worth = np.minimum(curve.f1, curve.accuracy)
    ties = np.flatnonzero(worth >= worth.max() - SLACK)
    best = ties[np.abs(curve.thresholds[ties] - 0.5).argmin()]
    return float(curve.thresholds[best]), float(curve.f1[best])
