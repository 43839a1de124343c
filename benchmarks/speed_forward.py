"""Time of a forward pass through each backbone, beside the baseline of speed_networks.py.

The baseline runs as it comes, and once more with its batch norms folded into its convolutions, as ours are for
inference. All run in turn, so that a slow moment of the machine hits every one of them; the figures are medians over
the rounds, in milliseconds a batch.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
from speed_activity import COLUMNS, Activity, measure
from speed_networks import BASELINE, build_network, random_images
from speed_roofline import Peak, measure_peak, roofline_ms
from speed_scale import Scale
from speed_timing import alternating, synchronize
from torch import nn

from geometry.input_grid import InputGrid
from inference.fuse_bn import fuse_batch_norms
from inference.predictor import Predictor
from runtime.cuda_graph import Recorder, cuda_recorder
from runtime.device import autocast, pick_precision

CALLS_AT_BATCH_1 = 5  # a turn, as in a stream of images: the first one meets another network's weights in the caches

Forward = Callable[[torch.Tensor], object]  # images (B, 3, H, W) on the device -> a prediction on the device


class Case(NamedTuple):
    """A network and its input."""

    network: nn.Module
    images: torch.Tensor  # (B, 3, H, W)


def tables(device: torch.device, scale: Scale, _overrides: Sequence[str]) -> Iterator[list[str]]:
    """Markdown tables of the networks, one for each batch size and precision."""
    networks = {name: build_network(name).to(device, memory_format=torch.channels_last).eval()
                for name in scale.networks}
    peaks = {dtype: measure_peak(device, dtype, partial(synchronize, device)) for dtype in precisions(device)}
    for batch in scale.batches:
        count = scale.rounds if batch == 1 else max(3, scale.rounds // 5)
        cases = {name: Case(networks[name], random_images(name, batch).to(device)) for name in networks}
        for dtype, peak in peaks.items():
            runs = {name: timed(forward, cases[network_name(name)].images, device, dtype)
                    for name, forward in forwards(cases, device, dtype).items()}
            medians, activity = alternating(runs, count), activities(runs, batch, device)
            yield [f"Forward pass, batch {batch}, {str(dtype).removeprefix('torch.')}, medians of {count} rounds in "
                   f"turn{f' of {CALLS_AT_BATCH_1} calls' if batch == 1 else ''}. The roofline: operations at "
                   f"{peak.operations / 1e12:.2f} TFLOP/s or weights and images at {peak.bytes / 1e9:.0f} GB/s, "
                   "whichever takes longer; both measured.", "", *table(cases, medians, dtype, peak, activity)]


def precisions(device: torch.device) -> list[torch.dtype]:
    """float32, and what `auto` takes on this device where that is another."""
    return list(dict.fromkeys((torch.float32, pick_precision("auto", device))))


def forwards(cases: dict[str, Case], device: torch.device, dtype: torch.dtype) -> dict[str, Forward]:
    """The forward pass of each row of the table; on CUDA ours are recorded by the predictor, as inference runs them."""
    on_cuda, (trunk, trunk_images) = device.type == "cuda", cases[BASELINE]
    fused = baseline_forward(fuse_batch_norms(trunk, dtype), device, dtype)
    result = {BASELINE: baseline_forward(trunk, device, dtype), f"{BASELINE}, fused": fused}
    if on_cuda:
        result[f"{BASELINE}, fused, CUDA graph"] = RecordedForward(fused, trunk_images, cuda_recorder(device))
    for name, (network, images) in cases.items():
        if name == BASELINE:
            continue
        grid = InputGrid(images.shape[3], images.shape[2])
        if on_cuda:
            result[f"{name}, no CUDA graph"] = Predictor(network, grid, device, dtype, cuda_graphs=False).forward
        result[name] = Predictor(network, grid, device, dtype).forward
    return result


def baseline_forward(network: nn.Module, device: torch.device, dtype: torch.dtype) -> Forward:
    """The forward pass of a network that is none of ours, in the same precision."""
    def forward(images: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode(), autocast(device, dtype):
            return network(images)

    return forward


class RecordedForward:
    """A forward pass recorded as a CUDA graph, which one call starts.

    A recording reads the weights and the images where they lay, so both are kept for as long as it may run.
    """

    def __init__(self, forward: Forward, images: torch.Tensor, record: Recorder):
        self.forward, self.images = forward, images
        self.recording = record(lambda: forward(images))

    def __call__(self, _images: torch.Tensor) -> object:
        """Run it once more on the recorded images; returns the output, which the next call overwrites."""
        self.recording.replay()
        return self.recording.output


def network_name(row: str) -> str:
    """The name of the network of a row: what is special about the row comes after a comma."""
    return row.partition(",")[0]


def activities(runs: dict[str, Callable[[], float]], batch: int, device: torch.device) -> dict[str, Activity]:
    """What the GPU does in a call of each run; nothing where the device is none of CUDA."""
    return {name: measure(run, calls_of_turn(batch)) for name, run in runs.items()} if device.type == "cuda" else {}


def table(cases: dict[str, Case], times: dict[str, float], dtype: torch.dtype, peak: Peak,
          activity: dict[str, Activity]) -> list[str]:
    """A Markdown table of the milliseconds of each row, and of the GPU's activity where there is any."""
    columns = ["network", "input", "weights", "ms", "images/s", "baseline / this", "roofline, ms", "this / roofline",
               *(COLUMNS if activity else ())]
    lines = [f"| {' | '.join(columns)} |", "|" + len(columns) * "---|"]
    for name, ms in times.items():
        network, images = cases[network_name(name)]
        weights, least = sum(p.numel() for p in network.parameters()) / 1e6, roofline_ms(network, images, dtype, peak)
        cells = [name, f"{images.shape[3]}x{images.shape[2]}", f"{weights:.1f} M", f"{ms:.4g}",
                 f"{1e3 * len(images) / ms:.0f}", f"{times[BASELINE] / ms:.1f}", f"{least:.3g}", f"{ms / least:.1f}",
                 *(activity[name].cells(ms) if activity else ())]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def timed(forward: Forward, images: torch.Tensor, device: torch.device, dtype: torch.dtype) -> Callable[[], float]:
    """A function that runs the pass, CALLS_AT_BATCH_1 times at batch 1, and returns the milliseconds a call took."""
    calls = calls_of_turn(len(images))

    def run() -> float:
        with torch.inference_mode(), autocast(device, dtype):  # once: the baseline's weights are cast in the first call
            start = time.perf_counter()
            for _ in range(calls):
                forward(images)
                synchronize(device)
            return 1e3 * (time.perf_counter() - start) / calls

    return run


def calls_of_turn(batch: int) -> int:
    """How often a network is called in its turn."""
    return CALLS_AT_BATCH_1 if batch == 1 else 1
