"""Prints the lanes of images: python inference_fixed.py [IMAGE, FOLDER, "PATTERN", VIDEO, LIST, CAMERA or ADDRESS ...]

Without any of them it reads the validation images. Results go to stdout, everything else to stderr.
"""

import argparse
import contextlib
import math
import os
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TextIO

import torch
from tqdm import tqdm

from config import Config
from dataset import validation_samples
from evaluation import collapse_detector
from evaluation.collapse_detector import COLLAPSING, CollapseStats
from formats.base import Sample
from formats.convert import new_folder
from inference import inputs
from inference.camera_settings import check_camera, with_camera_file
from inference.inputs import Frame
from inference.lane_position import LanePositions
from inference.predictor import Predictor
from inference.run_stats import RunStats, without_spare_pixels
from inference.sources import Source, list_sources, sample_source, total_frames
from inference.tracker import SourceTracker
from inference.writers import STDOUT, FrameResult, Outputs, Writers, check_names, open_writers
from metrics.collapse import REFERENCE_WIDTH_PX
from preprocessing.images import preprocess
from runtime import cli, distributed, signals
from runtime.checkpoint import DEFAULT_CHECKPOINT
from runtime.device import pick_device
from runtime.files import check_written
from runtime.memory import keep_freed_memory
from visualization.draw import check_picture

MAX_DRAWN_BATCH = 4  # images kept for drawing may be large
IDENTICAL_PX = 1.0  # predictions that vary by less than this over different images are nearly the same lanes


def main(argv: Sequence[str] | None = None) -> int:
    """Print lanes per image; exit status 1 when an input could not be read or the model has collapsed."""
    options, config = parse_arguments(argv)
    with distributed.process_group(pick_device(config.train.device)) as device:
        return run_inference(options, config, device)


def run_inference(options: argparse.Namespace, config: Config, device: torch.device) -> int:
    """Predict all frames, of which each process takes its share and the main one writes the results."""
    keep_freed_memory()
    with distributed.main_process_first():  # it may have to render validation scenes
        predictor = load_predictor(options, config, device)
        sources, labels = list_inputs(options, config)
        if options.labels and distributed.rank() == 0:
            new_folder(options.labels)
    sources = distributed.broadcast(sources)  # a folder may have grown in between
    total, stats = total_frames(sources), RunStats()
    is_live = has_camera(sources)
    with contextlib.ExitStack() as stack:
        interrupt = stack.enter_context(signals.Interrupt().caught())
        if not is_live:
            stack.enter_context(inputs.half_the_threads())
        bar = stack.enter_context(tqdm(total=total, unit="img", file=sys.stderr,
                                       disable=distributed.progress_disabled()))
        writers = stack.enter_context(open_writers(outputs(options), total, labels, predictor.decode.end_tolerance))
        batch_size = min(config.inference.batch_size, MAX_DRAWN_BATCH) if writers.draw else config.inference.batch_size
        tracker = SourceTracker(predictor.decode.threshold) if options.track else None
        positions = LanePositions(config.camera) if check_camera(config.camera) else None
        batches = stack.enter_context(contextlib.closing(
            inputs.shard_batches(sources, partial(preprocess, grid=predictor.grid), writers.draw, batch_size,
                                 by_processes=device.type == "cuda")))
        for first, batch in batches:
            results = process_batch(predictor, tracker, positions, first, batch, writers)
            for result in distributed.gather_to_main(results):
                bar.update()
                writers.write(result)
                stats.add(result)
            sys.stdout.flush()
            stopped = distributed.all_reduce_max(interrupt.signal)
            if stopped and not is_live:
                raise KeyboardInterrupt  # nothing half written stays behind
            if stopped or writers.closed:
                break  # the usual end of a camera
    if distributed.rank() > 0:
        return 0
    return print_diagnosis(stats, predictor, config, report_stream(options)) or int(stats.unreadable > 0)


def load_predictor(options: argparse.Namespace, config: Config, device: torch.device) -> Predictor:
    """The network of the checkpoint, which reports lanes as the configuration says."""
    threshold = None if config.inference.threshold == "auto" else config.inference.threshold
    return Predictor.load(options.checkpoint, device.type, threshold, config.train.precision,
                          config.inference.end_tolerance, requested=options.requested)


def list_inputs(options: argparse.Namespace, config: Config) -> tuple[list[Source], dict[str, Sample]]:
    """The sources of the command line, or else the validation images; these also as samples, by the source's name."""
    if options.words:
        written = [path for path in (options.save_images, options.sheet) if path]
        sources, labels = list_sources(options.words, written, report_to_stderr), {}
    else:
        samples = list(validation_samples(config))
        sources, labels = [*map(sample_source, samples)], {str(sample.image): sample for sample in samples}
    files = (options.sheet, options.tusimple, options.json if options.json != STDOUT else None)
    read = [Path(word) for word in options.words] + [source.path for source in sources if isinstance(source.path, Path)]
    check_written([Path(path) for path in files if path], read + [sample.label for sample in labels.values()])
    if options.tusimple:
        check_names(sources)
    for word in filter(os.path.isdir, options.words):
        if options.labels and options.labels.resolve().is_relative_to(Path(word).resolve()):
            raise ValueError(f"--labels {options.labels}: lies in {word}, where its images would be read again; name "
                             "another folder")
    if distributed.world_size() > 1 and (has_camera(sources) or options.show):
        raise ValueError("a camera and --show need a single process: python inference_fixed.py without torchrun")
    return sources, labels


def report_to_stderr(line: str) -> None:
    """Print a line, in the main process."""
    if distributed.rank() == 0:
        print(line, file=sys.stderr)


def has_camera(sources: Sequence[Source]) -> bool:
    """Whether one of the sources is a camera."""
    return any(source.kind == "camera" for source in sources)


def process_batch(predictor: Predictor, tracker: SourceTracker | None, positions: LanePositions | None, first: int,
                  batch: Sequence[Frame], writers: Writers) -> Iterator[FrameResult]:
    """The result of each frame of a batch, rendered; the first of them has the number `first`.

    All frames of a video come to the same process, in order, so that its tracker sees every one.
    """
    pixels = [frame.pixels for frame in batch if not frame.error]
    detections = predictor.detect(pixels).per_image() if pixels else iter(())
    for number, frame in enumerate(batch, start=first):
        result = FrameResult(number, without_spare_pixels(number, frame))
        if frame.error:
            yield result
            continue
        lanes, ids = next(detections), ()
        if tracker:
            lanes, ids = tracker.update(frame, lanes)
        position = positions.update(frame, lanes, ids) if positions else None
        yield writers.render(result._replace(detections=lanes, ids=ids, position=position))


def print_diagnosis(stats: RunStats, predictor: Predictor, config: Config, file: TextIO) -> int:
    """Print whether predictions differ between images and follow a shifted one, and the verdict; 1 for a collapse.

    Where no image could be read nothing is printed.
    """
    if not stats.images:
        return 0
    line, subject = "One image alone: whether predictions differ shows from two on", "its lanes "
    if stats.images > 1:
        subject = ""
        spread_px = stats.spread_px()
        differ = "differ" if spread_px >= IDENTICAL_PX else "hardly differ"
        line = (f"The predictions {differ} between the {stats.images} images: lanes spread by {spread_px:.1f} px of a "
                f"{REFERENCE_WIDTH_PX} px wide image (standard deviation)")
    sensitivity = stats.sensitivity(predictor)
    if not math.isnan(sensitivity):
        line += f", and {subject}follow {100 * sensitivity:.0f} % of the way when an image moves"
    moved = CollapseStats(sensitivity=sensitivity, probes=len(stats.pixels))
    diagnosis = collapse_detector.diagnose(moved, config.guard, predictor.trained_steps, labelled=False)
    print(f"{line}; verdict: {diagnosis}", file=file)
    return int(diagnosis.state == COLLAPSING)


def parse_arguments(argv: Sequence[str] | None) -> tuple[argparse.Namespace, Config]:
    """The options, and the configuration with the command line's overrides."""
    parser = cli.parser(__doc__)
    parser.add_argument("words", nargs="*", metavar="INPUT",
                        help="images, folders, patterns, videos, lists of them, camera indices, addresses of streams, "
                             "and section.key=value settings")
    parser.add_argument("--checkpoint", default=DEFAULT_CHECKPOINT, metavar="FILE")
    parser.add_argument("--threshold", type=float, help="confidence from which a lane is printed")
    parser.add_argument("--camera", metavar="FILE",
                        help="field of view, height and so on, as section camera of config.yaml: gives metres")
    parser.add_argument("--no-track", dest="track", action="store_false",
                        help="report the lanes of each frame of a video alone, without identities")
    parser.add_argument("--save-images", metavar="DIR", type=Path,
                        help="write each image with its lanes drawn, and each video annotated")
    parser.add_argument("--birds-eye", action="store_true",
                        help="with a camera: draw the road from above beside each image")
    parser.add_argument("--labels", metavar="DIR", type=Path,
                        help="write a new folder of images with label files, to correct in labelme and train on")
    parser.add_argument("--sheet", metavar="FILE", type=Path, help="write eight of them in one picture")
    parser.add_argument("--show", action="store_true", help="open a window; after an image any key goes on, q ends")
    parser.add_argument("--json", metavar="FILE", help="write a JSON object for each image, one a line; - writes "
                                                       "them to stdout in place of the text")
    parser.add_argument("--tusimple", metavar="FILE", type=Path, help="write a submission in TuSimple's format")
    options, overrides = cli.parse(parser, argv)
    if options.threshold is not None:
        overrides.append(f"inference.threshold={options.threshold}")
    config = cli.load_settings(options, overrides)
    if options.camera:
        config = with_camera_file(config, options.camera, [word for word in overrides if word.startswith("camera.")])
    is_metric = check_camera(config.camera)
    if options.birds_eye and not is_metric:
        raise ValueError("--birds-eye needs a camera: --camera FILE, or section camera of config.yaml")
    if options.birds_eye and not (options.save_images or options.sheet or options.show):
        raise ValueError("--birds-eye is drawn beside images: give --save-images, --sheet or --show as well")
    if options.sheet:
        check_picture(options.sheet)
    options.requested = cli.model_settings(options, overrides, config)
    return options, config


def outputs(options: argparse.Namespace) -> Outputs:
    """What the options ask for."""
    text = None if options.json == STDOUT else sys.stdout
    return Outputs(text, options.json, options.tusimple, options.save_images, options.labels, options.sheet,
                   options.show, options.birds_eye)


def report_stream(options: argparse.Namespace) -> TextIO:
    """Where the last line goes: not among JSON lines on stdout."""
    return sys.stderr if options.json == STDOUT else sys.stdout


if __name__ == "__main__":
    cli.run(main)
