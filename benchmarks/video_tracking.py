"""How still the lanes of videos are, each frame alone and tracked, and what tracking costs: the table of RESULTS.md.

    python benchmarks/video_tracking.py VIDEO [VIDEO ...] [--checkpoint FILE] [--frames N]
"""

import argparse
import sys
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository root
from formats.tusimple_metric import x_px_at_rows
from inference.inputs import read_frames
from inference.predictor import Detections, Predictor
from inference.sources import Source, list_sources
from inference.tracker import Tracker
from metrics.tracking import jitter_px
from metrics.tusimple import TUSIMPLE_ROWS, TUSIMPLE_SIZE
from runtime import cli
from runtime.checkpoint import DEFAULT_CHECKPOINT


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line a video."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+")
    parser.add_argument("--checkpoint", default=DEFAULT_CHECKPOINT)
    parser.add_argument("--frames", type=int, help="of each video at most")
    options = parser.parse_args(argv)
    predictor = Predictor.load(options.checkpoint, "cpu")
    print("| video | frames | jitter alone, px | tracked, px | lanes alone | tracked | identities | frame, ms CPU | "
          "tracking, ms CPU | share, % |")
    for source in list_sources(options.videos):
        print(video_line(predictor, source, options.frames), flush=True)
    return 0


def video_line(predictor: Predictor, source: Source, frames: int | None) -> str:
    """A row of the table; times are of the process, reading and preprocessing included."""
    tracker = Tracker(predictor.decode.threshold)
    rows, ids, seconds = ([], []), set(), 0.0
    start = time.process_time()
    for frame in islice(read_frames([source], predictor.preprocess, False, 8), frames):
        if frame.error:
            raise ValueError(frame.error)
        plain = next(predictor.detect([frame.pixels]).per_image())
        before = time.thread_time()  # without the thread that reads
        tracked, numbers = tracker.update(plain, frame.pixels, frame.checksum)
        seconds += time.thread_time() - before
        ids |= {*numbers} - {0}
        for part, detections in zip(rows, (plain, tracked), strict=True):
            part.append(reported_rows(detections, predictor.decode.end_tolerance))
    count, total = len(rows[0]), time.process_time() - start
    alone, after = (jitter_px([part]) for part in rows)
    lanes = [sum(map(len, part)) / count for part in rows]
    return (f"| {source.path.name} | {count} | {alone:.2f} | {after:.2f} | {lanes[0]:.2f} | {lanes[1]:.2f} "
            f"| {len(ids)} | {1000 * (total - seconds) / count:.1f} | {1000 * seconds / count:.2f} "
            f"| {100 * seconds / (total - seconds):.1f} |")


def reported_rows(detections: Detections, end_tolerance: float) -> np.ndarray:
    """(K, R) x of the reported lanes in px of a 1280 px wide image at TuSimple's rows, NaN where there is none."""
    curves: Tensor = detections.points[detections.keep]
    x = x_px_at_rows(curves, np.array(TUSIMPLE_ROWS, float), TUSIMPLE_SIZE, end_tolerance)
    return np.where(x >= 0, x, np.nan)


if __name__ == "__main__":
    cli.run(main)
