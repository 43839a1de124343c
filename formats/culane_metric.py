"""CULane's metric on whole data sets: lanes drawn with a width, matched by IoU, and its files of predictions.

Shapes: N images, L slots, K curves of one image, P = 6 control points, M points of a lane, T thresholds, 2 = (x, y).
CurveLanes, LLAMAS and folders of one's own are scored by it as well, each on a canvas of its own.
"""

from __future__ import annotations

import contextlib
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from formats.base import DataError, Label, Sample
from formats.metric import THRESHOLDS, Metric, Size, ThresholdCurve
from formats.parsing import lanes_of_text, text_of_lanes
from metrics.culane import (
    CULANE_LANE_WIDTH,
    CULANE_SIZE,
    CULANE_THRESHOLDS,
    culane_counts,
    culane_counts_from_iou,
    culane_iou,
    culane_score,
)
from runtime.files import write_text
from runtime.processes import check_wanted, cores, in_processes

if TYPE_CHECKING:
    from torch import Tensor

CURVE_POINTS = 32  # a lane of 300 px is then given every 10 px, as in CULane's own labels
AT_50 = CULANE_THRESHOLDS.index(0.5)
IMAGES_PER_PROCESS = 150  # starting one takes longer than scoring fewer
CHUNK = 16  # images that a process scores before it reports


class Canvas(NamedTuple):
    """The image that lanes are drawn on for their IoU, and how wide."""

    size_px: Size
    lane_width_px: int


def scaled_canvas(size_px: Size) -> Canvas:
    """CULane's 30 px in 1640x590; images of other sizes keep their size, with lanes of the same share of the width."""
    return Canvas(size_px, max(1, round(CULANE_LANE_WIDTH * size_px[0] / CULANE_SIZE[0])))


class CULaneMetric(Metric):
    """A prediction is a list of lanes (M, 2) in pixels of the image, from the near end to the far one."""

    name, title = "culane", "CULane"
    draws_lanes = True
    main_score, quoted = "f1@50", ("f1@50",)
    score_names: ClassVar = {"f1@50": "F1@50", "mf1": "mF1"}

    def __init__(self, canvas: Callable[[Size], Canvas] = scaled_canvas):
        self.canvas = canvas

    def to_prediction(self, curves: Tensor, label: Label, size_px: Size, end_tolerance: float) -> list[np.ndarray]:
        """Lanes with fewer than two points are left out."""
        return [lane for lane in sampled_lanes(curves, size_px) if len(lane) >= 2]

    def score(self, predictions: Iterable[Sequence[np.ndarray]], samples: Sequence[Sample], labels: Sequence[Label],
              sizes_px: Sequence[Size], run_times_ms: Sequence[float] | None = None, workers: int | None = None
              ) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
        """precision, recall and f1 at IoU 0.5 and 0.75, and mf1; categories are CULane's test_split lists."""
        counts = self.counts(predictions, labels, sizes_px, workers)
        return scores_from_counts(counts), category_scores(counts, samples)

    def counts(self, predictions: Iterable[Sequence[np.ndarray]], labels: Sequence[Label], sizes_px: Sequence[Size],
               workers: int | None = None) -> np.ndarray:
        """(N, 10, 3) int tp, fp, fn of each image at CULANE_THRESHOLDS."""
        counts = np.zeros((len(labels), len(CULANE_THRESHOLDS), 3), int)
        for canvas, indices, pairs in self._pairs_by_canvas(predictions, labels, sizes_px):
            counts[indices] = counts_of_pairs(pairs, canvas, workers)
        return counts

    def selection_scores(self, scores: Mapping[str, float]) -> tuple[float, float]:
        """F1 at IoU 0.5, then the mean F1 over all IoU thresholds."""
        return scores["f1@50"], scores["mf1"]

    def threshold_scores(self, points: Tensor, confidence: Tensor, labels: Sequence[Label], sizes_px: Sequence[Size],
                         end_tolerance: float, thresholds: np.ndarray = THRESHOLDS) -> ThresholdCurve:
        """Every lane is drawn once; a threshold only chooses among the rows of the IoU matrix."""
        from geometry.decode import by_threshold, lane_nms  # here, as the next one: readers of labels need no PyTorch

        lanes = [sampled_lanes(curves, size_px) for curves, size_px in zip(points, sizes_px, strict=True)]
        has_points = np.array([[len(lane) >= 2 for lane in image] for image in lanes]).reshape(confidence.shape)
        iou: list = [None] * len(labels)
        for canvas, indices, pairs in self._pairs_by_canvas(lanes, labels, sizes_px):
            for i, pair in zip(indices, pairs, strict=True):
                iou[i] = culane_iou(*pair, *canvas)
        kept = lane_nms(points, confidence, by_threshold(thresholds)).numpy() & has_points  # (T, N, L)
        counts = np.zeros((len(thresholds), len(CULANE_THRESHOLDS), 3), int)
        for i, matrix in enumerate(iou):
            by_choice: dict[bytes, np.ndarray] = {}  # most thresholds choose the lanes of the one before
            for t, mask in enumerate(kept):
                key = mask[i].tobytes()
                if key not in by_choice:
                    by_choice[key] = culane_counts_from_iou(matrix[mask[i]])
                counts[t] += by_choice[key]
        figures = [scores_from_counts(part[None]) for part in counts]
        scores = {f"F1@{at}": np.array([figure[f"f1@{at}"] for figure in figures]) for at in (50, 75)}
        return ThresholdCurve(np.asarray(thresholds, float), scores, scores["F1@50"], figures)

    def prediction_files(self, path: Path, samples: Sequence[Sample]) -> list[Path]:
        """Raises DataError where two images would have one file."""
        paths, first = [lines_path(path, sample.name) for sample in samples], {}
        for sample, file in zip(samples, paths, strict=True):
            if first.setdefault(file, sample.name) != sample.name:
                raise DataError(f"{first[file]} and {sample.name} would have one prediction file; rename one of them")
        return paths

    def write_predictions(self, path: Path, samples: Sequence[Sample], labels: Sequence[Label],
                          sizes_px: Sequence[Size], predictions: Iterable[Sequence[np.ndarray]]) -> None:
        """A tree of .lines.txt, a lane a line: x y x y ..."""
        for file, lanes in zip(self.prediction_files(path, samples), predictions, strict=True):
            write_text(file, text_of_lanes(lanes))

    def read_predictions(self, path: Path, samples: Sequence[Sample], labels: Sequence[Label],
                         sizes_px: Sequence[Size]) -> tuple[list[list[np.ndarray]], None]:
        """From such a tree; a sample without a file has no lanes, as for the official evaluator, and is counted."""
        paths = self.prediction_files(path, samples)
        exists = [file.is_file() for file in paths]
        if not any(exists):
            raise DataError(f"{path}: none of the {len(paths)} predictions is here; expected files such as {paths[0]}")
        if missing := exists.count(False):
            print(f"{missing} of {len(paths)} images have no file in {path}: counted as without lanes", file=sys.stderr)
        return [lanes_of_text(file) if has_file else [] for file, has_file in zip(paths, exists, strict=True)], None

    def _pairs_by_canvas(self, predictions: Iterable[Sequence[np.ndarray]], labels: Sequence[Label],
                         sizes_px: Sequence[Size]) -> Iterable[tuple[Canvas, list[int], list]]:
        """(canvas, indices of images, (pred, gt) of each) for every canvas, lanes in its pixels."""
        groups: dict[Canvas, tuple[list[int], list]] = defaultdict(lambda: ([], []))
        for i, (lanes, label, size_px) in enumerate(zip(predictions, labels, sizes_px, strict=True)):
            canvas = self.canvas(size_px)
            scale = np.float32(canvas.size_px) / np.float32(size_px)
            indices, pairs = groups[canvas]
            indices.append(i)
            pairs.append(([lane * scale for lane in lanes], [lane * scale for lane in label.lanes]))
        return [(canvas, *group) for canvas, group in groups.items()]


def counts_of_pairs(pairs: Sequence[tuple], canvas: Canvas, workers: int | None = None) -> np.ndarray:
    """(N, 10, 3) int tp, fp, fn of N images' (pred, gt) in pixels of the canvas.

    `workers` processes share the work; None starts up to one a core, for 150 images or more each. Raises ProcessKilled.
    """
    count = min(cores(), len(pairs) // IMAGES_PER_PROCESS) if workers is None else workers
    if count <= 1:
        return _counts_of_chunk(pairs, canvas)
    chunks = (pairs[start:start + CHUNK] for start in range(0, len(pairs), CHUNK))
    job = partial(_counts_of_chunk, canvas=canvas)
    with contextlib.closing(in_processes(job, chunks, count, "scores lanes")) as parts:
        return np.concatenate(list(parts))


def _counts_of_chunk(pairs: Sequence[tuple], canvas: Canvas) -> np.ndarray:
    counts = np.empty((len(pairs), len(CULANE_THRESHOLDS), 3), int)
    for row, pair in zip(counts, pairs, strict=True):
        check_wanted()
        row[:] = culane_counts(*pair, CULANE_THRESHOLDS, *canvas)
    return counts


def sampled_lanes(curves: Tensor, size_px: Size) -> list[np.ndarray]:
    """K lanes (M, 2) in pixels, from the near end to the far one, of curves (K, P, 2).

    A point that equals the one before it is left out, since it makes the evaluator's spline divide by zero.
    """
    from geometry.bezier import sample_curve

    lanes = (sample_curve(curves, CURVE_POINTS).flip(1).double().numpy() * size_px).round(3)
    return [lane[np.append(True, (np.diff(lane, axis=0) != 0).any(1))] for lane in lanes]


def lines_path(folder: Path, name: str) -> Path:
    """Where CULane's evaluator expects the prediction of an image: its path below the root, as .lines.txt."""
    return folder / PurePosixPath(name).with_suffix(".lines.txt")


def scores_from_counts(counts: np.ndarray) -> dict[str, float]:
    """CULane's figures as fractions from counts (N, 10, 3): precision, recall and f1 at two thresholds, and mf1."""
    score = culane_score(counts)
    return {f"{name}@{at}": score[name][at / 100] for at in (50, 75) for name in ("precision", "recall", "f1")} | {
        "mf1": score["mf1"]}


def category_scores(counts: np.ndarray, samples: Sequence[Sample]) -> dict[str, dict[str, float]]:
    """Figures of each of CULane's lists test_split/test0_normal.txt and so on; empty for a data set without them.

    Of the crossroads, which have no lanes, the benchmark takes the number of false ones.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for i, sample in enumerate(samples):
        for name in sample.lists:
            if name.startswith("test_split/"):
                members[PurePosixPath(name).stem].append(i)
    result = {}
    for name in sorted(members):
        part = counts[members[name]]
        figures = {"fp": int(part[:, AT_50, 1].sum())} if name.endswith("cross") else scores_from_counts(part)
        result[name] = {"images": len(part), **figures}
    return result
