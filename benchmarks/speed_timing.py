"""What the benchmarks of speed measure with: runs that take turns, and a device that is waited for."""

import statistics
from collections.abc import Callable

import torch

WARMUP = 1  # rounds that do not count


def alternating(runs: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Median of what each run gives over rounds in which every one of them takes its turn."""
    times = [{name: run() for name, run in runs.items()} for _ in range(WARMUP + rounds)][WARMUP:]
    return {name: statistics.median(row[name] for row in times) for name in runs}


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    elif device.type == "mps":
        torch.mps.synchronize()
