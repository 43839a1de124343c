"""Measures of collapse: diversity, sensitivity, and the error compared with that of the best constant prediction.

Shapes: N images, L lane slots, P control points, 2 = (x, y). The `*_points` arrays are Bezier control points in
[0, 1].
"""

import math

import numpy as np
import torch
from torch import Tensor

REFERENCE_WIDTH_PX = 1280  # errors in px are those in an image of this width
SHIFT = 1 / 20  # of the image width: large beside the error of a lane, too small to move it to another slot
MIN_TOTAL_CONFIDENCE = 0.5  # summed over lanes; below it there is nothing whose sensitivity could be measured

Lanes = tuple[Tensor, Tensor]  # points (N, L, P, 2) and confidence (N, L)


def _checked_points(points, exists, name: str) -> tuple[np.ndarray, np.ndarray]:
    """`points` (..., L, P, 2) as floats and `exists` (..., L) as bools; ValueError for other shapes and NaN."""
    points, exists = np.asarray(points, float), np.asarray(exists) != 0
    if points.ndim < 3 or points.shape[-1] != 2 or points.shape[:-2] != exists.shape:
        raise ValueError(
            f"{name} {points.shape} and existence {exists.shape}: expected (..., L, P, 2) and (..., L)"
        )
    if not np.isfinite(points[exists]).all():
        raise ValueError(f"{name} has NaN or infinity in a lane that exists, expected x and y in [0, 1]")
    return points, exists


def diversity(pred_points, label_points, label_exists) -> float:
    """The spread of predictions over images, relative to that of the labels: 0 = the same lanes for every image (a
    collapsed model), 1 = as varied as the labels.

    `pred_points`, `label_points`: (N, L, P, 2) in [0, 1]; `label_exists`: (N, L), nonzero for a lane. The spread is
    the standard deviation over images of each control point's x, averaged over P, then over slots weighted by their
    number of images. Predictions count wherever the label has a lane, at any confidence, so that both spreads are over
    the same images. NaN when no slot has two images or when the labels do not vary. Raises ValueError for shapes that
    disagree and NaN coordinates.
    """
    label, exists = _checked_points(label_points, label_exists, "label_points")
    pred, _ = _checked_points(pred_points, label_exists, "pred_points")
    if label.ndim != 4 or pred.shape != label.shape:
        raise ValueError(f"pred_points {pred.shape} and label_points {label.shape} must both be (N, L, P, 2)")
    spread = np.zeros(2)  # pred, label
    for slot in np.flatnonzero(exists.sum(0) >= 2):
        mask = exists[:, slot]
        for which, points in enumerate((pred, label)):
            spread[which] += mask.sum() * points[mask, slot, :, 0].std(0).mean()
    return float(spread[0] / spread[1]) if spread[1] > 0 else math.nan


def constant_prediction(label_points, label_exists) -> np.ndarray:
    """The best prediction (L, P, 2) that ignores the image: the median lane of each slot.

    `label_points`: (N, L, P, 2) in [0, 1]; `label_exists`: (N, L). It is the median of each coordinate, which
    minimizes an absolute error such as `mean_x_error`. A slot without any lane is zeros. Raises ValueError for shapes
    that disagree and NaN coordinates.
    """
    points, exists = _checked_points(label_points, label_exists, "label_points")
    constant = np.zeros(points.shape[1:])
    for slot in np.flatnonzero(exists.any(0)):
        constant[slot] = np.median(points[exists[:, slot], slot], axis=0)
    return constant


def _bernstein(t: np.ndarray, count: int) -> np.ndarray:
    """The Bernstein basis (..., P) of `count` = P control points at t (...) in [0, 1]."""
    k = np.arange(count)
    choose = np.array([math.comb(count - 1, i) for i in k], float)
    return choose * t[..., None] ** k * (1 - t[..., None]) ** (count - 1 - k)


def mean_x_error(
    pred_points, label_points, exists, width_px: float = REFERENCE_WIDTH_PX, samples: int = 32
) -> float:
    """Mean horizontal distance between predicted and labelled curves over the lanes of the label, in px.

    `pred_points`, `label_points`: (..., L, P, 2) canonical control points in [0, 1], whose y is linear in t; `exists`:
    (..., L). They are compared at `samples` rows spread evenly over the label's vertical extent; beyond its ends a
    prediction has the x of its end point. The pixels are those of an image `width_px` wide. NaN when no lane exists.
    Raises ValueError for shapes that disagree and NaN coordinates.
    """
    label, mask = _checked_points(label_points, exists, "label_points")
    pred, _ = _checked_points(pred_points, exists, "pred_points")
    if pred.shape != label.shape:
        raise ValueError(f"pred_points {pred.shape} and label_points {label.shape} must have the same shape")
    pred, label = pred[mask], label[mask]  # (lanes, P, 2)
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
    """The images (N, 3, H, W) uint8 shifted to the right by SHIFT; their left column fills the gap."""
    step = _step(images.shape[3])
    return torch.cat((images[..., :1].expand(-1, -1, -1, step), images[..., :-step]), dim=-1)


def sensitivity(before: Lanes, after: Lanes, width: int) -> float:
    """The median shift of lanes under `shift_images` of images `width` px wide, as a share of the images' shift.

    1 for lanes that follow the image, 0 for a model that ignores it. No labels are needed, and a data set of similar
    roads does not lower it. `before` and `after` are the predictions; the median over lanes is weighted by confidence,
    since the lanes of an image that changes its slot assignment all jump by a lane's width. NaN where the total
    confidence is below MIN_TOTAL_CONFIDENCE.
    """
    weight = (before[1] * after[1]).flatten()  # (N * L)
    if weight.sum() < MIN_TOTAL_CONFIDENCE:
        return math.nan
    shares, order = ((after[0] - before[0])[..., 0].mean(-1) / (_step(width) / width)).flatten().sort()
    cumulated = weight[order].cumsum(0)
    return float(shares[(cumulated >= cumulated[-1] / 2).nonzero()[0, 0]])


def _step(width: int) -> int:
    """SHIFT in whole pixels of an image of this width."""
    return max(1, round(width * SHIFT))


def gray_image(height: int, width: int) -> Tensor:
    """One uniformly gray image (1, 3, H, W) uint8."""
    return torch.full((1, 3, height, width), 128, dtype=torch.uint8)
