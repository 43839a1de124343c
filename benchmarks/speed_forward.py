"""Time of a forward pass through each backbone, against the cost floor of the detectors that people use.

The yardstick is torchvision's ResNet-18 trunk at 288x800, without any head. It and ours run in turn, so that both
meet the same moods of the machine; the figures are medians over the rounds, in milliseconds a batch.
"""

import statistics
import time
from collections.abc import Callable

import torch
import torchvision
from torch import nn

import runtime
from config import Config, ModelConfig
from model import LaneNet

WARMUP = 5
YARDSTICK = "yardstick: ResNet-18 trunk"


def table(device: torch.device, rounds: int, batch: int) -> list[str]:
    """A Markdown table of all networks in both precisions."""
    resnet = torchvision.models.resnet18()
    trunk = nn.Sequential(*list(resnet.children())[:-2])
    sizes = {"compact": (Config().model.height, Config().model.width), "resnet18": (288, 800), "resnet34": (288, 800)}
    networks = {YARDSTICK: (trunk, torch.rand(batch, 3, 288, 800))} | {
        name: (LaneNet(name, slots=ModelConfig().slots), torch.randint(256, (batch, 3, *size), dtype=torch.uint8))
        for name, size in sizes.items()
    }
    lines = ["| network | input | weights | precision | ms | images/s | yardstick / this |", "|" + 7 * "---|"]
    for dtype in sorted({torch.float32, runtime.precision("auto", device)}, key=str, reverse=True):
        times = alternating(networks, rounds, device, dtype)
        for name, (network, image) in networks.items():
            weights, kind = sum(p.numel() for p in network.parameters()) / 1e6, str(dtype).removeprefix("torch.")
            lines.append(f"| {name} | {image.shape[3]}x{image.shape[2]} | {weights:.1f} M | {kind} | {times[name]:.1f} "
                         f"| {1e3 * batch / times[name]:.0f} | {times[YARDSTICK] / times[name]:.1f} |")
    return lines


def alternating(networks: dict[str, tuple[nn.Module, torch.Tensor]], rounds: int, device: torch.device,
                dtype: torch.dtype) -> dict[str, float]:
    """Median milliseconds of each network over rounds in which every network runs once."""
    runs = {}
    for name, (network, image) in networks.items():
        network.to(device, memory_format=torch.channels_last).eval()
        image = image.to(device).contiguous(memory_format=torch.channels_last)
        runs[name] = timed(network, image, device, dtype)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(WARMUP + rounds):
        for name, run in runs.items():
            times[name].append(run())
    return {name: statistics.median(values[WARMUP:]) for name, values in times.items()}


def timed(network: nn.Module, image: torch.Tensor, device: torch.device, dtype: torch.dtype) -> Callable[[], float]:
    """A function that runs the network once and returns the milliseconds it took."""
    def run() -> float:
        with torch.inference_mode(), runtime.autocast(device, dtype):
            began = time.perf_counter()
            network(image)
            synchronise(device)
            return 1e3 * (time.perf_counter() - began)

    return run



def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    elif device.type == "mps":
        torch.mps.synchronize()
