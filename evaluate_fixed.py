"""Scores a checkpoint on labelled images: python evaluate_fixed.py [section.key=value ...]

With --score PATH it scores prediction files in place of a checkpoint.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

import checkpoints
import distributed
import guard
import runtime
import sources
import submission
import validation
from config import Config, to_dict
from dataset import LaneDataset, read_image
from entries import Entries
from formats import Entry, label
from fusion import fused
from guard import COLLAPSING
from losses_fixed import LaneLoss
from memory import keep_freed_memory
from report import write_report
from scores import print_table, write_json
from validation import Answer, Network


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
    arguments.add_argument("--report", metavar="DIR", help="also write DIR/report.html: figures, diagrams and images")
    files = arguments.add_mutually_exclusive_group()
    files.add_argument("--predictions", metavar="PATH",
                       help="also write the benchmark's submission: a file for TuSimple, a folder for CULane")
    files.add_argument("--score", metavar="PATH", help="score such a file or folder instead of a checkpoint")
    options, overrides = runtime.parse(arguments, argv)
    if options.words:
        raise ValueError(f"'{options.words[0]}' is not an override; write section.key=value")
    settings = runtime.load_settings(options, overrides)
    if options.score and options.report:
        raise ValueError("--report needs the confidence of a network: give --checkpoint instead of --score")
    if options.score:
        entries = validation_entries(settings)
        answer = read_submission(Path(options.score), options.metric, entries)
        scores, categories = validation.benchmark_scores(answer, entries)
        print_table(scores, categories, answer.sizes_px, answer.metric)
        write_json(options.json, scores | categories)
        return 0

    with distributed.joined(runtime.pick_device(settings.train.device)) as device:
        return evaluate(settings, options, device)


def evaluate(settings: Config, options: argparse.Namespace, device: torch.device) -> int:
    """Score a checkpoint; exit status 1 when it has collapsed."""
    keep_freed_memory()
    model, _, payload = checkpoints.load_model(options.checkpoint, device)
    config = checkpoints.with_model(settings, payload)
    with distributed.one_first():
        dataset = validation_set(config)
    truth = validation.reference(dataset)
    dtype = runtime.precision(config.train.precision, device)
    network = Network(fused(model, dtype), device, dtype)
    prediction = validation.predict(network, dataset, truth.order, config.inference.batch_size, config.data.workers)
    threshold = config.inference.threshold
    seen = validation.signs(network, dataset, truth, prediction)
    judged = guard.verdict(seen, config.guard.min_diversity, config.guard.min_sensitivity,
                           beginning=checkpoints.steps_of(payload) < config.guard.first_steps)
    if distributed.rank() == 0:
        answer = validation.answer_of(prediction, truth, options.metric, threshold, config.inference.end_tolerance)
        if options.predictions:
            write_submission(Path(options.predictions), answer, dataset.entries)
        scores, categories = validation.benchmark_scores(answer, dataset.entries)
        scores |= validation.figures(prediction, truth, LaneLoss(**vars(config.loss)), threshold)
        scores |= seen._asdict()
        print_table(scores, categories, answer.sizes_px, answer.metric)
        print(judged)
        write_json(options.json, scores | categories | {"verdict": judged.state})
        if options.report:
            settings = {"checkpoint": {"file": options.checkpoint}} | to_dict(config)
            page = write_report(Path(options.report), dataset.entries, truth.labels, truth.sizes_px, truth.target,
                                prediction.points, prediction.logits, scores | categories, answer.metric, judged,
                                settings)
            print(f"the report is {page}")
    return 1 if judged.state == COLLAPSING else 0


def read_submission(path: Path, metric: str, entries: Sequence[Entry]) -> Answer:
    """Predictions in the benchmark's files. Raises DataError."""
    labels = [label(entry) for entry in entries]
    metric = validation.own_metric(labels) if metric == "auto" else metric
    sizes_px = validation.in_threads(lambda entry: read_image(entry.image).shape[1::-1], entries, "Reading image sizes")
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


if __name__ == "__main__":
    runtime.run(main)
