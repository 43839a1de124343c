"""TuSimple's metric on whole data sets: lanes as x at rows, accuracy, FP and FN, and its submission file.

Shapes: N images, L slots, K curves of one image, P = 6 control points, R rows, G labelled lanes, T thresholds.
"""

from __future__ import annotations

import json
import math
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from formats.base import DataError, Label, Sample
from formats.metric import THRESHOLDS, Metric, Size, ThresholdCurve
from formats.parsing import json_object, list_of, numbers, text_lines
from metrics import tusimple
from runtime.files import write_text

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 128  # images that are compared together: 2 MB
ROUNDING_PX = 0.01  # by which a row may lie beyond the end of a lane that was written with an end there


class TuSimpleMetric(Metric):
    """A prediction is x (lanes, R) in pixels at the rows of the label, -2 where a lane has no point.

    Images of other sizes are scaled to 1280x720, so that the tolerance of 20 px means the same on all.
    """

    name, title = "tusimple", "TuSimple"
    predictions_suffix = ".json"
    main_score, quoted = "f1", ("accuracy", "f1")
    score_names: ClassVar = {"accuracy": "accuracy", "f1": "F1"}

    def to_prediction(self, curves: Tensor, label: Label, size_px: Size, end_tolerance: float) -> np.ndarray:
        """A lane with fewer than two points is left out: the metric would count it as a false one."""
        x = x_px_at_rows(curves, label_rows(label, size_px), size_px, end_tolerance)
        return x[(x >= 0).sum(1) >= 2]

    def score(self, predictions: Iterable[np.ndarray], samples: Sequence[Sample], labels: Sequence[Label],
              sizes_px: Sequence[Size], run_times_ms: Sequence[float] | None = None, workers: int | None = None
              ) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
        """accuracy, accuracy_with_lanes, fp, fn, f1; TuSimple has no categories.

        An image without a labelled lane has accuracy 0 in the official code, whatever is predicted; TuSimple has no
        such image. `accuracy_with_lanes` is the mean over the others, NaN without any.
        """
        scores = []
        run_times_ms = [0.0] * len(labels) if run_times_ms is None else run_times_ms
        for lanes, label, size_px, ms in zip(predictions, labels, sizes_px, run_times_ms, strict=True):
            gt, rows = label_x_at_rows(label, size_px), label_rows(label, size_px)
            scores.append(tusimple.tusimple_image(*_in_benchmark_px(lanes, gt, rows, size_px), ms))
        if not scores:
            raise ValueError("no image to score")
        return _mean_figures(np.array(scores), np.array([len(label.lanes) > 0 for label in labels])), {}

    def selection_scores(self, scores: Mapping[str, float]) -> tuple[float, float]:
        """F1 or the accuracy over images that have lanes, whichever is lower, then the mean error.

        The community's F1 gives 67 % to a model that reports nothing (no false positive); accuracy does not. Of an
        image without lanes accuracy says nothing.
        """
        error_px = scores["error_px"]
        return (float(_objective(scores["f1"], scores["accuracy_with_lanes"])),
                -error_px if math.isfinite(error_px) else -math.inf)

    def threshold_scores(self, points: Tensor, confidence: Tensor, labels: Sequence[Label], sizes_px: Sequence[Size],
                         end_tolerance: float, thresholds: np.ndarray = THRESHOLDS) -> ThresholdCurve:
        """Every lane is compared with every label once; a threshold only chooses among the results.

        The objective is that of `selection_scores`.
        """
        from geometry.decode import by_threshold, lane_nms  # here, as the next ones: readers of labels need no PyTorch

        gt_px = [label_x_at_rows(*pair) for pair in zip(labels, sizes_px, strict=True)]
        count = np.array(list(map(len, gt_px)))  # (N)
        rows_right, has_points = _compare_all(points, labels, gt_px, sizes_px, end_tolerance)
        kept = lane_nms(points, confidence, by_threshold(thresholds)).numpy() & has_points  # (T, N, L)
        figures = _figures(rows_right, count, kept)
        accuracy, f1 = (np.array([row[name] for row in figures]) for name in ("accuracy_with_lanes", "f1"))
        return ThresholdCurve(np.asarray(thresholds, float), {"F1": f1, "accuracy of images with lanes": accuracy},
                              _objective(f1, accuracy), figures)

    def prediction_files(self, path: Path, samples: Sequence[Sample]) -> list[Path]:
        return [path]

    def write_predictions(self, path: Path, samples: Sequence[Sample], labels: Sequence[Label],
                          sizes_px: Sequence[Size], predictions: Iterable[np.ndarray]) -> None:
        """One `submission_line` a sample."""
        lines = (submission_line(sample.name, label_rows(label, size_px), lanes)
                 for sample, label, size_px, lanes in zip(samples, labels, sizes_px, predictions, strict=True))
        write_text(path, "".join(f"{line}\n" for line in lines))

    def read_predictions(self, path: Path, samples: Sequence[Sample], labels: Sequence[Label],
                         sizes_px: Sequence[Size]) -> tuple[list[np.ndarray], list[float]]:
        """From a file of JSON lines; samples that it does not name are an error, names that are no sample are not."""
        index, first_other = {sample.name: i for i, sample in enumerate(samples)}, ""
        lanes: list = [None] * len(samples)
        run_times_ms = [0.0] * len(samples)
        for line, _, text in text_lines(path):
            where = f"{path}:{line}"
            record = json_object(text, where, "raw_file, lanes and run_time")
            i = index.get(_image_name(record.get("raw_file")))
            if i is None:  # predictions of a whole test set may be scored on a part of it
                first_other = first_other or str(record.get("raw_file"))[:200]
                continue
            if lanes[i] is not None:
                raise DataError(f"{where}: a second prediction for {samples[i].name}")
            lanes[i] = _lanes_of_record(record, where, len(label_rows(labels[i], sizes_px[i])))
            run_times_ms[i] = float(numbers([record.get("run_time", 0)], f"{where}: run_time")[0])
        missing = [sample.name for sample, prediction in zip(samples, lanes, strict=True) if prediction is None]
        if missing:
            raise DataError(f"{path}: no prediction for {len(missing)} of {len(samples)} images, such as {missing[0]}"
                            f"{f', but one for {first_other!r}' if first_other else ''}; "
                            "choose the images with data.root and data.split")
        return lanes, run_times_ms


def label_rows(label: Label, size_px: Size) -> np.ndarray:
    """(R) rows at which an image is scored: its label's own, or TuSimple's scaled to its height."""
    if label.rows is not None:
        return label.rows
    return np.array(tusimple.TUSIMPLE_ROWS) * size_px[1] / tusimple.TUSIMPLE_SIZE[1]


def label_x_at_rows(label: Label, size_px: Size) -> np.ndarray:
    """x (lanes, R) in pixels of a label at its `label_rows`, -2 where a lane has no point."""
    if label.x_at_rows is not None:
        return label.x_at_rows
    rows = label_rows(label, size_px)
    gt = np.full((len(label.lanes), len(rows)), -2.0)
    for i, lane in enumerate(label.lanes):
        if len(lane) >= 2:
            x, y = lane[lane[:, 1].argsort(kind="stable")].T
            reached = np.clip(rows, y[0], y[-1])
            gt[i] = np.interp(reached, y, x)
            gt[i][(gt[i] < 0) | (gt[i] >= size_px[0]) | (np.abs(reached - rows) > ROUNDING_PX)] = -2
    return gt


def x_px_at_rows(curves: Tensor, rows: np.ndarray, size_px: Size, end_tolerance: float) -> np.ndarray:
    """(..., R) x in pixels, -2 where a lane has no point, of curves (..., P, 2), none left out."""
    import torch

    from geometry.decode import rows_from_curves

    x = rows_from_curves(curves, torch.from_numpy(rows / size_px[1]).float(), end_tolerance).double().numpy()
    return np.where(x >= 0, (x * size_px[0]).round(2), -2.0)


def label_line(name: str, rows: np.ndarray, lanes: np.ndarray) -> str:
    """One JSON object of a label file: lanes, h_samples, raw_file."""
    return json.dumps({"lanes": [_plain(lane) for lane in lanes], "h_samples": _plain(rows), "raw_file": name})


def submission_line(name: str, rows: np.ndarray, lanes: np.ndarray) -> str:
    """One JSON object: raw_file, lanes, h_samples, run_time.

    run_time is 0, that is not measured here: the evaluator only asks whether it is over 200 ms.
    """
    return json.dumps({"raw_file": name, "lanes": [_plain(lane) for lane in lanes], "h_samples": _plain(rows),
                       "run_time": 0})


def _image_name(raw_file: object) -> str:
    """The name of an image as `image_name` spells those of samples; whatever else it is, it is no sample's."""
    return posixpath.normpath(str(raw_file).replace("\\", "/").lstrip("/"))


def _plain(values: np.ndarray) -> list[int | float]:
    return [int(v) if v == int(v) else v for v in values.tolist()]


def _lanes_of_record(record: dict, where: str, num_rows: int) -> np.ndarray:
    """(lanes, R) of a line of a submission."""
    lanes = [numbers(lane, f"{where}: lane {n}")
             for n, lane in enumerate(list_of(record.get("lanes"), f"{where}: 'lanes'"), start=1)]
    for n, lane in enumerate(lanes, start=1):
        if len(lane) != num_rows:
            raise DataError(f"{where}: lane {n} has {len(lane)} points; the label has {num_rows} rows")
    return np.array(lanes).reshape(-1, num_rows)


def _compare_all(points: Tensor, labels: Sequence[Label], gt_px: Sequence[np.ndarray], sizes_px: Sequence[Size],
                 end_tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """(N, G, L) share of rows in which each slot's lane is right about each label, and (N, L) which lanes have the two
    points that a lane needs to be counted. gt_px has the `label_x_at_rows` of each image.
    """
    max_labels = max(1, *map(len, gt_px))
    rows_right = np.zeros((len(labels), max_labels, points.shape[1]))
    has_points = np.zeros(points.shape[:2], bool)
    for rows, size_px, images in _blocks(labels, sizes_px):
        gt, exists = np.full((len(images), max_labels, len(rows)), -2.0), np.zeros((len(images), max_labels), bool)
        for i, image in enumerate(images):
            gt[i, :len(gt_px[image])], exists[i, :len(gt_px[image])] = gt_px[image], True
        pred = x_px_at_rows(points[images], rows, size_px, end_tolerance)  # (images, L, R)
        right = tusimple.share_of_rows_right(*_in_benchmark_px(pred, gt, rows, size_px))
        rows_right[images] = np.where(exists[..., None], right, 0)
        has_points[images] = (pred >= 0).sum(-1) >= 2
    return rows_right, has_points


def _blocks(labels: Sequence[Label], sizes_px: Sequence[Size]) -> Iterator[tuple[np.ndarray, Size, list[int]]]:
    """The rows, the size and the indices of images that are equal in both, at most BLOCK together."""
    groups: dict[tuple[bytes, Size], tuple[np.ndarray, list[int]]] = {}
    for i, (label, size_px) in enumerate(zip(labels, sizes_px, strict=True)):
        rows = label_rows(label, size_px)
        groups.setdefault((rows.tobytes(), size_px), (rows, []))[1].append(i)
    for (_, size_px), (rows, images) in groups.items():
        for start in range(0, len(images), BLOCK):
            yield rows, size_px, images[start:start + BLOCK]


def _in_benchmark_px(pred: np.ndarray, gt: np.ndarray, rows: np.ndarray, size_px: Size
                     ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x of predictions and labels, and rows, of images of a size, in pixels of 1280x720."""
    scale_x, scale_y = np.array(tusimple.TUSIMPLE_SIZE) / size_px
    pred_x, gt_x = (np.where(x >= 0, x * scale_x, -2.0) for x in (pred, gt))
    return pred_x, gt_x, rows * scale_y


def _figures(rows_right: np.ndarray, count: np.ndarray, kept: np.ndarray) -> list[dict[str, float]]:
    """The figures of `TuSimpleMetric.score`, to the bit, of N images with count (N) labels, for each of kept (T, N, L).

    rows_right is that of `_compare_all`. As in metrics.tusimple.tusimple_image, of more than four labels the worst is
    left out and the rest divided by four.
    """
    exists = np.arange(rows_right.shape[1]) < count[:, None]  # (N, G)
    best = np.stack([(rows_right * lanes[:, None]).max(2) for lanes in kept])  # (T, N, G)
    matched, predicted = (best >= tusimple.TUSIMPLE_MATCH).sum(2), kept.sum(2)  # (T, N)
    total = np.zeros(matched.shape)
    for labels in set(count.tolist()):  # a sum over empty places might be rounded otherwise
        total[:, count == labels] = best[:, count == labels, :labels].sum(2)
    total -= np.where(count > 4, np.where(exists, best, 1).min(2), 0)
    missed = np.maximum(count - matched - (count > 4), 0)
    scored = np.clip(count, 1, 4)
    fp = np.where(predicted > 0, (predicted - matched) / np.maximum(predicted, 1), 0)
    scores = np.stack((total / scored, fp, missed / scored), axis=2)  # (T, N, 3)
    scores[predicted > count + 2] = 0, 0, 1
    return [_mean_figures(part, count > 0) for part in scores]


def _mean_figures(scores: np.ndarray, has_lanes: np.ndarray) -> dict[str, float]:
    """The figures of N images whose accuracy, fp and fn are scores (N, 3), of which has_lanes (N) have a label."""
    accuracy, fp, fn = (float(mean) for mean in np.mean(scores, axis=0))
    return {"accuracy": accuracy, "accuracy_with_lanes": float(scores[has_lanes, 0].mean()) if has_lanes.any()
            else math.nan, "fp": fp, "fn": fn, "f1": tusimple.tusimple_f1(fp, fn)}


def _objective(f1: np.ndarray | float, accuracy_with_lanes: np.ndarray | float) -> np.ndarray:
    """The lower of both, F1 where no image has a lane."""
    return np.fmin(f1, accuracy_with_lanes)
