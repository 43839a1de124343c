"""The device, its precision, and seeds."""

import contextlib
import random
from pathlib import Path

import numpy as np
import torch

from config import ConfigError


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


def pick_precision(name: str, device: torch.device) -> torch.dtype:
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
