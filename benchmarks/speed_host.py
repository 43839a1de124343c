"""From an image or a file on the host to lanes on the host, through the predictor as inference uses it."""

import io
import itertools
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from speed_scale import Scale
from speed_timing import WARMUP

from inference import inputs, writers
from inference.frames import Frame
from inference.predictor import Predictor
from inference.sources import Source
from inference.writers import FrameResult
from preprocessing.images import preprocess, read_image
from runtime.processes import MIN_IMAGES

CALLS_A_ROUND = 20  # of the predictor at batch 1
FILES_A_SECOND = 4000  # so many are read for each second that a rate may take


def table(predictors: dict[str, Predictor], paths: list[Path], batch: int, scale: Scale) -> list[str]:
    """Rows of each network: one image, as it is and as the network takes it; files, read by threads and by processes.

    Processes read where there are cores for them, see runtime/processes.py.
    """
    lines = ["| network | from | p50, ms | p99, ms | images/s | images/s from the second batch on |", "|" + 6 * "---|"]
    image = read_image(paths[0])
    files = list(itertools.islice(itertools.cycle(paths), max(MIN_IMAGES, round(FILES_A_SECOND * scale.seconds))))
    for name, predictor in predictors.items():
        dtype = str(predictor.dtype).removeprefix("torch.")
        for what, run in lane_runs(predictor, image).items():
            ms = latencies_ms(run, CALLS_A_ROUND * scale.rounds)
            lines.append(f"| {name} | {what}, batch 1, {dtype} | {np.median(ms):.3f} | {np.percentile(ms, 99):.3f} "
                         f"| {1e3 / np.median(ms):.0f} | |")
        for by_processes in (False, True):
            whole, steady = files_rate(predictor, files, batch, by_processes)
            readers = "processes" if by_processes else "threads"
            lines.append(f"| {name} | {len(files)} JPEG files by {readers}, batch {batch}, {dtype} | | | {whole:.0f} "
                         f"| {steady:.0f} |")
    return lines


def lane_runs(predictor: Predictor, image: np.ndarray) -> dict[str, Callable[[], list]]:
    """Functions that give the lanes of an image on the host."""
    pixels, (height, width) = predictor.preprocess(image), image.shape[:2]
    return {f"an image of {width}x{height}": lambda: list(predictor(image).lanes()),
            "the same, resized before": lambda: list(next(predictor.detect([pixels]).per_image()).lanes())}


def latencies_ms(run: Callable[[], object], calls: int) -> list[float]:
    """Milliseconds of each call, without the first ones."""
    stamps = [time.perf_counter()]
    for _ in range(WARMUP + calls):
        run()
        stamps.append(time.perf_counter())
    return [1e3 * (after - before) for before, after in itertools.pairwise(stamps)][WARMUP:]


def files_rate(predictor: Predictor, paths: list[Path], batch: int, by_processes: bool) -> tuple[float, float]:
    """Images a second from files to text, as inference_fixed.py makes it: of all, and from the second batch on."""
    text, number, first = io.StringIO(), itertools.count(1), None
    start = time.perf_counter()
    with inputs.half_the_threads():
        for frames in inputs.batches(frames_ahead(predictor, paths, batch, by_processes), batch):
            detections = predictor.detect([frame.pixels for frame in frames])
            for frame, detected in zip(frames, detections.per_image(), strict=True):
                text.write(writers.text_lines(FrameResult(next(number), frame, detected)))
            first = first or time.perf_counter()
    end = time.perf_counter()
    return len(paths) / (end - start), max(0, len(paths) - batch) / (end - first)


def frames_ahead(predictor: Predictor, paths: list[Path], batch: int, by_processes: bool) -> Iterator[Frame]:
    """Frames of files, read in the background as inference_fixed.py reads them."""
    sources = [Source(str(path), path) for path in paths]
    return inputs.read_frames(sources, partial(preprocess, grid=predictor.grid), False, 2 * batch, by_processes)
