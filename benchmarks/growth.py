"""What memory and start-up cost per listed image, from files on disk to batches in random order.

    python benchmarks/growth.py [--images 100000] [--layouts culane tusimple]

It writes a data set of that many tiny images (hard links, 64x36) in a temporary folder, in CULane's layout (a label
file an image, every image in two lists, split as CULane is) or in TuSimple's (five label files in all), opens it
without a cache as training does, and removes it. Each figure comes from a fresh process. The times are those of a
list that the file system has in its memory: a disk or a network adds its own.

The lines that begin with "10 million" multiply by what is missing to that many images; nothing there was measured.
What they leave out:
- A process that reads images (data.workers) has its own copy of the index: the pickle, times the processes.
- The labels and predictions that an epoch is scored on are held: a tenth of 10 million images, which data.split=auto
  takes where there is no list, is a million. Name a list of a few thousand, or a fraction such as 0.001.
- A cache of 10 million images at 320x144 is 1.4 TB, far over data.cache_gb: they are decoded in each epoch.
- Numbers of images are 32 bits wide, which is enough for 2 thousand million of them.
"""

import argparse
import json
import os
import pathlib
import pickle
import shutil
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from config import Config, DataConfig
from dataset import batches, epoch_order, loader, open_dataset
from evaluation.evaluator import answer_of, benchmark_scores, figures, reference
from formats import registry, splits
from losses_fixed import LaneLoss
from model import LanePrediction
from train_fixed import fingerprint

LINKS = 1000  # images that share a file; file systems allow some ten thousands
BATCH, BATCHES = 16, 30
SCORED = 1000  # validation images whose labels are read and scored
FAR = 10_000_000
SIZE_PX = (64, 36)
ROWS = list(range(10, 36, 2))
TUSIMPLE_LANES = [[20 + row // 4 for row in ROWS], [44 - row // 4 for row in ROWS], [-2] * len(ROWS)]
CULANE_LANES = "".join(" ".join(f"{x}.25 {y}" for x, y in zip(lane, ROWS, strict=True)) + "\n"
                       for lane in TUSIMPLE_LANES[:2])
VALIDATES = 0.073  # of CULane: 9,675 images of 133,235; 34,680 are its test set
TESTS = 0.26


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table; exit status 0."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--images", type=int, default=100_000, help="listed images (default: %(default)s)")
    arguments.add_argument("--layouts", nargs="+", choices=WRITERS, default=list(WRITERS))
    options = arguments.parse_args(argv)
    columns = []
    for layout in options.layouts:
        root = Path(tempfile.mkdtemp(prefix="growth-"))
        try:
            WRITERS[layout](root, options.images)
            columns.append(in_fresh_process(timed, root) | in_fresh_process(traced, root))
        finally:
            shutil.rmtree(root)
    print(f"{options.images} images, Python {sys.version.split()[0]}, {os.cpu_count()} cores")
    print("| | " + " | ".join(options.layouts) + " |\n|---|" + "---|" * len(columns))
    for row in columns[0]:
        print(f"| {row} | " + " | ".join(f"{column[row]:,.2f}" for column in columns) + " |")
    return 0


def write_culane(root: Path, images: int) -> None:
    """An image, its label file, and two lists that name it, for every image."""
    names = [f"driver_{n % 4}_30frame/{5_151_640 + n // 4000:08}_{n // 100 % 10000:04}.MP4/{n % 100 * 30:05}.jpg"
             for n in range(images)]
    write_images(root, names)
    for name in names:
        (root / name).with_suffix(".lines.txt").write_text(CULANE_LANES)
    val, test = round(images * (1 - VALIDATES - TESTS)), round(images * (1 - TESTS))
    lists = {"train": (0, val), "val": (val, test), "test": (test, images)}
    (root / "list" / "test_split").mkdir(parents=True)
    for part, (start, stop) in lists.items():
        mask = "" if part == "test" else " /laneseg_label_w16/mask.png 1 1 0 0"
        again = "test_split/test0_normal" if part == "test" else f"{part}_gt"
        (root / "list" / f"{part}.txt").write_text("".join(f"/{name}\n" for name in names[start:stop]))
        (root / "list" / f"{again}.txt").write_text("".join(f"/{name}{mask}\n" for name in names[start:stop]))


def write_tusimple(root: Path, images: int) -> None:
    """Images in a folder each, and label files of a fifth of them."""
    names = [f"clips/{n * 5 // images:04}-1/{n}/20.jpg" for n in range(images)]
    write_images(root, names)
    for part, list_name in enumerate(("0313", "0530", "0531", "0601", "0602")):
        with (root / f"label_data_{list_name}.json").open("w") as file:
            for name in names[images * part // 5:images * (part + 1) // 5]:
                file.write(json.dumps({"raw_file": name, "lanes": TUSIMPLE_LANES, "h_samples": ROWS}) + "\n")


WRITERS: dict[str, Callable[[Path, int], None]] = {"culane": write_culane, "tusimple": write_tusimple}


def write_images(root: Path, names: Sequence[str]) -> None:
    """JPEG files of these names; each is a link to one of the first in every LINKS."""
    pixels = np.random.default_rng(0).integers(256, size=(*SIZE_PX[::-1], 3), dtype=np.uint8)
    jpeg, made = cv2.imencode(".jpg", pixels)[1].tobytes(), None
    for n, name in enumerate(names):
        path = root / name
        if made is None or path.parent != made:
            path.parent.mkdir(parents=True, exist_ok=True)
            made = path.parent
        if n % LINKS == 0:
            path.write_bytes(jpeg)
        else:
            os.link(root / names[n - n % LINKS], path)


def in_fresh_process(measure: Callable[[Path], dict[str, float]], root: Path) -> dict[str, float]:
    """What `measure` finds in a process of its own, whose memory nothing else has used."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(measure, root).result()


def timed(root: Path) -> dict[str, float]:
    """Seconds of each step of starting up, resident memory, and time per batch of a first epoch."""
    config = Config(data=DataConfig(root=[str(root)], cache=False))
    before, peak_before = resident(), peak_resident()
    watch, busy = Stopwatch(), time.process_time()
    found = registry.entries(root)
    listing = watch.lap()
    train, val = splits.split(found, "auto")
    splitting, count = watch.lap(), len(found)
    del found
    train_set, val_set = open_dataset(train, config), open_dataset(val, config)
    fingerprint(train_set)
    hashing = watch.lap()
    order = epoch_order([len(train)], (), 0, 1)
    ordering, busy = watch.lap(), time.process_time() - busy
    pickled = pickle.dumps(train_set)
    pickling, grown, peak = watch.lap(), resident() - before, peak_resident() - peak_before
    return {
        "listing, s": listing,
        "splitting, s": splitting,
        "hash of names, s": hashing,
        "order of an epoch, s": ordering,
        "all four, seconds of a core": busy,
        "10 million: all four, minutes of a core": busy / count * FAR / 60,
        "pickling for a worker, s": pickling,
        "pickle, bytes an image": len(pickled) / len(train),
        "resident memory, bytes an image": grown / count,
        "its peak, bytes an image": peak / count,
        "first batches, ms each": batch_ms(train_set, order[:BATCH * BATCHES]),
        "last batches, ms each": batch_ms(train_set, order[-BATCH * BATCHES:]),
        "validation images": len(val_set),
    }


def traced(root: Path) -> dict[str, float]:
    """Bytes that Python and NumPy hold, counted exactly, which makes everything slower."""
    config = Config(data=DataConfig(root=[str(root)], cache=False))
    tracemalloc.start()
    found = registry.entries(root)
    count, (listed, listing_peak) = len(found), counted()
    tracemalloc.reset_peak()
    train, val = splits.split(found, "auto")
    del found
    train_set = open_dataset(train, config)
    fingerprint(train_set)
    held, peak = counted()
    order_bytes = epoch_order([len(train)], (), 0, 1).nbytes  # memory of torch's own, which is not counted
    few = open_dataset(val[:SCORED], config)
    before = tracemalloc.get_traced_memory()[0]
    truth = reference(few)
    labels = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.reset_peak()
    prediction = LanePrediction(truth.target.points, truth.target.exists * 10.0 - 5.0)
    benchmark_scores(answer_of(prediction, truth, "tusimple", 0.5, 0.007), val)
    figures(prediction, truth, LaneLoss(), 0.5)
    scoring = tracemalloc.get_traced_memory()[1] - before
    return {
        "index, bytes an image": listed / count,
        "peak of listing, bytes an image": listing_peak / count,
        "held in training, bytes an image": (held + order_bytes) / count,
        "peak of splitting and hashing, bytes an image": peak / count,
        "labels to score against, bytes a validation image": labels / len(few),
        "and most while scoring": scoring / len(few),
        "10 million: index, GB": listed / count * FAR / 1e9,
        "10 million: peak, GB": max(listing_peak, peak) / count * FAR / 1e9,
    }


def counted() -> tuple[int, int]:
    """Bytes held now and at most, without Python's table of the parts of paths: some MB however many there were."""
    table = sum(trace.size for trace in tracemalloc.take_snapshot().traces
                if trace.size > 1e5 and trace.traceback[0].filename == pathlib.__file__)
    now, most = tracemalloc.get_traced_memory()
    return now - table, most - table


class Stopwatch:
    """Seconds since the last lap."""

    def __init__(self):
        self.began = time.perf_counter()

    def lap(self) -> float:
        before, self.began = self.began, time.perf_counter()
        return self.began - before


def batch_ms(dataset, order: Sequence[int]) -> float:
    """Mean milliseconds of a batch that this process reads."""
    watch = Stopwatch()
    count = sum(1 for _ in loader(dataset, batches(order, BATCH), 0, False))
    return 1e3 * watch.lap() / count


def resident() -> float:
    """Bytes of this process in memory; not a number where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return float("nan")


def peak_resident() -> float:
    """Most bytes of this process that were in memory at a time."""
    try:
        text = Path("/proc/self/status").read_text()
    except OSError:
        return float("nan")
    return 1024 * int(text.partition("VmHWM:")[2].split()[0])


if __name__ == "__main__":
    sys.exit(main())
