"""One step of training.

Shapes: B batch, L lane slots, P = 6 control points, H x W the network's input, 2 = (x, y) in [0, 1].

A step takes tensors on its device and leaves its results there: the host is not asked for anything and does not wait,
so that the same function runs on any device and is recorded as a CUDA graph on a GPU (training/device_steps.py).
"""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from config import Config
from geometry.input_grid import RowWarp
from geometry.slots import LaneTarget, resolve_ambiguous_assignment
from losses_fixed import LaneLoss, LossTerms
from preprocessing.augment import AugmentParams, augment
from runtime import checkpoint, distributed
from runtime.device import autocast
from training.loss_scaler import clip_gradients, undone_unless
from training.state import TrainState


class Losses(NamedTuple):
    """Terms in the order of LossTerms, on the device: of the last step, and their sums over the images of an epoch."""

    last: Tensor
    sums: Tensor


class StepSetup(NamedTuple):
    """What all steps of a run share."""

    state: TrainState
    ddp_model: nn.Module  # the model as it is stepped: wrapped for several processes, or compiled
    loss: LaneLoss
    config: Config
    device: torch.device
    dtype: torch.dtype  # of convolutions
    warp: RowWarp  # of the images' rows
    losses: Losses

    def tensors(self) -> Iterator[Tensor]:
        """Every tensor that a step changes, and that outlives it."""
        state = self.state
        for module in (state.model, state.ema, state.schedule, state.scaler):
            yield from module.state_dict(keep_vars=True).values()
        yield from state.optimizer.tensors()
        yield from self.losses


def step_setup(state: TrainState, ddp_model: nn.Module, loss: LaneLoss, config: Config, device: torch.device,
               dtype: torch.dtype) -> StepSetup:
    """A StepSetup with losses of 0."""
    losses = Losses(*torch.zeros(2, len(LossTerms._fields), device=device).unbind())
    return StepSetup(state, ddp_model, loss, config, device, dtype, checkpoint.input_grid(config).warp, losses)


def step(setup: StepSetup, images: Tensor, target: LaneTarget, params: AugmentParams, num_images: int,
         size: tuple[int, int] | None = None) -> None:
    """Augment uint8 images (B, 3, H, W), step the weights and their average, and note the losses.

    The target is that of the augmented images. `num_images` are those of all processes; the network sees images
    (B, 3, *size), by default as large as these.
    Everything is on the device already, and nothing comes back from it.
    """
    state, losses = setup.state, setup.losses
    factor, average_weight = state.schedule.advance()
    images = augment(images, params, setup.warp, size)
    with autocast(setup.device, setup.dtype, cache=False):  # each weight is cast once; a graph would keep a stale copy
        (points, logits), row_logits = setup.ddp_model(images, with_rows=True)
    target = resolve_ambiguous_assignment(points, logits, target)
    terms = setup.loss(points, logits, target, row_logits, distributed.all_reduce_mean)

    state.optimizer.zero_grad()
    scale = state.scaler.scale if state.scaler.enabled else None
    (terms.total if scale is None else terms.total * scale).backward()
    grads = [p.grad for group in state.optimizer.param_groups for p in group["params"] if p.grad is not None]
    finite = clip_gradients(grads, setup.config.train.clip_norm, scale)
    with contextlib.nullcontext() if scale is None else undone_unless(finite, state.optimizer.tensors()):
        state.optimizer.step(factor)
    if scale is not None:
        state.scaler.update(finite)
    state.ema.update(average_weight)
    losses.last.copy_(torch.stack(terms).detach())
    losses.sums.add_(losses.last, alpha=num_images)
