"""What a training prints: the lines before its first epoch and the line after each."""

import json
import re
from collections.abc import Mapping
from typing import Any

import torch

from config import Config, DataConfig, TrainConfig
from evaluation import validation_sets
from evaluation.collapse_detector import Diagnosis
from evaluation.evaluator import GroundTruth
from formats.metric import Metric
from model import LaneNet, starts_above_cut
from training.data import TrainingData
from training.schedule import input_size, share_done

NOT_PLAIN = re.compile(r"[^\w./+<>=-]|^$")  # what a text in a list of YAML is quoted for


def opening_lines(model: LaneNet, data: TrainingData, config: Config, device: torch.device, dtype: torch.dtype) -> str:
    """What is about to be trained on which images, and which labels training will not see."""
    parameters = sum(p.numel() for p in model.parameters())
    sizes = ", ".join(f"{name} {len(gt.indices)}" for name, gt in data.val_gt.sets.items())
    lines = [f"{len(data.train_set)} images to train on, {len(data.val_set)} to validate on"
             f"{f' ({sizes})' if sizes else ''}; "
             f"{parameters / 1e6:.1f} M weights on {device} in {str(dtype).removeprefix('torch.')}"]
    height, width = input_size(config, config.train.epochs)
    if (height, width) != (config.model.height, config.model.width):
        lines[0] += f"; trained at {width}x{height} for an input of {config.model.width}x{config.model.height}"
    lines += data.notes
    if data.train_set.pixels is None:
        lines.append("without a cache, lanes that do not fit the slots or a curve are counted by: "
                     "python check_dataset.py ROOT")
    for pixels in filter(None, (data.train_set.pixels, data.val_set.pixels)):
        images, problems = f"{len(pixels.images)} images", pixels.problems
        lanes = int(pixels.exists.sum()) + problems.left_out
        if problems.unassigned + problems.too_short:
            lines.append(f"{problems.unassigned} of {lanes} lanes in {images} do not fit the slots, "
                         f"{problems.too_short} more have fewer than two points: left out")
        if no_curve := problems.level + problems.turned_back + problems.far_off:
            lines.append(f"{no_curve} of {lanes} lanes in {images} cannot be represented: {problems.level} run level, "
                         f"{problems.turned_back} turn back, {problems.far_off} are far from every curve: left out")
        if problems.imprecise:
            lines.append(f"{problems.imprecise} of {lanes} lanes in {images} cannot be represented to within 8 px of "
                         "1280 at every point")
        if hidden := int((pixels.exists & starts_above_cut(pixels.points, config.model.cut_top)).sum()):
            lines.append(f"{hidden} of {lanes} lanes in {images} begin in what model.cut_top={config.model.cut_top:g} "
                         "hides: lower it")
    return "\n".join(lines)


def epoch_line(record: dict[str, Any], diagnosis: Diagnosis, gt: GroundTruth, settings: TrainConfig) -> str:
    """One epoch in one line for people."""
    left = int(record["seconds"] * (1 / share_done(settings, record["epoch"]) - 1))
    return (f"epoch {record['epoch']:3}/{settings.epochs}  loss {record['train_loss']:.3f} "
            f"(regression {record['regression']:.3f} existence {record['existence']:.3f} "
            f"curvature {record['curvature']:.3f} columns {record['columns']:.3f}) | val loss {record['val_loss']:.3f} "
            f"{validation_sets.summary(gt, record)} | "
            f"error {record['error_px']:.1f} px (constant {record['constant_error_px']:.1f}) "
            f"diversity {record['diversity']:.2f} sensitivity {record['sensitivity']:.2f} | {diagnosis} | "
            f"{record['images_per_second']:.0f} img/s, {left // 60}:{left % 60:02} left")


def best_scores(scores: Mapping[str, Any], gt: GroundTruth) -> str:
    """The scores of the best model in a few words, of several sets those of each and their mean."""
    if not gt.sets:
        return _in_words(scores, gt.metric)
    words = [f"{name} {_in_words(scores['sets'][name], part.metric)}" for name, part in gt.sets.items()]
    return ", ".join([*words, f"mean {100 * scores['mean_score']:.1f} %"])


def _in_words(scores: Mapping[str, float], metric: Metric) -> str:
    """Scores in which none is better than perfect.

    TuSimple's F1 is above 100 % where a lane matches two labels, and 67 % for a model that finds nothing.
    """
    words = " ".join(f"{name} {'over 100' if scores[key] > 1 else format(100 * scores[key], '.1f')} %"
                     for key, name in metric.score_names.items())
    counted = metric.selection_scores(scores)[0]
    if counted < scores[metric.main_score] / 2:
        words += f" (it counts as {100 * counted:.1f} %: it finds hardly a lane)"
    return words


def data_words(settings: DataConfig) -> list[str]:
    """The words of a command line that name the images which validate; none where they are the default's."""
    words = []
    for key in ("root", "format", "split", "validate", "on_error"):
        value = getattr(settings, key)
        if value != getattr(DataConfig(), key):
            texts = [json.dumps(text, ensure_ascii=False) if NOT_PLAIN.search(text) else text
                     for text in (value if isinstance(value, tuple) else [value])]
            words.append(f"data.{key}={texts[0] if len(texts) == 1 else '[' + ', '.join(texts) + ']'}")
    return words
