"""How fast reading, the network, inference and training are on every device here, as Markdown tables.

    python benchmarks/speed.py [reading] [forward] [inference] [step] [training] [tusimple] [--quick] [--device cpu]

Each table is printed as soon as it is measured, with the machine and the date below it. Nothing else should run
meanwhile. `inference` renders its images, and `training` renders and caches 6,300 scenes on its first run, unless
data.root is given. `tusimple`, a training of that size, is left out without a GPU unless it is named. With --quick
all of it takes about three minutes on a GPU: fewer rounds, files and scenes, and elsewhere only the compact network.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository root
import machine
import speed_forward
import speed_inference
import speed_reading
import speed_step
import speed_training
from speed_scale import full_scale, quick_scale

from runtime import cli
from runtime.device import pick_device, seed_everything
from runtime.memory import keep_freed_memory

SECTIONS = {
    "reading": speed_reading.tables,
    "forward": speed_forward.tables,
    "inference": speed_inference.tables,
    "step": speed_step.tables,
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
    arguments.add_argument("--quick", action="store_true", help="a little of everything, in about three minutes")
    options, overrides = cli.parse(arguments, argv)
    if not SECTIONS.keys() >= set(options.words):
        arguments.error(f"a section is one of: {', '.join(SECTIONS)}")
    keep_freed_memory()
    for device in [pick_device(options.device)] if options.device else devices():
        scale = quick_scale(device) if options.quick else full_scale(device, options.rounds)
        usual = [section for section in SECTIONS if device.type == "cuda" or section not in FOR_GPUS]
        for section in options.words or usual:
            seed_everything(0)
            print(f"\n## {section} on {device}", flush=True)
            for table in SECTIONS[section](device, scale, overrides):
                print("", *table, "", machine.description(device), sep="\n", flush=True)
    return 0


def devices() -> list[torch.device]:
    """The kinds of device of this machine."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    return [torch.device(name) for name, is_available in available.items() if is_available]


if __name__ == "__main__":
    cli.run(main)
