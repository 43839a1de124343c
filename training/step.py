"""One step of training, and an epoch of them.

Shapes: B batch, L lane slots, P = 6 control points, H x W the network's input, 2 = (x, y) in [0, 1].
"""

import math
import sys
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from config import Config
from dataset import LaneDataset, loader
from geometry.slots import LaneTarget, resolve_ambiguous_assignment
from losses_fixed import LaneLoss, LossTerms
from preprocessing.augment import AugmentParams, augment, sample_params
from runtime import distributed
from runtime.device import autocast
from runtime.signals import Interrupt
from training.run_dir import TrainingError
from training.state import TrainProgress, TrainState

CHECK_EVERY = 25  # steps between checks of the loss: each check makes a GPU wait


class StepSetup(NamedTuple):
    """What all steps of a run share."""

    state: TrainState
    ddp_model: nn.Module  # the model as it is stepped: wrapped for several processes, or compiled
    loss: LaneLoss
    config: Config
    device: torch.device
    dtype: torch.dtype  # of convolutions


def train_epoch(setup: StepSetup, dataset: LaneDataset, batch_indices: Sequence[Sequence[int]],
                progress: TrainProgress, interrupt: Interrupt) -> TrainProgress:
    """Run the steps of an epoch that are still to do; returns the progress, short of the end if interrupted.

    The augmentation of a step depends on seed, epoch and step alone, so that a resumed run repeats an uninterrupted
    one, and several processes train as one would. Each takes its share of every batch.
    """
    config, step = setup.config, progress.step
    sums = torch.zeros(len(LossTerms._fields), device=setup.device)
    if progress.sums is not None:
        sums = progress.sums.to(setup.device)
    num_images = sum(map(len, batch_indices[:step]))
    generator = torch.Generator()
    setup.state.model.train()
    shards = loader(dataset, [distributed.shard(batch) for batch in batch_indices[step:]], config.data.workers,
                    setup.device.type == "cuda")
    bar = tqdm(shards, f"Epoch {progress.epoch}/{config.train.epochs}", file=sys.stderr, leave=False,
               disable=distributed.progress_disabled(), unit="step")
    for images, target in bar:
        size = len(batch_indices[step])
        generator.manual_seed(step_seed(config.train.seed, progress.epoch, step))
        params = sample_params(size, config.augment, dataset.grid.aspect, generator)
        terms = train_step(setup, images, target, AugmentParams(*map(distributed.shard, params)), dataset)

        sums += torch.stack(terms).detach() * size
        step, num_images = step + 1, num_images + size
        stop = distributed.all_reduce_max(interrupt.signal)  # a process whose signal comes later stops one step later
        if step % CHECK_EVERY == 0 or step == len(batch_indices) or stop:
            refuse_invalid_loss(terms, progress.epoch, step)
            refuse_invalid_loss(LossTerms(*(sums / num_images)), progress.epoch, step)  # nor in any step before
            bar.set_postfix(loss=f"{terms.total.item():.3f}")
        if stop:
            break
    return progress._replace(step=step, sums=distributed.all_reduce_mean(sums))


def train_step(setup: StepSetup, images: Tensor, target: LaneTarget, params: AugmentParams, dataset: LaneDataset
               ) -> LossTerms:
    """Augment uint8 images (B, 3, H, W) and their target, step the weights and their average; returns the loss."""
    state, device = setup.state, setup.device
    images, target = images.to(device, non_blocking=device.type != "mps"), target.to(device)
    images, target = augment(images, target, params, dataset.grid.warp)
    with autocast(device, setup.dtype):
        (points, logits), rows = setup.ddp_model(images, with_rows=True)
    target = resolve_ambiguous_assignment(points, logits, target)
    terms = setup.loss(points, logits, target, rows, distributed.all_reduce_mean)

    state.optimizer.zero_grad(set_to_none=True)
    state.scaler.scale(terms.total).backward()
    state.scaler.unscale_(state.optimizer)
    nn.utils.clip_grad_norm_(state.model.parameters(), setup.config.train.clip_norm)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.lr_scheduler.step()
    state.ema.update_parameters(state.model)
    return terms


def step_seed(seed: int, epoch: int, step: int) -> int:
    """A seed for the augmentation of one step, unlike that of any other step of a run; PyTorch takes 64 bits."""
    return ((seed * 1_000_003 + epoch) * 10_000_019 + step) % 2**64


def refuse_invalid_loss(terms: LossTerms, epoch: int, step: int) -> None:
    """Raise TrainingError for a loss that is negative or not finite, naming every term."""
    values = {name: value.item() for name, value in terms._asdict().items()}
    if all(math.isfinite(value) and value >= 0 for value in values.values()):
        return
    listed = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
    raise TrainingError(f"the loss is negative or not finite in epoch {epoch}, step {step}: {listed}; look at the "
                        "labels (python check_dataset.py ROOT) and lower train.learning_rate")
