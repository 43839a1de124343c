"""Time of one image through an exported ONNX file, against PyTorch on the same CPU.

    python benchmarks/export_speed.py [--checkpoint FILE] [--threads 2] [--rounds 100]

The checkpoint (without one: the default network with random weights, which takes as long) is exported and checked by
export_fixed.py. The network in PyTorch and the file in onnxruntime then run in turn, so that a slow moment of the
machine hits both; the figures are medians over the rounds, of a few calls each, batch 1, milliseconds, and how
many of the rounds each won. The idle threads of onnxruntime sleep here; by its default they spin and take
PyTorch's time. The file takes the whole image and picks the network's rows itself; PyTorch is given those rows.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import onnxruntime
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository root
from speed_forward import precisions, timed
from speed_timing import WARMUP

import export_fixed
from config import Config
from inference.predictor import Predictor
from runtime import cli
from runtime.checkpoint import build_model, input_grid, load_model, save_checkpoint
from runtime.device import seed_everything
from runtime.memory import keep_freed_memory


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table; exit status 0."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--checkpoint", type=Path, metavar="FILE")
    arguments.add_argument("--threads", type=int, default=torch.get_num_threads(), help="default: %(default)s")
    arguments.add_argument("--rounds", type=int, default=100)
    options = arguments.parse_args(argv)
    keep_freed_memory()
    seed_everything(0)
    torch.set_num_threads(options.threads)
    device = torch.device("cpu")
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, file = options.checkpoint or Path(folder) / "random.pth", Path(folder) / "lanes.onnx"
        if not options.checkpoint:
            save_checkpoint(checkpoint, Config(), model=build_model(Config()).state_dict())
        if export_fixed.main(["--checkpoint", str(checkpoint), "--output", str(file)]):
            return 1
        session = open_session(file, options.threads)
        network, config, _ = load_model(checkpoint, device)
    grid = input_grid(config)
    whole = torch.randint(256, (1, 3, grid.fine_rows, grid.width), dtype=torch.uint8)  # the file picks its rows itself
    images = whole[:, :, :grid.height].contiguous()

    runs = {}
    for dtype in precisions(device):
        name = f"PyTorch {str(dtype).removeprefix('torch.')}"
        runs[name] = timed(Predictor(network, grid, device, dtype).forward, images, device, dtype)
    runs["onnxruntime float32"] = timed(lambda images: session.run(None, {"images": images.numpy()}), whole, device,
                                        torch.float32)
    times = [{name: run() for name, run in runs.items()} for _ in range(WARMUP + options.rounds)][WARMUP:]
    print(f"torch {torch.__version__}, onnxruntime {onnxruntime.__version__}, {options.threads} thread(s), "
          f"{options.rounds} rounds, {config.model.backbone} at {grid.width}x{grid.height}")
    print("| | ms | images a second | rounds in which it was the fastest |\n|---|---|---|---|")
    for name in runs:
        median = statistics.median(row[name] for row in times)
        won = sum(min(row, key=row.get) == name for row in times)
        print(f"| {name} | {median:.1f} | {1e3 / median:.0f} | {won} of {len(times)} |")
    return 0


def open_session(file: Path, threads: int) -> onnxruntime.InferenceSession:
    """The file on the CPU, with a number of threads that sleep when idle."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(file.read_bytes(), settings, providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    cli.run(main)
