"""How fast the network, inference and training are on every device here, as Markdown tables.

    python benchmarks/speed.py [forward] [inference] [training] [tusimple] [--device cpu] [section.key=value ...]

Each table is printed as soon as it is there, with the machine and the date below it. Nothing else should run
meanwhile. `inference` renders its images, and `training` renders and caches 3,300 scenes on its first run, unless
data.root is given. `tusimple`, a training of that size, is left out where there is no GPU unless it is named.
"""

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import speed_forward
import speed_inference
import speed_training

from runtime import cli
from runtime.device import pick_device, seed_everything
from runtime.memory import keep_freed_memory

SECTIONS = {
    "forward": speed_forward.tables,
    "inference": speed_inference.tables,
    "training": speed_training.tables,
    "tusimple": speed_training.tusimple_tables,
}
FOR_GPUS = ("tusimple",)  # elsewhere only where it is asked for: it takes hours


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables; exit status 0."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("words", nargs="*", metavar="SECTION",
                           help=f"{', '.join(SECTIONS)} (default: all); section.key=value settings")
    arguments.add_argument("--device", choices=("cuda", "mps", "cpu"), help="default: every one that is here")
    arguments.add_argument("--rounds", type=int, default=15, help="in which networks take turns (default: %(default)s)")
    options, overrides = cli.parse(arguments, argv)
    if not SECTIONS.keys() >= set(options.words):
        arguments.error(f"a section is one of: {', '.join(SECTIONS)}")
    keep_freed_memory()
    for device in [pick_device(options.device)] if options.device else devices():
        usual = [section for section in SECTIONS if device.type == "cuda" or section not in FOR_GPUS]
        for section in options.words or usual:
            seed_everything(0)
            print(f"\n## {section} on {device}", flush=True)
            for table in SECTIONS[section](device, options.rounds, overrides):
                print("", *table, "", machine(device), sep="\n", flush=True)
    return 0


def devices() -> list[torch.device]:
    """The kinds of device of this machine."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    return [torch.device(name) for name, here in there.items() if here]


def machine(device: torch.device) -> str:
    """Where, when and with what a table was measured."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [f"{processor()}, {cores} core(s)", f"{torch.get_num_threads()} thread(s)", f"torch {torch.__version__}",
             f"Python {platform.python_version()}", date.today().isoformat()]
    if hasattr(os, "getloadavg"):  # a quiet machine has no more than what the benchmark itself takes
        parts.append(f"load {os.getloadavg()[0]:.1f}")
    if device.type == "cuda":
        parts.insert(0, torch.cuda.get_device_name(device))
    return f"({'; '.join(parts)})"


def processor() -> str:
    """The model of the CPU, as well as the system knows it."""
    known = Path("/proc/cpuinfo")
    lines = known.read_text(encoding="utf-8").splitlines() if known.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    cli.run(main)
