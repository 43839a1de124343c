"""Scores of predictions for whole data sets, in pixels of each benchmark.

N images, T = 10 IoU thresholds, R rows. Lanes come in pixels of the image that they belong to.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

import numpy as np

from formats.base import Label, Sample
from formats.llamas import LLAMAS_SIZE
from formats.submission import rows_of
from metrics import tusimple
from metrics.culane import CULANE_LANE_WIDTH, CULANE_SIZE, CULANE_THRESHOLDS, culane_counts_many, culane_score

Frame = tuple[tuple[int, int], int]  # size of the image that lanes are drawn on, and their width there

CURVELANES_FRAME = ((224, 224), 5)
AT_50, AT_75 = CULANE_THRESHOLDS.index(0.5), CULANE_THRESHOLDS.index(0.75)


def tusimple_scores(predictions: Iterable[np.ndarray], labels: Sequence[Label], sizes_px: Sequence[tuple[int, int]],
                    run_times_ms: Sequence[float] | None = None) -> dict[str, float]:
    """accuracy, fp, fn, f1 as fractions, of lanes (lanes, R) at `rows_of` the label, with images scaled to 1280x720.

    An image without a labelled lane has accuracy 0 in the official code, whatever one answers; there is none in
    TuSimple's set. `accuracy_with_lanes` is the mean over the others, not a number where there are no others.
    """
    found = []
    run_times_ms = [0.0] * len(labels) if run_times_ms is None else run_times_ms
    for lanes, truth, size_px, ms in zip(predictions, labels, sizes_px, run_times_ms, strict=True):
        scale_x, scale_y = np.array(tusimple.TUSIMPLE_SIZE) / size_px
        pred, gt = (np.where(x >= 0, x * scale_x, -2.0) for x in (lanes, label_at_rows(truth, size_px)))
        found.append(tusimple.tusimple_image(pred, gt, rows_of(truth, size_px) * scale_y, ms))
    if not found:
        raise ValueError("no image to score")
    accuracy, fp, fn = (float(mean) for mean in np.mean(found, axis=0))
    with_lanes = [score.accuracy for score, truth in zip(found, labels, strict=True) if len(truth.lanes)]
    return {"accuracy": accuracy, "accuracy_with_lanes": float(np.mean(with_lanes)) if with_lanes else math.nan,
            "fp": fp, "fn": fn, "f1": tusimple.tusimple_f1(fp, fn)}


def label_at_rows(found: Label, size_px: tuple[int, int]) -> np.ndarray:
    """x (lanes, R) in pixels of a label at `rows_of` it, -2 where a lane has no point."""
    if found.x_at_rows is not None:
        return found.x_at_rows
    rows = rows_of(found, size_px)
    gt = np.full((len(found.lanes), len(rows)), -2.0)
    for i, lane in enumerate(found.lanes):
        if len(lane) >= 2:
            x, y = lane[lane[:, 1].argsort(kind="stable")].T
            gt[i] = np.interp(rows, y, x, left=-2, right=-2)
            gt[i][(gt[i] < 0) | (gt[i] >= size_px[0])] = -2
    return gt


def culane_frame(sample: Sample, size_px: tuple[int, int]) -> Frame:
    """How a data set's benchmark draws lanes: CULane 30 px wide in 1640x590, CurveLanes 5 px in 224x224.

    Images of other sizes keep their size, with lanes of the same share of the width.
    """
    if sample.label.name.endswith(".lines.json"):
        return CURVELANES_FRAME
    width_px = CULANE_LANE_WIDTH if size_px == LLAMAS_SIZE else CULANE_LANE_WIDTH * size_px[0] / CULANE_SIZE[0]
    return size_px, max(1, round(width_px))


def culane_counts(predictions: Iterable[Sequence[np.ndarray]], samples: Sequence[Sample], labels: Sequence[Label],
                  sizes_px: Sequence[tuple[int, int]]) -> np.ndarray:
    """(N, T, 3) int tp, fp, fn of each image at CULANE_THRESHOLDS."""
    groups: dict[Frame, list] = defaultdict(list)
    for i, (lanes, sample, truth, size_px) in enumerate(zip(predictions, samples, labels, sizes_px, strict=True)):
        frame = culane_frame(sample, size_px)
        scale = np.float32(frame[0]) / np.float32(size_px)
        groups[frame].append((i, ([lane * scale for lane in lanes], [lane * scale for lane in truth.lanes])))
    counts = np.zeros((len(samples), len(CULANE_THRESHOLDS), 3), int)
    for (size, lane_width), group in groups.items():
        numbers, pairs = zip(*group, strict=True)
        counts[list(numbers)] = culane_counts_many(pairs, size=size, lane_width=lane_width)
    return counts


def culane_scores(counts: np.ndarray) -> dict[str, float]:
    """CULane's figures as fractions from counts (N, T, 3): precision and recall at two thresholds, f1, mf1."""
    found = culane_score(counts)
    return {f"{name}@{at}": found[name][at / 100] for at in (50, 75) for name in ("precision", "recall", "f1")} | {
        "mf1": found["mf1"]}


def culane_categories(counts: np.ndarray, samples: Sequence[Sample]) -> dict[str, dict[str, float]]:
    """Figures of each of CULane's lists test_split/test0_normal.txt and so on; empty where there is none.

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
        figures = {"fp": int(part[:, AT_50, 1].sum())} if name.endswith("cross") else culane_scores(part)
        result[name] = {"images": len(part), **figures}
    return result
