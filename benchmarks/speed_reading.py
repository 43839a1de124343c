"""Reading a data set into the cache: images a second, and how much of it Python does, which threads cannot share."""

import contextlib
import os
import statistics
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest import mock

import cv2
import torch
from speed_scale import Scale

from config import load_config
from dataset import validation_samples
from formats import registry
from geometry.input_grid import InputGrid
from preprocessing import cache, images
from preprocessing.samples import read_images
from renderer import dataset_writer
from runtime import prefetch
from runtime.checkpoint import input_grid
from runtime.processes import cores

IMAGES_PER_FILE = 10  # scenes for each file that `inference` reads
WITHOUT_LOCK = ((images, "file_content"), (cv2, "imdecode"), (cv2, "resize"), (cv2, "addWeighted"),
                (InputGrid, "resample"), (zlib, "crc32"))


def tables(device: torch.device, scale: Scale, words: Sequence[str]) -> Iterator[list[str]]:
    """A Markdown table of one thread, and of a thread and a process a core, on rendered scenes or the validation images
    of data.root.
    """
    config = load_config(None, words)
    grid, slots = input_grid(config), config.model.slots
    with tempfile.TemporaryDirectory() as folder:
        if any(word.startswith("data.root=") for word in words):
            samples = validation_samples(config)
        else:
            dataset_writer.write_dataset(Path(folder), IMAGES_PER_FILE * scale.files, 1, 0)
            samples = registry.list_samples(folder)
        held_ms = statistics.median(lock_held_ms(samples, grid) for _ in range(scale.repeats))
        cases = [*((threads, 0) for threads in sorted({1, cores()})), (1, max(2, cores()))]
        rates = {case: [] for case in cases}
        for _ in range(scale.repeats):
            for case in cases:
                rates[case].append(building(samples, grid, slots, *case))
    lines = ["| by | images/s | CPU ms an image | of which the script itself |", "|---|---|---|---|"]
    for (threads, processes), runs in rates.items():
        per_second, cpu_ms, own_ms = map(statistics.median, zip(*runs, strict=True))
        by = f"{processes} processes" if processes else "1 thread" if threads == 1 else f"{threads} threads"
        lines.append(f"| {by} | {per_second:.0f} | {cpu_ms:.2f} | {own_ms:.2f} |")
    yield [f"{len(samples)} images into the cache; {held_ms:.2f} ms an image are not decoding, resizing, reading or "
           f"sums, so that no number of threads passes {1e3 / held_ms:.0f} images/s; processes take "
           f"{cache.FIT_CHUNK} images at a time:", "", *lines]


def lock_held_ms(samples: Sequence, grid: InputGrid) -> float:
    """Milliseconds an image outside of functions that release the interpreter's lock; fitting is left out."""
    spent = Counter()

    def timed(function):
        def call(*arguments, **options):
            start = time.thread_time()
            try:
                return function(*arguments, **options)
            finally:
                spent["without"] += time.thread_time() - start
        return call

    with contextlib.ExitStack() as stack:
        for owner, name in WITHOUT_LOCK:
            stack.enter_context(mock.patch.object(owner, name, timed(getattr(owner, name))))
        start = time.thread_time()
        for first in range(0, len(samples), cache.READ_CHUNK):
            read_images([samples[i] for i in range(first, min(first + cache.READ_CHUNK, len(samples)))], grid)
        return 1e3 * (time.thread_time() - start - spent["without"]) / len(samples)


def building(samples: Sequence, grid: InputGrid, slots: int, threads: int, processes: int
             ) -> tuple[float, float, float]:
    """Images a second into a new cache by so many threads or processes, with their start; CPU milliseconds an image,
    and those of this process, which bound what any number of others reaches.
    """
    with (tempfile.TemporaryDirectory() as folder, mock.patch.object(prefetch, "cores", lambda: threads),
          mock.patch.object(cache, "processes_for", lambda images: processes)):
        start, own, before = time.perf_counter(), time.process_time(), os.times()
        cache.open_cache(samples, grid, slots, folder, 1e3)
        seconds, own, after = time.perf_counter() - start, time.process_time() - own, os.times()
    others = sum(after[2:4]) - sum(before[2:4])  # in steps of 10 ms
    return len(samples) / seconds, 1e3 * (own + others) / len(samples), 1e3 * own / len(samples)
