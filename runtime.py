"""What a script needs to run: the command line, the device, precision, seeds, and checkpoints."""

import argparse
import contextlib
import ctypes
import dataclasses
import os
import random
import re
import signal
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import nn

from config import Config, ConfigError, config_from_dict, load_config, shown, to_dict
from model import LaneNet

FORMAT = "lane-regression"  # marks our own checkpoints
VERSION = 1


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message says why and what to do."""


def parser(description: str) -> argparse.ArgumentParser:
    """A parser with what every script takes: --config and section.key=value overrides."""
    result = argparse.ArgumentParser(description=description)
    result.add_argument("--config", metavar="FILE", help="settings (default: config.yaml, if there is one)")
    return result


def parse(arguments: argparse.ArgumentParser, argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Parsed arguments and, apart from the other positional ones, the overrides among them."""
    options = arguments.parse_intermixed_args(argv)
    overrides = [w for w in options.words if is_override(w)]
    options.words = [w for w in options.words if not is_override(w)]
    return options, overrides


def is_override(word: str) -> bool:
    """Whether a word on the command line sets a key: section.key=value, with names that YAML keys have."""
    name, equals, _ = word.partition("=")
    section, dot, key = name.partition(".")
    return bool(equals and dot and section.isidentifier() and key.isidentifier())


def run(main: Callable[[], int | None]) -> None:
    """Exit with main's status; user errors become one line on stderr and status 1, without a traceback."""
    try:
        status = main()
    except BrokenPipeError:
        status = 1
    except KeyboardInterrupt:
        status = 130
    except torch.OutOfMemoryError:
        print("error: the device has no memory left; lower train.batch_size or the model's size", file=sys.stderr)
        status = 1
    except (ValueError, OSError) as error:
        print(f"error: {_one_line(error)}", file=sys.stderr)
        status = 1
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        print("error: a process that reads images was killed (no memory left?); lower data.workers, or set it to 0",
              file=sys.stderr)
        status = 1
    sys.exit(status)


def _one_line(error: ValueError | OSError) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
    text = str(error).rstrip()
    if text.startswith("Caught "):  # a data loader's process sends its whole traceback; what was said is its last line
        text = text.splitlines()[-1].partition(": ")[2]
    return " ".join(text.splitlines())


def pick_device(name: str) -> torch.device:
    """The device to compute on. Raises ConfigError where the one asked for is not there."""
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(key for key, there in available.items() if there)
    if not available[name]:
        there = ", ".join(key for key, value in available.items() if value)
        raise ConfigError(f"train.device is '{name}', which this machine or this build of PyTorch does not have; "
                          f"set it to auto or one of: {there}")
    return torch.device(name)


def precision(name: str, device: torch.device) -> torch.dtype:
    """The type for convolutions: float32, or one that the device multiplies faster. Raises ConfigError."""
    if name == "auto":
        if device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
        if device.type == "cpu" and _cpu_multiplies_bf16():
            return torch.bfloat16
        return torch.float32
    if name == "fp16" and device.type != "cuda":
        raise ConfigError(f"train.precision is 'fp16', which needs CUDA, not {device.type}; set it to auto or fp32")
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]


def _cpu_multiplies_bf16() -> bool:
    """Whether this CPU has bfloat16 instructions; without them bfloat16 is slower than float32."""
    with contextlib.suppress(OSError):
        flags = Path("/proc/cpuinfo").read_text()
        return "avx512_bf16" in flags or "amx_bf16" in flags
    return False


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Mixed precision in dtype, or a context that does nothing for float32."""
    return torch.autocast(device.type, dtype if dtype != torch.float32 else None, enabled=dtype != torch.float32)


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and PyTorch (all devices)."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory for the next step.

    By default every large tensor is mapped anew and its pages are zeroed by the kernel at first touch, which
    costs more than the arithmetic of an elementwise operation. Other C libraries are left as they are.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


class Interrupt:
    """Turns SIGINT and SIGTERM into a wish to stop after the current step; a second one stops at once."""

    def __init__(self) -> None:
        self.signal = 0

    @property
    def status(self) -> int:
        """Exit status by convention: 130 after SIGINT, 143 after SIGTERM."""
        return 128 + self.signal

    @contextlib.contextmanager
    def caught(self) -> Iterator["Interrupt"]:
        """Install the handlers for the duration of the block."""
        def handle(number: int, _frame: object) -> None:
            if self.signal:
                raise KeyboardInterrupt
            self.signal = number

        before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def build_model(config: Config, load_pretrained: bool = True) -> LaneNet:
    """The network that a configuration describes."""
    settings = config.model
    return LaneNet(settings.backbone, settings.pretrained if load_pretrained else False, settings.slots)


def save_checkpoint(path: Path, config: Config, **contents: Any) -> None:
    """Write a checkpoint atomically: an interrupted or failed write leaves the earlier file as it was.

    contents are plain values, tensors and state dicts. Raises CheckpointError where it cannot be written.
    """
    payload = {"format": FORMAT, "version": VERSION, "config": to_dict(config), **contents}
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, suffix=".tmp", delete=False) as file:
            temporary = Path(file.name)
            torch.save(payload, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        # Closing the half-written file, torch.save fails again and says less than what it failed on.
        first = error.__context__ if isinstance(error.__context__, OSError) else error
        reason = getattr(first, "strerror", None) or str(first).splitlines()[0]
        raise CheckpointError(f"{path}: the checkpoint cannot be written ({reason}); earlier checkpoints are as "
                              "they were. Make room in this folder and continue with --resume") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def load_checkpoint(path: str | Path, for_what: str = "used") -> dict[str, Any]:
    """A checkpoint of our own, on the CPU, with its "config" as a Config.

    Only tensors and plain values are read (weights_only): a file cannot run code. Raises CheckpointError for a
    missing, damaged or foreign file, and for the collapsed uncertainty-weighted one above all.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no checkpoint here; make one with: python train_fixed.py")
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # at most one line is said of a file
            refuse_damage(file)
            file.seek(0)
            payload = torch.load(file, map_location="cpu", weights_only=True)
        collapsed = signs_of_uncertainty_weighting(payload)
    except Exception as error:  # unpickling a damaged or hostile file can fail in any way
        reason = re.sub(r"\x1b\[[0-9;]*m", "", " ".join(str(error).split()))[:120]
        raise CheckpointError(f"{path}: not a checkpoint that can be loaded safely ({reason}); if it is from older "
                              "or other software, train afresh with: python train_fixed.py") from None
    if collapsed:
        raise CheckpointError(f"{path}: {collapsed}: this comes from the uncertainty-weighted loss whose model "
                              f"collapsed. Its weights are not worth continuing from and cannot be "
                              f"{for_what} here; train afresh with: python train_fixed.py")
    if not isinstance(payload, dict) or payload.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a checkpoint of train_fixed.py; train one with: python train_fixed.py")
    version = payload.get("version")
    if not isinstance(version, int) or version != VERSION:
        raise CheckpointError(f"{path}: checkpoint version {shown(version)}, this software reads {VERSION}")
    try:
        payload["config"] = config_from_dict(payload["config"], f"{path}: config")
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: the configuration inside is damaged ({error!r})") from None
    return payload


def refuse_damage(file: BinaryIO) -> None:
    """Raise CheckpointError for a file that is not what torch.save wrote: its loader does not check the sums."""
    with zipfile.ZipFile(file) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise CheckpointError("compressed, which ours never are")
        damaged = archive.testzip()
    if damaged:
        raise CheckpointError(f"damaged: the checksum of its part {damaged} is wrong")


def signs_of_uncertainty_weighting(payload: Any) -> str:
    """What in a loaded file shows that its loss learned its own weights; empty when nothing does."""
    waiting, seen = [payload], set()
    while waiting:
        part = waiting.pop()
        if id(part) in seen:  # a file may hold one part many times over, or inside itself
            continue
        seen.add(id(part))
        if isinstance(part, (list, tuple)):
            waiting += [value for value in part if isinstance(value, (dict, list, tuple))]
        if not isinstance(part, dict):
            continue
        for name, value in part.items():
            if any(word.startswith(("log_var", "log_sigma")) for word in str(name).split(".")):
                return f"it holds {shown(name)}"
            if isinstance(value, torch.Tensor) and value.ndim == 0:
                value = value.item()
            if "loss" in str(name) and isinstance(value, (int, float)) and value < 0:
                return f"its {shown(name)} is {value:.4g}, below zero"
            waiting.append(value)
    return ""


def load_weights(model: nn.Module, weights: Any, path: str | Path) -> None:
    """Load a state dict into the model, every weight. Raises CheckpointError, naming path, where they differ."""
    try:
        model.load_state_dict(weights, strict=True)
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(f"{path}: its weights do not fit this model ({reason})") from None


def load_model(path: str | Path, device: torch.device) -> tuple[LaneNet, Config, dict[str, Any]]:
    """The network of a checkpoint, in evaluation mode, with its configuration and everything else in it."""
    payload = load_checkpoint(path)
    config = payload["config"]
    model = build_model(config, load_pretrained=False)
    load_weights(model, payload.get("model"), path)
    return model.to(device).eval(), config, payload


def with_model(settings: Config, trained: Config) -> Config:
    """The settings of now with the network of then: what a checkpoint was trained as is not for today's file."""
    return dataclasses.replace(settings, model=trained.model)


def load_settings(options: argparse.Namespace, overrides: Sequence[str]) -> Config:
    """The Config of --config, or else of config.yaml in this folder if there is one, and the overrides."""
    path = options.config
    if path is None and Path("config.yaml").is_file():
        path = "config.yaml"
    return load_config(path, overrides)
