"""Scores of a drive's frames, of the lanes as the network gives them and as they are tracked.

Shapes: N frames, L lane slots, P = 6 control points, R rows.
"""

import time
from collections.abc import Iterator
from pathlib import PurePosixPath

import numpy as np
from torch import Tensor

from evaluation.evaluator import GroundTruth
from formats.base import Label
from formats.tusimple_metric import label_x_at_rows, x_px_at_rows
from geometry.decode import DecodeSettings, lane_nms
from inference.predictor import Detections
from inference.tracker import Tracker
from metrics.collapse import REFERENCE_WIDTH_PX
from metrics.tracking import LaneFrame, jitter_px, tracking_scores
from metrics.tusimple import TUSIMPLE_ROWS, TUSIMPLE_SIZE
from model import LanePrediction

PLAIN, TRACKED, LABELS = "each frame alone", "tracked", "labels"
ROWS = np.array(TUSIMPLE_ROWS) / TUSIMPLE_SIZE[1]  # in [0, 1]


def has_drives(labels: list[Label]) -> bool:
    """Whether these are frames of drives: every label says which line each lane is."""
    return bool(labels) and all(label.lane_ids is not None for label in labels)


def drive_scores(prediction: LanePrediction, gt: GroundTruth, decode: DecodeSettings) -> dict[str, dict[str, float]]:
    """Scores by their name of the lanes of each frame alone, of the tracked ones and, for its jitter, of the labels.

    The cuts between the drives are given: a tracker sees one of them alone. All px are of a 1280 px wide image.
    """
    plain = detections_of(prediction, decode)
    plain_ids = [tuple(range(1, len(frame.keep) + 1)) for frame in plain]  # its slot is all that a lane has
    start = time.process_time()
    tracked, tracked_ids = track_clips(plain, gt, decode.threshold)
    ms = 1000 * (time.process_time() - start) / len(plain)
    labels = [LaneFrame(_label_rows(label, size_px), label.lane_ids)
              for label, size_px in zip(gt.labels, gt.sizes_px, strict=True)]
    table = {PLAIN: _scores(plain, plain_ids, labels, gt, decode),
             TRACKED: _scores(tracked, tracked_ids, labels, gt, decode) | {"ms": ms}}
    return table | {LABELS: {"jitter_px": jitter_px([labels[i].x for i in clip] for clip in clips(gt))}}


def detections_of(prediction: LanePrediction, decode: DecodeSettings) -> list[Detections]:
    """The lanes of each frame, by itself."""
    confidence = prediction.logits.sigmoid()
    keep = lane_nms(prediction.points, confidence, decode.threshold)
    return [Detections(*parts) for parts in zip(prediction.points, confidence, keep, strict=True)]


def track_clips(frames: list[Detections], gt: GroundTruth, threshold: float
                ) -> tuple[list[Detections], list[tuple[int, ...]]]:
    """The tracked lanes of each frame, and their identities by slot; each drive is tracked by itself."""
    tracked, ids = [None] * len(frames), [()] * len(frames)
    for clip in clips(gt):
        tracker = Tracker(threshold)
        for i in clip:
            tracked[i], ids[i] = tracker.update(frames[i])
    return tracked, ids


def clips(gt: GroundTruth) -> list[list[int]]:
    """Positions of the frames of each drive, which has a folder of its own, in the order of their names."""
    folders: dict[str, list[int]] = {}
    names = list(gt.samples.names())
    for i in sorted(range(len(names)), key=names.__getitem__):
        folders.setdefault(str(PurePosixPath(names[i]).parent), []).append(i)
    return list(folders.values())


def _scores(detections: list[Detections], ids: list[tuple[int, ...]], labels: list[LaneFrame], gt: GroundTruth,
            decode: DecodeSettings) -> dict[str, float]:
    """The metric's scores, then those of metrics/tracking.py."""
    curves = [frame.points[frame.keep] for frame in detections]
    predictions = [gt.metric.to_prediction(lanes, label, size_px, decode.end_tolerance)
                   for lanes, label, size_px in zip(curves, gt.labels, gt.sizes_px, strict=True)]
    scores, _ = gt.metric.score(predictions, gt.samples, gt.labels, gt.sizes_px)
    frames = [LaneFrame(_curve_rows(lanes, decode.end_tolerance), list(_kept(numbers, frame.keep)))
              for lanes, numbers, frame in zip(curves, ids, detections, strict=True)]
    tracking = tracking_scores([(frames[i], labels[i]) for i in clip] for clip in clips(gt))
    return {gt.metric.main_score: scores[gt.metric.main_score], "f1": scores.get("f1", scores[gt.metric.main_score]),
            "distance_px": tracking.distance_px, "misses": tracking.misses, "false_lanes": tracking.false_lanes,
            "switches": tracking.switches, "mota": tracking.mota,
            "jitter_px": jitter_px([frames[i].x for i in clip] for clip in clips(gt))}


def _kept(numbers: tuple[int, ...], keep: Tensor) -> Iterator[int]:
    return (number for number, kept in zip(numbers, keep.tolist(), strict=True) if kept)


def _curve_rows(curves: Tensor, end_tolerance: float) -> np.ndarray:
    """(K, R) x in px of the reference width, NaN where a lane has no point, of curves (K, P, 2)."""
    size_px = TUSIMPLE_SIZE
    x = x_px_at_rows(curves, ROWS * size_px[1], size_px, end_tolerance)
    return np.where(x >= 0, x * (REFERENCE_WIDTH_PX / size_px[0]), np.nan)


def _label_rows(label: Label, size_px: tuple[int, int]) -> np.ndarray:
    """(G, R) of a label as `_curve_rows`."""
    x = label_x_at_rows(label._replace(rows=ROWS * size_px[1], x_at_rows=None), size_px)
    return np.where(x >= 0, x * (REFERENCE_WIDTH_PX / size_px[0]), np.nan)


def print_drive_table(table: dict[str, dict[str, float]]) -> None:
    """The table on stdout: a line a score, a column each for frames alone, tracked and labels."""
    print(f"  {'drives':20} " + "".join(f"{name:>18}" for name in table))
    for name in table[TRACKED]:
        cells = (table[column].get(name) for column in table)
        print(f"  {name:20} " + "".join(f"{'' if value is None else _cell(name, value):>18}" for value in cells))


def _cell(name: str, value: float) -> str:
    if name in ("misses", "false_lanes", "switches"):
        return str(value)
    if name.endswith(("_px", "ms")):
        return f"{value:.2f} {name[-2:]}"
    return f"{100 * value:.2f} %"
