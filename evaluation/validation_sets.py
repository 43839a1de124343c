"""Data sets that validate together: each is scored by its own metric; their mean chooses the model and the threshold.

Where there is one set, everything is as the evaluator has it.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from dataset import LaneDataset
from evaluation import collapse_detector, evaluator
from evaluation.collapse_detector import CollapseStats, Diagnosis
from evaluation.evaluator import Evaluation, GroundTruth, constant_error_px
from evaluation.threshold import best_threshold, figures_at, mean_curve
from formats.metric import STANDARD_ERROR
from formats.registry import own_metric
from geometry.decode import DecodeSettings
from geometry.slots import LaneTarget
from inference.predictor import Predictor
from losses_fixed import LaneLoss
from model import LanePrediction


class CollapseCheck(NamedTuple):
    """The statistics and the diagnosis of all images, and of each set where there are several."""

    stats: CollapseStats
    diagnosis: Diagnosis
    sets: Mapping[str, "CollapseCheck"] = MappingProxyType({})


def with_sets(gt: GroundTruth, sizes: Mapping[str, int]) -> GroundTruth:
    """The GroundTruth of sets of these sizes that lie end to end, with that of each in `sets` where there are several.
    """
    sets, start = {}, 0
    for name, size in sizes.items() if len(sizes) > 1 else ():
        rows = slice(start, start + size)
        samples, target = gt.samples[rows], LaneTarget(*(part[rows] for part in gt.target))
        sets[name] = GroundTruth(gt.indices[rows], samples, gt.labels[rows], gt.sizes_px[rows], target,
                                 constant_error_px(target), own_metric(samples))
        start += size
    return gt._replace(sets=sets)


def by_set(prediction: LanePrediction, gt: GroundTruth) -> dict[str, LanePrediction]:
    """The predictions for the images of each set, by its name; none where there is one set."""
    if not gt.sets:
        return {}
    sizes = [len(part.indices) for part in gt.sets.values()]
    parts = zip(*(tensor.split(sizes) for tensor in prediction), strict=True)
    return dict(zip(gt.sets, map(LanePrediction._make, parts), strict=True))


def check_collapse(predictor: Predictor, dataset: LaneDataset, gt: GroundTruth, prediction: LanePrediction,
                   diagnose: Callable[[CollapseStats], Diagnosis]) -> CollapseCheck:
    """The statistics, and of several sets the worst diagnosis of all images together and of each set."""
    stats = evaluator.collapse_stats(predictor, dataset, gt, prediction)
    sets = {name: check_collapse(predictor, dataset, gt.sets[name], part, diagnose)
            for name, part in by_set(prediction, gt).items()}
    diagnoses = {"": diagnose(stats)} | {name: check.diagnosis for name, check in sets.items()}
    return CollapseCheck(stats, collapse_detector.worst(diagnoses), sets)


def choose_decode(prediction: LanePrediction, gt: GroundTruth, threshold: float | str, end_tolerance: float
                  ) -> tuple[DecodeSettings, dict[str, Any] | None]:
    """As the evaluator's; of several sets the threshold whose objectives have the highest mean, and the scores by set.
    """
    if not gt.sets or threshold != "auto":
        return evaluator.choose_decode(prediction, gt, threshold, end_tolerance)
    curves = {}
    for name, (points, logits) in by_set(prediction, gt).items():
        part = gt.sets[name]
        curves[name] = part.metric.threshold_scores(points, logits.sigmoid(), part.labels, part.sizes_px, end_tolerance)
    best = best_threshold(mean_curve(curves.values()))
    return DecodeSettings(best, end_tolerance), {name: figures_at(curve, best) for name, curve in curves.items()}


def evaluate(prediction: LanePrediction, gt: GroundTruth, decode: DecodeSettings, check: CollapseCheck,
             scores: Mapping[str, Any] | None = None, workers: int | None = None) -> Evaluation:
    """The evaluation of all images; of several sets each has its own, and the scores with them.

    scores, where given, are those of `choose_decode`; workers as in Metric.score.
    """
    if not gt.sets:
        return evaluator.score(prediction, gt, decode, check.stats, check.diagnosis, scores, workers)
    sets = {name: evaluate(part, gt.sets[name], decode, check.sets[name], (scores or {}).get(name), workers)
            for name, part in by_set(prediction, gt).items()}
    return Evaluation(gt, prediction, decode, {}, {}, check.stats, check.diagnosis, sets)


def sets_record(evaluation: Evaluation, loss: LaneLoss) -> dict[str, Any]:
    """What log.jsonl and checkpoints have of several sets: "mean_score", and "sets" with the figures of each; of one
    set nothing, as its figures are those of all images.
    """
    if not evaluation.sets:
        return {}
    records = {}
    for name, (gt, prediction, decode, scores, _, stats, diagnosis, _) in evaluation.sets.items():
        records[name] = {"images": len(gt.indices), "verdict": diagnosis.state, **scores, **stats.record(),
                         **evaluator.validation_losses(prediction, gt, loss, decode.threshold)}
    return {"mean_score": mean_score(evaluation.gt, records), "sets": records}


def mean_score(gt: GroundTruth, records: Mapping[str, Mapping[str, float]]) -> float:
    """The plain mean of the sets' selection scores: a set counts as much with few images, and with a small share of an
    epoch, which says how much of it there is to learn and not how much it matters.
    """
    return sum(part.metric.selection_scores(records[name])[0] for name, part in gt.sets.items()) / len(gt.sets)


def selection_key(gt: GroundTruth, record: Mapping[str, Any]) -> tuple[float, float, float]:
    """What the best model is chosen by, of a record of log.jsonl: as Metric.selection_key for one set.

    Of several it is the mean of their scores as far as so many images can tell it, then the smaller mean error, which
    all metrics share, then the mean of the main scores to the digit.
    """
    if not gt.sets:
        return gt.metric.selection_key(record, len(gt.indices))
    count, records = len(gt.sets), record["sets"]
    step = STANDARD_ERROR * math.sqrt(sum(1 / len(part.indices) for part in gt.sets.values())) / count
    errors_px = [error for each in records.values() if math.isfinite(error := each["error_px"])]
    main_scores = [records[name][part.metric.main_score] for name, part in gt.sets.items()]
    return (round(record["mean_score"] / step) * step, -sum(errors_px) / len(errors_px) if errors_px else -math.inf,
            sum(main_scores) / count)


def summary(gt: GroundTruth, record: Mapping[str, Any]) -> str:
    """The scores of an epoch in a few words; of several sets each by its name, and their mean."""
    if not gt.sets:
        return gt.metric.summary(record)
    words = [f"{name} {part.metric.summary(record['sets'][name], short=True)}" for name, part in gt.sets.items()]
    return " | ".join([*words, f"mean {100 * record['mean_score']:.1f} %"])
