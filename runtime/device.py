"""The device, its precision, and seeds."""

import contextlib
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from config import ConfigError


def pick_device(name: str) -> torch.device:
    """The device of a name (auto, cuda, mps, cpu). Raises ConfigError where this machine does not have it."""
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(key for key, is_available in available.items() if is_available)
    if not available.get(name):
        names = ", ".join(key for key, is_available in available.items() if is_available)
        raise ConfigError(f"train.device is '{name}', which this machine or this build of PyTorch does not have; "
                          f"set it to auto or one of: {names}")
    return torch.device(name)


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """The type to compute in, of a name (auto, fp32, bf16, fp16); auto is the one that the device multiplies fastest.

    Raises ConfigError for fp16 without CUDA.
    """
    if name == "auto":
        if device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
        if device.type == "cpu" and _cpu_multiplies_bf16():
            return torch.bfloat16
        return torch.float32
    if name == "fp16" and device.type != "cuda":
        raise ConfigError(f"train.precision is 'fp16', which needs CUDA, not {device.type}; set it to auto or fp32")
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if name not in dtypes:
        raise ConfigError(f"train.precision is {name!r}; expected auto or one of {', '.join(dtypes)}")
    return dtypes[name]


def _cpu_multiplies_bf16() -> bool:
    """Whether this CPU has bfloat16 instructions; without them bfloat16 is slower than float32."""
    with contextlib.suppress(OSError):
        flags = Path("/proc/cpuinfo").read_text()
        return "avx512_bf16" in flags or "amx_bf16" in flags
    return False


def autocast(device: torch.device, dtype: torch.dtype, cache: bool = True) -> torch.autocast:
    """The autocast context of a dtype; for float32 it does nothing. `cache`: a weight used twice is cast once."""
    return torch.autocast(device.type, dtype if dtype != torch.float32 else None, enabled=dtype != torch.float32,
                          cache_enabled=cache)


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """In this block PyTorch computes with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def warm_up(device: torch.device) -> Iterator[None]:
    """While the block reads data, a thread loads what a GPU needs for its first convolution, which takes seconds.

    It has ended when the block has: while a graph is recorded nothing else may ask for memory.
    """
    if device.type != "cuda":
        yield
        return
    thread = threading.Thread(target=first_convolution, args=(device,), name="warm-up", daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def first_convolution(device: torch.device) -> None:
    """Convolve, multiply and go back once, without random numbers. Errors are left to the first step, which has them
    too, and knows what it was about.
    """
    with contextlib.suppress(RuntimeError):
        image = torch.ones(1, 8, 16, 16, device=device, requires_grad=True)
        weight = torch.ones(8, 8, 3, 3, device=device, requires_grad=True)
        rows = torch.nn.functional.conv2d(image, weight, padding=1).flatten(2)
        (rows @ torch.ones(256, 8, device=device)).sum().backward()


class Readback:
    """Numbers on their way from a device: a GPU is not stopped, and goes on with what it has been given since."""

    def __init__(self, numbers: Tensor):
        self.event = torch.cuda.Event() if numbers.is_cuda else None
        self.numbers = numbers.to("cpu", non_blocking=numbers.is_cuda)  # to pinned memory where it is not waited for
        if self.event:
            self.event.record()

    @property
    def has_arrived(self) -> bool:
        """Whether `values` will not wait."""
        return self.event is None or self.event.query()

    def values(self) -> list:
        """The numbers in nested lists; waits for the device to come to them."""
        if self.event:
            self.event.synchronize()
        return self.numbers.tolist()


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and PyTorch (all devices), and have a GPU choose kernels that repeat themselves."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
