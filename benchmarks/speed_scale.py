"""How much is measured: all of it, or a little of everything in three minutes."""

from typing import NamedTuple

import torch
from speed_networks import BASELINE, SIZES

BATCHES = {"cuda": (1, 16, 64), "mps": (1, 16), "cpu": (1, 16)}  # of a forward pass
STEP_BATCHES = {"cuda": (16, 64, 256), "mps": (16,), "cpu": (16,)}
TUSIMPLE = (3626, 358)  # all of its labelled images, and as many more as are usually kept back to validate on


class Scale(NamedTuple):
    """The numbers of everything that takes time."""

    rounds: int  # in which networks take turns
    networks: tuple[str, ...]
    batches: tuple[int, ...]  # of a forward pass
    step_batches: tuple[int, ...]  # of a training step
    files: int = 48  # that inference reads
    file_size_px: tuple[int, int] = (1280, 720)
    latencies: int = 8  # images at batch 1 for each round: a 99th percentile needs a hundred
    seconds: float = 1.5  # of inference, for each rate
    repeats: int = 3  # of each rate
    scenes: tuple[int, int] | None = None  # to train and validate on; None: those of the configuration
    tusimple: tuple[int, int] = TUSIMPLE  # as many images of its size, to train and validate on


def full_scale(device: torch.device, rounds: int) -> Scale:
    """What the tables of docs/RESULTS.md are measured with."""
    return Scale(rounds, tuple(SIZES), BATCHES[device.type], STEP_BATCHES[device.type])


def quick_scale(device: torch.device) -> Scale:
    """All sections in about three minutes on a GPU; elsewhere without the large networks and batches."""
    is_cuda = device.type == "cuda"
    networks, batches = (tuple(SIZES), BATCHES["cuda"]) if is_cuda else ((BASELINE, "compact"), (1,))
    return Scale(3, networks, batches, STEP_BATCHES[device.type], files=16, latencies=4, seconds=0.5, repeats=1,
                 scenes=(1200, 120) if is_cuda else (240, 24), tusimple=(600, 60))
