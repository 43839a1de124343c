"""A web page in one file on how well a model does: figures, diagrams, images, and the threshold to take.

Shapes: N images, L slots, P = 6 control points, 2 = (x, y) in [0, 1]. The page loads nothing, runs no script, and
shows every text that comes from outside, such as names of files, as text.
"""

import base64
import datetime
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from torch import Tensor

from evaluation import error_analysis
from evaluation.benchmark_scores import with_unit
from evaluation.collapse_detector import COLLAPSING, LEARNING, Diagnosis
from evaluation.error_analysis import BANDS, Calibration, Rates
from evaluation.evaluator import Evaluation
from evaluation.threshold import best_threshold
from formats.base import Sample
from formats.metric import THRESHOLDS, ThresholdCurve
from geometry.decode import lane_nms
from geometry.slots import LaneTarget, resolve_ambiguous_assignment
from preprocessing.images import read_image
from visualization.draw import draw_overlay
from visualization.svg_charts import Bar, bars, lines

IMAGES = {"worst": 6, "median": 2, "best": 2}
IMAGE_PX = 800
WORTH_A_CHANGE = 0.001  # of F1: a tenth of a per cent, the last digit shown
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"  # a browser then refuses to load anything
Scores = Mapping[str, Any]
Settings = Mapping[str, Mapping[str, Any]]


def write_report(folder: Path, evaluation: Evaluation, settings: Settings) -> Path:
    """Write report.html on an evaluation into the folder; returns its path.

    settings: the configuration in sections, and a section "checkpoint" with its file. Raises OSError where the
    page cannot be written and DataError where an image can no longer be read.
    """
    gt, (points, logits), decode = evaluation[:3]
    confidence = logits.sigmoid()
    target = resolve_ambiguous_assignment(points, logits, gt.target)
    reported = lane_nms(points, confidence, decode.threshold)
    counts = error_analysis.point_counts(points, reported, target)
    errors = error_analysis.errors_px(points, target)
    curve = gt.metric.threshold_scores(points, confidence, gt.labels, gt.sizes_px, decode.end_tolerance,
                                       np.union1d(THRESHOLDS, decode.threshold))
    page = _page(settings["checkpoint"]["file"], [
        _opening(settings, gt.sizes_px, gt.metric.title, evaluation.diagnosis),
        _tiles(evaluation.scores),
        _by_distance(error_analysis.by_band(counts), error_analysis.mean_error_px(errors, "band")),
        _by_slot(error_analysis.by_slot(counts), error_analysis.mean_error_px(errors, "slot")),
        _confidence(error_analysis.calibration(confidence.numpy(), target.exists.numpy()), curve, decode.threshold),
        _images(gt.samples, points, confidence, reported, target, error_analysis.by_image(counts),
                error_analysis.mean_error_px(errors, "image")),
        _tables(evaluation.scores | ({"categories": evaluation.categories} if evaluation.categories else {}), settings),
    ])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8", errors="backslashreplace")  # a file name may hold bytes of no alphabet
    return path


def _page(title: str, sections: Sequence[str]) -> str:
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    return (f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>Lanes: {escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
            f"{''.join(sections)}</main>\n</body>\n</html>\n")


def _opening(settings: Settings, sizes_px: Sequence[tuple[int, int]], metric: str, judged: Diagnosis) -> str:
    state = {LEARNING: "learning", COLLAPSING: "collapsing"}.get(judged.state, "unsure")
    roots = ", ".join(settings["data"]["root"])
    sizes = sorted(set(sizes_px))
    shown = ", ".join(f"{width}x{height}" for width, height in sizes[:4]) + (" ..." if len(sizes) > 4 else "")
    now = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    return (f"<h1>How well it finds lanes</h1>\n<p class=soft>{escape(settings['checkpoint']['file'])} on "
            f"{len(sizes_px)} images of {escape(roots)} ({shown} px), {metric} metric, {now}</p>\n"
            f'<p class="verdict {state}"><b>Verdict</b> {escape(str(judged))}</p>\n')


def _tiles(scores: Scores) -> str:
    names = {"f1": "F1", "f1@50": "F1 at IoU 0.5", "accuracy": "accuracy", "mf1": "mean F1",
             "error_px": "mean error, of 1280 px", "constant_error_px": "error of a constant prediction",
             "diversity": "diversity, 1: as varied as the roads"}
    tiles = [f"<div><b>{_score(name, scores[name])}</b>{text}</div>" for name, text in names.items() if name in scores]
    return f"<div class=tiles>{''.join(tiles)}</div>\n"


def _by_distance(rates: Rates, error_px: np.ndarray) -> str:
    names = [f"{100 * band // BANDS}\u2013{100 * (band + 1) // BANDS} %" for band in range(BANDS)]
    used = np.flatnonzero((rates.predicted > 0) | (rates.labelled > 0))
    bands = range(used[0], used[-1] + 1) if len(used) else range(0)
    return ("<h2>By distance</h2>\n<p>In bands of the image height: 0 % is its top edge, far away, and 100 % its "
            "bottom edge. A point, one every 9 px of 720, is right within 20 px of 1280 of the lane, measured across "
            "it; precision is the share of reported points that are right, recall the share of labelled points that "
            "are found. The error is that of all labelled lanes, reported or not.</p>\n"
            + _rate_charts("distance", names, bands, rates, error_px))


def _by_slot(rates: Rates, error_px: np.ndarray) -> str:
    half = len(error_px) // 2
    names = [f"left {half - slot}" if slot < half else f"right {slot - half + 1}" for slot in range(2 * half)]
    return ("<h2>By lane</h2>\n<p>Counted outward from the camera: left 1 and right 1 bound its own lane. Precision is "
            "that of the lanes reported under a number, recall that of the lanes labelled with it.</p>\n"
            + _rate_charts("lane", names, range(2 * half), rates, error_px))


def _rate_charts(by: str, names: Sequence[str], chosen: Iterable[int], rates: Rates, error_px: np.ndarray) -> str:
    chosen = list(chosen)
    error = [Bar(names[i], [error_px[i]], [_px(error_px[i])]) for i in chosen]
    rate = [Bar(names[i], pair, [_percent(value) for value in pair])
            for i in chosen for pair in [(rates.precision[i], rates.recall[i])]]
    return ("<div class=charts>\n" + bars(f"Error by {by}, px of 1280", error)
            + bars(f"By {by}:", rate, ("precision", "recall"), highest=1.0) + "</div>\n")


def _confidence(reliability: Calibration, curve: ThresholdCurve, threshold: float) -> str:
    name, f1 = next(iter(curve.scores.items()))
    best = best_threshold(curve)
    best_f1, now_f1 = (float(f1[curve.thresholds == t][0]) for t in (best, threshold))
    advice = (f"{name} is highest, {_percent(best_f1)}, at a threshold of {best:.2f}; at {threshold:g}, the one in "
              f"use, it is {_percent(now_f1)}.")
    advice += (f" To take it: <code>inference.threshold={best:.2f}</code>." if best_f1 - now_f1 >= WORTH_A_CHANGE
               else " There is nothing to gain by a change.")
    marks = [(best, best_f1, f"best {best:.2f}")]
    if abs(threshold - best) > 1e-9:
        marks.append((threshold, now_f1, f"in use {threshold:g}"))
    counts = [Bar(f"{low:.1f}\u2013{low + 0.1:.1f}", [count], [str(count)])
              for low, count in zip(np.arange(10) / 10, reliability.count.tolist(), strict=True)]
    return ("<h2>Confidence</h2>\n<p>Of the lanes given a confidence of 0.8, eight in ten should be there: the dots "
            "should lie on the broken line. The expected calibration error, their mean distance from it weighted by "
            f"count, is {_percent(reliability.error)}.</p>\n<p>{advice} This is what the "
            "threshold is chosen by, on the images of this page; on few images the maximum is a matter "
            "of chance.</p>\n<div class=charts>\n"
            + lines("Reliability", [("", reliability.confidence, reliability.share)], "confidence", "share of lanes",
                    diagonal=True, dots=True)
            + lines("By threshold:", [(key, curve.thresholds, values) for key, values in curve.scores.items()],
                    "threshold", "", marks)
            + bars("How often each confidence was given", counts) + "</div>\n")


def _images(samples: Sequence[Sample], points: Tensor, confidence: Tensor, reported: Tensor, target: LaneTarget,
            point_f1: np.ndarray, error_px: np.ndarray) -> str:
    def figure(i: int) -> str:
        drawn = draw_overlay(read_image(samples[i].image), points[i], confidence[i], reported[i], target.points[i],
                        target.exists[i], IMAGE_PX)
        words = (f"{samples[i].name}: {int(reported[i].sum())} lanes reported, {int(target.exists[i].sum())} labelled, "
                 f"points F1 {_percent(point_f1[i])}, error {_px(error_px[i])}")
        return (f'<figure><img alt="{escape(samples[i].name)}" width={drawn.shape[1]} height={drawn.shape[0]} '
                f'src="data:image/jpeg;base64,{_jpeg(drawn)}"><figcaption>{escape(words)}</figcaption></figure>\n')

    chosen = error_analysis.best_median_worst(error_analysis.worst_first(point_f1, error_px), **IMAGES)
    parts = [f"<h3>{name.capitalize()}</h3>\n<div class=images>\n{''.join(map(figure, chosen[name]))}</div>\n"
             for name in IMAGES if chosen[name]]
    return ("<h2>Images</h2>\n<p>Reported lanes in color, with number and confidence; labels in thin white on top. "
            "Ranked by the F1 of their points, among equals by error.</p>\n" + "".join(parts))


def _jpeg(image: np.ndarray) -> str:
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 82])
    if not done:
        raise OSError("an image of the report cannot be encoded as JPEG")
    return base64.b64encode(data.tobytes()).decode("ascii")


def _tables(scores: Scores, settings: Settings) -> str:
    plain = {name: _score(name, value) for name, value in scores.items() if not isinstance(value, Mapping)}
    parts = ["<h2>All figures</h2>\n", _table(plain, "number")]
    for name, row in scores.get("categories", {}).items():
        figures = {key: f"{value}" if isinstance(value, int) else _score(key, value) for key, value in row.items()}
        parts.append(f"<details><summary>{escape(name)}</summary>{_table(figures, 'number')}</details>\n")
    parts.append("<h2>Configuration</h2>\n")
    parts += [f"<h3>{escape(section)}</h3>{_table({key: _setting(value) for key, value in values.items()}, 'text')}\n"
              for section, values in settings.items()]
    return "".join(parts)


def _setting(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _table(rows: Mapping[str, str], kind: str) -> str:
    cells = "".join(f"<tr><th>{escape(name)}</th><td class={kind}>{escape(text)}</td></tr>"
                    for name, text in rows.items())
    return f"<table>{cells}</table>\n"


def _score(name: str, value: float) -> str:
    return with_unit(name, value).strip() if math.isfinite(value) else "\u2013"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %" if math.isfinite(value) else "\u2013"


def _px(value: float) -> str:
    return f"{value:.1f} px" if math.isfinite(value) else "\u2013"
