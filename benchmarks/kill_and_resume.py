"""Shows that a killed training loses nothing: the log of a run killed ten times equals that of one left alone.

    python benchmarks/kill_and_resume.py [--kills 10] [--seed 0] [--folder DIR]

Renders a small set into a temporary folder and trains on it once without a break. A second run with the same
settings gets SIGKILL some time after a random step and is resumed, again and again; then both logs are compared in
every key but the times, and both models in every weight. On the CPU, in one to two minutes.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository root
import train_fixed
from renderer import dataset_writer
from runtime import checkpoint, cli
from training.optimizer import MuonAdamW

CLOCK_KEYS = ("seconds", "images_per_second")
TRAIN, VAL, BATCH, EPOCHS = 72, 16, 6, 6
STEPS = TRAIN // BATCH  # an epoch
MAX_DELAY = 0.3  # seconds from a step to the end: validation and saving are hit as well
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # on Windows every end of a process is of this kind


def main(argv: Sequence[str] | None = None) -> int:
    """Print each kill and whether the runs are equal; exit status 1 where they differ."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--kills", type=int, default=10)
    arguments.add_argument("--seed", type=int, default=0, help="of the steps at which the run is killed")
    arguments.add_argument("--folder", type=Path, help="keep everything here (default: a temporary folder)")
    options = arguments.parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        return compare(options.folder or Path(temporary), options.kills, random.Random(options.seed))


def compare(folder: Path, kills: int, rng: random.Random) -> int:
    """Run both trainings in the folder; 0 where they agree, else 1."""
    dataset_writer.write_dataset(folder / "scenes", TRAIN, VAL, seed=5, width=320, height=180)
    settings = [f"data.root={folder / 'scenes'}", f"data.cache_dir={folder / 'cache'}", f"train.epochs={EPOCHS}",
                f"train.batch_size={BATCH}", "train.device=cpu", "train.ema=0.9", "model.width=160", "model.height=96"]
    unbroken, killed = folder / "unbroken", folder / "killed"
    if killed.exists():
        raise SystemExit(f"{killed}: is there from an earlier comparison; name another --folder")
    train([*settings, f"train.checkpoint_dir={unbroken}"])
    print(f"one run without a break: {EPOCHS} epochs of {STEPS} steps")

    run = [*settings, f"train.checkpoint_dir={killed}"]
    for number in range(1, kills + 1):
        remaining = EPOCHS * STEPS - saved_steps(killed)
        if not remaining:
            print(f"the run is at its end before kill {number}: there is nothing left to kill")
            break
        step = rng.randint(1, min(3 * STEPS // 2, remaining))  # a killed epoch begins again: most stay in one
        delay = rng.uniform(0, MAX_DELAY) if step < remaining else 0.0  # at the very end it must not come too late
        train(run, step, delay)
        run = [*run[:len(settings) + 1], "--resume"]
        saved = saved_steps(killed)
        print(f"kill {number}: {1000 * delay:.0f} ms after step {step}; {saved} steps are saved", flush=True)
    train(run)

    records = log_records(unbroken)
    same_log = records == log_records(killed)
    same_weights = all(equal_weights(unbroken / name, killed / name) for name in ("last.pth", "best_model.pth"))
    print(f"after {kills} kills the log is {'equal' if same_log else 'DIFFERENT'} in all {len(records)} epochs, and "
          f"the weights are {'equal' if same_weights else 'DIFFERENT'}, to those of the run without a break")
    return 0 if same_log and same_weights else 1


def train(settings: Sequence[str], die_at: int = 0, delay: float = 0.0) -> None:
    """Train in a process of its own, which must end well, or must be killed where die_at is not 0."""
    code = f"import sys, kill_and_resume; kill_and_resume.train_and_die(sys.argv[1:], {die_at}, {delay})"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parent)}
    process = subprocess.run([sys.executable, "-c", code, *settings], env=environment, capture_output=True, text=True)
    if process.returncode != (-KILL if die_at and os.name == "posix" else KILL if die_at else 0):
        raise SystemExit(f"the run ended with status {process.returncode}:\n{process.stdout}{process.stderr}")


def train_and_die(settings: Sequence[str], die_at: int, delay: float) -> None:
    """Train, and kill this process `delay` seconds after the given step of the optimizer; 0: let it live."""
    steps, usual = 0, MuonAdamW.step

    def step_and_die(*arguments: Any) -> None:
        nonlocal steps
        usual(*arguments)
        steps += 1
        if steps == die_at:
            if not delay:
                os.kill(os.getpid(), KILL)
            threading.Timer(delay, os.kill, (os.getpid(), KILL)).start()

    with mock.patch.object(MuonAdamW, "step", step_and_die):
        cli.run(lambda: train_fixed.main(settings))


def saved_steps(folder: Path) -> int:
    """Steps of the epochs that a run has finished and saved; 0 before it began."""
    if not (folder / "last.pth").is_file():
        return 0
    return (checkpoint.load_checkpoint(folder / "last.pth")["progress"]["epoch"] - 1) * STEPS


def log_records(folder: Path) -> list[dict[str, Any]]:
    """The records of log.jsonl without the times."""
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in record.items() if key not in CLOCK_KEYS} for record in records]


def equal_weights(first: Path, second: Path) -> bool:
    """Whether two checkpoints have the same weights, to the bit."""
    a, b = (checkpoint.load_checkpoint(path)["model"] for path in (first, second))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


if __name__ == "__main__":
    sys.exit(main())
