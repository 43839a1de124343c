"""An epoch's numbers as TensorBoard's scalars."""

import math
from collections.abc import Mapping
from typing import Any

from config import ConfigError
from training.epoch_pictures import flat

TENSORBOARD_DIR = "tensorboard"  # in the folder of a training


def require_tensorboard() -> type:
    """torch's SummaryWriter. Raises ConfigError where the package that it needs is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(f"train.tensorboard is true, but TensorBoard cannot be imported ({error}); install it with: "
                          "pip install tensorboard, or set train.tensorboard=false") from None
    return SummaryWriter


def write_scalars(writer: Any, record: Mapping[str, Any]) -> None:
    """Add the finite numbers of an epoch's record to a SummaryWriter, those of a set under SET/NAME."""
    for name, value in flat(record).items():
        if name != "epoch" and isinstance(value, (int, float)) and math.isfinite(value):
            writer.add_scalar(name, value, record["epoch"])
    writer.flush()
