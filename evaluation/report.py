"""A web page in one file on how good a model is: figures, charts, images, and the threshold to take.

Shapes: N images, L slots, P control points, 2 = (x, y) in [0, 1]. The page loads nothing, runs no script, and shows
every text that comes from outside, such as names of files, as text.
"""

import base64
import datetime
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from torch import Tensor

from evaluation import error_analysis
from evaluation.collapse_detector import COLLAPSING, LEARNING
from evaluation.drive_charts import MAX_DRIVES, ROW, drive_charts
from evaluation.drive_scores import has_drives
from evaluation.error_analysis import BANDS, ROWS, Calibration, Rates
from evaluation.evaluator import Evaluation
from evaluation.score_table import sizes_text, with_unit
from evaluation.threshold import SLACK, best_threshold
from formats.base import Sample
from formats.metric import THRESHOLDS, ThresholdCurve
from geometry.decode import lane_nms
from geometry.slots import LaneTarget, resolve_ambiguous_assignment
from metrics.collapse import REFERENCE_WIDTH_PX
from metrics.tusimple import TUSIMPLE_SIZE, TUSIMPLE_TOLERANCE_PX
from preprocessing.images import read_image
from runtime.files import write_text
from visualization.charts import SERIES_COLORS, BarGroup, Mark, Series, bar_chart, line_chart
from visualization.draw import draw_overlay
from visualization.shapes import Chart, to_svg

IMAGES = {"worst": 6, "median": 2, "best": 2}
IMAGE_PX = 800
CHART_PX = (380, 300)
POLICY = Markup("default-src 'none'; img-src data:; style-src 'unsafe-inline'")  # a browser refuses to load anything
NO_VALUE = "\u2013"
TILES = {"f1": "F1", "f1@50": "F1 at IoU 0.5", "accuracy": "accuracy", "mf1": "mean F1",
         "error_px": f"mean error, of {REFERENCE_WIDTH_PX} px", "constant_error_px": "error of a constant prediction",
         "diversity": "diversity, 1: as varied as the labels"}
Settings = Mapping[str, Mapping[str, Any]]


def write_report(folder: Path, evaluation: Evaluation, settings: Settings, name: str = "") -> Path:
    """Write report.html on an evaluation into the folder; returns its path.

    settings: the configuration in sections, and a section "checkpoint" with its file. name: that of the set, where it
    is one of several. Raises OSError where the
    page cannot be written and DataError where an image can no longer be read.
    """
    here = Path(__file__).parent
    environment = Environment(loader=FileSystemLoader(here), autoescape=True, undefined=StrictUndefined)
    page = environment.get_template("report.html.jinja").render(
        policy=POLICY, style=Markup((here / "report.css").read_text(encoding="utf-8")),
        **_opening(evaluation, settings, name), **_analysis(evaluation), **_drives(evaluation),
        figures={name: _score(name, value) for name, value in evaluation.scores.items()},
        categories={name: {key: f"{value}" if isinstance(value, int) else _score(key, value)
                           for key, value in row.items()} for name, row in evaluation.categories.items()},
        settings={section: {key: _setting(value) for key, value in values.items()}
                  for section, values in settings.items()})
    path = folder / "report.html"
    write_text(path, page + "\n")
    return path


def _opening(evaluation: Evaluation, settings: Settings, name: str) -> dict[str, Any]:
    """What was evaluated on what, the diagnosis, and the main scores."""
    state = {LEARNING: "learning", COLLAPSING: "collapsing"}.get(evaluation.diagnosis.state, "unsure")
    roots = ", ".join(settings["data"]["root"])
    return {
        "checkpoint": settings["checkpoint"]["file"], "roots": f"{name}, of {roots}" if name else roots,
        "num_images": len(evaluation.gt.samples), "sizes": sizes_text(evaluation.gt.sizes_px),
        "metric": evaluation.gt.metric, "time": datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "state": state, "diagnosis": str(evaluation.diagnosis),
        "tiles": {text: _score(name, evaluation.scores[name]) for name, text in TILES.items()
                  if name in evaluation.scores},
    }


def _analysis(evaluation: Evaluation) -> dict[str, Any]:
    """Charts by distance, lane and confidence, the threshold, and images."""
    gt, (points, logits), decode = evaluation.gt, evaluation.prediction, evaluation.decode
    confidence = logits.sigmoid()
    target = resolve_ambiguous_assignment(points, logits, gt.target)
    reported = lane_nms(points, confidence, decode.threshold)
    positions = error_analysis.row_positions(points, target)
    counts, errors = error_analysis.point_counts(positions, reported), error_analysis.errors_px(positions)
    calibration = error_analysis.calibration(confidence.numpy(), target.exists.numpy())
    curve = gt.metric.threshold_scores(points, confidence, gt.labels, gt.sizes_px, decode.end_tolerance,
                                       np.union1d(THRESHOLDS, decode.threshold))
    choice = threshold_choice(curve, decode.threshold)
    return {
        "row_step_px": TUSIMPLE_SIZE[1] // len(ROWS), "reference_px": TUSIMPLE_SIZE,
        "tolerance_px": TUSIMPLE_TOLERANCE_PX,
        "distance_charts": _by_distance(error_analysis.by_band(counts), error_analysis.mean_error_px(errors, "band")),
        "lane_charts": _by_slot(error_analysis.by_slot(counts), error_analysis.mean_error_px(errors, "slot")),
        "calibration_error": _percent(calibration.error), "threshold": choice,
        "confidence_charts": _svgs(_reliability(calibration), _threshold_chart(curve, choice), _histogram(calibration)),
        "image_groups": _images(gt.samples, points, confidence, reported, target, error_analysis.by_image(counts),
                                error_analysis.mean_error_px(errors, "image")),
    }


def _drives(evaluation: Evaluation) -> dict[str, Any]:
    """Charts of the lanes of drives over time; none of images that are no drives."""
    charts = {}
    if has_drives(evaluation.gt.labels):
        charts = drive_charts(evaluation.prediction, evaluation.gt, evaluation.decode)
    return {"drive_charts": {name: _svgs(*pair) for name, pair in list(charts.items())[:MAX_DRIVES]},
            "num_drives": len(charts), "row_percent": f"{100 * ROW:.0f}"}


class ThresholdChoice(NamedTuple):
    """The threshold in use, and the best one where it is better by more than chance, as texts."""

    objective: str  # name of what thresholds are compared by
    current: str
    current_score: str
    best: str | None
    best_score: str
    slack: str
    marks: list[Mark]


def threshold_choice(curve: ThresholdCurve, threshold: float) -> ThresholdChoice:
    """The threshold, one of the curve's, beside the best one by the curve's objective."""
    in_use = int(np.flatnonzero(curve.thresholds == threshold)[0])
    best = int(np.flatnonzero(curve.thresholds == best_threshold(curve))[0])
    if curve.objective[in_use] >= curve.objective.max() - SLACK:
        best = in_use
    name, main_score = next(iter(curve.scores.items()))
    shown = [in_use, best]
    if main_score.max() > curve.objective.max() or (main_score != curve.objective)[shown].any():  # of TuSimple's F1
        name = "The lower of " + " and ".join(curve.scores)
    current, highest = curve.objective[shown].tolist()
    marks = [Mark(threshold, current, f"in use {threshold:g}")]
    best_text = None
    if best != in_use:
        best_text = f"{curve.thresholds[best]:.2f}"
        marks.append(Mark(float(curve.thresholds[best]), highest, f"best {best_text}"))
    return ThresholdChoice(name, f"{threshold:g}", _percent(current), best_text, _percent(highest), _percent(SLACK),
                           marks)


def _by_distance(rates: Rates, error_px: np.ndarray) -> list[Markup]:
    names = [f"{100 * band // BANDS}{NO_VALUE}{100 * (band + 1) // BANDS} %" for band in range(BANDS)]
    used = np.flatnonzero((rates.predicted > 0) | (rates.labelled > 0))
    bands = range(used[0], used[-1] + 1) if len(used) else range(0)
    return _rate_charts("distance", names, bands, rates, error_px)


def _by_slot(rates: Rates, error_px: np.ndarray) -> list[Markup]:
    half = len(error_px) // 2
    names = [f"left {half - slot}" if slot < half else f"right {slot - half + 1}" for slot in range(2 * half)]
    return _rate_charts("lane", names, range(2 * half), rates, error_px)


def _rate_charts(by: str, names: Sequence[str], groups: Iterable[int], rates: Rates, error_px: np.ndarray
                 ) -> list[Markup]:
    groups = list(groups)
    errors = [BarGroup(names[i], [error_px[i]], [_px(error_px[i])]) for i in groups]
    pairs = [BarGroup(names[i], pair, [_percent(value) for value in pair])
             for i in groups for pair in [(rates.precision[i], rates.recall[i])]]
    return _svgs(bar_chart(f"Error by {by}, px of {REFERENCE_WIDTH_PX}", errors),
                 bar_chart(f"Points by {by}", pairs, [("precision", "blue"), ("recall", "orange")], highest=1.0))


def _reliability(calibration: Calibration) -> Chart:
    return line_chart("Reliability", [Series("", calibration.confidence, calibration.frequency)], "confidence",
                      "share of slots with a lane", CHART_PX, (0, 1), (0, 1), diagonal=True)


def _threshold_chart(curve: ThresholdCurve, choice: ThresholdChoice) -> Chart:
    series = [Series(name, curve.thresholds, score, SERIES_COLORS[number % len(SERIES_COLORS)])
              for number, (name, score) in enumerate(curve.scores.items())]
    return line_chart("Scores by threshold", series, "threshold", "", CHART_PX, (0, 1), (0, 1), choice.marks)


def _histogram(calibration: Calibration) -> Chart:
    bins = len(calibration.count)
    return bar_chart("Slots by confidence", [
        BarGroup(f"{i / bins:.1f}{NO_VALUE}{(i + 1) / bins:.1f}", [count], [f"{count}"])
        for i, count in enumerate(calibration.count.tolist())])


def _svgs(*charts: Chart) -> list[Markup]:
    return [Markup(to_svg(chart)) for chart in charts]


def _images(samples: Sequence[Sample], points: Tensor, confidence: Tensor, reported: Tensor, target: LaneTarget,
            point_f1: np.ndarray, error_px: np.ndarray) -> dict[str, list[dict[str, Any]]]:
    """The worst, median and best images with their lanes drawn, as the template takes them."""
    def figure(i: int) -> dict[str, Any]:
        drawn = draw_overlay(read_image(samples[i].image), points[i], confidence[i], reported[i], target.points[i],
                             target.exists[i], IMAGE_PX)
        caption = (f"{samples[i].name}: {int(reported[i].sum())} lanes reported, {int(target.exists[i].sum())} "
                   f"labelled, points F1 {_percent(point_f1[i])}, error {_px(error_px[i])}")
        return {"name": samples[i].name, "width": drawn.shape[1], "height": drawn.shape[0], "jpeg": _jpeg(drawn),
                "caption": caption}

    groups = error_analysis.best_median_worst(error_analysis.worst_first(point_f1, error_px), **IMAGES)
    return {name.capitalize(): [figure(i) for i in groups[name]] for name in IMAGES if groups[name]}


def _jpeg(image: np.ndarray) -> str:
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 82])
    if not done:
        raise OSError("an image of the report cannot be encoded as JPEG")
    return base64.b64encode(data.tobytes()).decode("ascii")


def _setting(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _score(name: str, value: float) -> str:
    return with_unit(name, value).strip() if math.isfinite(value) else NO_VALUE


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %" if math.isfinite(value) else NO_VALUE


def _px(value: float) -> str:
    return f"{value:.1f} px" if math.isfinite(value) else NO_VALUE
