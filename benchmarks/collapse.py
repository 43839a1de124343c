"""Reproduces the collapse: the old loss, head and order of lanes against ours, alone and together, on one budget.

    python benchmarks/collapse.py

Renders road scenes once, trains every variant on them from the same seed, and writes the tables to
benchmarks/collapse.md, the picture to docs/collapse.jpg and every epoch to log.json in the folder of the scenes.
"""

import argparse
import json
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository root and the modules beside this one,
sys.path.insert(0, str(Path(__file__).resolve().parent))  # from wherever it is run or imported

import collapse_report
from collapse_train import Run, Variant, blind, datasets, eight, labels_in, train

from visualization.draw import write_image

ROOT = Path(__file__).resolve().parents[1]

VARIANTS = (
    Variant("(a) the old way", "old", "old", "old"),
    Variant("loss ours", "ours", "old", "old"),
    Variant("head ours", "old", "ours", "old"),
    Variant("slots ours", "old", "old", "ours"),
    Variant("loss, head ours", "ours", "ours", "old"),
    Variant("loss, slots ours", "ours", "old", "ours"),
    Variant("head, slots ours", "old", "ours", "ours"),
    Variant("(c) ours"),
)
EXTRAS = (
    Variant("(a), s held at 0", "held", "old", "old"),
    Variant("(a), s at the network's rate", "old", "old", "old", s_rate=1),
    Variant("(a), lanes left to right", "old", "old", "left to right"),
    Variant("slots ours, s held at 0", "held", "old"),
    Variant("slots ours, no curvature", "no curvature", "old"),
    Variant("head, slots ours, s held at 0", "held"),
    Variant("(c) ours, no columns", "no columns"),
    Variant("(a), roads alike", "old", "old", "old", alike=True),
    Variant("head, slots ours, roads alike", "old", "ours", "ours", alike=True),
    Variant("(c) ours, roads alike", alike=True),
)


def trained(variants: tuple[Variant, ...], options: argparse.Namespace) -> list[Run]:
    """The variants' runs, in their order, `options.processes` at a time; each is told of on stderr as it ends."""
    def tell(run: Run) -> Run:
        last = run.history[-1]
        print(f"{run.variant.name}: {run.seconds:.0f} s, total {last['val_total']:.2f}, error "
              f"{last['error_px']:.0f} px (constant {last['constant_error_px']:.0f}), diversity "
              f"{last['diversity']:.2f}, F1 {100 * last['f1']:.0f} %", file=sys.stderr, flush=True)
        return run

    if options.processes == 1:
        return [tell(train(variant, options)) for variant in variants]
    with ProcessPoolExecutor(options.processes, multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(train, variant, options) for variant in variants]
        for future in as_completed(futures):
            tell(future.result())
    return [future.result() for future in futures]


def main(argv=None) -> int:
    """Train all variants, print the tables and write them with the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=600, help="scenes to train on (default: %(default)s)")
    parser.add_argument("--val-scenes", type=int, default=120, help="default: %(default)s")
    parser.add_argument("--epochs", type=int, default=16, help="default: %(default)s")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="of the network (default: %(default)s)")
    parser.add_argument("--width", type=int, default=160, help="of the network's input (default: %(default)s)")
    parser.add_argument("--height", type=int, default=96)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2, help="variants at a time (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of each process (default: %(default)s)")
    parser.add_argument("--extras", action=argparse.BooleanOptionalAction, default=True,
                        help="also the variants beyond the eight")
    parser.add_argument("--folder", type=Path, default=ROOT / "data" / "collapse", help="for scenes and log.json")
    parser.add_argument("--table", type=Path, default=ROOT / "benchmarks" / "collapse.md")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs" / "collapse.jpg")
    options = parser.parse_args(argv)
    began = time.perf_counter()
    variants = VARIANTS + (EXTRAS if options.extras else ())
    for alike in sorted({variant.alike for variant in variants}):
        datasets(options, alike)  # here once, before several processes would do it at the same time
    runs = trained(variants, options)
    answers = [blind(*order, options) for order in dict.fromkeys((v.slots, v.alike) for v in variants)]
    seconds = time.perf_counter() - began

    log = [{**run.variant._asdict(), "seconds": run.seconds, "epochs": run.history} for run in runs]
    (options.folder / "log.json").write_text(json.dumps({"runs": log, "blind": answers}, indent=1) + "\n")
    words = sys.argv[1:] if argv is None else list(argv)
    text = collapse_report.tables(runs, answers, options, words, seconds)
    print(text)
    options.table.write_text(text + "\n", encoding="utf-8")
    val_set = datasets(options, alike=False)[1]
    truth = labels_in("ours", val_set, options.seed)
    real = [truth.points[i][truth.exists[i]].numpy() for i in eight(len(val_set))]
    write_image(options.picture, collapse_report.picture(runs[:len(VARIANTS)], real, options.width / options.height))
    return 0


if __name__ == "__main__":
    sys.exit(main())
