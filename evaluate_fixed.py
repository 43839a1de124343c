"""Scores a checkpoint on labelled images: python evaluate_fixed.py [section.key=value ...]

With --score PATH it scores prediction files in place of a checkpoint. Drives of synthetic.py --drive are also scored
with their lanes tracked.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from config import Config, to_dict
from dataset import validation_samples, validation_set
from evaluation import collapse_detector, evaluator
from evaluation.collapse_detector import COLLAPSING
from evaluation.drive_scores import drive_scores, has_drives, print_drive_table
from evaluation.evaluator import Evaluation
from evaluation.report import write_report
from evaluation.score_table import print_table, write_json
from formats.metric import Metric
from formats.registry import METRICS, own_metric, read_label
from formats.sample_index import SampleIndex
from geometry.decode import DecodeSettings
from inference.predictor import Predictor
from losses_fixed import LaneLoss
from preprocessing.images import read_image
from runtime import checkpoint, cli, distributed
from runtime.checkpoint import DEFAULT_CHECKPOINT
from runtime.device import pick_device, pick_precision
from runtime.memory import keep_freed_memory


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table of scores; exit status 1 when the model has collapsed."""
    options, overrides = cli.parse(parser(), argv, inputs=False)
    config = cli.load_settings(options, overrides)
    if options.score and options.report:
        raise ValueError("--report needs the confidence of a network: give --checkpoint instead of --score")
    if options.score:
        return score_files(config, options)
    options.requested = cli.model_settings(options, overrides, config)
    with distributed.process_group(pick_device(config.train.device)) as device:
        return score_checkpoint(config, options, device)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = cli.parser(__doc__)
    result.add_argument("words", nargs="*", metavar="section.key=value", help="settings to override")
    result.add_argument("--checkpoint", default=DEFAULT_CHECKPOINT, metavar="FILE")
    result.add_argument("--metric", default="auto", choices=("auto", *METRICS),
                        help="auto: that of the data set's own benchmark")
    result.add_argument("--json", metavar="FILE", help="also write the scores to FILE")
    result.add_argument("--report", metavar="DIR", help="also write DIR/report.html: figures, diagrams and images")
    files = result.add_mutually_exclusive_group()
    files.add_argument("--predictions", metavar="PATH",
                       help="also write the benchmark's submission: a file for TuSimple, a folder for CULane")
    files.add_argument("--score", metavar="PATH", help="score such a file or folder instead of a checkpoint")
    return result


def score_checkpoint(config: Config, options: argparse.Namespace, device: torch.device) -> int:
    """Score a network; exit status 1 when it has collapsed."""
    keep_freed_memory()
    model, _, payload = checkpoint.load_model(options.checkpoint, device, options.requested)
    config = checkpoint.with_checkpoint(config, payload)
    with distributed.main_process_first():
        dataset = validation_set(config)
    gt = evaluator.ground_truth(dataset)
    gt = gt._replace(metric=chosen_metric(options.metric, gt.samples))

    predictor = Predictor(model, checkpoint.input_grid(config), device,
                          pick_precision(config.train.precision, device))
    prediction = evaluator.predict(predictor, dataset, gt.indices, config.inference.batch_size, config.data.workers)
    stats = evaluator.collapse_stats(predictor, dataset, gt, prediction)
    diagnosis = collapse_detector.diagnose(stats, config.guard.min_diversity, config.guard.min_sensitivity,
                                           is_early=checkpoint.steps_of_training(payload) < config.guard.first_steps)
    if distributed.rank() == 0:
        decode = DecodeSettings(config.inference.threshold, config.inference.end_tolerance)
        write_results(evaluator.score(prediction, gt, decode, stats, diagnosis), config, options)
    return 1 if diagnosis.state == COLLAPSING else 0


def write_results(evaluation: Evaluation, config: Config, options: argparse.Namespace) -> None:
    """Print the table and the diagnosis; write the files that were requested."""
    gt, prediction, decode = evaluation[:3]
    if options.predictions:
        gt.metric.write_predictions(Path(options.predictions), gt.samples, gt.labels, gt.sizes_px,
                                    evaluator.to_benchmark(prediction, gt, decode))
    losses = evaluator.validation_losses(prediction, gt, LaneLoss(**vars(config.loss)), decode.threshold)
    evaluation = evaluation._replace(scores=evaluation.scores | losses | evaluation.stats.record())
    print_table(evaluation.scores, evaluation.categories, gt.sizes_px, gt.metric)
    parts = {"categories": evaluation.categories} if evaluation.categories else {}
    if has_drives(gt.labels):
        parts["drives"] = drive_scores(prediction, gt, decode)
        print_drive_table(parts["drives"])
    print(evaluation.diagnosis)
    write_json(options.json, evaluation.scores | parts | {"verdict": evaluation.diagnosis.state})
    if options.report:
        settings = {"checkpoint": {"file": options.checkpoint}} | to_dict(config)
        print(f"the report is {write_report(Path(options.report), evaluation, settings)}")


def score_files(config: Config, options: argparse.Namespace) -> int:
    """Score predictions in the benchmark's files; exit status 0. Raises DataError."""
    samples = validation_samples(config)
    metric = chosen_metric(options.metric, samples)
    labels = [read_label(sample) for sample in samples]
    sizes_px = evaluator.in_threads(lambda sample: read_image(sample.image).shape[1::-1], samples, "Reading sizes")
    predictions, run_times_ms = metric.read_predictions(Path(options.score), samples, labels, sizes_px)
    scores, categories = metric.score(predictions, samples, labels, sizes_px, run_times_ms)
    print_table(scores, categories, sizes_px, metric)
    write_json(options.json, scores | ({"categories": categories} if categories else {}))
    return 0


def chosen_metric(name: str, samples: SampleIndex) -> Metric:
    """The metric of that name; the samples' own, with its canvas, for "auto" and where it has that name."""
    own = own_metric(samples)
    return own if name in ("auto", own.name) else METRICS[name]


if __name__ == "__main__":
    cli.run(main)
