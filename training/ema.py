"""The exponential moving average of the weights: what is validated and saved."""

import copy
import itertools

import torch
from torch import Tensor, nn


class ExponentialMovingAverage(nn.Module):
    """The exponential moving average of a model's weights and buffers, in `module`."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.module = copy.deepcopy(model).requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, weight: Tensor) -> None:
        """Take the model's present weights and buffers in, with a weight () on their device; counts are copied."""
        means, values, counts, new_counts = [], [], [], []
        for mean, value in zip(_tensors(self.module), _tensors(model), strict=True):
            is_float = mean.is_floating_point()
            (means if is_float else counts).append(mean)
            (values if is_float else new_counts).append(value)
        if weight.device.type == "cpu":
            torch._foreach_lerp_(means, values, [weight] * len(means))
        else:  # a launch for each tensor on a GPU; these are for all of them together
            torch._foreach_mul_(means, 1 - weight)
            torch._foreach_add_(means, torch._foreach_mul(values, weight))
        if counts:
            torch._foreach_copy_(counts, new_counts)


def update_weights(steps: int, decay: float) -> Tensor:
    """(steps + 1): the weight of a model in its average after 0, 1, 2 ... updates: 1 at first, in the end 1 - decay.

    The memory is shorter in the first steps (as in TensorFlow).
    """
    step = torch.arange(steps + 1, dtype=torch.float64)
    return torch.where(step == 0, 1.0, 1 - ((1 + step) / (10 + step)).clamp(max=decay))


def _tensors(model: nn.Module) -> itertools.chain[Tensor]:
    return itertools.chain(model.parameters(), model.buffers())
