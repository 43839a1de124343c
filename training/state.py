"""What training changes, how it is built, and how it is saved and restored."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from config import Config, ConfigError, shown, to_dict
from model import LaneNet
from runtime import checkpoint, distributed
from runtime.checkpoint import CheckpointError
from training.ema import ExponentialMovingAverage
from training.loss_scaler import LossScaler
from training.optimizer import MuonAdamW
from training.schedule import Schedule

MAY_CHANGE = ("data.cache", "data.cache_dir", "data.cache_gb", "data.workers", "data.on_device", "train.device",
              "train.compile", "train.cuda_graph", "train.epochs", "train.checkpoint_dir", "train.tensorboard",
              "inference.batch_size", "guard.patience")  # when a run is resumed
ADAMW_BETAS = 0.9, 0.999  # of a run without Muon: what most papers use


class TrainState(NamedTuple):
    """Everything with a state that training changes."""

    model: LaneNet
    ema: ExponentialMovingAverage  # of the weights: what is validated and saved as the best model
    optimizer: MuonAdamW
    schedule: Schedule
    scaler: LossScaler


class TrainProgress(NamedTuple):
    """How far a run is: `step` steps of `epoch` are done, with the sums of their loss terms."""

    epoch: int = 1
    step: int = 0
    sums: Tensor | None = None  # (terms) of LossTerms, each times its images
    best: tuple[float, float, float] = (-1.0, -math.inf, -1.0)  # selection key of the best model so far
    collapsed_epochs: int = 0  # in a row
    seconds: float = 0.0
    data: str = ""  # fingerprint of the training images


def check_start(config: Config, resumed: bool) -> None:
    """Raise ConfigError where a share is to be kept of a model that is not named, CheckpointError where it is none."""
    if config.train.init_share and not config.train.init_from:
        raise ConfigError(f"train.init_share is {config.train.init_share}, but there is no model to keep a share of: "
                          "name one with train.init_from")
    if config.train.init_from and not resumed:
        checkpoint.load_checkpoint(config.train.init_from, "started from")


def build_model(config: Config, device: torch.device, resumed: bool) -> LaneNet:
    """The network to train, on its device; a resumed one gets its weights later. Raises CheckpointError."""
    model = checkpoint.build_model(config, load_pretrained=not (resumed or config.train.init_from))
    if config.train.init_from and not resumed:
        start = checkpoint.load_checkpoint(config.train.init_from, "started from")
        checkpoint.load_weights(model, checkpoint.validated_weights(start), config.train.init_from,
                                checkpoint.model_differences(start["config"].model, config.model))
    return distributed.sync_batch_norm(model, device).to(device, memory_format=torch.channels_last)


def build_state(model: LaneNet, config: Config, steps: int, device: torch.device, dtype: torch.dtype) -> TrainState:
    """The state before the first of `steps` steps: warm-up and cosine over all of them."""
    return TrainState(
        model,
        ExponentialMovingAverage(model, config.train.init_share),
        build_optimizer(model, config),
        Schedule(config.train, steps).to(device),
        LossScaler(enabled=dtype == torch.float16).to(device),
    )


def build_optimizer(model: LaneNet, config: Config) -> MuonAdamW:
    """Muon or AdamW; weight decay for matrices and kernels only."""
    settings = config.train
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    if settings.optimizer == "adamw":
        return MuonAdamW([], decayed, others, settings.learning_rate, settings.weight_decay, ADAMW_BETAS)
    kernels = [p for p in decayed if p.ndim == 4 and p.shape[1] > 3]  # the first, of three colors, is AdamW's
    muon = set(kernels)
    rest = [p for p in decayed if p not in muon]
    return MuonAdamW(kernels, rest, others, settings.learning_rate, settings.weight_decay)


def to_payload(state: TrainState, progress: TrainProgress) -> dict[str, Any]:
    """The contents of last.pth by their keys."""
    return {
        **{name: part.state_dict() for name, part in state._asdict().items()},
        "progress": {"epoch": progress.epoch, "step": progress.step, "sums": progress.sums, "best": progress.best,
                     "collapsed_epochs": progress.collapsed_epochs, "seconds": progress.seconds,
                     "data": progress.data},
    }


def load_last(path: Path, config: Config) -> dict[str, Any]:
    """last.pth of a run with the same settings, of as many epochs or fewer.

    Raises CheckpointError where they differ, naming the first.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no interrupted run here to resume; leave out --resume to start one, or name "
                              "its folder with train.checkpoint_dir")
    payload = checkpoint.load_checkpoint(path, "resumed")
    if payload["version"] != checkpoint.VERSION:
        raise CheckpointError(f"{path}: the interrupted run is of an earlier version; finish it with that one, or "
                              f"start from its weights with train.init_from={path}")
    if "progress" not in payload:
        raise CheckpointError(f"{path}: holds a finished model, not an interrupted run; "
                              f"start from its weights with train.init_from={path}")
    before, now = to_dict(payload["config"]), to_dict(config)
    best = path.with_name("best_model.pth")
    weights = best if best.is_file() else path
    if config.train.epochs < payload["config"].train.epochs:
        raise CheckpointError(f"{path}: the run had train.epochs={payload['config'].train.epochs}, now it is "
                              f"{config.train.epochs}: a run can be made longer, not shorter; its model so far is "
                              f"{weights}")
    for section, values in now.items():
        for key, value in values.items() if section not in checkpoint.NOT_SAVED else ():
            name = f"{section}.{key}"
            if name not in MAY_CHANGE and value != before[section][key]:
                raise CheckpointError(f"{path}: the interrupted run had {name}={before[section][key]}, now it is "
                                      f"{value}; give the same settings again, or start a new run in another "
                                      f"train.checkpoint_dir with train.init_from={weights}")
    return payload


def restore(state: TrainState, payload: dict[str, Any], path: Path) -> TrainProgress:
    """Load all states and return the progress. Raises CheckpointError where something does not fit."""
    checkpoint.load_weights(state.model, payload.get("model"), path)
    try:
        for name, part in state._asdict().items():
            part.load_state_dict(payload[name])
        progress = TrainProgress(**payload["progress"])
        for name, usual in TrainProgress(sums=progress.sums)._asdict().items():
            if not isinstance(getattr(progress, name), type(usual)):
                raise TypeError(f"{name} is {shown(getattr(progress, name))}")
        return progress
    except Exception as error:  # whatever PyTorch's parts raise for states that are not theirs
        raise CheckpointError(f"{path}: damaged ({' '.join(str(error).split())[:120]})") from None
