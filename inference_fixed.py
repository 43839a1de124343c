"""Prints the lanes of images: python inference_fixed.py [IMAGE, FOLDER, "PATTERN", VIDEO or CAMERA INDEX ...]

Without any of them it looks at the validation images. Results go to stdout, everything else to stderr.
"""

import argparse
import contextlib
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

import torch
from torch import Tensor
from tqdm import tqdm

import frames
import guard
import outputs
import runtime
from config import Config
from detector import LaneDetector
from evaluate_fixed import validation_entries
from formats import Entry
from frames import Input
from guard import COLLAPSING
from outputs import Result

DRAWN_BATCH = 4  # images kept for drawing may be large
JUDGED_IMAGES = 100_000  # different images that the last line is about: a camera must not fill the memory
IDENTICAL_PX = 1.0  # predictions that vary by less than this over different images are nearly the same lanes
PROBES = 8  # images that are moved to see whether the lanes follow


def main(argv: Sequence[str] | None = None) -> int:
    """Print lanes per image; exit status 1 when an input could not be read or the model has collapsed."""
    options, settings = parsed(argv)
    runtime.keep_freed_memory()
    threshold = None if settings.inference.threshold == "auto" else settings.inference.threshold
    detector = LaneDetector(options.checkpoint, settings.train.device, threshold, settings.train.precision)
    labelled = {} if options.words else {str(entry.image): entry for entry in validation_entries(settings)}
    found = frames.inputs(options.words) if options.words else [of_entry(entry) for entry in labelled.values()]
    total = None if any(one.frames is None for one in found) else sum(one.frames for one in found)
    has_camera = any(one.kind == "camera" for one in found)
    window = open_window() if options.show else None
    draws = bool(options.save_images or options.sheet or window)
    size = min(settings.inference.batch_size, DRAWN_BATCH) if draws else settings.inference.batch_size
    text = sys.stderr if options.json == "-" else sys.stdout
    number, unreadable, seen, probes = 0, 0, {}, []

    with contextlib.ExitStack() as stack:
        interrupt = stack.enter_context(runtime.Interrupt().caught())
        if not has_camera:
            stack.enter_context(half_the_threads())
        bar = stack.enter_context(tqdm(total=total, unit="img", file=sys.stderr, disable=None))
        writers = []
        if options.json != "-":
            writers.append(lambda result: bar.write("\n".join(lane_lines(result)), file=text))
        if options.json:
            writers.append(stack.enter_context(outputs.json_lines(options.json)))
        if options.tusimple:
            writers.append(stack.enter_context(
                outputs.tusimple_lines(options.tusimple, labelled, settings.inference.end_tolerance)))
        if draws:
            writers.append(stack.enter_context(
                outputs.Pictures(options.save_images, options.sheet, total, window)).add)
        stream = stack.enter_context(contextlib.closing(frames.frames(found, detector.pixels, draws, 2 * size)))
        for batch in frames.batches(stream, size):
            readable = [frame.pixels for frame in batch if not frame.error]
            answers = zip(*detector.answers(readable), strict=True) if readable else iter(())
            for frame in batch:
                number += 1
                if frame.error:
                    bar.write(f"error: {frame.error}", file=sys.stderr)
                    unreadable += 1
                    continue
                result = Result(number, frame, *next(answers))
                for write in writers:
                    write(result)
                if number & (number - 1) == 0 and len(probes) < PROBES:  # the first, second, fourth, eighth ...
                    probes.append(frame.pixels)
                if len(seen) < JUDGED_IMAGES:  # by content: the same image twice says nothing
                    seen[hash(frame.pixels.tobytes())] = result.points, result.confidence
            bar.update(len(batch))
            sys.stdout.flush()
            if interrupt.signal and not has_camera:
                raise KeyboardInterrupt  # nothing half written stays behind
            if interrupt.signal or (window and window.closed):
                break  # the usual end of a camera
    sensitivity = detector.sensitivity(probes) if probes else math.nan
    return judge(list(seen.values()), sensitivity, settings, detector.steps, text) or int(unreadable > 0)


def parsed(argv: Sequence[str] | None) -> tuple[argparse.Namespace, Config]:
    """What the command line says, and the settings with its overrides."""
    arguments = runtime.parser(__doc__)
    arguments.add_argument("words", nargs="*", metavar="INPUT",
                           help="images, folders, patterns, videos, camera indices, and section.key=value settings")
    arguments.add_argument("--checkpoint", default="checkpoints_fixed/best_model.pth", metavar="FILE")
    arguments.add_argument("--threshold", type=float, help="confidence from which a lane is printed")
    arguments.add_argument("--save-images", metavar="DIR", type=Path,
                           help="write each image with its lanes drawn, and each video annotated")
    arguments.add_argument("--sheet", metavar="FILE", type=Path, help="write eight of them in one picture")
    arguments.add_argument("--show", action="store_true", help="open a window; after an image any key goes on, q ends")
    arguments.add_argument("--json", metavar="FILE", help="write a JSON object for each image, one a line; - writes "
                                                          "them to stdout in place of the text")
    arguments.add_argument("--tusimple", metavar="FILE", type=Path, help="write a submission in TuSimple's format")
    options, overrides = runtime.parse(arguments, argv)
    if options.threshold is not None:
        overrides.append(f"inference.threshold={options.threshold}")
    return options, runtime.load_settings(options, overrides)


@contextlib.contextmanager
def half_the_threads() -> Iterator[None]:
    """Leaves half of the cores to decoding, which costs about as much as the network does."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // 2))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def of_entry(entry: Entry) -> Input:
    """An image of a data set as an input, under the name that the data set has for it."""
    return Input(str(entry.image), entry.image, below=entry.name)


def open_window() -> outputs.Window | None:
    """A window, or None where there is no display, which is said on stderr."""
    if outputs.can_show():
        return outputs.Window()
    print("--show: no display here on which OpenCV can open a window; going on without one", file=sys.stderr)
    return None


def lane_lines(result: Result) -> Iterator[str]:
    """The name of a frame, then a line per lane, numbered by slot from the left."""
    number, frame, points, confidence, keep = result
    yield frame.name
    for slot in keep.nonzero()[:, 0].tolist():
        controls = " ".join(f"P{i}=({x:.3f}, {y:.3f})" for i, (x, y) in enumerate(points[slot].tolist()))
        yield f"Sample {number}: Lane {slot + 1} ({confidence[slot]:.2f}): {controls}"
    if not keep.any():
        yield f"Sample {number}: no lane"


def judge(seen: list[tuple[Tensor, Tensor]], sensitivity: float, settings: Config, steps: float, file: TextIO) -> int:
    """Say whether the predictions (L, P, 2), (L) differ between images, and the guard's verdict; 1 for a collapse."""
    said = f"{len(seen)} different image(s): whether predictions differ shows from two on"
    if len(seen) > 1:
        points = torch.stack([p for p, _ in seen])[..., 0]  # (N, L, P) x
        weight = torch.stack([c for _, c in seen]).mean(0)  # (L)
        spread = points.std(0, correction=0).mean(-1)  # (L)
        spread_px = float((spread * weight).sum() / weight.sum().clamp(min=1e-6) * 1280)
        said = (f"The predictions {'differ' if spread_px >= IDENTICAL_PX else 'hardly differ'} between the {len(seen)} "
                f"images: lanes spread by {spread_px:.1f} px of a 1280 px wide image (standard deviation)")
    if not math.isnan(sensitivity):
        said += f", and follow {100 * sensitivity:.0f} % of the way when an image moves"
    judged = guard.verdict(guard.Signs(sensitivity=sensitivity), settings.guard.min_diversity,
                           settings.guard.min_sensitivity, beginning=steps < settings.guard.first_steps)
    print(f"{said}; verdict: {judged}", file=file)
    return int(judged.state == COLLAPSING)


if __name__ == "__main__":
    runtime.run(main)
