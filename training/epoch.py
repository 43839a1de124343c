"""An epoch of training steps, wherever its images come from."""

import sys
from collections.abc import Iterator, Sequence

import torch
from tqdm import tqdm

from config import Config
from dataset import LaneDataset
from preprocessing.augment import AugmentParams, augment_lanes, sample_params
from preprocessing.loader import loader
from runtime import distributed
from runtime.signals import Interrupt
from training.device_steps import DeviceSteps
from training.loss_check import CHECK_EVERY, LossCheck
from training.schedule import input_size
from training.state import TrainProgress
from training.step import StepSetup, step


def train_epoch(setup: StepSetup, dataset: LaneDataset, batch_indices: Sequence[Sequence[int]],
                progress: TrainProgress, interrupt: Interrupt, device_steps: DeviceSteps | None = None
                ) -> TrainProgress:
    """Run the steps of an epoch that are still to do; returns the progress, short of the end if interrupted.

    Without DeviceSteps the loader brings the images. The views of an epoch depend on seed and epoch alone, so that a
    resumed run repeats an uninterrupted one, and several processes train as one would. Each takes its share of every
    batch.
    """
    config, number = setup.config, progress.step
    sizes = [len(batch) for batch in batch_indices]
    num_images = sum(sizes[:number])
    params = epoch_params(config, dataset.grid.aspect, progress.epoch, sum(sizes))
    size = input_size(config, progress.epoch)
    setup.losses.sums.zero_()
    if progress.sums is not None:
        setup.losses.sums.copy_(progress.sums)
    setup.state.model.train()
    if device_steps is None:
        steps = _loaded_steps(setup, dataset, batch_indices, params, number, size)
    else:
        device_steps.begin(batch_indices, params, num_images, size)
        steps = map(device_steps, sizes[number:])
    check = LossCheck(progress.epoch)
    bar = tqdm(steps, f"Epoch {progress.epoch}/{config.train.epochs}", len(sizes) - number, file=sys.stderr,
               leave=False, disable=distributed.progress_disabled(), unit="step")
    for _ in bar:
        num_images += sizes[number]
        number += 1
        stop = distributed.all_reduce_max(interrupt.signal)  # a process whose signal comes later stops one step later
        if number % CHECK_EVERY == 0:
            check.begin(setup.losses, num_images, number)
            bar.set_postfix(loss=f"{check.loss:.3f}")
        if stop:
            break
    if number > progress.step:
        check.begin(setup.losses, num_images, number)
        check.finish()
    return progress._replace(step=number, sums=distributed.all_reduce_mean(setup.losses.sums.clone()))


def epoch_params(config: Config, aspect: float, epoch: int, count: int) -> AugmentParams:
    """The views of all images of an epoch, in their order, on the CPU."""
    generator = torch.Generator().manual_seed(epoch_seed(config.train.seed, epoch))
    return sample_params(count, config.augment, aspect, generator)


def epoch_seed(seed: int, epoch: int) -> int:
    """A seed for the views of one epoch, unlike that of any other epoch of a run, and of its order."""
    return ((seed * 1_000_003 + epoch) * 10_000_019) % 2**64


def _loaded_steps(setup: StepSetup, dataset: LaneDataset, batch_indices: Sequence[Sequence[int]],
                  params: AugmentParams, start: int, size: tuple[int, int]) -> Iterator[None]:
    """Runs a step an item, from `start` on: images come from the loader, and only this process's share of them."""
    counts = [len(batch) for batch in batch_indices]
    device, waits = setup.device, setup.device.type == "mps"  # where a copy may read memory that has been freed
    params = params.to(device)
    shards = loader(dataset, [distributed.shard(batch) for batch in batch_indices[start:]], setup.config.data.workers,
                    device.type == "cuda")
    first = sum(counts[:start])
    for (images, target), count in zip(shards, counts[start:], strict=True):
        own = AugmentParams(*(distributed.shard(part[first:first + count]) for part in params))
        target = augment_lanes(target.to(device), own)
        step(setup, images.to(device, non_blocking=not waits), target, own, count, size)
        first += count
        yield
