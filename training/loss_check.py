"""A look at the loss from time to time, for which a GPU is not stopped, and which ends a run that learns nothing."""

import math

import torch
from torch import Tensor, nn

from losses_fixed import LossTerms
from model import LanePrediction
from runtime.device import Readback
from training.run_dir import TrainingError

CHECK_EVERY = 25  # steps between checks of the loss


class LossCheck:
    """Refuses losses that are negative or not finite. On a GPU those of one check are read at the next."""

    def __init__(self, epoch: int):
        self.epoch, self.loss = epoch, math.nan  # `loss` is the latest that was read
        self.pending: tuple[Readback, int] | None = None

    def begin(self, losses: tuple[Tensor, Tensor], num_images: int, step: int) -> None:
        """Judge the losses of the check before, and send for the present ones: of the last step and of the epoch."""
        self.finish()
        last, sums = losses
        readback = Readback(torch.stack((last, sums / num_images)))
        self.pending = readback, step
        if readback.has_arrived:
            self.finish()

    def finish(self) -> None:
        """Judge what was sent for. Raises TrainingError."""
        if self.pending:
            readback, step = self.pending
            self.pending = None
            last, mean = readback.values()
            self.loss = last[0]
            refuse_invalid_loss(LossTerms(*last), self.epoch, step)
            refuse_invalid_loss(LossTerms(*mean), self.epoch, step)  # nor in any step before


def refuse_diverged(model: nn.Module, prediction: LanePrediction, epoch: int) -> None:
    """Raise TrainingError where weights or what they predict are not finite.

    No loss has shown what an epoch's last steps have done; and finite weights may be too large to compute with.
    """
    checked = {"weights": model.parameters(), "predictions for validation images": prediction}
    for what, tensors in checked.items():
        if not torch.stack([tensor.isfinite().all() for tensor in tensors]).all():
            raise TrainingError(f"the network has {what} that are not finite after epoch {epoch}: training has "
                                "diverged; lower train.learning_rate")


def refuse_invalid_loss(terms: LossTerms, epoch: int, step: int) -> None:
    """Raise TrainingError for numbers of which one is negative or not finite, naming every term."""
    if all(math.isfinite(value) and value >= 0 for value in terms):
        return
    listed = ", ".join(f"{name} {value:.4g}" for name, value in terms._asdict().items())
    raise TrainingError(f"the loss is negative or not finite in epoch {epoch}, step {step}: {listed}; look at the "
                        "labels (python check_dataset.py ROOT) and lower train.learning_rate")
