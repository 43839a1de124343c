"""The exponential moving average of the weights: what is validated and saved."""

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from model import LaneNet


class ExponentialMovingAverage(AveragedModel):
    """The exponential moving average of a model, with a shorter memory in the first steps (as in TensorFlow).

    PyTorch's own update copies the count of steps to the device, and so waits for a GPU to finish its work.
    """

    def __init__(self, model: LaneNet, decay: float):
        super().__init__(model, use_buffers=True)
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: LaneNet) -> None:
        """Take the model's present weights and buffers in."""
        count = int(self.n_averaged)  # which stays on the CPU
        weight = 1 - min(self.decay, (1 + count) / (10 + count)) if count else 1.0
        means, values = [], []
        for mean, value in zip(_tensors(self.module), _tensors(model), strict=True):
            if mean.is_floating_point():
                means.append(mean)
                values.append(value)
            else:
                mean.copy_(value)
        torch._foreach_lerp_(means, values, weight)
        self.n_averaged += 1


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    return itertools.chain(model.parameters(), model.buffers())
