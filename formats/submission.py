"""Predictions as the benchmarks take them: lanes in the image's own pixels, rounded as in the files written.

K predicted curves of an image, P = 6 control points, R rows, N points, 2 = (x, y). What is scored is what is
written, so that a file scored again, here or by the official evaluator, gives the same number.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import Tensor

from formats.base import DataError, Label, Sample
from formats.parsing import json_object, lanes_of_text, list_of, numbers, text_lines
from geometry.bezier import sample_curve
from geometry.decode import rows_from_curves
from metrics.tusimple import TUSIMPLE_ROWS, TUSIMPLE_SIZE

CURVE_POINTS = 32  # a lane of 300 px is then given every 10 px, as in CULane's own labels


def rows_of(found: Label, size_px: tuple[int, int]) -> np.ndarray:
    """(R) rows at which an image is scored by TuSimple: its label's own, or the usual ones scaled to its height."""
    return np.array(TUSIMPLE_ROWS) * size_px[1] / TUSIMPLE_SIZE[1] if found.rows is None else found.rows


def tusimple_lanes(points: Tensor, rows: np.ndarray, size_px: tuple[int, int], tolerance: float) -> np.ndarray:
    """(lanes, R) x in pixels, -2 where there is no point, of curves points (K, P, 2).

    A lane with fewer than two points is left out: the metric would count it as a false one.
    """
    x = x_px_at_rows(points, rows, size_px, tolerance)
    return x[(x >= 0).sum(1) >= 2]


def x_px_at_rows(points: Tensor, rows: np.ndarray, size_px: tuple[int, int], tolerance: float) -> np.ndarray:
    """(K, R) x in pixels, -2 where there is no point, of curves points (K, P, 2), none left out."""
    x = rows_from_curves(points, torch.from_numpy(rows / size_px[1]).float(), tolerance).double().numpy()
    return np.where(x >= 0, (x * size_px[0]).round(2), -2.0)


def culane_lanes(points: Tensor, size_px: tuple[int, int]) -> list[np.ndarray]:
    """Lanes (N, 2) in pixels, from the near end to the far one, of curves points (K, P, 2).

    A point that equals the one before it is left out, since it makes the evaluator's spline divide by zero;
    so is a lane with fewer than two points.
    """
    found = []
    for lane in (sample_curve(points, CURVE_POINTS).flip(1).double().numpy() * size_px).round(3):
        lane = lane[np.append(True, (np.diff(lane, axis=0) != 0).any(1))]
        if len(lane) >= 2:
            found.append(lane)
    return found


def write_tusimple(path: Path, samples: Sequence[Sample], rows: Iterable[np.ndarray],
                   predictions: Iterable[np.ndarray]) -> None:
    """Write one `tusimple_line` an sample."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for sample, h_samples, lanes in zip(samples, rows, predictions, strict=True):
            file.write(tusimple_line(sample.name, h_samples, lanes) + "\n")


def tusimple_line(name: str, rows: np.ndarray, lanes: np.ndarray) -> str:
    """One JSON object: raw_file, lanes, h_samples, run_time.

    run_time is 0, that is not measured here: the evaluator only looks whether it is over 200 ms.
    """
    return json.dumps({"raw_file": name, "lanes": [_plain(lane) for lane in lanes], "h_samples": _plain(rows),
                       "run_time": 0})


def _plain(values: np.ndarray) -> list[int | float]:
    return [int(v) if v == int(v) else v for v in values.tolist()]


def read_tusimple(path: Path, samples: Sequence[Sample], rows: Sequence[np.ndarray]
                  ) -> tuple[list[np.ndarray], list[float]]:
    """Lanes (lanes, R) and run time in ms of each sample from a file of JSON lines.

    Raises DataError with file and line for what is broken, and where an sample has no prediction.
    """
    wanted = {sample.name: i for i, sample in enumerate(samples)}
    lanes: list = [None] * len(samples)
    times = [0.0] * len(samples)
    for line, _, text in text_lines(path):
        where = f"{path}:{line}"
        record = json_object(text, where, "raw_file, lanes and run_time")
        i = wanted.get(str(record.get("raw_file")))
        if i is None:  # predictions of a whole test set may be scored on a part of it
            continue
        if lanes[i] is not None:
            raise DataError(f"{where}: a second prediction for {samples[i].name}")
        found = [numbers(lane, f"{where}: lane {n}") for n, lane in enumerate(list_of(
            record.get("lanes"), f"{where}: 'lanes'"), start=1)]
        for n, lane in enumerate(found, start=1):
            if len(lane) != len(rows[i]):
                raise DataError(f"{where}: lane {n} has {len(lane)} points; the label has {len(rows[i])} rows")
        lanes[i] = np.array(found).reshape(-1, len(rows[i]))
        times[i] = float(numbers([record.get("run_time", 0)], f"{where}: run_time")[0])
    missing = [sample.name for sample, found in zip(samples, lanes, strict=True) if found is None]
    if missing:
        raise DataError(f"{path}: no prediction for {len(missing)} of {len(samples)} images, such as {missing[0]}; "
                        "choose the images with data.root and data.split")
    return lanes, times


def lines_path(folder: Path, sample: Sample) -> Path:
    """Where CULane's evaluator looks for the prediction of an image: its path below the root, as .lines.txt."""
    return folder / PurePosixPath(sample.name).with_suffix(".lines.txt")


def write_culane(folder: Path, samples: Iterable[Sample], predictions: Iterable[Sequence[np.ndarray]]) -> None:
    """Write a tree of .lines.txt, a lane a line: x y x y ..."""
    for sample, lanes in zip(samples, predictions, strict=True):
        path = lines_path(folder, sample)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(" ".join(f"{v:.3f}" for v in lane.ravel()) + "\n" for lane in lanes))


def read_culane(folder: Path, samples: Sequence[Sample]) -> tuple[list[list[np.ndarray]], int]:
    """Lanes (N, 2) of each sample from a tree of .lines.txt, and how many samples have no file.

    They have no lanes, as for the official evaluator. Raises DataError for a broken file, and where no
    sample has one.
    """
    paths = [lines_path(folder, sample) for sample in samples]
    there = [path.is_file() for path in paths]
    if not any(there):
        raise DataError(f"{folder}: none of the {len(samples)} predictions is here; expected files such as {paths[0]}")
    lanes = [lanes_of_text(path) if exists else [] for path, exists in zip(paths, there, strict=True)]
    return lanes, there.count(False)
