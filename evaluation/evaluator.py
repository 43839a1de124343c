"""A network on labelled images: predictions, losses, scores by the metric of the data set, collapse statistics.

Shapes: N images, L lane slots, P = 6 control points, 2 = (x, y) in [0, 1].
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from dataset import LaneDataset, batches
from evaluation import collapse_detector
from evaluation.collapse_detector import CollapseStats, Diagnosis
from evaluation.threshold import best_threshold, figures_at
from formats.base import Label, Sample
from formats.metric import Metric
from formats.registry import own_metric, read_label
from formats.sample_index import SampleIndex, evenly_spaced
from geometry.bezier import CONTROL_POINTS
from geometry.decode import DecodeSettings, lane_nms
from geometry.slots import LaneTarget, resolve_ambiguous_assignment
from inference.predictor import Predictor
from losses_fixed import LaneLoss, LossTerms
from metrics import collapse
from model import LanePrediction
from preprocessing.images import read_image
from preprocessing.loader import loader
from preprocessing.targets import lanes_in_slots
from runtime import distributed
from runtime.prefetch import prefetch

PROBES = 8  # images that are shifted sideways for the sensitivity


class GroundTruth(NamedTuple):
    """What images of a data set are scored against, read once."""

    indices: list[int]  # of the N images in the data set
    samples: SampleIndex
    labels: list[Label]
    sizes_px: list[tuple[int, int]]
    target: LaneTarget  # points (N, L, P, 2), exists (N, L)
    constant_error_px: float  # mean error of the best prediction that is the same for all images
    metric: Metric  # of several sets that of the first
    sets: Mapping[str, "GroundTruth"] = MappingProxyType({})  # by name, where several sets lie end to end


class Evaluation(NamedTuple):
    """A network's predictions for the images of a GroundTruth, and how good they are."""

    gt: GroundTruth
    prediction: LanePrediction
    decode: DecodeSettings
    scores: dict[str, float]
    categories: dict[str, dict[str, float]]
    stats: CollapseStats
    diagnosis: Diagnosis
    sets: Mapping[str, "Evaluation"] = MappingProxyType({})  # of several sets, each with its scores


def ground_truth(dataset: LaneDataset, indices: Sequence[int] | None = None) -> GroundTruth:
    """The labels of the images at indices (default: all). Raises DataError where one cannot be read."""
    indices = list(range(len(dataset)) if indices is None else indices)
    samples = dataset.samples.take(indices)
    labels = [read_label(sample) for sample in samples]
    if dataset.pixels is not None:
        points, exists = dataset.pixels.points[indices], dataset.pixels.exists[indices]
        sizes_px = [tuple(map(int, size)) for size in dataset.pixels.sizes_px[indices]]
    else:
        sizes_px = in_threads(lambda sample: read_image(sample.image).shape[1::-1], samples, "Reading image sizes")
        points, exists = (part.numpy() for part in lanes_in_slots(labels, sizes_px, dataset.slots)[0])
    target = LaneTarget(torch.from_numpy(points), torch.from_numpy(exists))
    return GroundTruth(indices, samples, labels, sizes_px, target, constant_error_px(target), own_metric(samples))


def constant_error_px(target: LaneTarget) -> float:
    """The mean error of the best prediction that is the same for all images."""
    points, exists = (part.numpy() for part in target)
    constant = np.broadcast_to(collapse.constant_prediction(points, exists), points.shape)
    return collapse.mean_x_error(constant, points, exists)


def in_threads(read: Callable[[Sample], Any], samples: Sequence[Sample], description: str) -> list:
    """read(sample) of all samples, in order, with a progress bar."""
    results = prefetch(partial(read, sample) for sample in samples)
    return list(tqdm(results, description, len(samples), unit="img", file=sys.stderr,
                     disable=distributed.progress_disabled()))


@torch.inference_mode()
def predict(predictor: Predictor, dataset: LaneDataset, indices: Sequence[int], batch_size: int, workers: int
            ) -> LanePrediction:
    """Predictions for the images at indices, on the CPU: points (N, L, P, 2) and logits (N, L).

    Where several processes run, each predicts its share and all get the whole.
    """
    parts = [LanePrediction(torch.zeros(0, dataset.slots, CONTROL_POINTS, 2, device=predictor.device),
                            torch.zeros(0, dataset.slots, device=predictor.device))]
    batch_indices = batches(distributed.shard(list(indices)), batch_size)
    for images, _ in loader(dataset, batch_indices, workers, predictor.device.type == "cuda"):
        parts.append(predictor.forward(images))

    def gathered(tensors: Sequence[Tensor]) -> Tensor:
        return distributed.all_gather(torch.cat(tensors), len(indices)).cpu()

    return LanePrediction(*map(gathered, zip(*parts, strict=True)))


def label_stats(gt: GroundTruth, prediction: LanePrediction) -> CollapseStats:
    """The collapse statistics that need labels and no further forward pass."""
    points, exists = (part.numpy() for part in resolve_ambiguous_assignment(*prediction, gt.target))
    stats = collapse_detector.prediction_stats(prediction.points.numpy(), points, exists)
    return stats._replace(constant_error_px=gt.constant_error_px)


@torch.inference_mode()
def collapse_stats(predictor: Predictor, dataset: LaneDataset, gt: GroundTruth, prediction: LanePrediction
                   ) -> CollapseStats:
    """All collapse statistics; they cost the forward pass of a gray image and of PROBES shifted ones."""
    probes = evenly_spaced(range(len(gt.indices)), PROBES)
    images, _ = dataset[[gt.indices[i] for i in probes]]
    shifted = predictor.forward(collapse.shift_images(images))
    sensitivity = collapse.sensitivity((prediction.points[probes], prediction.logits[probes].sigmoid()),
                                       (shifted.points.cpu(), shifted.logits.cpu().sigmoid()), dataset.grid.width)
    gray = predictor.forward(collapse.gray_image(dataset.grid.height, dataset.grid.width))
    gray_points = gray.points.cpu().expand_as(prediction.points).numpy()
    points, exists = (part.numpy() for part in resolve_ambiguous_assignment(*prediction, gt.target))
    return label_stats(gt, prediction)._replace(
        sensitivity=sensitivity, probes=len(probes), gray_error_px=collapse.mean_x_error(gray_points, points, exists))


def validation_losses(prediction: LanePrediction, gt: GroundTruth, loss: LaneLoss, threshold: float
                      ) -> dict[str, float]:
    """The loss on the images of a GroundTruth, and the share of slots whose existence is predicted rightly."""
    target = resolve_ambiguous_assignment(*prediction, gt.target)
    terms: LossTerms = loss(*prediction, target)
    reported = prediction.logits.sigmoid() >= threshold
    losses = {f"val_{name}": float(getattr(terms, name)) for name in ("regression", "existence", "curvature")}
    return losses | {"val_loss": float(terms.total),
                     "existence_accuracy": float((reported == target.exists).float().mean())}


def choose_decode(prediction: LanePrediction, gt: GroundTruth, threshold: float | str, end_tolerance: float
                  ) -> tuple[DecodeSettings, dict[str, float] | None]:
    """The settings as given; for the threshold "auto" the best on these images by the data set's metric.

    With them the scores at that threshold, where the metric has them from the search.
    """
    if threshold != "auto":
        return DecodeSettings(threshold, end_tolerance), None
    curve = gt.metric.threshold_scores(prediction.points, prediction.logits.sigmoid(), gt.labels, gt.sizes_px,
                                       end_tolerance)
    best = best_threshold(curve)
    return DecodeSettings(best, end_tolerance), figures_at(curve, best)


def to_benchmark(prediction: LanePrediction, gt: GroundTruth, decode: DecodeSettings) -> list[Any]:
    """The reported lanes of each image as the metric's benchmark takes them."""
    keep = lane_nms(prediction.points, prediction.logits.sigmoid(), decode.threshold)
    return [gt.metric.to_prediction(points[kept], label, size_px, decode.end_tolerance) for points, kept, label, size_px
            in zip(prediction.points, keep, gt.labels, gt.sizes_px, strict=True)]


def score(prediction: LanePrediction, gt: GroundTruth, decode: DecodeSettings, stats: CollapseStats,
          diagnosis: Diagnosis, scores: dict[str, float] | None = None, workers: int | None = None) -> Evaluation:
    """The prediction scored by the metric of the GroundTruth, unless scores are given; workers as there."""
    categories = {}
    if scores is None:
        predictions = to_benchmark(prediction, gt, decode)
        scores, categories = gt.metric.score(predictions, gt.samples, gt.labels, gt.sizes_px, workers=workers)
    return Evaluation(gt, prediction, decode, scores, categories, stats, diagnosis)
