"""The exponential moving average of the weights: what is validated and saved."""

import itertools

import torch
from torch.optim.swa_utils import AveragedModel

from model import LaneNet


class ExponentialMovingAverage(AveragedModel):
    """The exponential moving average of a model, with a shorter memory in the first steps (as in TensorFlow).

    PyTorch's own way of updating asks the device how many steps there were, for which a GPU has to finish them.
    """

    def __init__(self, model: LaneNet, decay: float):
        super().__init__(model, use_buffers=True)
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: LaneNet) -> None:
        """Take the model's present weights and buffers in."""
        count = int(self.n_averaged)  # which stays on the CPU
        weight = 1 - min(self.decay, (1 + count) / (10 + count)) if count else 1.0
        current = itertools.chain(model.parameters(), model.buffers())
        for mean, value in zip(itertools.chain(self.module.parameters(), self.module.buffers()), current, strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, weight)
            else:
                mean.copy_(value)
        self.n_averaged += 1
