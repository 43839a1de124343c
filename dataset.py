"""Labelled images as the network wants them: the data set, the order of an epoch, and what a configuration names.

Shapes: B batch, L lane slots, P = 6 control points, H x W the network's input, 2 = (x, y) in [0, 1].
"""

import itertools
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from config import Config, ConfigError, DataConfig
from formats import registry, splits
from formats.base import DataError
from formats.sample_index import SampleIndex, concatenate
from geometry.input_grid import InputGrid
from geometry.slots import LaneTarget
from preprocessing.cache import open_cache
from preprocessing.samples import read_images
from preprocessing.targets import lanes_in_slots
from preprocessing.unreadable import unreadable
from renderer import dataset_writer
from renderer.rendered_folder import SCENES_MANIFEST
from runtime import checkpoint, distributed

DEFAULT_ROOT = DataConfig().root[0]
PRELOAD_SHARE = 0.25  # of a GPU's free memory: for a moment they need twice as much
PRELOAD_CHUNK = 64  # images that are copied at a time: what a processor's cache holds; 1,024 take three times as long


class LaneDataset(Dataset):
    """Samples as (images (B, 3, H, W) uint8 in channels-last memory, LaneTarget); a batch is dataset[[3, 0, 5]].

    `pixels`, when given, is the cache of preprocessing/cache.py; without one every image is decoded each time.
    `preloaded` are its images, points and exists on a device, once `preload` has put them there.
    """

    def __init__(self, samples: SampleIndex, grid: InputGrid, slots: int, pixels=None):
        self.samples, self.grid, self.slots = samples, grid, slots
        self.pixels = pixels
        self.preloaded: tuple[Tensor, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, indices: Sequence[int]) -> tuple[Tensor, LaneTarget]:
        if self.preloaded:
            device = self.preloaded[0].device
            rows = torch.from_numpy(np.asarray(indices, np.int64)).to(device, non_blocking=device.type != "mps")
            images, points, exists = (part[rows] for part in self.preloaded)
            return images.permute(0, 3, 1, 2), LaneTarget(points, exists)
        if self.pixels is not None:
            images, points, exists = self.pixels.batch(indices)
        else:
            images, labels, sizes_px = read_images([self.samples[i] for i in indices], self.grid)
            target, _ = lanes_in_slots(labels, sizes_px, self.slots)
            return torch.from_numpy(images).permute(0, 3, 1, 2), target
        target = LaneTarget(torch.from_numpy(points), torch.from_numpy(exists))
        return torch.from_numpy(images).permute(0, 3, 1, 2), target

    def preload(self, device: torch.device, on_device: bool | str) -> None:
        """Keep what the cache has on the device, so that no batch is copied to it; without a cache nothing happens.

        "auto" does so on a GPU that has the room. Raises DataError for a damaged image.
        """
        if self.pixels is None or not on_device:
            return
        if on_device == "auto" and (device.type != "cuda"
                                 or self.pixels.images.nbytes > PRELOAD_SHARE * torch.cuda.mem_get_info(device)[0]):
            return
        chunks = [[torch.from_numpy(part).to(device) for part in self.pixels.batch(rows)]
                  for rows in batches(range(len(self)), PRELOAD_CHUNK)]
        self.preloaded = tuple(map(torch.cat, zip(*chunks, strict=True)))


def batches(order: Sequence[int], size: int) -> list[Sequence[int]]:
    """An order cut into batches of at most `size`, as equal as can be: a last one of two would be all noise."""
    count = -(-len(order) // size)
    return [order[len(order) * i // count:len(order) * (i + 1) // count] for i in range(count)]


def epoch_order(parts: Sequence[int], weights: Sequence[float], seed: int, epoch: int) -> np.ndarray:
    """(N) int32: order of an epoch over data sets of `parts` images end to end, the same for the same seed and epoch.

    Without weights every image comes once. With weights the epoch keeps its length, and each data set fills
    its share: a small one by repeating its images evenly, a large one by a new choice each epoch.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    total = sum(parts)
    if not weights:
        return _shuffled(total, generator).numpy()
    order, start = [torch.empty(0, dtype=torch.int32)], 0
    whole = sum(weight for size, weight in zip(parts, weights, strict=True) if size)
    for size, weight in zip(parts, weights, strict=True):
        share = round(total * weight / whole) if size else 0
        order += [start + _shuffled(size, generator)[:share - done] for done in range(0, share, size or 1)]
        start += size
    order = torch.cat(order)
    return order[_shuffled(len(order), generator)].numpy()


def _shuffled(count: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(count, generator=generator, dtype=torch.int32)


class DataSplit(NamedTuple):
    """Samples for training, those of each root, and those for validation, with lines for the user on what is passed
    over or left out.
    """

    train: list[SampleIndex]
    val: SampleIndex
    notes: list[str]
    val_sizes: dict[str, int]  # images for validation of each set that validates, end to end

    def all_train(self) -> SampleIndex:
        """Samples for training of all roots, end to end."""
        return _end_to_end(self.train)


def split_from_config(config: Config, training: bool = True) -> DataSplit:
    """The samples of data.root, data.format and data.split; the default root is rendered first where it is missing.

    Training renders it again when `synthetic` requests other scenes than are in it; evaluating a model never does.
    Of several roots the last one validates, so that own images go last and choose best_model.pth; or all of them by
    data.validate. Raises ConfigError or DataError.
    """
    settings = config.data
    if not settings.root:
        raise ConfigError("data.root is empty; name at least one folder")
    rules, formats = (_one_each(settings, key) for key in ("split", "format"))
    if settings.weights and (len(settings.weights) != len(settings.root) or sum(settings.weights) <= 0):
        raise ConfigError(f"data.weights {list(settings.weights)} does not fit {len(settings.root)} roots; "
                          "give one number of at least 0 for each, not all 0")
    train, val, notes = [], [], []
    for number, (root, rule, name) in enumerate(zip(settings.root, rules, formats, strict=True), start=1):
        if Path(root) == Path(DEFAULT_ROOT) and (training or not (Path(root) / SCENES_MANIFEST).is_file()):
            scenes = config.synthetic
            registry.check_free(Path(root), (SCENES_MANIFEST, "unfinished"))
            dataset_writer.write_dataset(Path(root), scenes.train, scenes.val, scenes.seed, scenes.width, scenes.height)
        elif dataset_writer.is_of_another_renderer(root):
            print(f"{root}: these scenes are of another version of synthetic.py, and scores on them not to be compared "
                  "with those on today's; without that folder they are rendered anew", file=sys.stderr)
        skip = settings.on_error == "skip"
        listing = registry.list_folder(root, name, stop=not skip)
        part, val_part, lines = splits.split_listing(listing, rule, training, skip)
        if training and not part and not (val_part and rule == "all" and any(train)):  # it validates alone
            raise ConfigError(_nothing_to_train_on(root, rule, len(val_part)))
        if settings.validate == "last" and number < len(settings.root):
            lines += _held_back(len(val_part))
            val_part = SampleIndex()
        if skip:
            part, line = _readable(part if training else SampleIndex(), settings, f"{root}: training")
            val_part, val_line = _readable(val_part, settings, f"{root}: validation")
            lines += line + val_line
        train.append(part)
        val += [(root, val_part)] if val_part else []
        notes += [f"{root}: {line}" for line in lines]
    if training:
        if settings.weights and not any(weight for part, weight in zip(train, settings.weights, strict=True) if part):
            raise ConfigError(f"data.weights {list(settings.weights)} gives nothing to the folders that have images to "
                              "train on; raise the number of one of them")
        _check_apart(settings.root, train, [part for _, part in val])
    return DataSplit(train, _end_to_end([part for _, part in val]), notes, splits.sizes_by_name(val))


def _check_apart(roots: Sequence[str], train: Sequence[SampleIndex], val: Sequence[SampleIndex]) -> None:
    """Raise ConfigError where an image trains that validates in another root, of which one lies in the other."""
    real = [Path(root).resolve() for root in roots]
    if not any(a.is_relative_to(b) for a, b in itertools.permutations(real, 2)):
        return  # links between roots that lie apart are not looked for: with many images it takes minutes
    held_back = {os.path.realpath(sample.image) for part in val for sample in part}
    if count := sum(os.path.realpath(sample.image) in held_back for part in train for sample in part):
        raise ConfigError(f"data.root={','.join(roots)}: {count} images validate in one folder and train in another, "
                          "which lies in it or is the same; name each folder once")


def _one_each(settings: DataConfig, key: str) -> Sequence[str]:
    """The entries of a setting of data for each root; a single one is that of all. Raises ConfigError."""
    entries = getattr(settings, key)
    if len(entries) not in (1, len(settings.root)):
        raise ConfigError(f"data.{key} has {len(entries)} entries for {len(settings.root)} roots; "
                          "give one, or one each")
    return entries if len(entries) == len(settings.root) else entries * len(settings.root)


def _end_to_end(parts: Sequence[SampleIndex]) -> SampleIndex:
    return parts[0] if len(parts) == 1 else concatenate(parts)


def _held_back(count: int) -> list[str]:
    """A line on the images of a root that could validate and, since it is not the last one, do not; none for none."""
    return [f"{count} images that data.split holds back are left out: the last root validates, and all do with "
            "data.validate=all"] if count else []


def _readable(samples: SampleIndex, settings: DataConfig, purpose: str) -> tuple[SampleIndex, list[str]]:
    """The samples that can be read, and a line on the others, where there are any. Raises DataError where all are."""
    broken = unreadable(samples, Path(settings.cache_dir) if settings.cache else None) if samples else {}
    if not broken:
        return samples, []
    if len(broken) == len(samples):
        raise DataError(f"{purpose} has {len(samples)} images by data.split, of which none can be read, such as "
                        f"{next(iter(broken.values()))}; mend it, or choose others by data.split")
    first = next(iter(broken.values()))
    line = f"{len(broken)} of {len(samples)} images are left out, which cannot be read, such as {first}"
    return samples.take(i for i in range(len(samples)) if i not in broken), [line]


def _nothing_to_train_on(root: str, rule: str, count: int) -> str:
    """Why no image of a root trains, where `count` images validate."""
    if count == 1 and rule != "all":
        return (f"{root} has a single image to train and validate on, and one image cannot do both; add images, or "
                "let it train by data.split=none and validate on a folder of its own: data.root=[ROOT, OTHER]")
    return f"data.split leaves no image of {root} to train on; try data.split=auto, or leave it out"


def all_rendered(settings: DataConfig) -> bool:
    """Whether every root that trains, with a weight above 0, was written by synthetic.py --root."""
    shares = settings.weights or [1.0] * len(settings.root)
    roots = zip(settings.root, shares, _one_each(settings, "split"), strict=True)
    return all(dataset_writer.is_rendered(root) for root, share, rule in roots if share and rule != "all")


def open_dataset(samples: SampleIndex, config: Config) -> LaneDataset:
    """The samples as a data set, out of the cache unless data.cache is off. Raises DataError."""
    grid, slots, data = checkpoint.input_grid(config), config.model.slots, config.data
    pixels = None
    if data.cache and samples:
        pixels = open_cache(samples, grid, slots, data.cache_dir, data.cache_gb)
    return LaneDataset(samples, grid, slots, pixels)


def validation_split(config: Config) -> DataSplit:
    """The validation images that a configuration names. Raises ValueError where the split leaves none."""
    split = split_from_config(config, training=False)
    if distributed.rank() == 0:
        for line in split.notes:
            print(line, file=sys.stderr)
    if not split.val:
        raise ValueError(f"data.split={config.data.split[-1]} leaves no image to validate on; try data.split=all")
    return split


def validation_samples(config: Config) -> SampleIndex:
    """The samples of `validation_split`."""
    return validation_split(config).val


if __name__ == "__main__":  # python dataset.py --check ROOT
    import check_dataset
    from runtime import cli

    cli.run(check_dataset.main)
