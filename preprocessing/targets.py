"""From a label to the target of a network: lanes clipped at the image border, fitted, and assigned to slots.

Shapes: L lane slots, N points, P control points, H x W the network's input, 2 = (x, y) in [0, 1].
"""

from typing import NamedTuple

import numpy as np
import torch

from formats.base import Label, Sample
from formats.registry import read_label
from geometry.bezier import CONTROL_POINTS, fit_bezier
from geometry.input_grid import InputGrid
from geometry.slots import LaneTarget, assign_slots
from preprocessing.images import preprocess, read_image


class TrainingItem(NamedTuple):
    """One preprocessed image with its lanes in slots, its original size, and the lanes that are in no slot."""

    image: np.ndarray  # (H, W, 3) uint8 RGB
    points: np.ndarray  # (L, P, 2) float32
    exists: np.ndarray  # (L) bool
    size_px: tuple[int, int]  # width, height of the file's image
    num_unassigned: int  # lanes whose side has no free slot
    num_too_short: int  # lanes with fewer than two points inside the image


def inside_image(points: np.ndarray) -> np.ndarray:
    """The part of a polyline (N, 2) that lies in [0, 1], cut where it crosses the border: (M, 2) float32.

    Liang and Barsky, A new concept and method for line clipping, 1984.
    """
    start, step = points[:-1], np.diff(points, axis=0)  # of each segment
    with np.errstate(divide="ignore", invalid="ignore"):
        enters, leaves = np.sort(np.stack((-start / step, (1 - start) / step)), axis=0)  # (segments, 2) each
    level = step == 0  # runs along an axis: inside all the way or not at all
    outside = (level & ((start < 0) | (start > 1))).any(1)
    enters = np.where(level, 0, enters).max(1, initial=0)
    leaves = np.where(level, 1, leaves).min(1, initial=1)
    visible = (enters < leaves) & ~outside
    ends = np.stack((start + enters[:, None] * step, start + leaves[:, None] * step), axis=1)[visible].reshape(-1, 2)
    distinct = np.ones(len(ends), bool)
    distinct[1:] = (np.abs(np.diff(ends, axis=0)) > 1e-6).any(1)  # a segment begins where the one before it ended
    return ends[distinct].clip(0, 1).astype(np.float32)


def lanes_in_slots(label: Label, size_px: tuple[int, int], slots: int) -> tuple[LaneTarget, int, int]:
    """The target of one image, points (L, P, 2) and exists (L); the number of lanes without a slot; of too short ones.

    `size_px` is the (width, height) of the image in whose pixels the label is.
    """
    curves = []
    for lane in label.lanes:
        points = lane[lane[:, 1].argsort(kind="stable")] / np.float32(size_px)
        points = inside_image(points)
        if len(points) >= 2 and points[-1, 1] - points[0, 1] >= 1e-3:
            curves.append(fit_bezier(torch.from_numpy(points)))
    if not curves:
        empty = LaneTarget(torch.zeros(slots, CONTROL_POINTS, 2), torch.zeros(slots, dtype=torch.bool))
        return empty, 0, len(label.lanes)
    target = assign_slots(torch.stack(curves)[None], torch.ones(1, len(curves), dtype=torch.bool), slots)
    target = LaneTarget(target.points[0], target.exists[0])
    return target, len(curves) - int(target.exists.sum()), len(label.lanes) - len(curves)


def read_item(sample: Sample, grid: InputGrid, slots: int) -> TrainingItem:
    """One sample, read from its files: decoded, resized and fitted. Raises DataError, which names the file."""
    image = read_image(sample.image)
    size_px = (image.shape[1], image.shape[0])
    target, num_unassigned, num_too_short = lanes_in_slots(read_label(sample), size_px, slots)
    return TrainingItem(preprocess(image, grid), target.points.numpy(), target.exists.numpy(), size_px,
                        num_unassigned, num_too_short)
