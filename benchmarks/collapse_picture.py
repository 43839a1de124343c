"""The picture of benchmarks/collapse.py: total and diversity of the eight variants, and the lanes of eight images.

Shapes: K lanes of an image, P = 6 control points, 2 = (x, y) in [0, 1]; images RGB uint8.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from collapse_records import VARIANTS, Lanes, Run, SeedLog
from collapse_report import mean, runs_by_variant

from geometry.bezier import sample_curve
from visualization.charts import Series, legend, line_chart
from visualization.draw import draw_text
from visualization.shapes import to_image

CHART_PX = (720, 420)
COLORS = "orange", "gray", "purple", "gold", "sky", "brown", "green", "blue"  # one a variant
TEXT_PX = 15
INK, PAPER, DARK = (30, 30, 30), (255, 255, 255), (32, 32, 32)
LANE_COLORS = ((230, 60, 60), (70, 130, 240), (240, 200, 60), (80, 200, 120), (200, 90, 220), (90, 210, 220),
               (240, 140, 60), (230, 230, 230))  # one an image, on the dark ground


def picture(logs: Sequence[SeedLog], aspect: float) -> np.ndarray:
    """Two charts, their legend and, where the first log has lanes, those of eight images drawn over each other."""
    runs = runs_by_variant(logs)
    groups = [runs[variant] for variant in VARIANTS if variant in runs]
    charts = {
        "val_total": "total loss on the validation scenes",
        "diversity": "diversity: 0 the same lanes for every image, 1 as varied as the roads",
    }
    images = []
    for key, title in charts.items():
        first, *others = series = mean_series(groups, key)
        images.append(to_image(line_chart(title, [*others, first], x_label="epoch", size=CHART_PX, show_legend=False)))
    rows = [np.hstack(images)]
    rows.append(to_image(legend(series, rows[0].shape[1])))
    overlays = {"the labels": logs[0].labels} | {group[0].variant.name: group[0].lanes
                                                 for group in (groups[0], groups[-1])}
    if all(lanes is not None for lanes in overlays.values()):
        width = rows[0].shape[1] // len(overlays)
        rows.append(np.hstack([overlay(lanes, f"eight images: {name}", width, aspect)
                               for name, lanes in overlays.items()]))
    return np.vstack(rows)


def mean_series(groups: Sequence[Sequence[Run]], key: str) -> list[Series]:
    """A figure over the epochs, the mean over the seeds; groups are the runs of a variant each, the outer two wide."""
    series = []
    for number, group in enumerate(groups):
        epochs = list(zip(*(run.epochs for run in group), strict=True))
        values = [mean(records, key) for records in epochs]
        series.append(Series(group[0].variant.name, range(1, len(epochs) + 1), values,
                             COLORS[number], 4 if number in (0, len(groups) - 1) else 2))
    return series


def overlay(lanes: Lanes, title: str, width: int, aspect: float) -> np.ndarray:
    """The lanes of several images over each other, a color an image, on a dark ground."""
    height = round(width / aspect)
    canvas = np.full((height, width, 3), DARK, np.uint8)
    for number, image_lanes in enumerate(lanes):
        color = LANE_COLORS[number % len(LANE_COLORS)]
        for lane in image_lanes:  # (P, 2)
            curve = sample_curve(torch.tensor(lane), 48).numpy()
            pixels = np.clip(curve * (width, height), -width, 2 * width)
            cv2.polylines(canvas, [np.round(pixels * 16).astype(np.int32)], False, color, 2, cv2.LINE_AA, 4)
    caption = np.full((32, width, 3), PAPER, np.uint8)
    draw_text(caption, title, (10, 22), INK, TEXT_PX)
    canvas[:, -6:] = PAPER
    return np.vstack([caption, canvas])
