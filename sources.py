"""The data sets that a configuration names: rendered on first use, listed, split and cached."""

import sys
from pathlib import Path
from typing import NamedTuple

import checkpoints
import formats
import synthetic
from cache import open_cache
from config import Config, ConfigError, DataConfig
from dataset import LaneDataset
from entries import Entries, joined

DEFAULT_ROOT = DataConfig().root[0]


class Sources(NamedTuple):
    """Entries for training, those of each root, and those that validate: the last root's."""

    train: list[Entries]
    val: Entries

    def all_train(self) -> Entries:
        """Entries for training of all roots, end to end."""
        return self.train[0] if len(self.train) == 1 else joined(self.train)


def find(config: Config, training: bool = True) -> Sources:
    """What data.root, data.format and data.split name; the default root is rendered first where it is missing.

    Training renders it again when `synthetic` asks for other scenes than are there; looking at a model never does.
    With several roots the last one validates: own images go last, and best_model.pth is chosen on them.
    Raises ConfigError or DataError.
    """
    settings = config.data
    rules = settings.split if len(settings.split) != 1 else settings.split * len(settings.root)
    if not settings.root:
        raise ConfigError("data.root is empty; name at least one folder")
    if len(rules) != len(settings.root):
        raise ConfigError(f"data.split has {len(rules)} entries for {len(settings.root)} roots; give one, or one each")
    if settings.weights and (len(settings.weights) != len(settings.root) or sum(settings.weights) <= 0):
        raise ConfigError(f"data.weights {list(settings.weights)} does not fit {len(settings.root)} roots; "
                          "give one number of at least 0 for each, not all 0")
    train, val = [], []
    for root, rule in zip(settings.root, rules, strict=True):
        if Path(root) == Path(DEFAULT_ROOT) and (training or not (Path(root) / "manifest.json").is_file()):
            scenes = config.synthetic
            synthetic.write_dataset(Path(root), scenes.train, scenes.val, scenes.seed, scenes.width, scenes.height)
        elif synthetic.is_of_another_renderer(root):
            print(f"{root}: these scenes are of another version of synthetic.py, and scores on them not to be compared "
                  "with those on today's; without that folder they are rendered anew", file=sys.stderr)
        part, val = formats.split(formats.entries(root, settings.format), rule, training)
        train.append(part)
    if training and not all(train):
        empty = settings.root[[bool(part) for part in train].index(False)]
        raise ConfigError(f"data.split leaves no image of {empty} to train on; try data.split=auto, or leave it out")
    return Sources(train, val)


def open_dataset(entries: Entries, config: Config) -> LaneDataset:
    """The entries as a data set, out of the cache unless data.cache is off. Raises DataError."""
    raster, slots, data = checkpoints.raster_of(config), config.model.slots, config.data
    pixels = None
    if data.cache and entries:
        pixels = open_cache(entries, raster, slots, data.cache_dir, data.cache_gb)
    return LaneDataset(entries, raster, slots, pixels)
