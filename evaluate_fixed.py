"""Scores a checkpoint on labelled images: python evaluate_fixed.py [section.key=value ...]

With --score PATH it scores prediction files in place of a checkpoint.
"""

import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

import metrics
import runtime
import sources
import submission
from config import Config
from dataset import LaneDataset, in_threads, loader, read_image, read_item
from entries import Entries
from formats import Entry, Label, label
from guard import COLLAPSING, verdict
from lanes import LaneTarget, keep_lanes, nearer_count
from losses_fixed import LaneLoss, LossTerms
from model import LaneNet, LanePrediction
from scores import culane_categories, culane_counts, culane_scores, tusimple_scores

FRACTIONS = ("accuracy", "fp", "fn", "f1", "mf1", "existence_accuracy")


class Reference(NamedTuple):
    """What a validation set is scored against, read once: N images, L slots, P = 6 control points."""

    labels: list[Label]
    sizes_px: list[tuple[int, int]]
    target: LaneTarget  # points (N, L, P, 2), exists (N, L)
    constant_error_px: float  # mean error of the best prediction that does not look at the image


def reference(dataset: LaneDataset) -> Reference:
    """The labels of a data set. Raises DataError where one cannot be read."""
    labels = [label(entry) for entry in dataset.entries]
    if dataset.pixels is not None:
        points, exists = np.array(dataset.pixels.points), np.array(dataset.pixels.exists)
        sizes = [tuple(map(int, size)) for size in dataset.pixels.sizes_px]
    else:
        def fitted(entry: Entry) -> tuple:
            return read_item(entry, dataset.width, dataset.height, dataset.slots)[1:4]  # no more pixels than needed

        points, exists, sizes = map(list, zip(*read_all(fitted, dataset.entries, "Reading labels"), strict=True))
        points, exists = np.stack(points), np.stack(exists)
    constant = np.broadcast_to(metrics.constant_prediction(points, exists), points.shape)
    constant_error = metrics.mean_x_error(constant, points, exists)
    return Reference(labels, sizes, LaneTarget(torch.from_numpy(points), torch.from_numpy(exists)), constant_error)


def read_all(read: Callable[[Entry], Any], entries: Sequence[Entry], what: str) -> list:
    """read(entry) of all entries, in order, with a progress bar."""
    found = in_threads(read, entries)
    return list(tqdm(found, what, len(entries), unit="img", file=sys.stderr, disable=None))


@torch.inference_mode()
def predict(model: LaneNet, dataset: LaneDataset, batch_size: int, workers: int, device: torch.device,
            dtype: torch.dtype) -> LanePrediction:
    """Predictions for a whole data set, on the CPU: points (N, L, P, 2) and logits (N, L)."""
    model.eval()
    found = []
    for images, _ in loader(dataset, range(len(dataset)), batch_size, workers, device.type == "cuda"):
        with runtime.autocast(device, dtype):
            prediction = model(images.to(device, non_blocking=True))
        found.append(LanePrediction(prediction.points.float(), prediction.logits.float()))
    return LanePrediction(*(torch.cat(parts).cpu() for parts in zip(*found, strict=True)))


def score(prediction: LanePrediction, truth: Reference, loss: LaneLoss, threshold: float, end_tolerance: float
          ) -> dict[str, float]:
    """Every figure of an epoch line: `figures`, and TuSimple's metric whatever the data set."""
    answer = answer_of(prediction, truth, "tusimple", threshold, end_tolerance)
    return figures(prediction, truth, loss, threshold) | benchmark_scores(answer, [])[0]


def figures(prediction: LanePrediction, truth: Reference, loss: LaneLoss, threshold: float) -> dict[str, float]:
    """What only a network has: its loss, and how its curves compare; fractions, or px of a 1280 px wide image."""
    target = nearer_count(prediction.points, prediction.logits, truth.target)
    terms: LossTerms = loss(prediction.points, prediction.logits, target)
    points, exists = target.points.numpy(), target.exists.numpy()
    said = prediction.logits.sigmoid() >= threshold
    result = {f"val_{name}": float(getattr(terms, name)) for name in ("regression", "existence", "curvature")}
    result["val_loss"] = float(terms.total)
    return result | {
        "error_px": metrics.mean_x_error(prediction.points.numpy(), points, exists),
        "constant_error_px": truth.constant_error_px,
        "diversity": metrics.diversity(prediction.points.numpy(), points, exists),
        "existence_accuracy": float((said == target.exists).float().mean()),
    }


def validation_entries(config: Config) -> Entries:
    """The validation images that a configuration names. Raises ValueError where there are none."""
    entries = sources.find(config, training=False).val
    if not entries:
        raise ValueError(f"data.split={config.data.split[-1]} leaves no image to validate on; "
                         "set it to all, or to a rule that holds some back")
    return entries


def validation_set(config: Config) -> LaneDataset:
    """`validation_entries` as a data set."""
    return sources.open_dataset(validation_entries(config), config)


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table of scores; exit status 1 when the model has collapsed."""
    arguments = runtime.parser(__doc__)
    arguments.add_argument("words", nargs="*", metavar="section.key=value", help="settings to override")
    arguments.add_argument("--checkpoint", default="checkpoints_fixed/best_model.pth", metavar="FILE")
    arguments.add_argument("--metric", default="auto", choices=("auto", "tusimple", "culane"),
                           help="auto: that of the data set's own benchmark")
    arguments.add_argument("--json", metavar="FILE", help="also write the scores to FILE")
    files = arguments.add_mutually_exclusive_group()
    files.add_argument("--predictions", metavar="PATH",
                       help="also write the benchmark's submission: a file for TuSimple, a folder for CULane")
    files.add_argument("--score", metavar="PATH", help="score such a file or folder instead of a checkpoint")
    options, overrides = runtime.parse(arguments, argv)
    if options.words:
        raise ValueError(f"'{options.words[0]}' is not an override; write section.key=value")
    settings = runtime.load_settings(options, overrides)
    if options.score:
        entries = validation_entries(settings)
        answer = read_submission(Path(options.score), options.metric, entries)
        scores, categories = benchmark_scores(answer, entries)
        print_table(scores, categories, len(entries), answer)
        write_json(options.json, scores | categories)
        return 0

    device = runtime.pick_device(settings.train.device)
    model, trained, _ = runtime.load_model(options.checkpoint, device)
    config = runtime.with_model(settings, trained)
    dataset = validation_set(config)
    truth = reference(dataset)
    prediction = predict(model, dataset, config.inference.batch_size, config.data.workers, device,
                         runtime.precision(config.train.precision, device))
    answer = answer_of(prediction, truth, options.metric, config.inference.threshold, config.inference.end_tolerance)
    if options.predictions:
        write_submission(Path(options.predictions), answer, dataset.entries)
    scores, categories = benchmark_scores(answer, dataset.entries)
    scores |= figures(prediction, truth, LaneLoss(**vars(config.loss)), config.inference.threshold)
    print_table(scores, categories, len(dataset), answer)
    judged = verdict(scores["diversity"], scores["error_px"], scores["constant_error_px"],
                     config.guard.min_diversity)
    print(judged)
    write_json(options.json, scores | categories | {"verdict": judged.state})
    return 1 if judged.state == COLLAPSING else 0


class Answer(NamedTuple):
    """Lanes of N images as a benchmark takes them, and what they are scored against."""

    metric: str  # tusimple: lanes (lanes, R) an image; culane: lanes (N, 2) an image
    lanes: list
    labels: list[Label]
    sizes_px: list[tuple[int, int]]
    run_times_ms: list[float] | None = None


def answer_of(prediction: LanePrediction, truth: Reference, metric: str, threshold: float, end_tolerance: float
              ) -> Answer:
    """What a network says, as a benchmark takes it."""
    metric = own_metric(truth.labels) if metric == "auto" else metric
    keep = keep_lanes(prediction.points, prediction.logits.sigmoid(), threshold)
    lanes = []
    for points, kept, found, size_px in zip(prediction.points, keep, truth.labels, truth.sizes_px, strict=True):
        if metric == "tusimple":
            rows = submission.rows_of(found, size_px)
            lanes.append(submission.tusimple_lanes(points[kept], rows, size_px, end_tolerance))
        else:
            lanes.append(submission.culane_lanes(points[kept], size_px))
    return Answer(metric, lanes, truth.labels, truth.sizes_px)


def own_metric(labels: Sequence[Label]) -> str:
    """The metric of a data set's own benchmark: TuSimple's where labels have its rows, else CULane's."""
    return "tusimple" if all(found.rows is not None for found in labels) else "culane"


def read_submission(path: Path, metric: str, entries: Sequence[Entry]) -> Answer:
    """Predictions in the benchmark's files. Raises DataError."""
    labels = [label(entry) for entry in entries]
    metric = own_metric(labels) if metric == "auto" else metric
    sizes_px = read_all(lambda entry: read_image(entry.image).shape[1::-1], entries, "Reading image sizes")
    if metric == "tusimple":
        rows = [submission.rows_of(found, size_px) for found, size_px in zip(labels, sizes_px, strict=True)]
        lanes, run_times = submission.read_tusimple(path, entries, rows)
        return Answer(metric, lanes, labels, sizes_px, run_times)
    lanes, missing = submission.read_culane(path, entries)
    if missing:
        print(f"{missing} of {len(entries)} images have no file in {path}: counted as without lanes", file=sys.stderr)
    return Answer(metric, lanes, labels, sizes_px)


def write_submission(path: Path, answer: Answer, entries: Sequence[Entry]) -> None:
    """The files that the benchmark's official evaluator reads. Raises OSError where they cannot be written."""
    if answer.metric == "tusimple":
        rows = [submission.rows_of(found, size) for found, size in zip(answer.labels, answer.sizes_px, strict=True)]
        submission.write_tusimple(path, entries, rows, answer.lanes)
    else:
        submission.write_culane(path, entries, answer.lanes)


def benchmark_scores(answer: Answer, entries: Sequence[Entry]) -> tuple[dict[str, float], dict[str, Any]]:
    """The figures of the benchmark, and {"categories": ...} where CULane's lists of them name the images."""
    metric, lanes, labels, sizes_px, run_times_ms = answer
    if metric == "tusimple":
        return tusimple_scores(lanes, labels, sizes_px, run_times_ms), {}
    counts = culane_counts(lanes, entries, labels, sizes_px)
    categories = culane_categories(counts, entries)
    return culane_scores(counts), {"categories": categories} if categories else {}


def print_table(scores: dict[str, float], categories: dict[str, Any], images: int, answer: Answer) -> None:
    """The scores as a table on stdout, those of CULane's categories below."""
    sizes = sorted(set(answer.sizes_px))
    shown = ", ".join(f"{width}x{height}" for width, height in sizes[:4]) + (" ..." if len(sizes) > 4 else "")
    print(f"{images} images of {shown}, {'TuSimple' if answer.metric == 'tusimple' else 'CULane'} metric")
    for name, value in scores.items():
        if name in FRACTIONS or "@" in name:
            print(f"  {name:20} {100 * value:8.2f} %")
        else:
            print(f"  {name:20} {value:8.2f} px" if name.endswith("_px") else f"  {name:20} {value:8.3f}")
    for name, row in categories.get("categories", {}).items():
        figures = "  ".join(f"{key} {100 * value:6.2f} %" for key, value in row.items() if key.endswith(("50", "mf1")))
        print(f"  {name:20} {row['images']:6} images  {figures or 'fp ' + str(row['fp'])}")


def write_json(path: str | None, scores: dict[str, Any]) -> None:
    """Write the scores to a file, when one is asked for; what is not a number becomes null."""
    if path:
        finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in scores.items()}
        Path(path).write_text(json.dumps(finite, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    runtime.run(main)
