"""The exponential moving average of the weights: what is validated and saved."""

import copy
import itertools

import torch
from torch import Tensor, nn


class ExponentialMovingAverage(nn.Module):
    """The exponential moving average of the weights and buffers of a model, in `module`; counts are copied.

    A share of it stays what the model is now, in `start`: a network that goes on from another keeps more of what that
    one could on other data (Wortsman et al. 2022). All models stay on the device where they are now.
    """

    def __init__(self, model: nn.Module, start_share: float = 0.0):
        super().__init__()
        self.module = copy.deepcopy(model).requires_grad_(False)
        self.start_share, self.start = start_share, copy.deepcopy(self.module) if start_share else None
        pairs = list(zip(_tensors(self.module), _tensors(model), strict=True))
        floats = [pair for pair in pairs if pair[0].is_floating_point()]
        counts = [pair for pair in pairs if not pair[0].is_floating_point()]
        self.means, self.values = (list(part) for part in zip(*floats, strict=True))
        self.counts, self.new_counts = (list(part) for part in zip(*counts, strict=True)) if counts else ([], [])
        self.starts = [tensor for tensor in _tensors(self.start) if tensor.is_floating_point()] if self.start else []

    @torch.no_grad()
    def update(self, weight: Tensor) -> None:
        """Take the model's present values in, with a weight () on their device."""
        values = torch._foreach_lerp(self.values, self.starts, self.start_share) if self.starts else self.values
        if weight.device.type == "cpu":
            torch._foreach_lerp_(self.means, values, [weight] * len(self.means))
        else:  # a launch for each tensor on a GPU; these are for all of them together
            move_together(self.means, values, weight)
        if self.counts:
            torch._foreach_copy_(self.counts, self.new_counts)


def move_together(means: list[Tensor], values: list[Tensor], weight: Tensor) -> None:
    """Move the means to the values by a share () of their distance; a mean that has arrived stays where it is.

    The sum of both, weighted, is rounded each time, and drifts from a value that never changes.
    """
    distances = torch._foreach_sub(values, means)
    torch._foreach_mul_(distances, weight)
    torch._foreach_add_(means, distances)


def update_weights(steps: int, decay: float) -> Tensor:
    """(steps + 1): the weight of a model in its average after 0, 1, 2 ... updates: 1 at first, in the end 1 - decay.

    The memory is shorter in the first steps (as in TensorFlow).
    """
    step = torch.arange(steps + 1, dtype=torch.float64)
    return torch.where(step == 0, 1.0, 1 - ((1 + step) / (10 + step)).clamp(max=decay))


def _tensors(model: nn.Module) -> itertools.chain[Tensor]:
    return itertools.chain(model.parameters(), model.buffers())
