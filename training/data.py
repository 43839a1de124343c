"""The images that a run learns from and is validated on, with what is read of them once."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from config import Config, ConfigError, to_dict
from dataset import DEFAULT_ROOT, LaneDataset, all_rendered, open_dataset, split_from_config
from evaluation.evaluator import GroundTruth, ground_truth
from evaluation.validation_sets import with_sets
from formats.base import DataError, Label
from formats.label_checks import no_lane_hint, size_hint, stated_size_hint
from formats.registry import check_folder
from formats.sample_index import evenly_spaced
from formats.splits import FEW
from runtime import distributed

RENDERED_SCALE = 0.87  # of the input: lanes of photographs are found better in images larger than rendered ones were
OF_A_MACHINE = ("data.root", "data.cache", "data.cache_dir", "data.cache_gb", "data.workers", "data.on_device",
                "train.checkpoint_dir", "train.init_from", "train.tensorboard")  # settings that ranks may differ in
STATS_EVERY = 40  # one training image in so many gives collapse statistics: under 1 % of an epoch
MIN_STATS, MAX_STATS = 4, 2000  # and no fewer and no more than these, since their labels stay in memory


class TrainingData(NamedTuple):
    """Both data sets of a run."""

    train_set: LaneDataset
    val_set: LaneDataset
    part_sizes: list[int]  # images of each root in the training set, end to end
    train_gt: GroundTruth  # of a few training images, for their collapse statistics
    val_gt: GroundTruth
    fingerprint: str  # of the training images and the labels read here
    notes: list[str]  # lines for the user on what is passed over or left out


def check_roots(config: Config) -> None:
    """Raise DataError, before anything is rendered or read, where a root is no folder; the default one may be made."""
    for root in config.data.root:
        if Path(root) != Path(DEFAULT_ROOT):
            check_folder(Path(root))


def load_data(config: Config, device: torch.device) -> TrainingData:
    """The data sets that a configuration names, rendered, listed and cached where need be.

    Raises ConfigError or DataError.
    """
    with distributed.main_process_first():
        split = split_from_config(config)
        if not split.val:
            raise ConfigError(f"data.split={config.data.split[-1]} leaves no image to validate on; try data.split=0.2, "
                              "or mend what python check_dataset.py ROOT names")
        train_set = open_dataset(split.all_train(), config)
        val_set = open_dataset(split.val, config)
    for part in (train_set, val_set):
        part.preload(device, config.data.on_device)
    val_gt = with_sets(ground_truth(val_set), split.val_sizes)
    count = min(max(MIN_STATS, len(train_set) // STATS_EVERY), MAX_STATS)
    train_gt = ground_truth(train_set, evenly_spaced(range(len(train_set)), count))
    labels, sizes_px = [*val_gt.labels, *train_gt.labels], [*val_gt.sizes_px, *train_gt.sizes_px]
    if any(label.lanes for label in labels) and not any(gt.target.exists.any() for gt in (val_gt, train_gt)):
        raise DataError(f"{config.data.root[-1]}: no labelled lane can be learned: all lie outside their image, have "
                        "one point, run level, turn back or are far from every curve; labels of another image size? "
                        "python check_dataset.py ROOT tells more")
    hints = list(filter(None, (size_hint(labels, sizes_px), stated_size_hint(labels, sizes_px), no_lane_hint(labels),
                               few_images_hint(split.val_sizes, config))))
    return TrainingData(train_set, val_set, [len(part) for part in split.train], train_gt, val_gt,
                        fingerprint(train_set.samples.names(), labels), split.notes + hints)


def few_images_hint(val_sizes: Mapping[str, int], config: Config) -> str:
    """A line for the user where so few real images of a set validate that they choose by chance; empty otherwise."""
    count = min(val_sizes.values())
    if count >= FEW or all_rendered(config.data):
        return ""
    return (f"{count} image{'s' * (count != 1)} to validate on: chance decides on scores, the best epoch and the "
            "threshold; label more")


def check_ranks_agree(config: Config, data: TrainingData) -> None:
    """Raise ConnectionError where processes have other settings or images than rank 0: each reads its own, and their
    weights would go apart. Folders and what is a matter of one machine may differ.
    """
    settings = {f"{section}.{key}": value for section, values in to_dict(config).items()
                for key, value in values.items() if f"{section}.{key}" not in OF_A_MACHINE}
    distributed.check_same(settings | {"the hash of images and labels": data.fingerprint})


def with_input_scale(config: Config) -> Config:
    """The configuration with a number for train.input_scale=auto; rendered data sets have been rendered before."""
    if config.train.input_scale != "auto":
        return config
    scale = RENDERED_SCALE if all_rendered(config.data) else 1.0
    return replace(config, train=replace(config.train, input_scale=scale))


def fingerprint(names: Iterable[str], labels: Iterable[Label]) -> str:
    """A hash of the names of images, in their order, and of some labels."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(f"{name}\n".encode("utf-8", "surrogatepass"))
    for label in labels:
        digest.update(b"".join(lane.tobytes() for lane in label.lanes))
    return digest.hexdigest()[:16]
