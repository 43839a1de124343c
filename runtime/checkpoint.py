"""Checkpoints: plain dicts that carry their configuration, written whole or not at all, read without trust."""

import contextlib
import dataclasses
import math
import os
import pickletools
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import torch
from torch import nn

from config import Config, ModelConfig, config_from_dict, shown, to_dict
from geometry.decode import DecodeSettings
from geometry.input_grid import InputGrid, RowWarp
from model import LaneNet
from runtime import distributed
from runtime.files import atomic_write

DEFAULT_CHECKPOINT = "checkpoints_fixed/best_model.pth"
SHIPPED_CHECKPOINT = "models/rendered_roads.pth"  # comes with the repository; trained on rendered scenes alone
FORMAT = "lane-regression"  # marks our own checkpoints
VERSION = 10  # to be raised when weights no longer fit the network, or keys of what is saved or pixels change
MAX_PICKLE = 10_000_000  # bytes of names and numbers that are looked into where a file cannot be loaded
NOT_SAVED = ("camera",)  # sections: it is of the images that are looked at, not of those that were learned from
READABLE_VERSIONS = (6, 7, 8, 9, 10)  # 6 has other names for settings; runs before 10 have other states or pixels


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message says why and what to do."""


def build_model(config: Config, load_pretrained: bool = True) -> LaneNet:
    """The network that a configuration describes."""
    settings = config.model
    return LaneNet(settings.backbone, settings.pretrained if load_pretrained else False, settings.slots,
                   RowWarp(settings.cut_top, settings.zoom))


def input_grid(config: Config) -> InputGrid:
    """The part of an image that the network of a configuration takes, and at which size."""
    return InputGrid(config.model.width, config.model.height, RowWarp(config.model.cut_top, config.model.zoom))


def save_checkpoint(path: Path, config: Config, **contents: Any) -> None:
    """Write a checkpoint atomically: an interrupted or failed write leaves the earlier file as it was.

    `contents` are plain values, tensors and state dicts. Of several processes rank 0 alone writes. Raises
    CheckpointError where the file cannot be written.
    """
    if distributed.rank() > 0:
        return
    saved = {section: values for section, values in to_dict(config).items() if section not in NOT_SAVED}
    payload = {"format": FORMAT, "version": VERSION, "config": saved, **contents}
    try:
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            torch.save(payload, file)
            file.flush()
            os.fsync(file.fileno())
            temporary.chmod(0o644)
    except (OSError, RuntimeError) as error:
        # Closing the half-written file, torch.save fails again and says less than what it failed on.
        first = error.__context__ if isinstance(error.__context__, OSError) else error
        reason = getattr(first, "strerror", None) or str(first).splitlines()[0]
        raise CheckpointError(f"{path}: the checkpoint cannot be written ({reason}); earlier checkpoints are as "
                              "they were. Make room in this folder and continue with --resume") from None


def load_checkpoint(path: str | Path, purpose: str = "used") -> dict[str, Any]:
    """The content of a checkpoint of our own, its tensors on the CPU and its "config" as a Config.

    Only tensors and plain values are read (weights_only), so that a file cannot run code. Raises CheckpointError for a
    missing, damaged or foreign file, and for one of the uncertainty-weighted loss; `purpose` is a word of its message.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no checkpoint here; make one with: python train_fixed.py, or take the "
                              f"one that comes with the repository: {SHIPPED_CHECKPOINT}")
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's, of files that are refused below in one line
            check_sums(file)
            file.seek(0)
            payload = torch.load(file, map_location="cpu", weights_only=True)
        evidence = uncertainty_weighting_evidence(payload)
    except Exception as error:  # unpickling a damaged or hostile file can fail in any way
        evidence = learned_weight_in_pickle(path)
        reason = re.sub(r"\x1b\[[0-9;]*m", "", " ".join(str(error).split()))[:120]
        if "Weights only load failed" in reason:  # what follows is how to load it nevertheless
            reason = "it holds more than tensors and plain values"
        if not evidence:
            raise CheckpointError(f"{path}: not a checkpoint that can be loaded safely ({reason}); if it is from older "
                              "or other software, train afresh with: python train_fixed.py") from None
    if evidence:
        raise CheckpointError(f"{path}: {evidence}: this comes from the uncertainty-weighted loss whose model "
                              f"collapsed. Its weights are not worth continuing from and cannot be "
                              f"{purpose} here; train afresh with: python train_fixed.py")
    if not isinstance(payload, dict) or payload.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a checkpoint of train_fixed.py; train one with: python train_fixed.py")
    version = payload.get("version")
    if not isinstance(version, int) or version not in READABLE_VERSIONS:
        raise CheckpointError(f"{path}: checkpoint version {shown(version)}, this software reads "
                              f"{READABLE_VERSIONS[0]} to {READABLE_VERSIONS[-1]}")
    try:
        payload["config"] = config_from_dict(payload["config"], f"{path}: config")
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: the configuration inside is damaged ({error!r})") from None
    return payload


def check_sums(file: BinaryIO) -> None:
    """Raise CheckpointError where a checksum in the zip archive is wrong; torch.load does not check them."""
    with zipfile.ZipFile(file) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise CheckpointError("compressed, which ours never are")
        damaged = archive.testzip()
    if damaged:
        raise CheckpointError(f"damaged: the checksum of its part {damaged} is wrong")


def uncertainty_weighting_evidence(payload: Any) -> str:
    """What in a loaded file shows that its loss learned its own weights, in words; empty where nothing does.

    A learned weight is a parameter called log_var... or log_sigma...; only such a loss falls below zero.
    """
    stack, visited = [payload], set()
    while stack:
        node = stack.pop()
        if id(node) in visited:  # a file may contain one object many times, or inside itself
            continue
        visited.add(id(node))
        if isinstance(node, (list, tuple)):
            stack += [value for value in node if isinstance(value, (dict, list, tuple))]
        if not isinstance(node, dict):
            continue
        for name, value in node.items():
            if is_learned_weight(str(name)):
                return f"it contains {shown(name)}"
            if isinstance(value, torch.Tensor) and value.ndim == 0:
                value = value.item()
            for number in value if isinstance(value, (list, tuple)) else [value]:
                if "loss" in str(name) and isinstance(number, (int, float)) and number < 0:
                    return f"its {shown(name)} is {number:.4g}, below zero"
            stack.append(value)
    return ""


def is_learned_weight(name: str) -> bool:
    """Whether a parameter's name, such as criterion.log_vars, is that of a weight that a loss learns."""
    return any(word.startswith(("log_var", "log_sigma")) for word in name.split("."))


def learned_weight_in_pickle(path: Path) -> str:
    """As `uncertainty_weighting_evidence`, by the words of a file that cannot be loaded: nothing of it is run."""
    with contextlib.suppress(Exception), zipfile.ZipFile(path) as archive:  # a damaged file can fail in any way
        pickled = next(info for info in archive.infolist() if info.filename.endswith("data.pkl"))
        if pickled.compress_type != zipfile.ZIP_STORED or pickled.file_size > MAX_PICKLE:
            return ""
        for _, word, _ in pickletools.genops(archive.read(pickled)):
            if isinstance(word, str) and is_learned_weight(word):
                return f"it contains {shown(word)}"
    return ""


def model_differences(own: ModelConfig, other: ModelConfig | Mapping[str, Any]) -> str:
    """Where the settings of two networks differ, as 'model.slots=6, now 8'; empty where they do not."""
    values = vars(other) if isinstance(other, ModelConfig) else other
    return "; ".join(f"model.{key}={shown(getattr(own, key))}, now {shown(value)}" for key, value in values.items()
                     if value != getattr(own, key))


def load_weights(model: nn.Module, weights: Any, path: str | Path, differences: str = "") -> None:
    """Load a whole state dict into the model. Raises CheckpointError, which names path, where the two differ.

    `differences` are those of the settings of the network, which say why.
    """
    try:
        model.load_state_dict(weights, strict=True)
    except (RuntimeError, TypeError, AttributeError) as error:
        if differences:
            raise CheckpointError(f"{path}: its weights do not fit this network: it has {differences}; give the same "
                                  "settings, or train from scratch") from None
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(f"{path}: its weights do not fit this model ({reason})") from None


def load_model(path: str | Path, device: torch.device, requested: Mapping[str, Any] = MappingProxyType({})
               ) -> tuple[LaneNet, Config, dict[str, Any]]:
    """The network of a checkpoint in evaluation mode, its configuration, and the whole content of the file.

    `requested` are settings of the network, by key, that were asked for. Raises CheckpointError where they differ from
    its own, which cannot be changed after training.
    """
    payload = load_checkpoint(path)
    config = payload["config"]
    if differences := model_differences(config.model, requested):
        raise CheckpointError(f"{path}: this model was trained with {differences}; leave the setting out, or train "
                              "another model with it")
    model = build_model(config, load_pretrained=False)
    load_weights(model, validated_weights(payload), path)
    return model.to(device).eval(), config, payload


def validated_weights(payload: dict[str, Any]) -> Any:
    """The weights that are validated: of an interrupted run, last.pth, those of their moving average."""
    average = payload.get("ema")
    if not isinstance(average, dict):
        return payload.get("model")
    return {name.removeprefix("module."): value for name, value in average.items()
            if isinstance(name, str) and name.startswith("module.")}


def steps_of_training(payload: dict[str, Any]) -> float:
    """The number of training steps before a checkpoint was written; infinite where the file has no number."""
    scores, schedule = payload.get("scores"), payload.get("schedule")
    steps = scores.get("steps") if isinstance(scores, dict) else None
    done = schedule.get("steps") if isinstance(schedule, dict) else None
    if steps is None and isinstance(done, torch.Tensor) and done.numel() == 1:
        return int(done)
    return steps if isinstance(steps, int) else math.inf


def with_checkpoint(settings: Config, payload: dict[str, Any]) -> Config:
    """The settings with the network of a checkpoint and, for a threshold `auto`, the one that its validation chose."""
    threshold = settings.inference.threshold
    if threshold == "auto":
        scores = payload.get("scores")
        chosen = scores.get("threshold") if isinstance(scores, dict) else None
        threshold = chosen if isinstance(chosen, float) and 0 <= chosen <= 1 else DecodeSettings().threshold
    inference = dataclasses.replace(settings.inference, threshold=threshold)
    return dataclasses.replace(settings, model=payload["config"].model, inference=inference)
