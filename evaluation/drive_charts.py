"""Where the lanes of drives are over time, each frame alone and tracked, as charts.

Shapes: N frames of a drive, K lanes of a frame.
"""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np

from evaluation.drive_scores import PLAIN, TRACKED, clips, detections_of, track_clips
from evaluation.evaluator import GroundTruth
from formats.base import Label
from geometry.decode import DecodeSettings
from geometry.lane_arrays import x_at
from inference.predictor import Detections
from metrics.collapse import REFERENCE_WIDTH_PX
from model import LanePrediction
from visualization.charts import SERIES_COLORS, Series, line_chart
from visualization.shapes import Chart

ROW = 0.8  # of the image height, at which lanes are looked at
MAX_DRIVES = 6  # that a report shows
LABEL_COLOR = "gray"
COLORS = [color for color in SERIES_COLORS if color != LABEL_COLOR]
CHART_PX = (380, 300)

Places = Sequence[Mapping[int, float]]  # of each frame, x of a lane by its number


def drive_charts(prediction: LanePrediction, gt: GroundTruth, decode: DecodeSettings) -> dict[str, list[Chart]]:
    """Two charts for the name of each drive: of each frame alone, by slot, and tracked, by identity."""
    plain = detections_of(prediction, decode)
    slots = [tuple(range(1, len(frame.keep) + 1)) for frame in plain]
    tracked, ids = track_clips(plain, gt, decode.threshold)
    charts = {}
    for clip in clips(gt):
        labels = [label_places(gt.labels[i], gt.sizes_px[i]) for i in clip]
        alone, after = ([places(frames[i], numbers[i]) for i in clip]
                        for frames, numbers in ((plain, slots), (tracked, ids)))
        name = str(PurePosixPath(gt.samples[clip[0]].name).parent)
        charts[name] = [place_chart(title, lanes, labels)
                        for title, lanes in ((PLAIN.capitalize(), alone), (TRACKED.capitalize(), after))]
    return charts


def places(detections: Detections, numbers: Sequence[int]) -> dict[int, float]:
    """x at ROW in px of the reference width of each reported lane by its number; straight beyond its ends."""
    shown = detections.keep.nonzero()[:, 0].tolist()
    curves = detections.points[detections.keep].double().numpy()
    x, _ = x_at(curves[..., 0], curves[:, [0, -1], 1], np.array([ROW]))
    return {numbers[slot]: value * REFERENCE_WIDTH_PX for slot, value in zip(shown, x[:, 0].tolist(), strict=True)}


def label_places(label: Label, size_px: tuple[int, int]) -> dict[int, float]:
    """The same of a label's lanes, by the numbers of their lines; none of a lane that ends above or begins below."""
    x_px = {}
    for number, lane in zip(label.lane_ids or (), label.lanes, strict=True):
        x, y = lane[np.argsort(lane[:, 1])].T / np.reshape(size_px, (2, 1))
        if y[0] <= ROW <= y[-1]:
            x_px[number] = float(np.interp(ROW, y, x)) * REFERENCE_WIDTH_PX
    return x_px


def place_chart(title: str, lanes: Places, labels: Places) -> Chart:
    """Lanes and, in thin gray below them, labels, over the frames from 1."""
    series = [Series("", frames, x, LABEL_COLOR, 1) for frames, x in lines(labels).values()]
    series += [Series("", frames, x, COLORS[(number - 1) % len(COLORS)])
               for number, (frames, x) in lines(lanes).items()]
    return line_chart(title, series, "frame", f"px of {REFERENCE_WIDTH_PX}", CHART_PX, (1, max(2, len(lanes))),
                      (0, REFERENCE_WIDTH_PX))


def lines(frames: Places) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Frames from 1 and x of each number, NaN where a frame lacks it or it is outside the image."""
    numbers = sorted({number for places in frames for number in places})
    every = np.arange(1, len(frames) + 1)
    return {number: (every, np.array([_inside(places.get(number, np.nan)) for places in frames])) for number in numbers}


def _inside(x: float) -> float:
    return x if 0 <= x <= REFERENCE_WIDTH_PX else np.nan
