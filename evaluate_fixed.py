"""Scores a checkpoint on labelled images: python evaluate_fixed.py [section.key=value ...]

With --score PATH it scores prediction files in place of a checkpoint.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from config import Config, to_dict
from dataset import validation_samples, validation_set
from evaluation import collapse_detector, evaluator
from evaluation.benchmark_scores import print_table, write_json
from evaluation.collapse_detector import COLLAPSING
from evaluation.evaluator import BenchmarkPredictions
from evaluation.report import write_report
from formats import submission
from formats.base import Sample
from formats.registry import read_label
from inference.predictor import Predictor
from losses_fixed import LaneLoss
from preprocessing.images import read_image
from runtime import checkpoint, cli, distributed
from runtime.device import pick_device, pick_precision
from runtime.memory import keep_freed_memory


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table of scores; exit status 1 when the model has collapsed."""
    arguments = cli.parser(__doc__)
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
    options, overrides = cli.parse(arguments, argv, inputs=False)
    settings = cli.load_settings(options, overrides)
    if options.score and options.report:
        raise ValueError("--report needs the confidence of a network: give --checkpoint instead of --score")
    if options.score:
        samples = validation_samples(settings)
        answer = read_submission(Path(options.score), options.metric, samples)
        scores, categories = evaluator.benchmark_scores(answer, samples)
        print_table(scores, categories, answer.sizes_px, answer.metric)
        write_json(options.json, scores | categories)
        return 0

    with distributed.process_group(pick_device(settings.train.device)) as device:
        return evaluate(settings, options, device)


def evaluate(settings: Config, options: argparse.Namespace, device: torch.device) -> int:
    """Score a checkpoint; exit status 1 when it has collapsed."""
    keep_freed_memory()
    model, _, payload = checkpoint.load_model(options.checkpoint, device)
    config = checkpoint.with_checkpoint(settings, payload)
    with distributed.main_process_first():
        dataset = validation_set(config)
    truth = evaluator.ground_truth(dataset)
    dtype = pick_precision(config.train.precision, device)
    network = Predictor(model, checkpoint.input_grid(config), device, dtype)
    prediction = evaluator.predict(network, dataset, truth.order, config.inference.batch_size, config.data.workers)
    threshold = config.inference.threshold
    seen = evaluator.collapse_stats(network, dataset, truth, prediction)
    judged = collapse_detector.diagnose(seen, config.guard.min_diversity, config.guard.min_sensitivity,
                           beginning=checkpoint.trained_steps(payload) < config.guard.first_steps)
    if distributed.rank() == 0:
        answer = evaluator.to_benchmark(prediction, truth, options.metric, threshold, config.inference.end_tolerance)
        if options.predictions:
            write_submission(Path(options.predictions), answer, dataset.samples)
        scores, categories = evaluator.benchmark_scores(answer, dataset.samples)
        scores |= evaluator.validation_losses(prediction, truth, LaneLoss(**vars(config.loss)), threshold)
        scores |= seen._asdict()
        print_table(scores, categories, answer.sizes_px, answer.metric)
        print(judged)
        write_json(options.json, scores | categories | {"verdict": judged.state})
        if options.report:
            settings = {"checkpoint": {"file": options.checkpoint}} | to_dict(config)
            page = write_report(Path(options.report), dataset.samples, truth.labels, truth.sizes_px, truth.target,
                                prediction.points, prediction.logits, scores | categories, answer.metric, judged,
                                settings)
            print(f"the report is {page}")
    return 1 if judged.state == COLLAPSING else 0


def read_submission(path: Path, metric: str, samples: Sequence[Sample]) -> BenchmarkPredictions:
    """Predictions in the benchmark's files. Raises DataError."""
    labels = [read_label(sample) for sample in samples]
    metric = evaluator.own_metric(labels) if metric == "auto" else metric
    sizes_px = evaluator.in_threads(lambda sample: read_image(sample.image).shape[1::-1], samples, "Reading image sizes")
    if metric == "tusimple":
        rows = [submission.rows_of(found, size_px) for found, size_px in zip(labels, sizes_px, strict=True)]
        lanes, run_times = submission.read_tusimple(path, samples, rows)
        return BenchmarkPredictions(metric, lanes, labels, sizes_px, run_times)
    lanes, missing = submission.read_culane(path, samples)
    if missing:
        print(f"{missing} of {len(samples)} images have no file in {path}: counted as without lanes", file=sys.stderr)
    return BenchmarkPredictions(metric, lanes, labels, sizes_px)


def write_submission(path: Path, answer: BenchmarkPredictions, samples: Sequence[Sample]) -> None:
    """The files that the benchmark's official evaluator reads. Raises OSError where they cannot be written."""
    if answer.metric == "tusimple":
        rows = [submission.rows_of(found, size) for found, size in zip(answer.labels, answer.sizes_px, strict=True)]
        submission.write_tusimple(path, samples, rows, answer.lanes)
    else:
        submission.write_culane(path, samples, answer.lanes)


if __name__ == "__main__":
    cli.run(main)
