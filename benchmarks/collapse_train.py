"""One run of benchmarks/collapse.py: its scenes, its training and what is recorded of each epoch.

Shapes: N images, B batch, L lane slots, K lanes of an image, P = 6 control points, 2 = (x, y) in [0, 1].
"""

import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from collapse_records import Lanes, Run, Settings, Variant
from old_way import TERMS, PooledNet, UncertaintyLoss, as_listed, best_total, blind_terms
from torch import Tensor, nn

from config import Config
from dataset import LaneDataset, epoch_order
from evaluation.collapse_detector import CollapseStats, diagnose
from evaluation.evaluator import PROBES, GroundTruth, ground_truth, to_benchmark
from formats import registry, splits
from formats.sample_index import evenly_spaced
from geometry.decode import DecodeSettings, lane_nms
from geometry.input_grid import InputGrid
from geometry.slots import LaneTarget, resolve_ambiguous_assignment
from inference.predictor import Predictor
from losses_fixed import LaneLoss
from metrics import collapse
from model import LaneNet, LanePrediction
from preprocessing.cache import open_cache
from renderer import dataset_writer
from runtime import device
from runtime.memory import keep_freed_memory

SLOTS = Config().model.slots
DECODE = DecodeSettings()
SCENE_PX = (320, 180)
ALIKE_FACTOR = 4  # so many scenes are rendered for one: somewhat over a quarter have the commonest set of lanes
CPU = torch.device("cpu")


class Job(NamedTuple):
    """A run to do."""

    variant: Variant
    seed: int  # of the scenes, their order, the initial weights and the shuffled lanes
    settings: Settings
    folder: Path  # for scenes and their cache
    threads: int


def datasets(settings: Settings, seed: int, alike: bool, folder: Path) -> tuple[LaneDataset, LaneDataset]:
    """The scenes for training and validation, rendered and cached where they are not yet."""
    factor = ALIKE_FACTOR if alike else 1
    counts = settings.scenes * factor, settings.val_scenes * factor
    root = folder / f"{counts[0]}-{counts[1]}-seed{seed}"
    dataset_writer.write_dataset(root, *counts, seed, *SCENE_PX)
    train, val = splits.split(registry.list_samples(root, "tusimple"), "auto")
    grid, pattern, parts = InputGrid(settings.width, settings.height), None, []
    for samples, count in ((train, settings.scenes), (val, settings.val_scenes)):
        pixels = open_cache(samples, grid, SLOTS, folder / "cache", math.inf)
        if alike:
            patterns, frequency = np.unique(pixels.exists, axis=0, return_counts=True)
            pattern = patterns[frequency.argmax()] if pattern is None else pattern
            chosen = np.flatnonzero((pixels.exists == pattern).all(1))[:count]
            per_image = [name for name, value in pixels._asdict().items() if isinstance(value, np.ndarray)]
            pixels = pixels._replace(**{name: getattr(pixels, name)[chosen] for name in per_image})
            samples = samples.take(chosen)
        parts.append(LaneDataset(samples, grid, SLOTS, pixels))
    return parts[0], parts[1]


def labels_in_order(slots: str, dataset: LaneDataset, seed: int) -> LaneTarget:
    """All labels of a data set, (N, L, P, 2) and (N, L), in one of the orders that a Variant names."""
    points, exists = np.array(dataset.pixels.points), np.array(dataset.pixels.exists)
    target = LaneTarget(torch.from_numpy(points), torch.from_numpy(exists))
    if slots == "ours":
        return target
    return as_listed(target, torch.Generator().manual_seed(seed) if slots == "old" else None)


def val_ground_truth(slots: str, dataset: LaneDataset, seed: int) -> GroundTruth:
    """The ground truth of the validation scenes in an order of lanes, shuffled by another seed than in training."""
    return ground_truth(dataset)._replace(target=labels_in_order(slots, dataset, seed + 1))


def train(job: Job) -> Run:
    """Train one variant from scratch; everything but what the variant names is the same for all of them."""
    start = time.perf_counter()
    variant, seed, settings = job[:3]
    torch.set_num_threads(job.threads)
    keep_freed_memory()
    train_set, val_set = datasets(settings, seed, variant.alike, job.folder)
    labels = labels_in_order(variant.slots, train_set, seed)
    gt = val_ground_truth(variant.slots, val_set, seed)

    device.seed_everything(seed)
    model = PooledNet(SLOTS) if variant.head == "old" else LaneNet("compact", slots=SLOTS)
    model = model.to(memory_format=torch.channels_last)
    loss = build_loss(variant.loss)
    groups = [{"params": list(model.parameters()), "rate": settings.learning_rate}]
    if isinstance(loss, UncertaintyLoss) and loss.log_vars.requires_grad:
        groups.append({"params": [loss.log_vars], "rate": settings.learning_rate * variant.s_rate, "weight_decay": 0.0})
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, weight_decay=0.02, fused=True)

    epochs = []
    for epoch in range(1, settings.epochs + 1):
        terms = train_epoch(epoch, model, loss, optimizer, train_set, labels, variant, seed, settings)
        predictor = Predictor(model, val_set.grid, CPU, torch.float32, DECODE)
        prediction = predict(predictor, val_set)
        epochs.append({"epoch": epoch, **terms, **loss_record(prediction, gt, loss, variant),
                       **score_record(prediction, gt, variant, sensitivity(predictor, val_set))})
    return Run(variant, epochs, time.perf_counter() - start, reported_lanes(prediction))


def build_loss(name: str) -> LaneLoss | UncertaintyLoss:
    """The loss that a Variant names."""
    return {"ours": LaneLoss, "no columns": lambda: LaneLoss(columns=0), "old": UncertaintyLoss,
            "fixed": lambda: UncertaintyLoss(learned=False),
            "no curvature": lambda: UncertaintyLoss(curvature=False)}[name]()


def train_epoch(epoch: int, model: LaneNet, loss: LaneLoss | UncertaintyLoss, optimizer: torch.optim.Optimizer,
                dataset: LaneDataset, labels: LaneTarget, variant: Variant, seed: int, settings: Settings
                ) -> dict[str, float]:
    """Train for one epoch, with a short warm-up and a cosine over all of them; the mean terms of the loss."""
    order = epoch_order([len(dataset)], [], seed, epoch)
    steps_an_epoch = math.ceil(len(order) / settings.batch_size)
    steps = steps_an_epoch * settings.epochs
    sums = torch.zeros(5)
    model.train()
    for step, i in enumerate(range(0, len(order), settings.batch_size), (epoch - 1) * steps_an_epoch):
        chosen = order[i:i + settings.batch_size]
        images = torch.from_numpy(dataset.pixels.images[chosen]).permute(0, 3, 1, 2)
        target = LaneTarget(labels.points[chosen], labels.exists[chosen])
        (points, logits), rows = model(images, with_rows=True)
        if variant.slots == "ours":
            target = resolve_ambiguous_assignment(points, logits, target)
        terms = loss(points, logits, target, rows)
        factor = min(1, 20 * (step + 1) / steps) * (1 + math.cos(math.pi * step / steps)) / 2
        for group in optimizer.param_groups:
            group["lr"] = group["rate"] * factor
        optimizer.zero_grad(set_to_none=True)
        terms.total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        sums += torch.stack(terms).detach() * len(chosen)
    return dict(zip(terms._fields, (sums / len(order)).tolist(), strict=True))


def predict(predictor: Predictor, dataset: LaneDataset) -> LanePrediction:
    """Predictions for a whole data set: points (N, L, P, 2), logits (N, L)."""
    images = torch.from_numpy(np.array(dataset.pixels.images)).permute(0, 3, 1, 2)
    parts = [predictor.forward(part) for part in images.split(32)]
    return LanePrediction(*map(torch.cat, zip(*parts, strict=True)))


def sensitivity(predictor: Predictor, dataset: LaneDataset) -> float:
    """The collapse detector's sensitivity on a few images."""
    probes = evenly_spaced(range(len(dataset)), PROBES)
    return predictor.sensitivity([np.array(dataset.pixels.images[i]) for i in probes])


def loss_record(prediction: LanePrediction, gt: GroundTruth, loss: LaneLoss | UncertaintyLoss, variant: Variant
                ) -> dict[str, float]:
    """The terms on the validation scenes; of learned weights also s, exp(-s) and each term's gradient at the points."""
    points, logits = prediction.points.clone().requires_grad_(), prediction.logits.clone()
    terms = loss(points, logits, target_of(prediction, gt, variant))
    record = {f"val_{name}": value.item() for name, value in terms._asdict().items() if name != "columns"}
    if isinstance(loss, UncertaintyLoss):
        weights = loss.counted * torch.exp(-loss.log_vars.detach())
        for name, s, weight in zip(TERMS, loss.log_vars.tolist(), weights, strict=True):
            record |= {f"s_{name}": s, f"weight_{name}": weight.item()}
        for i, name in ((0, "regression"), (2, "curvature")):
            pull = torch.autograd.grad(weights[i] / 2 * getattr(terms, name), points, retain_graph=True)[0]
            record[f"pull_{name}"] = pull.norm().item()
    return record


def score_record(prediction: LanePrediction, gt: GroundTruth, variant: Variant, sensitivity: float) -> dict[str, Any]:
    """Error, diversity, TuSimple's scores and the verdict on the validation scenes."""
    points, exists = (part.numpy() for part in target_of(prediction, gt, variant))
    gt_points, gt_exists = (part.numpy() for part in gt.target)
    constant = np.broadcast_to(collapse.constant_prediction(gt_points, gt_exists), gt_points.shape)
    stats = CollapseStats(
        sensitivity=sensitivity,
        diversity=collapse.diversity(prediction.points.numpy(), points, exists),
        error_px=collapse.mean_x_error(prediction.points.numpy(), points, exists),
        constant_error_px=collapse.mean_x_error(constant, gt_points, gt_exists),
    )
    verdict = diagnose(stats, Config().guard).state
    names = "error_px", "constant_error_px", "diversity", "sensitivity"
    return {name: getattr(stats, name) for name in names} | tusimple_scores(prediction, gt) | {"verdict": verdict}


def target_of(prediction: LanePrediction, gt: GroundTruth, variant: Variant) -> LaneTarget:
    """The labels in the slots that training would compare with this prediction."""
    return resolve_ambiguous_assignment(*prediction, gt.target) if variant.slots == "ours" else gt.target


def tusimple_scores(prediction: LanePrediction, gt: GroundTruth) -> dict[str, float]:
    """accuracy, fp, fn and f1 of TuSimple's metric, for which the order of lanes plays no part."""
    return gt.metric.score(to_benchmark(prediction, gt, DECODE), gt.samples, gt.labels, gt.sizes_px)[0]


def blind_scores(slots: str, alike: bool, settings: Settings, seed: int, folder: Path) -> dict[str, Any]:
    """What the best constant prediction reaches on the validation scenes, in an order of lanes."""
    gt = val_ground_truth(slots, datasets(settings, seed, alike, folder)[1], seed)
    points, exists = gt.target
    constant = collapse.constant_prediction(points.numpy(), exists.numpy())
    repeated: Tensor = torch.from_numpy(constant).float().expand_as(points)
    terms = blind_terms(points, exists, repeated[0])
    prediction = LanePrediction(repeated, torch.logit(exists.float().mean(0), 1e-6).expand(len(points), -1))
    return {"slots": slots, "alike": alike, **dict(zip(TERMS, terms.tolist(), strict=True)),
            "total": best_total(terms).item(),
            "error_px": collapse.mean_x_error(repeated.numpy(), points.numpy(), exists.numpy()),
            **tusimple_scores(prediction, gt)}


def reported_lanes(prediction: LanePrediction) -> Lanes:
    """The lanes to report in each of eight images, for the picture."""
    keep = lane_nms(prediction.points, prediction.logits.sigmoid(), DECODE.threshold)
    return [rounded(prediction.points[i][keep[i]]) for i in evenly_spaced(range(len(keep)), 8)]


def label_lanes(settings: Settings, seed: int, folder: Path) -> Lanes:
    """The labelled lanes of the same eight images."""
    target = labels_in_order("ours", datasets(settings, seed, False, folder)[1], seed)
    return [rounded(target.points[i][target.exists[i]]) for i in evenly_spaced(range(len(target.exists)), 8)]


def rounded(points: Tensor) -> list[list[list[float]]]:
    """Points (K, P, 2) as lists for a log, to a tenth of a pixel."""
    return [[[round(x, 4), round(y, 4)] for x, y in lane] for lane in points.tolist()]
