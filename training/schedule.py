"""What changes in a run whatever the images: the learning rate, the weight of the average, the size of the input."""

import math

import torch
from torch import Tensor, nn

from config import Config, TrainConfig
from training.ema import update_weights

FINAL_RATE = 0.01  # of the learning rate, where the cosine ends
COARSE = 0.7  # of the width and the height that other epochs have, in coarse ones
MIN_ROWS = 40  # two at the deepest map: of a single value batch norm has no variance
COARSE_COST = 0.6  # of another epoch's time, on a CPU


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


def coarse_epochs(settings: TrainConfig) -> int:
    """How many epochs, the first, see images of COARSE size; the last one never does."""
    return min(int(settings.coarse * settings.epochs), settings.epochs - 1)


def input_size(config: Config, epoch: int) -> tuple[int, int]:
    """(H, W) of the images that the network is trained on in an epoch, counted from 1: multiples of 8 and 32."""
    scale = config.train.input_scale * (COARSE if epoch <= coarse_epochs(config.train) else 1)
    rows = 8 * round(scale * config.model.height / 8)
    return max(MIN_ROWS, rows), 32 * round(scale * config.model.width / 32)


def share_done(settings: TrainConfig, epoch: int) -> float:
    """The share of a run's time that has passed after an epoch, counted from 1."""
    coarse = coarse_epochs(settings)

    def work(epochs: int) -> float:
        return epochs - (1 - COARSE_COST) * min(epochs, coarse)

    return work(epoch) / work(settings.epochs)
