"""Scores a checkpoint on labelled images: python evaluate_fixed.py [section.key=value ...]"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import metrics
import runtime
import sources
from config import Config
from dataset import LaneDataset, loader, read_image
from formats import Label, label
from guard import verdict
from lanes import LaneTarget, keep_lanes, nearer_count, rows_from_curves
from losses_fixed import LaneLoss, LossTerms
from model import LaneNet, LanePrediction


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
        _, target = dataset.__getitems__(list(range(len(dataset))))
        points, exists = target.points.numpy(), target.exists.numpy()
        sizes = [read_image(entry.image).shape[1::-1] for entry in dataset.entries]
    constant = np.broadcast_to(metrics.constant_prediction(points, exists), points.shape)
    constant_error = metrics.mean_x_error(constant, points, exists)
    return Reference(labels, sizes, LaneTarget(torch.from_numpy(points), torch.from_numpy(exists)), constant_error)


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
    """Every figure that an epoch line and the evaluation show; fractions, or px of a 1280 px wide image."""
    target = nearer_count(prediction.points, prediction.logits, truth.target)
    terms: LossTerms = loss(prediction.points, prediction.logits, target)
    points, exists = target.points.numpy(), target.exists.numpy()
    said = prediction.logits.sigmoid() >= threshold
    result = {f"val_{name}" if name != "total" else "val_loss": float(v) for name, v in terms._asdict().items()}
    result |= metrics.tusimple_score(tusimple_pairs(prediction, truth, threshold, end_tolerance))
    return result | {
        "error_px": metrics.mean_x_error(prediction.points.numpy(), points, exists),
        "constant_error_px": truth.constant_error_px,
        "diversity": metrics.diversity(prediction.points.numpy(), points, exists),
        "existence_accuracy": float((said == target.exists).float().mean()),
    }


def tusimple_pairs(prediction: LanePrediction, truth: Reference, threshold: float, end_tolerance: float
                   ) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(predicted x, label x, rows) of each image for the TuSimple metric, in its 1280x720 pixels.

    Labels that have no rows of their own are read at TuSimple's; images of another size are scaled to it.
    """
    keep = keep_lanes(prediction.points, prediction.logits.sigmoid(), threshold)
    pairs = []
    for points, kept, found, size_px in zip(prediction.points, keep, truth.labels, truth.sizes_px, strict=True):
        rows, gt = label_at_rows(found, size_px)
        x = rows_from_curves(points[kept], torch.from_numpy(rows / 720).float(), end_tolerance).numpy()
        pairs.append((np.where(x >= 0, x * 1280, -2.0), gt, rows))
    return pairs


def label_at_rows(found: Label, size_px: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Rows (R) and x (lanes, R) of a label in TuSimple's 1280x720 pixels, -2 where a lane has no point."""
    scale = np.array(metrics.TUSIMPLE_SIZE) / size_px
    if found.rows is not None:
        return found.rows * scale[1], np.where(found.x_at_rows >= 0, found.x_at_rows * scale[0], -2.0)
    rows = np.array(metrics.TUSIMPLE_ROWS, float)
    gt = np.full((len(found.lanes), len(rows)), -2.0)
    for i, lane in enumerate(found.lanes):
        if len(lane) >= 2:
            x, y = (lane * scale).T
            gt[i] = np.interp(rows, y, x, left=-2, right=-2)
            gt[i][(gt[i] < 0) | (gt[i] >= metrics.TUSIMPLE_SIZE[0])] = -2
    return rows, gt


def validation_set(config: Config) -> LaneDataset:
    """The validation images that a configuration names. Raises ConfigError where there are none."""
    entries = sources.find(config).val
    if not entries:
        raise ValueError(f"data.split={config.data.split[-1]} leaves no image to validate on; "
                         "set it to all, or to a rule that holds some back")
    return sources.open_dataset(entries, config)


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table of scores; exit status 1 when the model has collapsed."""
    arguments = runtime.parser(__doc__)
    arguments.add_argument("words", nargs="*", metavar="section.key=value", help="settings to override")
    arguments.add_argument("--checkpoint", default="checkpoints_fixed/best_model.pth", metavar="FILE")
    arguments.add_argument("--json", metavar="FILE", help="also write the scores to FILE")
    options, overrides = runtime.parse(arguments, argv)
    if options.words:
        raise ValueError(f"'{options.words[0]}' is not an override; write section.key=value")
    settings = runtime.load_settings(options, overrides)
    device = runtime.pick_device(settings.train.device)
    model, trained, _ = runtime.load_model(options.checkpoint, device)
    config = runtime.with_model(settings, trained)

    dataset = validation_set(config)
    truth = reference(dataset)
    prediction = predict(model, dataset, config.inference.batch_size, 0, device,
                         runtime.precision(config.train.precision, device))
    scores = score(prediction, truth, LaneLoss(**vars(config.loss)), config.inference.threshold,
                   config.inference.end_tolerance)
    print_table(scores, len(dataset))
    judged = verdict(scores["diversity"], scores["error_px"], scores["constant_error_px"],
                     config.guard.min_diversity)
    print(judged)
    if options.json:
        Path(options.json).write_text(json.dumps(scores | {"verdict": judged.state}, indent=1) + "\n")
    return 1 if judged.state == "collapsing" else 0


def print_table(scores: dict[str, Any], images: int) -> None:
    """The scores as a two-column table on stdout."""
    print(f"{images} images")
    for name, value in scores.items():
        shown = f"{100 * value:8.2f} %" if name in ("accuracy", "fp", "fn", "f1", "existence_accuracy") else (
            f"{value:8.2f} px" if name.endswith("_px") else f"{value:8.3f}")
        print(f"  {name:20} {shown}")


if __name__ == "__main__":
    runtime.run(main)
