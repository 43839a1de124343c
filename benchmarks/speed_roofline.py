"""The roofline: the least time that a device can take for a network, by its peak and its bandwidth.

Both are measured here, the peak by a product of two square matrices, the bandwidth by copying memory. The bytes are
those that nothing can avoid: the weights and the images once each. What lies between two layers may stay in a cache.
On CUDA a product of float32 has TF32 where PyTorch's convolutions have it.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

MATRIX_ROWS = {"cuda": 8192, "mps": 4096, "cpu": 2048}  # enough to reach the peak
COPIED_BYTES = {"cuda": 1 << 30, "mps": 1 << 28, "cpu": 1 << 28}  # far more than a cache takes
TRIES = 5


class Peak(NamedTuple):
    """What a device can do at most."""

    operations: float  # a second; a multiplication and an addition are two
    bytes: float  # a second, read and written


def measure_peak(device: torch.device, dtype: torch.dtype, synchronize: Callable[[], None]) -> Peak:
    """The best of TRIES on this device."""
    rows, count = MATRIX_ROWS[device.type], COPIED_BYTES[device.type]
    left, right = (torch.randn(rows, rows, device=device).to(dtype) for _ in range(2))
    with tf32_as_in_convolutions() if device.type == "cuda" else contextlib.nullcontext():
        product = least_seconds(lambda: left @ right, synchronize)
    source = torch.ones(count, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = least_seconds(lambda: target.copy_(source), synchronize)
    return Peak(2 * rows**3 / product, 2 * count / copy)


@contextlib.contextmanager
def tf32_as_in_convolutions() -> Iterator[None]:
    """In this block products have TF32 if convolutions have it, which by PyTorch's defaults alone have it."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def least_seconds(run: Callable[[], object], synchronize: Callable[[], None]) -> float:
    """The shortest of TRIES runs, after one to warm up."""
    times = []
    for _ in range(1 + TRIES):
        synchronize()
        start = time.perf_counter()
        run()
        synchronize()
        times.append(time.perf_counter() - start)
    return min(times[1:])


@torch.inference_mode()
def roofline_ms(network: nn.Module, images: torch.Tensor, dtype: torch.dtype, peak: Peak) -> float:
    """Milliseconds that the network needs for these images if nothing but operations or bytes limited it."""
    counter = FlopCounterMode(display=False)
    with counter:
        network(images)
    weights = sum(parameter.numel() for parameter in network.parameters()) * dtype.itemsize
    return 1e3 * max(counter.get_total_flops() / peak.operations, (weights + images.nbytes) / peak.bytes)
