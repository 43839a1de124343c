"""What a network says of labelled images, and how good that is: predictions, scores, the guard's signs.

Shapes: N images, L lane slots, P = 6 control points, 2 = (x, y) in [0, 1].
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from dataset import LaneDataset, batches, evenly_spaced, loader
from evaluation import collapse_detector
from evaluation.collapse_detector import CollapseStats
from formats import submission
from formats.base import Label, Sample
from formats.registry import read_label
from formats.scores import culane_categories, culane_counts, culane_scores, tusimple_scores
from geometry.decode import lane_nms
from geometry.slots import LaneTarget, resolve_ambiguous_assignment
from inference.predictor import Predictor
from losses_fixed import LaneLoss, LossTerms
from metrics import collapse
from model import LanePrediction
from preprocessing.targets import read_item
from runtime import distributed
from runtime.prefetch import prefetch

PROBES = 8  # images that are moved to see whether the lanes follow


class GroundTruth(NamedTuple):
    """What images of a data set are scored against, read once."""

    order: list[int]  # their numbers (N) in the data set
    labels: list[Label]
    sizes_px: list[tuple[int, int]]
    target: LaneTarget  # points (N, L, P, 2), exists (N, L)
    constant_error_px: float  # mean error of the best prediction that does not look at the image


def ground_truth(dataset: LaneDataset, order: Sequence[int] | None = None) -> GroundTruth:
    """The labels of the images in order (all of them by default). Raises DataError where one cannot be read."""
    order = list(range(len(dataset)) if order is None else order)
    samples = dataset.samples.take(order)
    labels = [read_label(sample) for sample in samples]
    if dataset.pixels is not None:
        points, exists = dataset.pixels.points[order], dataset.pixels.exists[order]
        sizes = [tuple(map(int, size)) for size in dataset.pixels.sizes_px[order]]
    else:
        def fitted(sample: Sample) -> tuple:
            return read_item(sample, dataset.grid, dataset.slots)[1:4]  # no more pixels than needed

        points, exists, sizes = map(list, zip(*in_threads(fitted, samples, "Reading labels"), strict=True))
        points, exists = np.stack(points), np.stack(exists)
    constant = np.broadcast_to(collapse.constant_prediction(points, exists), points.shape)
    constant_error = collapse.mean_x_error(constant, points, exists)
    target = LaneTarget(torch.from_numpy(points), torch.from_numpy(exists))
    return GroundTruth(order, labels, sizes, target, constant_error)


def in_threads(read: Callable[[Sample], Any], samples: Sequence[Sample], what: str) -> list:
    """read(sample) of all samples, in order, with a progress bar."""
    results = prefetch(partial(read, sample) for sample in samples)
    return list(tqdm(results, what, len(samples), unit="img", file=sys.stderr, disable=distributed.progress_disabled()))


@torch.inference_mode()
def predict(network: Predictor, dataset: LaneDataset, order: Sequence[int], batch_size: int, workers: int
            ) -> LanePrediction:
    """Predictions for the images in order, on the CPU: points (N, L, P, 2) and logits (N, L).

    Where several processes run, each predicts its share and all get the whole.
    """
    found = [LanePrediction(torch.zeros(0, dataset.slots, 6, 2, device=network.device),
                            torch.zeros(0, dataset.slots, device=network.device))]
    plan = batches(distributed.shard(list(order)), batch_size)
    for images, _ in loader(dataset, plan, workers, network.device.type == "cuda"):
        found.append(network.forward(images))
    points, logits = (distributed.all_gather(torch.cat(parts), len(order)).cpu() for parts in zip(*found, strict=True))
    return LanePrediction(points, logits)


def label_stats(truth: GroundTruth, prediction: LanePrediction) -> CollapseStats:
    """What the guard sees in the predictions for the images of a reference."""
    points, exists = (part.numpy() for part in resolve_ambiguous_assignment(*prediction, truth.target))
    found = collapse_detector.prediction_stats(prediction.points.numpy(), points, exists)
    return found._replace(constant_error_px=truth.constant_error_px)


@torch.inference_mode()
def collapse_stats(network: Predictor, dataset: LaneDataset, truth: GroundTruth, prediction: LanePrediction) -> CollapseStats:
    """All that the guard looks at; it costs the forward pass of a grey image and of PROBES moved ones."""
    probes = evenly_spaced(range(len(truth.order)), PROBES)
    images, _ = dataset.__getitems__([truth.order[i] for i in probes])
    after = network.forward(collapse.shift_images(images))
    follows = collapse.sensitivity((prediction.points[probes], prediction.logits[probes].sigmoid()),
                                (after.points.cpu(), after.logits.cpu().sigmoid()), dataset.grid.width)
    empty = collapse.gray_image(dataset.grid.height, dataset.grid.width)
    grey = network.forward(empty).points.cpu().expand_as(prediction.points)
    points, exists = (part.numpy() for part in resolve_ambiguous_assignment(*prediction, truth.target))
    return label_stats(truth, prediction)._replace(
        sensitivity=follows, grey_error_px=collapse.mean_x_error(grey.numpy(), points, exists))


def validation_losses(prediction: LanePrediction, truth: GroundTruth, loss: LaneLoss, threshold: float) -> dict[str, float]:
    """What only a network has: its loss on the images of a reference, and how often it knows whether a lane exists."""
    target = resolve_ambiguous_assignment(*prediction, truth.target)
    terms: LossTerms = loss(*prediction, target)
    said = prediction.logits.sigmoid() >= threshold
    result = {f"val_{name}": float(getattr(terms, name)) for name in ("regression", "existence", "curvature")}
    return result | {"val_loss": float(terms.total),
                     "existence_accuracy": float((said == target.exists).float().mean())}


class BenchmarkPredictions(NamedTuple):
    """Lanes of N images as a benchmark takes them, and what they are scored against."""

    metric: str  # tusimple: lanes (lanes, R) an image; culane: lanes (N, 2) an image
    lanes: list
    labels: list[Label]
    sizes_px: list[tuple[int, int]]
    run_times_ms: list[float] | None = None


def to_benchmark(prediction: LanePrediction, truth: GroundTruth, metric: str, threshold: float, end_tolerance: float
              ) -> BenchmarkPredictions:
    """What a network says, as a benchmark takes it."""
    metric = own_metric(truth.labels) if metric == "auto" else metric
    keep = lane_nms(prediction.points, prediction.logits.sigmoid(), threshold)
    lanes = []
    for points, kept, found, size_px in zip(prediction.points, keep, truth.labels, truth.sizes_px, strict=True):
        if metric == "tusimple":
            rows = submission.rows_of(found, size_px)
            lanes.append(submission.tusimple_lanes(points[kept], rows, size_px, end_tolerance))
        else:
            lanes.append(submission.culane_lanes(points[kept], size_px))
    return BenchmarkPredictions(metric, lanes, truth.labels, truth.sizes_px)


def own_metric(labels: Sequence[Label]) -> str:
    """The metric of a data set's own benchmark: TuSimple's where labels have its rows, else CULane's."""
    return "tusimple" if all(found.rows is not None for found in labels) else "culane"


def benchmark_scores(answer: BenchmarkPredictions, samples: Sequence[Sample]) -> tuple[dict[str, float], dict[str, Any]]:
    """The figures of the benchmark, and {"categories": ...} where CULane's lists of them name the images."""
    metric, lanes, labels, sizes_px, run_times_ms = answer
    if metric == "tusimple":
        return tusimple_scores(lanes, labels, sizes_px, run_times_ms), {}
    counts = culane_counts(lanes, samples, labels, sizes_px)
    categories = culane_categories(counts, samples)
    return culane_scores(counts), {"categories": categories} if categories else {}
