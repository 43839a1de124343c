"""Time of a forward pass through each backbone, against the cost floor of the detectors that people use.

The yardstick is torchvision's ResNet-18 trunk at 288x800, without any head, as it comes, and once more with its batch
norms folded into its convolutions, as ours are for inference. All run in turn, so that they meet the same moods of the
machine; the figures are medians over the rounds, in milliseconds a batch.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torchvision
from speed_floor import Peak, floor_ms, peak
from torch import nn

from config import Config
from inference.fuse_bn import fuse_batch_norms
from model import LaneNet
from runtime.device import autocast, pick_precision

WARMUP = 1  # rounds that do not count
IN_A_ROW = 5  # calls a turn at batch 1, as in a stream of images: the first one finds another network's weights cached
BATCHES = (1, 16)
YARDSTICK = "yardstick: ResNet-18 trunk"
SIZES = {  # height, width
    YARDSTICK: (288, 800),
    "compact": (Config().model.height, Config().model.width),
    "resnet18": (216, 800),  # what is left of 288 rows without the sky
    "resnet34": (216, 800),
}


class Subject(NamedTuple):
    """A network and what it is given."""

    network: nn.Module
    images: torch.Tensor  # (B, 3, H, W)


def tables(device: torch.device, rounds: int, _overrides: Sequence[str]) -> Iterator[list[str]]:
    """Markdown tables of all networks, one for each batch size and precision."""
    networks = {name: network(name).to(device, memory_format=torch.channels_last).eval() for name in SIZES}
    peaks = {dtype: peak(device, dtype, partial(synchronize, device)) for dtype in precisions(device)}
    for batch in BATCHES:
        count = rounds if batch == 1 else max(3, rounds // 5)
        subjects = {name: Subject(networks[name], images(name, batch).to(device)) for name in SIZES}
        for dtype, most in peaks.items():
            runs = {YARDSTICK: timed(*subjects[YARDSTICK], device, dtype)}
            for name, (model, given) in subjects.items():
                name = f"{name}, fused" if name == YARDSTICK else name
                runs[name] = timed(fuse_batch_norms(model, dtype), given, device, dtype)
                if device.type == "cuda":
                    runs[f"{name}, CUDA graph"] = timed_graph(fuse_batch_norms(model, dtype), given, device, dtype)
            yield [f"Forward pass, batch {batch}, {str(dtype).removeprefix('torch.')}, medians of {count} rounds in "
                   f"turn{f' of {IN_A_ROW} calls' if batch == 1 else ''}. The floor: operations at "
                   f"{most.operations / 1e12:.2f} TFLOP/s or weights and images at {most.bytes / 1e9:.0f} GB/s, "
                   "whichever takes longer; both measured.", "",
                   *table(subjects, alternating(runs, count), dtype, most)]


def network(name: str) -> nn.Module:
    """One of ours, or the yardstick."""
    if name != YARDSTICK:
        return LaneNet(name, slots=Config().model.slots)
    return nn.Sequential(*list(torchvision.models.resnet18().children())[:-2])


def images(name: str, batch: int) -> torch.Tensor:
    """(B, 3, H, W) in channels-last memory as the network takes them: ours normalize uint8 themselves."""
    shape = (batch, 3, *SIZES[name])
    made = torch.rand(shape) if name == YARDSTICK else torch.randint(256, shape, dtype=torch.uint8)
    return made.contiguous(memory_format=torch.channels_last)


def precisions(device: torch.device) -> list[torch.dtype]:
    """float32, and what `auto` takes on this device where that is another."""
    return list(dict.fromkeys((torch.float32, pick_precision("auto", device))))


def table(subjects: dict[str, Subject], times: dict[str, float], dtype: torch.dtype, most: Peak) -> list[str]:
    """A Markdown table; a run is named after its network, and what is special about it after a comma."""
    lines = ["| network | input | weights | ms | images/s | yardstick / this | floor, ms | this / floor |",
             "|" + 8 * "---|"]
    for name, ms in times.items():
        network, images = subjects[name.partition(",")[0]]
        weights, floor = sum(p.numel() for p in network.parameters()) / 1e6, floor_ms(network, images, dtype, most)
        lines.append(f"| {name} | {images.shape[3]}x{images.shape[2]} | {weights:.1f} M | {ms:.4g} "
                     f"| {1e3 * len(images) / ms:.0f} | {times[YARDSTICK] / ms:.1f} | {floor:.3g} | {ms / floor:.1f} |")
    return lines


def alternating(runs: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Median of what each run gives over rounds in which every one of them takes its turn."""
    times = [{name: run() for name, run in runs.items()} for _ in range(WARMUP + rounds)][WARMUP:]
    return {name: statistics.median(row[name] for row in times) for name in runs}


def timed(network: nn.Module, images: torch.Tensor, device: torch.device, dtype: torch.dtype) -> Callable[[], float]:
    """A function that runs the network, IN_A_ROW times at batch 1, and returns the milliseconds a call took."""
    calls = IN_A_ROW if len(images) == 1 else 1

    def run() -> float:
        with torch.inference_mode(), autocast(device, dtype):
            began = time.perf_counter()
            for _ in range(calls):
                network(images)
                synchronize(device)
            return 1e3 * (time.perf_counter() - began) / calls

    return run


def timed_graph(network: nn.Module, images: torch.Tensor, device: torch.device, dtype: torch.dtype
                ) -> Callable[[], float]:
    """`timed` for the same work recorded as a CUDA graph, which one call starts."""
    calls = IN_A_ROW if len(images) == 1 else 1

    def forward() -> None:
        with torch.inference_mode(), autocast(device, dtype):
            network(images)

    beside = torch.cuda.Stream()  # a recording begins when everything has run once elsewhere
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(3):
            forward()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        forward()

    def run() -> float:
        began = time.perf_counter()
        for _ in range(calls):
            graph.replay()
            synchronize(device)
        return 1e3 * (time.perf_counter() - began) / calls

    return run


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    elif device.type == "mps":
        torch.mps.synchronize()
