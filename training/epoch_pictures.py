"""Pictures of a training, written after each epoch: its curves, and validation images with lanes and labels."""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from evaluation.error_analysis import (
    best_median_worst,
    by_image,
    errors_px,
    mean_error_px,
    point_counts,
    row_positions,
    worst_first,
)
from evaluation.evaluator import Evaluation
from geometry.decode import lane_nms
from geometry.slots import resolve_ambiguous_assignment
from metrics.collapse import REFERENCE_WIDTH_PX
from preprocessing.images import read_image
from visualization.charts import SERIES_COLORS, Series, line_chart
from visualization.draw import captioned_sheet, draw_overlay, write_image
from visualization.shapes import to_image

PICTURES = ("training_curve.png", "validation.jpg")
IMAGES_PER_GROUP = 3  # best, median and worst
TILE_PX = 640


class Curve(NamedTuple):
    """One line of a panel: its name, its key in log.jsonl, its color, and the factor of its unit."""

    name: str
    key: str
    color: str
    factor: float = 1.0


SCORES = "Validation score, %"
PANELS = {
    "Loss": (Curve("training, all terms", "train_loss", "blue"), Curve("validation", "val_loss", "orange")),
    f"Error, px of {REFERENCE_WIDTH_PX}": (Curve("model", "error_px", "blue"),
                                           Curve("constant prediction", "constant_error_px", "gray")),
    SCORES: (Curve("F1", "f1", "blue", 100), Curve("accuracy", "accuracy", "orange", 100),
             Curve("F1@50", "f1@50", "blue", 100), Curve("mF1", "mf1", "orange", 100)),
    "Diversity (1: as varied as the labels)": (Curve("predictions", "diversity", "green"),),
}


def write_epoch_pictures(folder: Path, evaluation: Evaluation, is_best: bool) -> None:
    """Write training_curve.png from the folder's log.jsonl and, where the model is the best so far, validation.jpg.

    A picture that cannot be written costs a line on stderr and not the training.
    """
    try:
        lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
        write_image(folder / PICTURES[0], training_curve([json.loads(line) for line in lines]))
        if is_best:
            write_image(folder / PICTURES[1], validation_sheet(evaluation))
    except (OSError, ValueError, cv2.error) as error:
        print(f"warning: {folder}: no pictures of this epoch ({' '.join(str(error).split())}); training goes on",
              file=sys.stderr, flush=True)


def training_curve(records: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Four charts over the epochs of a training, from the records of log.jsonl; null values leave gaps.

    Keys that no record has are left out, such as those of another data set's metric. Of several sets the main score of
    each and their mean are drawn. Raises ValueError where there is no record.
    """
    if not records:
        raise ValueError("no epoch to draw, expected the records of log.jsonl")
    panels = PANELS | ({SCORES: _curves_of_sets(records[-1]["sets"])} if "sets" in records[-1] else {})
    records = list(map(flat, records))
    panels = [to_image(line_chart(title, _series(records, curves), "epoch")) for title, curves in panels.items()]
    return np.vstack([np.hstack(panels[:2]), np.hstack(panels[2:])])


def flat(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record of log.jsonl with the figures of its sets beside the others, as SET/NAME."""
    result = {key: value for key, value in record.items() if key != "sets"}
    return result | {f"{name}/{key}": value for name, figures in record.get("sets", {}).items()
                     for key, value in figures.items()}


def _curves_of_sets(sets: Mapping[str, Mapping[str, Any]]) -> list[Curve]:
    """The main score of each set, by its metric, and the mean of their selection scores."""
    curves = []
    for number, (name, figures) in enumerate(sets.items()):
        key, title = next((curve.key, curve.name) for curve in PANELS[SCORES] if curve.key in figures)
        color = SERIES_COLORS[number % (len(SERIES_COLORS) - 1)]
        curves.append(Curve(f"{name} {title}", f"{name}/{key}", color, 100))
    return [*curves, Curve("mean", "mean_score", "gray", 100)]


def _series(records: Sequence[Mapping[str, Any]], curves: Sequence[Curve]) -> list[Series]:
    """The curves whose keys the records have, with their last values in their names."""
    epochs = [record["epoch"] for record in records]
    series = []
    for curve in curves:
        if any(curve.key in record for record in records):
            values = np.array([record.get(curve.key) for record in records], float) * curve.factor
            finite = values[np.isfinite(values)]
            last = f" {finite[-1]:.4g}" if len(finite) else ": no value"
            series.append(Series(curve.name + last, epochs, values.tolist(), curve.color))
    return series


def validation_sheet(evaluation: Evaluation) -> np.ndarray:
    """The best, the median and the worst images in three rows, with labels and predictions."""
    gt, (points, logits), decode = evaluation.gt, evaluation.prediction, evaluation.decode
    confidence = logits.sigmoid()
    reported = lane_nms(points, confidence, decode.threshold)
    target = resolve_ambiguous_assignment(points, logits, gt.target)
    positions = row_positions(points, target)
    point_f1 = by_image(point_counts(positions, reported))
    error_px = mean_error_px(errors_px(positions), "image")
    groups = best_median_worst(worst_first(point_f1, error_px), *[IMAGES_PER_GROUP] * 3)
    images, captions = [], []
    for name in ("best", "median", "worst"):
        for i in groups[name]:
            sample = gt.samples[i]
            images.append(draw_overlay(read_image(sample.image), points[i], confidence[i], reported[i],
                                       target.points[i], target.exists[i], TILE_PX))
            error = f"{error_px[i]:.1f} px" if math.isfinite(error_px[i]) else "no label"
            captions.append(f"{name}: F1 {100 * point_f1[i]:.0f} %, {error}, {sample.name[-46:]}")
    return captioned_sheet(images, captions, min(IMAGES_PER_GROUP, len(images)))
