"""Reproduces the collapse: the old loss, head and order of lanes against ours, alone and together, on one budget.

    python benchmarks/collapse.py [--seeds 0 1 2]
    python benchmarks/collapse.py --from-logs data/collapse/log-seed0.json data/collapse/log-seed1.json ...

Renders road scenes for each seed, trains every variant on them, and writes every epoch to log-seed0.json and so on
in the folder of the scenes, the tables to benchmarks/collapse.md and the picture to docs/collapse.jpg.
"""

import argparse
import multiprocessing
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import date
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository root
import machine
from collapse_picture import picture
from collapse_records import EXTRAS, VARIANTS, Run, SeedLog, Settings, read_logs, write_log
from collapse_report import tables
from collapse_train import Job, blind_scores, datasets, label_lanes, train

from runtime import cli
from visualization.draw import write_image

ROOT = Path(__file__).resolve().parents[1]


def main(argv: Sequence[str] | None = None) -> int:
    """Train all variants, or read their logs; print the tables and write them with the picture."""
    options = parse(argv)
    if options.from_logs:
        logs = read_logs(options.from_logs)
    else:
        settings = Settings(*(getattr(options, name) for name in Settings._fields))
        words = " ".join(["python benchmarks/collapse.py", *(sys.argv[1:] if argv is None else argv)])
        origin = (f"`{words}`, {date.today().isoformat()}, {machine.processor()}, {options.processes} processes of "
                  f"{options.threads} thread(s), PyTorch {torch.__version__.split('+')[0]}.")
        logs = [seed_log(seed, settings, options, origin) for seed in options.seeds]
    text = tables(logs, options.origin or logs[0].origin)
    print(text)
    options.table.write_text(text + "\n", encoding="utf-8")
    first = logs[0].settings or Settings()
    write_image(options.picture, picture(logs, first.width / first.height))
    return 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    usual = Settings()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument("--scenes", type=int, default=usual.scenes, help="to train on (default: %(default)s)")
    parser.add_argument("--val-scenes", type=int, default=usual.val_scenes, help="default: %(default)s")
    parser.add_argument("--epochs", type=int, default=usual.epochs, help="default: %(default)s")
    parser.add_argument("--batch-size", type=int, default=usual.batch_size, help="default: %(default)s")
    parser.add_argument("--learning-rate", type=float, default=usual.learning_rate, help="default: %(default)s")
    parser.add_argument("--width", type=int, default=usual.width, help="of the network's input (default: %(default)s)")
    parser.add_argument("--height", type=int, default=usual.height, help="default: %(default)s")
    parser.add_argument("--processes", type=int, default=2, help="variants at a time (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of each process (default: %(default)s)")
    parser.add_argument("--extras", action=argparse.BooleanOptionalAction, default=True,
                        help="also the variants beyond the eight")
    parser.add_argument("--folder", type=Path, default=ROOT / "data" / "collapse", help="for scenes and logs")
    parser.add_argument("--from-logs", type=Path, nargs="+", metavar="FILE",
                        help="logs of some seeds: train nothing, only write the tables and the picture")
    parser.add_argument("--origin", metavar="TEXT", help="how the logs were made, for the head of the tables")
    parser.add_argument("--table", type=Path, default=ROOT / "benchmarks" / "collapse.md")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs" / "collapse.jpg")
    return parser.parse_args(argv)


def seed_log(seed: int, settings: Settings, options: argparse.Namespace, origin: str) -> SeedLog:
    """All runs of one seed, written to its log as well."""
    variants = VARIANTS + (EXTRAS if options.extras else ())
    for alike in sorted({variant.alike for variant in variants}):
        datasets(settings, seed, alike, options.folder)  # once, before several processes would make them together
    runs = train_all([Job(variant, seed, settings, options.folder, options.threads) for variant in variants],
                     options.processes)
    orders = dict.fromkeys((variant.slots, variant.alike) for variant in variants)
    blind = [blind_scores(*order, settings, seed, options.folder) for order in orders]
    log = SeedLog(seed, runs, blind, label_lanes(settings, seed, options.folder), settings, origin)
    write_log(options.folder / f"log-seed{seed}.json", log)
    return log


def train_all(jobs: Sequence[Job], processes: int) -> list[Run]:
    """The jobs' runs, in their order, so many at a time; each is reported on stderr as it ends."""
    if processes == 1:
        return [reported(train(job), job.seed) for job in jobs]
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        futures = {pool.submit(train, job): job for job in jobs}
        for future in as_completed(futures):
            reported(future.result(), futures[future].seed)
    return [future.result() for future in futures]


def reported(run: Run, seed: int) -> Run:
    """The run, whose end is reported on stderr."""
    last = run.epochs[-1]
    print(f"seed {seed}, {run.variant.name}: {run.seconds:.0f} s, total {last['val_total']:.2f}, error "
          f"{last['error_px']:.0f} px (constant {last['constant_error_px']:.0f}), diversity {last['diversity']:.2f}, "
          f"F1 {100 * last['f1']:.0f} %", file=sys.stderr, flush=True)
    return run


if __name__ == "__main__":
    cli.run(main)
