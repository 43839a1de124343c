"""One run of benchmarks/collapse.py: its scenes, its training and what is recorded of each epoch.

Shapes: N images, B batch, L lane slots, K lanes found in an image, P = 6 control points, 2 = (x, y) in [0, 1].
"""

import argparse
import math
import time
from typing import Any, NamedTuple

import numpy as np
import torch
from old_way import WEIGHED, PooledNet, UncertaintyLoss, as_listed, best_total, blind_terms
from torch import Tensor, nn

from config import GuardConfig
from dataset import LaneDataset, epoch_order
from evaluation.collapse_detector import CollapseStats, diagnose
from evaluation.evaluator import PROBES, GroundTruth, benchmark_scores, evenly_spaced, ground_truth, to_benchmark
from formats import registry, splits
from geometry.decode import lane_nms
from geometry.input_grid import InputGrid
from geometry.slots import LaneTarget, resolve_ambiguous_assignment
from losses_fixed import LaneLoss
from metrics import collapse
from model import LaneNet, LanePrediction
from preprocessing.cache import open_cache
from renderer import dataset_writer
from runtime import device
from runtime.memory import keep_freed_memory

SLOTS = 6
THRESHOLD, END_TOLERANCE = 0.5, 0.007  # as config.yaml's inference section
PATIENT = 30  # s has some five units to go and AdamW moves it by at most its rate a step: at the network's own rate
# that takes thousands of steps, which a long run has and a few hundred here are not


class Variant(NamedTuple):
    """What one run trains; the defaults are ours."""

    name: str
    loss: str = "ours"  # ours | no columns: ours less that term | old: weights learned | held: old, every s held at 0
    # | no curvature: old, less that term
    head: str = "ours"  # ours | old: globally pooled
    slots: str = "ours"  # ours: by position | old: in a shuffled file's order | left to right
    alike: bool = False  # only scenes with the commonest set of lanes
    s_rate: float = PATIENT  # learning rate of s, in that of the network


class Run(NamedTuple):
    """A trained variant: one record an epoch, and the lanes (K, P, 2) that it found in each of eight images."""

    variant: Variant
    history: list[dict[str, Any]]
    found: list[np.ndarray]
    seconds: float


def datasets(options: argparse.Namespace, alike: bool) -> tuple[LaneDataset, LaneDataset]:
    """The scenes for training and validation, rendered and cached where they are not yet."""
    more = 4 if alike else 1  # somewhat over a quarter of all scenes have the commonest set of lanes
    counts = (options.scenes * more, options.val_scenes * more)
    root = options.folder / f"{counts[0]}-{counts[1]}-seed{options.seed}"
    dataset_writer.write_dataset(root, *counts, options.seed, 320, 180)
    train, val = splits.split(registry.list_samples(root, "tusimple"), "auto")
    grid, pattern, parts = InputGrid(options.width, options.height), None, []
    for samples, wanted in ((train, options.scenes), (val, options.val_scenes)):
        pixels = open_cache(samples, grid, SLOTS, options.folder / "cache", math.inf)
        if alike:
            patterns, frequency = np.unique(pixels.exists, axis=0, return_counts=True)
            pattern = patterns[frequency.argmax()] if pattern is None else pattern
            chosen = np.flatnonzero((pixels.exists == pattern).all(1))[:wanted]
            per_image = [name for name, value in pixels._asdict().items() if isinstance(value, np.ndarray)]
            pixels = pixels._replace(**{name: getattr(pixels, name)[chosen] for name in per_image})
            samples = samples.take(chosen)
        parts.append(LaneDataset(samples, grid, SLOTS, pixels))
    return parts[0], parts[1]


def labels_in(slots: str, dataset: LaneDataset, seed: int) -> LaneTarget:
    """All labels of a data set, (N, L, P, 2) and (N, L), in one of the orders that a Variant names."""
    points, exists = np.array(dataset.pixels.points), np.array(dataset.pixels.exists)
    target = LaneTarget(torch.from_numpy(points), torch.from_numpy(exists))
    if slots == "ours":
        return target
    return as_listed(target, torch.Generator().manual_seed(seed) if slots == "old" else None)


def train(variant: Variant, options: argparse.Namespace) -> Run:
    """Train one variant from scratch; everything but what the variant names is the same for all of them."""
    began = time.perf_counter()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    train_set, val_set = datasets(options, variant.alike)
    labels = labels_in(variant.slots, train_set, options.seed)
    truth = ground_truth(val_set)._replace(target=labels_in(variant.slots, val_set, options.seed + 1))

    device.seed_everything(options.seed)
    model = PooledNet(SLOTS) if variant.head == "old" else LaneNet("compact", slots=SLOTS)
    model = model.to(memory_format=torch.channels_last)
    loss = {"ours": LaneLoss(), "no columns": LaneLoss(columns=0), "old": UncertaintyLoss(),
            "held": UncertaintyLoss(learned=False), "no curvature": UncertaintyLoss(curvature=False)}[variant.loss]
    groups = [{"params": list(model.parameters()), "rate": options.learning_rate}]
    if isinstance(loss, UncertaintyLoss) and variant.loss != "held":
        groups.append({"params": [loss.log_vars], "rate": options.learning_rate * variant.s_rate, "weight_decay": 0.0})
    optimizer = torch.optim.AdamW(groups, lr=options.learning_rate, weight_decay=0.02, fused=True)
    steps, step, history = math.ceil(len(train_set) / options.batch_size) * options.epochs, 0, []

    for epoch in range(1, options.epochs + 1):
        order = epoch_order([len(train_set)], [], options.seed, epoch)
        sums = torch.zeros(5)
        model.train()
        for i in range(0, len(order), options.batch_size):
            chosen = order[i:i + options.batch_size]
            images = torch.from_numpy(train_set.pixels.images[chosen]).permute(0, 3, 1, 2)
            target = LaneTarget(labels.points[chosen], labels.exists[chosen])
            (points, logits), rows = model(images, with_rows=True)
            if variant.slots == "ours":
                target = resolve_ambiguous_assignment(points, logits, target)
            terms = loss(points, logits, target, rows)
            for group in optimizer.param_groups:  # a short warm-up and a cosine
                group["lr"] = group["rate"] * min(1, 20 * (step + 1) / steps) * (
                    1 + math.cos(math.pi * step / steps)) / 2
            optimizer.zero_grad(set_to_none=True)
            terms.total.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            sums += torch.stack(terms).detach() * len(chosen)
            step += 1
        prediction = predict(model, val_set)
        trained = dict(zip(terms._fields, (sums / len(order)).tolist(), strict=True))
        history.append({"epoch": epoch, **trained,
                        **judged(prediction, truth, loss, variant, follows(model, val_set))})
    keep = lane_nms(prediction.points, prediction.logits.sigmoid(), THRESHOLD)
    found = [prediction.points[i][keep[i]].numpy() for i in eight(len(val_set))]
    return Run(variant, history, found, time.perf_counter() - began)


@torch.inference_mode()
def predict(model: LaneNet, dataset: LaneDataset) -> LanePrediction:
    """Predictions for a whole data set: points (N, L, P, 2), logits (N, L)."""
    model.eval()
    images = torch.from_numpy(np.array(dataset.pixels.images)).permute(0, 3, 1, 2)
    found = [model(part) for part in images.split(32)]
    return LanePrediction(*(torch.cat(parts) for parts in zip(*found, strict=True)))


@torch.inference_mode()
def follows(model: LaneNet, dataset: LaneDataset) -> float:
    """The guard's sensitivity on a few images."""
    def run(images: Tensor) -> tuple[Tensor, Tensor]:
        points, logits = model(images)
        return points, logits.sigmoid()

    images, _ = dataset.__getitems__(evenly_spaced(range(len(dataset)), PROBES))
    return collapse.sensitivity(run(images), run(collapse.shift_images(images)), dataset.grid.width)


def judged(prediction: LanePrediction, truth: GroundTruth, loss: LaneLoss | UncertaintyLoss, variant: Variant,
           sensitive: float) -> dict[str, Any]:
    """The validation half of an epoch's record."""
    points, logits = prediction.points.clone().requires_grad_(), prediction.logits.clone()
    target = resolve_ambiguous_assignment(points, logits, truth.target) if variant.slots == "ours" else truth.target
    terms = loss(points, logits, target)
    record = {f"val_{name}": value.item() for name, value in terms._asdict().items() if name != "columns"}
    if isinstance(loss, UncertaintyLoss):
        weights = loss.counted * torch.exp(-loss.log_vars.detach())
        for name, s, weight in zip(WEIGHED, loss.log_vars.tolist(), weights, strict=True):
            record |= {f"s_{name}": s, f"weight_{name}": weight.item()}
        for i, name in ((0, "regression"), (2, "curvature")):  # how hard each term pulls at the control points
            pull = torch.autograd.grad(weights[i] / 2 * getattr(terms, name), points, retain_graph=True)[0]
            record[f"pull_{name}"] = pull.norm().item()
    own, exists = target.points.numpy(), target.exists.numpy()
    fixed, there = truth.target.points.numpy(), truth.target.exists.numpy()
    constant = np.broadcast_to(collapse.constant_prediction(fixed, there), fixed.shape)
    record |= {
        "error_px": collapse.mean_x_error(prediction.points.numpy(), own, exists),
        "constant_error_px": collapse.mean_x_error(constant, fixed, there),
        "diversity": collapse.diversity(prediction.points.numpy(), own, exists),
    } | tusimple(prediction, truth)
    seen = CollapseStats(sensitive, record["diversity"], record["error_px"], record["constant_error_px"])
    state = diagnose(seen, GuardConfig().min_diversity, GuardConfig().min_sensitivity)
    return record | {"sensitivity": sensitive, "verdict": state.state}


def tusimple(prediction: LanePrediction, truth: GroundTruth) -> dict[str, float]:
    """accuracy, fp, fn and f1 of TuSimple's metric, for which the order of lanes plays no part."""
    return benchmark_scores(to_benchmark(prediction, truth, "tusimple", THRESHOLD, END_TOLERANCE), [])[0]


def blind(slots: str, alike: bool, options: argparse.Namespace) -> dict[str, Any]:
    """What the best answer that never looks at the image reaches on the validation scenes, in an order of lanes."""
    dataset = datasets(options, alike)[1]
    truth = ground_truth(dataset)._replace(target=labels_in(slots, dataset, options.seed + 1))
    points, exists = truth.target
    constant = collapse.constant_prediction(points.numpy(), exists.numpy())
    repeated: Tensor = torch.from_numpy(constant).float().expand_as(points)
    terms = blind_terms(points, exists, repeated[0])
    answer = LanePrediction(repeated, torch.logit(exists.float().mean(0), 1e-6).expand(len(points), -1))
    return {"slots": slots, "alike": alike, **dict(zip(WEIGHED, terms.tolist(), strict=True)),
            "total": best_total(terms).item(),
            "error_px": collapse.mean_x_error(repeated.numpy(), points.numpy(), exists.numpy()),
            **tusimple(answer, truth)}


def eight(count: int) -> list[int]:
    """Eight images spread over `count`, or all where there are fewer."""
    return np.unique(np.linspace(0, count - 1, 8).round().astype(int)).tolist()
