"""Scores a checkpoint on labelled images: python evaluate_fixed.py [section.key=value ...]

With --score PATH it scores prediction files in place of a checkpoint. Drives of synthetic.py --drive are also scored
with their lanes tracked.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from config import Config, to_dict
from dataset import open_dataset, validation_split
from evaluation import collapse_detector, evaluator, validation_sets
from evaluation.collapse_detector import COLLAPSING
from evaluation.drive_scores import drive_scores, has_drives, print_drive_table
from evaluation.evaluator import Evaluation, GroundTruth
from evaluation.report import write_report
from evaluation.score_table import print_table, write_json
from formats.label_checks import stated_size_hint
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
from runtime.files import check_written
from runtime.memory import keep_freed_memory


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table of scores; exit status 1 when the model has collapsed."""
    options, overrides = cli.parse(parser(), argv, inputs=False)
    config = cli.load_settings(options, overrides)
    if options.score and options.report:
        raise ValueError("--report needs the confidence of a network: give --checkpoint instead of --score")
    options.requested = cli.model_settings(options, overrides, config)
    with distributed.process_group(pick_device(config.train.device)) as device:
        if options.score:
            return score_files(config, options) if distributed.rank() == 0 else 0
        return score_checkpoint(config, options, device)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = cli.parser(__doc__)
    result.add_argument("words", nargs="*", metavar="section.key=value", help="settings to override")
    result.add_argument("--checkpoint", default=DEFAULT_CHECKPOINT, metavar="FILE")
    result.add_argument("--metric", default="auto", choices=("auto", *METRICS),
                        help="auto: that of the data set's own benchmark")
    result.add_argument("--json", metavar="FILE", help="also write the scores to FILE")
    result.add_argument("--report", metavar="DIR",
                        help="also write DIR/report.html: figures, diagrams and images; of several sets one in DIR/SET")
    files = result.add_mutually_exclusive_group()
    files.add_argument("--predictions", metavar="PATH",
                       help="also write the benchmark's submission: a file for TuSimple, a folder for CULane; "
                       "of several sets a folder with that of each")
    files.add_argument("--score", metavar="PATH", help="score such a file or folder instead of a checkpoint")
    return result


def score_checkpoint(config: Config, options: argparse.Namespace, device: torch.device) -> int:
    """Score a network; exit status 1 when it has collapsed."""
    keep_freed_memory()
    model, _, payload = checkpoint.load_model(options.checkpoint, device, options.requested)
    config = checkpoint.with_checkpoint(config, payload)
    with distributed.main_process_first():
        split = validation_split(config)
        dataset = open_dataset(split.val, config)
    gt = with_metric(validation_sets.with_sets(evaluator.ground_truth(dataset), split.val_sizes), options.metric)
    if distributed.rank() == 0 and (hint := stated_size_hint(gt.labels, gt.sizes_px)):
        print(hint)
    written = [Path(options.json)] if options.json else []
    for name, part in (gt.sets or {"": gt}).items() if options.predictions else ():
        written += part.metric.prediction_files(set_path(options.predictions, name, part.metric), part.samples)
    check_written(written, [sample.label for sample in gt.samples])  # no label is lost

    predictor = Predictor(model, checkpoint.input_grid(config), device,
                          pick_precision(config.train.precision, device))
    prediction = evaluator.predict(predictor, dataset, gt.indices, config.inference.batch_size, config.data.workers)
    diagnose = partial(collapse_detector.diagnose, guard=config.guard, steps=checkpoint.steps_of_training(payload))
    check = validation_sets.check_collapse(predictor, dataset, gt, prediction, diagnose)
    if distributed.rank() == 0:
        decode = DecodeSettings(config.inference.threshold, config.inference.end_tolerance)
        write_results(validation_sets.evaluate(prediction, gt, decode, check), config, payload["config"], options)
    distributed.barrier()  # torchrun ends all when one has failed, as status 1 says: none may still be writing
    return 1 if check.diagnosis.state == COLLAPSING else 0


def write_results(evaluation: Evaluation, config: Config, learned_with: Config, options: argparse.Namespace) -> None:
    """Print the tables and diagnoses of each set, and of all; write the files that were requested.

    A report has the settings of the evaluation, and those that the network has learned with.
    """
    loss = LaneLoss(**vars(config.loss))
    parts = {name: with_losses(part, loss) for name, part in (evaluation.sets or {"": evaluation}).items()}
    results = {name: write_set(name, part, options) for name, part in parts.items()}
    if evaluation.sets:
        mean = validation_sets.mean_score(evaluation.gt, results)
        print(f"all {len(evaluation.gt.indices)} images of {len(parts)} sets: mean score {100 * mean:.2f} %")
        print(evaluation.diagnosis)
        of_all = {"mean_score": mean} | with_losses(evaluation, loss).scores
        write_json(options.json, of_all | {"verdict": evaluation.diagnosis.state, "sets": results})
    else:
        write_json(options.json, results[""])
    if options.report:
        learned = to_dict(learned_with)
        settings = {"checkpoint": {"file": options.checkpoint}} | to_dict(config) | {
            section: learned[section] for section in ("model", "augment", "train")}
        for name, part in parts.items():
            print(f"the report is {write_report(Path(options.report) / name, part, settings, name)}")


def with_losses(evaluation: Evaluation, loss: LaneLoss) -> Evaluation:
    """The evaluation with losses and collapse statistics among its scores."""
    losses = evaluator.validation_losses(evaluation.prediction, evaluation.gt, loss, evaluation.decode.threshold)
    return evaluation._replace(scores=evaluation.scores | losses | evaluation.stats.record())


def write_set(name: str, evaluation: Evaluation, options: argparse.Namespace) -> dict[str, Any]:
    """The scores of a set, which are printed with its diagnosis; its predictions are written. A single one has the
    name "".
    """
    gt, prediction, decode = evaluation[:3]
    if options.predictions:
        gt.metric.write_predictions(set_path(options.predictions, name, gt.metric), gt.samples, gt.labels, gt.sizes_px,
                                    evaluator.to_benchmark(prediction, gt, decode))
    print_table(evaluation.scores, evaluation.categories, gt.sizes_px, gt.metric, name)
    parts = {"categories": evaluation.categories} if evaluation.categories else {}
    if has_drives(gt.labels):
        parts["drives"] = drive_scores(prediction, gt, decode)
        print_drive_table(parts["drives"])
    print(evaluation.diagnosis)
    return evaluation.scores | parts | {"verdict": evaluation.diagnosis.state}


def score_files(config: Config, options: argparse.Namespace) -> int:
    """Score predictions in the benchmark's files, of several sets each by itself; exit status 0. Raises DataError."""
    split = validation_split(config)
    check_written([Path(options.json)] if options.json else [], [sample.label for sample in split.val])
    results, start = {}, 0
    for name, size in split.val_sizes.items():
        samples = split.val[start:start + size]
        start += size
        results[name] = score_set("" if len(split.val_sizes) == 1 else name, samples, options)
    write_json(options.json, {"sets": results} if len(results) > 1 else next(iter(results.values())))
    return 0


def score_set(name: str, samples: SampleIndex, options: argparse.Namespace) -> dict[str, Any]:
    """Print the table of a set's predictions in files and return its scores. Raises DataError."""
    metric = chosen_metric(options.metric, samples)
    labels = [read_label(sample) for sample in samples]
    sizes_px = evaluator.in_threads(lambda sample: read_image(sample.image).shape[1::-1], samples, "Reading sizes")
    predictions, run_times_ms = metric.read_predictions(set_path(options.score, name, metric), samples, labels,
                                                        sizes_px)
    scores, categories = metric.score(predictions, samples, labels, sizes_px, run_times_ms)
    print_table(scores, categories, sizes_px, metric, name)
    return scores | ({"categories": categories} if categories else {})


def set_path(path: str, name: str, metric: Metric) -> Path:
    """Where the predictions of a set are: the path itself for a single set, else the set's file or folder in it."""
    return Path(path) / f"{name}{metric.predictions_suffix}" if name else Path(path)


def with_metric(gt: GroundTruth, name: str) -> GroundTruth:
    """The GroundTruth, and that of each of its sets, with the metric of that name."""
    sets = {key: with_metric(part, name) for key, part in gt.sets.items()}
    return gt._replace(metric=chosen_metric(name, gt.samples), sets=sets)


def chosen_metric(name: str, samples: SampleIndex) -> Metric:
    """The metric of that name; the samples' own, with its canvas, for "auto" and where it has that name."""
    own = own_metric(samples)
    return own if name in ("auto", own.name) else METRICS[name]


if __name__ == "__main__":
    cli.run(main)
