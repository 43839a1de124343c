"""The least time that a device can take for a network: its operations at the device's peak, its bytes at its bandwidth.

Both are measured here, the first by a product of two square matrices, the second by copying memory. The bytes are
those that nothing can avoid: the weights and the images once each. What lies between two layers may stay in a cache.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

MATRIX = {"cuda": 8192, "mps": 4096, "cpu": 2048}  # rows, enough to reach the peak
COPIED = {"cuda": 1 << 30, "mps": 1 << 28, "cpu": 1 << 28}  # bytes, far more than a cache holds
TRIES = 5


class Peak(NamedTuple):
    """What a device can do at most."""

    operations: float  # a second; a multiplication and an addition are two
    bytes: float  # a second, read and written


def peak(device: torch.device, dtype: torch.dtype, wait: Callable[[], None]) -> Peak:
    """The best of a few tries."""
    rows, count = MATRIX[device.type], COPIED[device.type]
    left, right = (torch.randn(rows, rows, device=device).to(dtype) for _ in range(2))
    product = least_seconds(lambda: left @ right, wait)
    source = torch.ones(count, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = least_seconds(lambda: target.copy_(source), wait)
    return Peak(2 * rows**3 / product, 2 * count / copy)


def least_seconds(run: Callable[[], object], wait: Callable[[], None]) -> float:
    """The shortest of a few runs, after one to warm up."""
    times = []
    for _ in range(1 + TRIES):
        wait()
        began = time.perf_counter()
        run()
        wait()
        times.append(time.perf_counter() - began)
    return min(times[1:])


@torch.inference_mode()
def floor_ms(network: nn.Module, images: torch.Tensor, dtype: torch.dtype, most: Peak) -> float:
    """Milliseconds that the network needs for these images if nothing but operations or bytes held it up."""
    counter = FlopCounterMode(display=False)
    with counter:
        network(images)
    weights = sum(parameter.numel() for parameter in network.parameters()) * dtype.itemsize
    return 1e3 * max(counter.get_total_flops() / most.operations, (weights + images.nbytes) / most.bytes)
