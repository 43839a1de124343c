"""Prints the lanes of images: python inference_fixed.py [IMAGE, FOLDER, "PATTERN", VIDEO or CAMERA INDEX ...]

Without any of them it looks at the validation images. Results go to stdout, everything else to stderr.
"""

import argparse
import contextlib
import math
import os
import sys
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
import torch
from tqdm import tqdm

from config import Config
from dataset import validation_samples
from evaluation import collapse_detector
from evaluation.collapse_detector import COLLAPSING
from formats.base import Sample
from inference import inputs, writers
from inference.inputs import Frame, Source
from inference.predictor import Predictor
from inference.writers import FrameResult
from runtime import cli, distributed, signals
from runtime.device import pick_device
from runtime.memory import keep_freed_memory
from visualization.draw import contact_sheet, draw_lanes, write_image

DRAWN_BATCH = 4  # images kept for drawing may be large
JUDGED_IMAGES = 100_000  # different images that the last line is about: a camera must not fill the memory
IDENTICAL_PX = 1.0  # predictions that vary by less than this over different images are nearly the same lanes
PROBES = 8  # images that are moved to see whether the lanes follow


def main(argv: Sequence[str] | None = None) -> int:
    """Print lanes per image; exit status 1 when an input could not be read or the model has collapsed."""
    options, settings = parsed(argv)
    with distributed.process_group(pick_device(settings.train.device)) as device:
        return run_inference(settings, options, device)


def run_inference(settings: Config, options: argparse.Namespace, device: torch.device) -> int:
    """Look at all inputs, of which each process takes its share and the first writes what all say."""
    keep_freed_memory()
    threshold = None if settings.inference.threshold == "auto" else settings.inference.threshold
    with distributed.main_process_first():  # it may have to render them, and says for all what is wrong
        detector = Predictor.load(options.checkpoint, device.type, threshold, settings.train.precision)
        labelled = {} if options.words else {str(sample.image): sample for sample in validation_samples(settings)}
        found = inputs.list_sources(options.words) if options.words else [sample_source(sample) for sample in labelled.values()]
        has_camera = any(one.kind == "camera" for one in found)
        if distributed.world_size() > 1 and (has_camera or options.show):
            raise ValueError("a camera and --show need a single process: python inference_fixed.py without torchrun")
    found = distributed.broadcast(found)  # a folder may have grown in between
    total = None if any(one.frames is None for one in found) else sum(one.frames for one in found)
    window = open_window() if options.show else None
    on_sheet = writers.sheet_frames(total) if options.sheet else set()
    draws = bool(options.save_images or on_sheet or window)
    size = min(settings.inference.batch_size, DRAWN_BATCH) if draws else settings.inference.batch_size
    text = sys.stderr if options.json == "-" else sys.stdout
    unreadable, seen, probes, tiles = 0, {}, [], []

    with contextlib.ExitStack() as stack:
        interrupt = stack.enter_context(signals.Interrupt().caught())
        if not has_camera:
            stack.enter_context(half_the_threads())
        bar = stack.enter_context(tqdm(total=total, unit="img", file=sys.stderr, disable=distributed.progress_disabled()))
        says = {} if options.json == "-" else {text: lane_lines}  # what is written of a result, by file
        if options.json:
            says[stack.enter_context(text_file(options.json))] = writers.json_line
        if options.tusimple:
            says[stack.enter_context(text_file(options.tusimple))] = partial(
                writers.tusimple_line, labels=labelled, tolerance=settings.inference.end_tolerance)
        overlays = stack.enter_context(writers.Overlays(options.save_images)) if options.save_images else None
        turns = stack.enter_context(contextlib.closing(inputs.shard_batches(found, detector.preprocess, draws, size)))
        for first, batch in turns:
            mine = process_batch(detector, first, batch, says.values(), overlays, on_sheet, window)
            for report in distributed.gather_to_main(mine):
                bar.update()
                if report.frame.error:
                    bar.write(f"error: {report.frame.error}", file=sys.stderr)
                    unreadable += 1
                    continue
                for file, said in zip(says, report.said, strict=True):
                    bar.write(said, file=file)
                if report.frame.pixels is not None and len(probes) < PROBES:
                    probes.append(report.frame.pixels)
                if len(seen) < JUDGED_IMAGES:  # by content: the same image twice says nothing
                    seen[report.frame.content] = report.lanes
                if report.number in on_sheet:
                    tiles.append(report.drawn)
                if window:
                    window.show(report.drawn, wait=report.frame.input.kind == "image")
            sys.stdout.flush()
            stop = distributed.all_reduce_max(interrupt.signal)
            if stop and not has_camera:
                raise KeyboardInterrupt  # nothing half written stays behind
            if stop or (window and window.closed):
                break  # the usual end of a camera
        if tiles:
            write_image(options.sheet, contact_sheet(tiles, columns=4))
    if distributed.rank() > 0:
        return 0
    sensitivity = detector.sensitivity(probes) if probes else math.nan
    return print_diagnosis(list(seen.values()), sensitivity, settings, detector.steps, text) or int(unreadable > 0)


class Report(NamedTuple):
    """What the first process is told of a frame."""

    number: int  # of the frame among all that were given, from 1
    frame: Frame  # without its image, and without pixels but for a few
    said: Sequence[str] = ()  # for each file
    lanes: tuple[np.ndarray, np.ndarray] | None = None  # points (L, P, 2), confidence (L)
    drawn: np.ndarray | None = None  # (height, width, 3), for the sheet and the window


def process_batch(detector: Predictor, first: int, batch: Sequence[Frame], says: Iterable[Callable[[FrameResult], str]],
            overlays: writers.Overlays | None, on_sheet: Container[int], window: writers.Window | None
            ) -> Iterator[Report]:
    """What the network says of a batch, whose first frame has the number `first`, frame by frame; draws overlays."""
    readable = [frame.pixels for frame in batch if not frame.error]
    answers = zip(*detector.detect(readable), strict=True) if readable else iter(())
    for number, frame in enumerate(batch, start=first):
        if frame.error:
            yield Report(number, frame)
            continue
        result = FrameResult(number, frame, *next(answers))
        wanted = bool(window) or number in on_sheet
        drawn = draw_lanes(frame.image, *result[2:]) if overlays or wanted else None
        if overlays:
            overlays.add(result, drawn)
        is_probe = number & (number - 1) == 0  # the first, second, fourth, eighth ...
        kept = frame._replace(pixels=frame.pixels if is_probe else None, image=None)
        yield Report(number, kept, [say(result) for say in says], (result.points.numpy(), result.confidence.numpy()),
                     drawn if wanted else None)


def text_file(path: str | Path) -> contextlib.AbstractContextManager[TextIO]:
    """A file as `outputs.whole_file` opens it, stdout for "-"; only the first of several processes has one."""
    if path == "-":
        return contextlib.nullcontext(sys.stdout)
    return writers.atomic_text_file(Path(path if distributed.rank() == 0 else os.devnull))


def parsed(argv: Sequence[str] | None) -> tuple[argparse.Namespace, Config]:
    """What the command line says, and the settings with its overrides."""
    arguments = cli.parser(__doc__)
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
    options, overrides = cli.parse(arguments, argv)
    if options.threshold is not None:
        overrides.append(f"inference.threshold={options.threshold}")
    return options, cli.load_settings(options, overrides)


@contextlib.contextmanager
def half_the_threads() -> Iterator[None]:
    """Leaves half of the cores to decoding, which costs about as much as the network does."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // 2))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def sample_source(sample: Sample) -> Source:
    """An image of a data set as an input, under the name that the data set has for it."""
    return Source(str(sample.image), sample.image, below=sample.name)


def open_window() -> writers.Window | None:
    """A window, or None where there is no display, which is said on stderr."""
    if writers.can_show():
        return writers.Window()
    print("--show: no display here on which OpenCV can open a window; going on without one", file=sys.stderr)
    return None


def lane_lines(result: FrameResult) -> str:
    """The name of a frame, then a line per lane, numbered by slot from the left."""
    number, frame, points, confidence, keep = result
    lines = [frame.name]
    for slot in keep.nonzero()[:, 0].tolist():
        controls = " ".join(f"P{i}=({x:.3f}, {y:.3f})" for i, (x, y) in enumerate(points[slot].tolist()))
        lines.append(f"Sample {number}: Lane {slot + 1} ({confidence[slot]:.2f}): {controls}")
    return "\n".join(lines if keep.any() else [*lines, f"Sample {number}: no lane"])


def print_diagnosis(seen: list[tuple[np.ndarray, np.ndarray]], sensitivity: float, settings: Config, steps: float, file: TextIO
          ) -> int:
    """Say whether the predictions (L, P, 2), (L) differ between images, and the guard's verdict; 1 for a collapse.

    Where no image could be read there is nothing to say.
    """
    if not seen:
        return 0
    said = f"{len(seen)} different image(s): whether predictions differ shows from two on"
    if len(seen) > 1:
        points, confidence = (torch.from_numpy(np.stack(part)) for part in zip(*seen, strict=True))
        weight = confidence.mean(0)  # (L)
        spread = points[..., 0].std(0, correction=0).mean(-1)  # (L) of x
        spread_px = float((spread * weight).sum() / weight.sum().clamp(min=1e-6) * 1280)
        said = (f"The predictions {'differ' if spread_px >= IDENTICAL_PX else 'hardly differ'} between the {len(seen)} "
                f"images: lanes spread by {spread_px:.1f} px of a 1280 px wide image (standard deviation)")
    if not math.isnan(sensitivity):
        said += f", and follow {100 * sensitivity:.0f} % of the way when an image moves"
    judged = collapse_detector.diagnose(collapse_detector.CollapseStats(sensitivity=sensitivity), settings.guard.min_diversity,
                           settings.guard.min_sensitivity, beginning=steps < settings.guard.first_steps)
    print(f"{said}; verdict: {judged}", file=file)
    return int(judged.state == COLLAPSING)


if __name__ == "__main__":
    cli.run(main)
