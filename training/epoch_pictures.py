"""What a training leaves for people beside its checkpoints: pictures, and scalars for TensorBoard.

Shapes: N validation images, L lane slots, P = 6 control points, 2 = (x, y) in [0, 1].
"""

import json
import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from torch import Tensor

from config import ConfigError
from dataset import LaneDataset
from evaluation.error_analysis import best_median_worst, by_image, errors_px, mean_error_px, point_counts, worst_first
from geometry.decode import lane_nms
from geometry.slots import LaneTarget, resolve_ambiguous_assignment
from preprocessing.images import read_image
from visualization.charts import captioned_sheet, overlay, training_curve
from visualization.draw import write_image

PICTURES = ("training_curve.png", "validation.jpg")
TENSORBOARD = "tensorboard"
EACH = 3  # best, median and worst images
TILE_PX = 640


def leave_pictures(folder: Path, dataset: LaneDataset, target: LaneTarget, points: Tensor, logits: Tensor,
                   threshold: float, is_best: bool) -> None:
    """Write training_curve.png from the folder's log.jsonl and, where the model is the best so far, validation.jpg.

    target, points (N, L, P, 2) and logits (N, L) are of the data set's images. What cannot be written costs a
    line on stderr and not the training.
    """
    try:
        lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
        replace_image(folder / PICTURES[0], training_curve([json.loads(line) for line in lines]))
        if is_best:
            replace_image(folder / PICTURES[1], validation_sheet(dataset, target, points, logits, threshold))
    except (OSError, ValueError, cv2.error) as error:
        print(f"warning: {folder}: no pictures of this epoch ({' '.join(str(error).split())}); training goes on",
              file=sys.stderr, flush=True)


def replace_image(path: Path, image: np.ndarray) -> None:
    """Write a picture so that whoever looks at it sees a whole one. Raises OSError."""
    temporary = path.with_stem(path.stem + ".tmp")  # its suffix chooses the format
    try:
        write_image(temporary, image)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def validation_sheet(dataset: LaneDataset, target: LaneTarget, points: Tensor, logits: Tensor, threshold: float
                     ) -> np.ndarray:
    """The best, the median and the worst images of a data set in three rows, with labels and predictions."""
    confidence = logits.sigmoid()
    reported = lane_nms(points, confidence, threshold)
    target = resolve_ambiguous_assignment(points, logits, target)
    point_f1 = by_image(point_counts(points, reported, target))
    error_px = mean_error_px(errors_px(points, target), "image")
    chosen = best_median_worst(worst_first(point_f1, error_px), EACH, EACH, EACH)
    images, captions = [], []
    for name in ("best", "median", "worst"):
        for i in chosen[name]:
            images.append(overlay(read_image(dataset.samples[i].image), points[i], confidence[i], reported[i],
                                  target.points[i], target.exists[i], TILE_PX))
            error = f"{error_px[i]:.1f} px" if math.isfinite(error_px[i]) else "no label"
            captions.append(f"{name}: F1 {100 * point_f1[i]:.0f} %, {error}, {dataset.samples[i].name[-46:]}")
    return captioned_sheet(images, captions, min(EACH, len(images)))


def require_tensorboard() -> type:
    """torch's SummaryWriter. Raises ConfigError where the package that it needs is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(f"train.tensorboard is true, but TensorBoard cannot be imported ({error}); install it with: "
                          "pip install tensorboard, or set train.tensorboard=false") from None
    return SummaryWriter


def write_scalars(writer: Any, record: Mapping[str, Any]) -> None:
    """Hand an epoch's numbers to a SummaryWriter, those that are finite."""
    for name, value in record.items():
        if name != "epoch" and isinstance(value, (int, float)) and math.isfinite(value):
            writer.add_scalar(name, value, record["epoch"])
    writer.flush()
