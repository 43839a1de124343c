"""What shows a collapsed model: diversity, sensitivity, and the error beside the best constant's.

Shapes: N images, L lane slots, P control points, 2 = (x, y). The `*_points` arrays hold Bezier control points
in [0, 1].
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

REFERENCE_WIDTH_PX = 1280  # errors in px are those of an image that wide
SHIFT = 1 / 20  # of the image width: far enough to show, too little to push a lane into another slot
MIN_TOTAL_CONFIDENCE = 0.5  # confidence, summed over lanes, from which lanes that follow the image are a sign

Lanes = tuple[Tensor, Tensor]  # points (N, L, P, 2) and confidence (N, L)


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
    over slots weighted by their images. Predictions are taken at the labels' samples whether or not the
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
    pred_points, label_points, exists, width_px: float = REFERENCE_WIDTH_PX, samples: int = 32
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


def shift_images(images: Tensor) -> Tensor:
    """The images (N, 3, H, W) uint8, moved to the right by SHIFT; the left edge is drawn out."""
    step = _step(images.shape[3])
    return F.pad(images[..., :-step].float(), (step, 0, 0, 0), mode="replicate").to(images.dtype)


def sensitivity(before: Lanes, after: Lanes, width: int) -> float:
    """How far lanes follow when images of this width are `shift_images`, as a share of the move.

    A blind model leaves them where they are. It needs no labels and no second image, and roads that look alike
    do not lower it. The median over lanes, weighted by confidence: where the move makes an image count its lanes from
    another one, each of them jumps by a lane's width. Not a number where no lane is predicted with any confidence.
    """
    weight = (before[1] * after[1]).flatten()  # (N * L)
    if weight.sum() < MIN_TOTAL_CONFIDENCE:
        return math.nan
    follows, order = ((after[0] - before[0])[..., 0].mean(-1) / (_step(width) / width)).flatten().sort()
    reached = weight[order].cumsum(0)
    return float(follows[(reached >= reached[-1] / 2).nonzero()[0, 0]])


def _step(width: int) -> int:
    return max(1, round(width * SHIFT))


def gray_image(height: int, width: int) -> Tensor:
    """An empty image (1, 3, H, W) uint8 with nothing to see."""
    return torch.full((1, 3, height, width), 128, dtype=torch.uint8)
