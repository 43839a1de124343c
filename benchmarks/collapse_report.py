"""The tables and the picture of benchmarks/collapse.py, from the records of its runs.

Shapes: K lanes found in an image, P = 6 control points, 2 = (x, y) in [0, 1]; images RGB uint8.
"""

import argparse
import contextlib
import datetime
import math
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from old_way import WEIGHED

from geometry.bezier import sample_curve
from visualization.draw import COLORS

INK, GREY, PAPER = (30, 30, 30), (205, 205, 205), (255, 255, 255)
LINES = ((213, 30, 30), *COLORS[:2], COLORS[5], (120, 120, 120), (150, 90, 40), (0, 90, 178), (0, 130, 90))
LANE_COLORS = ((230, 60, 60), (70, 130, 240), (240, 200, 60), (80, 200, 120), (200, 90, 220), (90, 210, 220),
                (240, 140, 60), (230, 230, 230))


def tables(runs: Sequence, answers: Sequence[dict[str, Any]], options: argparse.Namespace, words: Sequence[str],
           seconds: float) -> str:
    """All figures as markdown: how they were made, what each run reached, its course, its weights, and blindness."""
    command = " ".join(["python benchmarks/collapse.py", *words])
    head = [
        "# The collapse, measured",
        f"`{command}`, {datetime.date.today().isoformat()}, {machine()}, PyTorch {torch.__version__.split('+')[0]}, "
        f"seed {options.seed}, {seconds / 60:.1f} minutes in all.",
        f"{options.scenes} rendered scenes to train on, {options.val_scenes} to validate on, "
        f"{options.width}x{options.height}, {options.epochs} epochs in batches of {options.batch_size}, AdamW at "
        f"{options.learning_rate:g} with a cosine, float32, no augmentation. All figures but the column `total, "
        "trained` are of the validation scenes; px are of an image 1280 wide.",
    ]
    parts = {
        "Where each run ended": outcome(runs),
        "The total on the validation scenes, over time": course(runs),
        "What the learned weights did": weights(runs),
        "What an answer that never looks reaches": blindness(answers),
    }
    return "\n\n".join([*head, *(f"## {title}\n\n{text}" for title, text in parts.items())])


def outcome(runs: Sequence) -> str:
    """The last epoch of each run."""
    rows = []
    for run in runs:
        v, last = run.variant, run.history[-1]
        rows.append([v.name, v.loss, v.head, v.slots, f"{last['total']:.2f}", f"{last['val_total']:.2f}",
                     f"{last['error_px']:.0f} ({last['constant_error_px']:.0f})", f"{last['diversity']:.2f}",
                     f"{100 * last['f1']:.0f}", f"{100 * last['accuracy']:.0f}", last["verdict"]])
    note = ("Old: the loss learns its weights, the head pools, lanes are shuffled. Held: the old terms, every s at 0. "
            "The total of our loss is another sum than that of the old, and not to be compared with it.\n\n")
    return note + table(["variant", "loss", "head", "slots", "total, trained", "total", "error px (constant)",
                         "diversity", "F1 %", "accuracy %", "verdict"], rows)


def course(runs: Sequence) -> str:
    """The total at five moments, and the epoch in which it first was below 0."""
    epochs = len(runs[0].history)
    moments = sorted({max(1, round(epochs * share)) for share in (0, 0.25, 0.5, 0.75, 1)})
    rows = []
    for run in runs:
        totals = [record["val_total"] for record in run.history]
        below = next((str(i + 1) for i, total in enumerate(totals) if total < 0), "never")
        diversity = [f"{run.history[i - 1]['diversity']:.2f}" for i in moments]
        rows.append([run.variant.name, *(f"{totals[i - 1]:.2f}" for i in moments), below, " ".join(diversity)])
    return table(["variant", *(f"epoch {i}" for i in moments), "first below 0 in", "diversity at these"], rows)


def weights(runs: Sequence) -> str:
    """Each unweighted term with its s and weight exp(-s) in the end, and who pulls at the control points."""
    rows = []
    for run in runs:
        last = run.history[-1]
        if "s_regression" not in last:
            continue
        cells = [f"{last[f'val_{n}']:.4f}, {last[f's_{n}']:+.2f}, {last[f'weight_{n}']:.1f}" for n in WEIGHED]
        share = [(last[f"weight_{n}"] * last[f"val_{n}"] + last[f"s_{n}"]) / 2 for n in WEIGHED]
        rows.append([run.variant.name, *cells, " ".join(f"{value:+.2f}" for value in share),
                     f"{last['pull_curvature'] / max(last['pull_regression'], 1e-12):.1f}"])
    return ("In the cells of a term: the term, its s, its weight exp(-s). The parts are 1/2 (exp(-s) term + s) of the "
            "three. The pull is the length of the weighted term's gradient at the control points, curvature's over "
            "regression's.\n\n" + table(["variant", *WEIGHED, "parts of the total", "pull"], rows))


def blindness(answers: Sequence[dict[str, Any]]) -> str:
    """The best constant answer in each order of lanes, with the total that s = log(term) gives it."""
    rows = [[a["slots"] + (", roads alike" if a["alike"] else ""), *(f"{a[n]:.4f}" for n in WEIGHED),
             "-∞" if math.isinf(a["total"]) else f"{a['total']:.2f}", f"{a['error_px']:.0f}", f"{100 * a['f1']:.0f}",
             f"{100 * a['accuracy']:.0f}"] for a in answers]
    return ("The median lane of each slot and the slot's frequency as its confidence, with the old terms.\n\n"
            + table(["slots", *WEIGHED, "total at the best s", "error px", "F1 %", "accuracy %"], rows))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows))


def machine() -> str:
    """The processor's name and its cores."""
    name = platform.processor()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), name)
    return f"{name or platform.machine()}, {os.cpu_count()} cores"


def picture(runs: Sequence, labels: Sequence[np.ndarray], aspect: float) -> np.ndarray:
    """The two charts above the lanes of eight images drawn over each other: labelled, the first run's, the last's."""
    charts = np.hstack([
        chart(runs, "val_total", "total loss on the validation scenes"),
        chart(runs, "diversity", "diversity: 0 the same lanes for every image, 1 as varied as the roads"),
    ])
    names = ("the labels", runs[0].variant.name, runs[-1].variant.name)
    overlays = [overlay(found, f"eight images: {name}", charts.shape[1] // 3, aspect)
                for name, found in zip(names, (labels, runs[0].found, runs[-1].found), strict=True)]
    below = np.hstack(overlays)
    filler = np.full((below.shape[0], charts.shape[1] - below.shape[1], 3), 255, np.uint8)
    return np.vstack([charts, legend(runs, charts.shape[1]), np.hstack([below, filler])])


def chart(runs: Sequence, key: str, title: str, width: int = 720, height: int = 420) -> np.ndarray:
    """One line a run over the epochs, the first and the last run thick, a line at 0."""
    canvas = np.full((height, width, 3), 255, np.uint8)
    series = [[record[key] for record in run.history] for run in runs]
    finite = [value for values in series for value in values if math.isfinite(value)]
    low, high = min([*finite, 0.0]), max([*finite, 0.1])
    left, right, top, bottom = 60, width - 20, 50, height - 45
    epochs = len(series[0])

    def place(epoch: float, value: float) -> tuple[int, int]:
        x = left + (right - left) * (epoch - 1) / max(1, epochs - 1)
        return round(x), round(bottom - (bottom - top) * (value - low) / (high - low))

    step = next(s for s in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 1e9) if (high - low) / s <= 8)
    for i in range(math.ceil(low / step), math.floor(high / step) + 1):
        y = place(1, i * step)[1]
        cv2.line(canvas, (left, y), (right, y), INK if i == 0 else GREY, 1)
        text(canvas, f"{i * step:g}", (8, y + 5))
    for epoch in sorted({1, *range(max(1, epochs // 4), epochs + 1, max(1, epochs // 4))}):
        text(canvas, str(epoch), (place(epoch, low)[0] - 6, height - 22))
    text(canvas, "epoch", (left, height - 5))
    for number in (*range(1, len(runs) - 1), len(runs) - 1, 0):  # the two that matter on top
        values = [(e, v) for e, v in enumerate(series[number], 1) if math.isfinite(v)]
        path = np.array([place(*value) for value in values], np.int32).reshape(-1, 1, 2)
        thickness = 4 if number in (0, len(runs) - 1) else 2
        cv2.polylines(canvas, [path], False, LINES[number % len(LINES)], thickness, cv2.LINE_AA)
    text(canvas, title, (left - 50, 26), 0.55)
    return canvas


def legend(runs: Sequence, width: int) -> np.ndarray:
    """The names of the runs beside the colors of their lines, four a row."""
    canvas = np.full((28 * math.ceil(len(runs) / 4) + 10, width, 3), 255, np.uint8)
    for number, run in enumerate(runs):
        x, y = 20 + number % 4 * (width // 4), 20 + number // 4 * 28
        cv2.line(canvas, (x, y - 5), (x + 40, y - 5), LINES[number % len(LINES)], 4, cv2.LINE_AA)
        text(canvas, run.variant.name, (x + 50, y), 0.5)
    return canvas


def overlay(found: Sequence[np.ndarray], title: str, width: int, aspect: float) -> np.ndarray:
    """The lanes (K, P, 2) of several images over each other, a color an image, on a dark ground."""
    height = round(width / aspect)
    canvas = np.full((height, width, 3), 32, np.uint8)
    for lanes, color in zip(found, LANE_COLORS, strict=False):
        for curve in sample_curve(torch.from_numpy(lanes), 48).numpy():
            pixels = np.clip(curve * (width, height), -width, 2 * width)
            cv2.polylines(canvas, [np.round(pixels * 16).astype(np.int32)], False, color, 2, cv2.LINE_AA, 4)
    caption = np.full((32, width, 3), 255, np.uint8)
    text(caption, title, (10, 22), 0.5)
    canvas[:, -6:] = PAPER
    return np.vstack([caption, canvas])


def text(canvas: np.ndarray, words: str, place: tuple[int, int], scale: float = 0.42) -> None:
    """Write words in dark ink, their lower left corner at place."""
    cv2.putText(canvas, words, place, cv2.FONT_HERSHEY_SIMPLEX, scale, INK, 1, cv2.LINE_AA)
