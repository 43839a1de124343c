"""How fast the network, training and inference are on every device here, as Markdown tables.

    python benchmarks/speed.py [forward] [training] [--device cpu] [--rounds 30] [section.key=value ...]

Nothing else should run meanwhile. `training` renders and caches 600 scenes on its first run unless data.root is given.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import speed_forward
import speed_training

import runtime

SECTIONS = ("forward", "training")


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables; exit status 0."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("words", nargs="*", metavar="SECTION", help="forward, training; section.key=value settings")
    arguments.add_argument("--device", choices=("cuda", "mps", "cpu"), help="default: every one that is here")
    arguments.add_argument("--rounds", type=int, default=30)
    options, overrides = runtime.parse(arguments, argv)
    if set(options.words) - set(SECTIONS):
        arguments.error(f"a section is one of: {', '.join(SECTIONS)}")
    runtime.keep_freed_memory()
    for device in [options.device] if options.device else devices():
        for section in options.words or SECTIONS:
            runtime.seed_everything(0)
            print(f"\n## {section} on {device}: torch {torch.__version__}, {torch.get_num_threads()} threads\n")
            for line in lines(section, torch.device(device), options.rounds, overrides):
                print(line, flush=True)
    return 0


def devices() -> list[str]:
    """The kinds of device of this machine."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    return [name for name, here in there.items() if here]


def lines(section: str, device: torch.device, rounds: int, overrides: Sequence[str]) -> list[str]:
    """The tables of a section."""
    if section == "training":
        return speed_training.table(device, overrides)
    found = []
    for batch in (1, 16):
        found += [f"Batch {batch}, medians of {rounds} rounds in turn:", "",
                  *speed_forward.table(device, rounds if batch == 1 else max(3, rounds // 5), batch), ""]
    return found


if __name__ == "__main__":
    runtime.run(main)
