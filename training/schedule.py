"""What changes from step to step whatever the images: the learning rate and the weight of the average."""

import math

import torch
from torch import Tensor, nn

from config import TrainConfig
from training.ema import update_weights

FINAL_RATE = 0.01  # of the learning rate, where the cosine ends


class Schedule(nn.Module):
    """Both for each step of a run, on its device with the count of steps: no step waits to be told its number."""

    def __init__(self, settings: TrainConfig, steps: int):
        super().__init__()
        columns = (learning_rate_factors(steps, settings.warmup), update_weights(steps, settings.ema))
        self.register_buffer("table", torch.stack(columns, dim=1).float(), persistent=False)  # (steps + 1, 2)
        self.register_buffer("steps", torch.zeros(1, dtype=torch.long))  # that are done

    def advance(self) -> tuple[Tensor, Tensor]:
        """The learning rate () as a share of its peak and the average's weight () of the step that begins."""
        factor, weight = self.table.index_select(0, self.steps.clamp(max=len(self.table) - 1))[0].unbind()
        self.steps += 1
        return factor, weight


def learning_rate_factors(steps: int, warmup: float) -> Tensor:
    """(steps + 1): the share of the learning rate in each step and after the last: a linear warm-up, then a cosine."""
    step, rise = torch.arange(steps + 1, dtype=torch.float64), max(1, round(warmup * steps))
    share = ((step - rise) / max(1, steps - rise)).clamp(max=1)
    cosine = FINAL_RATE + (1 - FINAL_RATE) * (1 + torch.cos(math.pi * share)) / 2
    return torch.where(step < rise, (step + 1) / rise, cosine)
