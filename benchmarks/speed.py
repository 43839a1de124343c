"""Time of one image through each backbone, against the cost floor of the detectors that people use.

    python benchmarks/speed.py [--device cpu] [--rounds 30]

The yardstick is torchvision's ResNet-18 trunk at 288x800, without any head. It and ours run in turn, so that both
meet the same moods of the machine; the figures are medians over the rounds, batch 1, milliseconds.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torchvision
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import runtime
from config import Config, ModelConfig
from model import LaneNet

WARMUP = 5


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table; exit status 0."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--device", default="auto", choices=("auto", "cuda", "mps", "cpu"))
    arguments.add_argument("--rounds", type=int, default=30)
    options = arguments.parse_args(argv)
    runtime.keep_freed_memory()
    runtime.seed_everything(0)
    device = runtime.pick_device(options.device)
    dtypes = {torch.float32, runtime.precision("auto", device)}
    resnet = torchvision.models.resnet18()
    trunk = nn.Sequential(*list(resnet.children())[:-2])
    sizes = {"compact": (Config().model.height, Config().model.width), "resnet18": (288, 800), "resnet34": (288, 800)}
    networks = {"yardstick: ResNet-18 trunk": (trunk, torch.rand(1, 3, 288, 800))} | {
        name: (LaneNet(name, slots=ModelConfig().slots), torch.randint(256, (1, 3, *size), dtype=torch.uint8))
        for name, size in sizes.items()
    }
    print(f"torch {torch.__version__} on {device}, {torch.get_num_threads()} threads, {options.rounds} rounds")
    print("| network | input | weights | precision | ms | yardstick / this |\n|---|---|---|---|---|---|")
    for dtype in sorted(dtypes, key=str, reverse=True):
        times = alternating(networks, options.rounds, device, dtype)
        floor = times["yardstick: ResNet-18 trunk"]
        for name, (network, image) in networks.items():
            weights, kind = sum(p.numel() for p in network.parameters()) / 1e6, str(dtype).removeprefix("torch.")
            print(f"| {name} | {image.shape[3]}x{image.shape[2]} | {weights:.1f} M | {kind} "
                  f"| {times[name]:.1f} | {floor / times[name]:.1f} |")
    return 0


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
            if device.type == "cuda":
                torch.cuda.synchronize()
            elif device.type == "mps":
                torch.mps.synchronize()
            return 1e3 * (time.perf_counter() - began)

    return run


if __name__ == "__main__":
    sys.exit(main())
