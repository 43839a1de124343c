"""Inference from JPEG files of 1280x720 to printed lanes: what each part costs, and how well the parts overlap.

The weights are random, on which the time does not depend, and every lane is printed: the most text there can be.
"""

import io
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import speed_forward
import torch
from speed_forward import SIZES, WARMUP, YARDSTICK

import dataset
import inference_fixed
from config import Config, load_config
from geometry.decode import lane_nms
from inference import inputs
from inference.inputs import Frame, Source
from inference.predictor import LaneDetector, Network
from inference.writers import FrameResult
from model import LanePrediction
from preprocessing.images import read_image, resize
from renderer.scene import render_scene
from runtime.checkpoint import build_model, save_checkpoint
from runtime.device import autocast, pick_precision

FILES = 48
SIZE_PX = (1280, 720)
QUALITY = 90  # of the JPEG files
LATENCIES = 8  # images at batch 1 for each round: a 99th percentile needs a hundred
SECONDS = 1.5  # of a measured stretch of inference
STRETCHES = 3
CORES = os.cpu_count() or 1
PARTS = ("decode", "resize", "forward", "lanes and text")


class Subject(NamedTuple):
    """A network with what it takes: its size, its answers, and whether these are lanes."""

    width: int
    height: int
    pixels: Callable[[np.ndarray], np.ndarray]  # an image (height, width, 3) to what it takes, (H, W, 3)
    predict: Callable[[torch.Tensor], LanePrediction]  # uint8 (B, 3, H, W) to answers on the CPU
    has_lanes: bool = True


def tables(device: torch.device, rounds: int, overrides: Sequence[str]) -> Iterator[list[str]]:
    """Markdown tables: the parts at batch 1 and at inference.batch_size, then the whole."""
    config = load_config(None, overrides)
    with tempfile.TemporaryDirectory() as folder:
        paths = image_files(Path(folder), config, overrides)
        detectors = {name: detector(name, Path(folder), device) for name in SIZES if name != YARDSTICK}
        subjects = {YARDSTICK: yardstick(device)} | {name: subject(one) for name, one in detectors.items()}
        megabytes = sum(path.stat().st_size for path in paths) / len(paths) / 1e6
        origin = "" if any(word.startswith("data.root=") for word in overrides) else ", rendered"
        files = f"{len(paths)} JPEG files{origin}, {megabytes:.2f} MB each on average"
        for batch, count in ((1, LATENCIES * rounds), (config.inference.batch_size, max(3, rounds // 5))):
            yield [f"Batch {batch}, milliseconds an image, medians of {count} rounds in turn, one part after the "
                   f"other; {files}:", "", *parts_table(subjects, paths, batch, count, device)]
        yield [f"Files to lanes, batch {config.inference.batch_size}, images a second, medians of {STRETCHES}; "
               f"{files}:", "", *whole_table(detectors, paths, config.inference.batch_size, Path(folder))]


def image_files(folder: Path, config: Config, overrides: Sequence[str]) -> list[Path]:
    """The validation images of data.root where it was given, else rendered scenes, written to the folder."""
    if any(word.startswith("data.root=") for word in overrides):
        return [sample.image for sample in itertools.islice(dataset.validation_samples(config), FILES)]
    paths = [folder / f"{seed}.jpg" for seed in range(FILES)]
    for seed, path in enumerate(paths):
        image = cv2.cvtColor(render_scene(seed, *SIZE_PX).image, cv2.COLOR_RGB2BGR)
        path.write_bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes())
    return paths


def detector(name: str, folder: Path, device: torch.device) -> LaneDetector:
    """A detector with random weights, from a checkpoint in the folder; it reports every lane."""
    height, width = SIZES[name]
    config = load_config(None, [f"model.backbone={name}", f"model.height={height}", f"model.width={width}"])
    path = checkpoint(folder, name)
    save_checkpoint(path, config, model=build_model(config).state_dict())
    return LaneDetector(path, device.type, threshold=0.0)


def checkpoint(folder: Path, name: str) -> Path:
    """Where the weights of a backbone are."""
    return folder / f"{name}.pth"


def subject(one: LaneDetector) -> Subject:
    """What is measured of a detector."""
    network = Network(one.model, one.device, one.dtype)
    return Subject(one.grid.width, one.grid.height, one.pixels,
                   lambda images: LanePrediction(*(part.cpu() for part in network(images))))


def yardstick(device: torch.device) -> Subject:
    """The trunk alone, which finds no lanes."""
    trunk = speed_forward.network(YARDSTICK).to(device, memory_format=torch.channels_last).eval()
    dtype = pick_precision("auto", device)

    def predict(images: torch.Tensor) -> LanePrediction:
        with torch.inference_mode(), autocast(device, dtype):
            found = trunk(images.to(device).float().contiguous(memory_format=torch.channels_last))
        return LanePrediction(found.float().cpu(), found)

    height, width = SIZES[YARDSTICK]
    return Subject(width, height, lambda image: resize(image, width, height), predict, has_lanes=False)


def parts_table(subjects: dict[str, Subject], paths: list[Path], batch: int, rounds: int, device: torch.device
                ) -> list[str]:
    """What each part of inference costs an image, and how long an image takes."""
    turns = {name: [] for name in subjects}
    files = itertools.cycle(paths)
    for _ in range(WARMUP + rounds):
        chosen = list(itertools.islice(files, batch))
        for name, one in subjects.items():
            turns[name].append(parts_ms(one, chosen))
    columns = ["network", "input", *PARTS, "p50", "p99", "images/s", *(["GPU memory"] if device.type == "cuda" else [])]
    lines = [f"| {' | '.join(columns)} |", "|" + len(columns) * "---|"]
    for name, one in subjects.items():
        parts = np.array(turns[name][WARMUP:]) / batch  # (rounds, parts)
        middle, whole = np.median(parts, axis=0), parts.sum(1)
        cells = [name, f"{one.width}x{one.height}", *(f"{ms:.1f}" for ms in middle[:3]),
                 f"{middle[3]:.1f}" if one.has_lanes else "", f"{np.median(whole):.1f}",
                 f"{np.percentile(whole, 99):.1f}", f"{1e3 / np.median(whole):.0f}"]
        if device.type == "cuda":
            cells.append(f"{cuda_memory(one, batch) / 1e6:.0f} MB")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def parts_ms(one: Subject, paths: Sequence[Path]) -> list[float]:
    """Milliseconds of each of PARTS for a batch of files."""
    stamps = [time.perf_counter()]
    images = [read_image(path) for path in paths]
    stamps.append(time.perf_counter())
    pixels = torch.from_numpy(np.stack([one.pixels(image) for image in images]))
    stamps.append(time.perf_counter())
    points, logits = one.predict(pixels.permute(0, 3, 1, 2))  # on the CPU: the device was waited for
    stamps.append(time.perf_counter())
    if one.has_lanes:
        confidence = logits.sigmoid()
        keep = lane_nms(points, confidence, 0.0)
        for number, path in enumerate(paths):
            frame = Frame(Source(str(path), path))
            inference_fixed.lane_lines(FrameResult(number, frame, points[number], confidence[number], keep[number]))
    stamps.append(time.perf_counter())
    return [1e3 * (after - before) for before, after in itertools.pairwise(stamps)]


def cuda_memory(one: Subject, batch: int) -> int:
    """Bytes that a forward pass takes of a GPU beside the weights."""
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    one.predict(torch.zeros(batch, 3, one.height, one.width, dtype=torch.uint8))
    return torch.cuda.max_memory_allocated() - before


def whole_table(detectors: dict[str, LaneDetector], paths: list[Path], batch: int, folder: Path) -> list[str]:
    """The rate of inference as the script runs it, against those of its two halves alone.

    Each half is timed with all cores to itself, and with the half of them that is left to it when both run at once.
    """
    lines = ["| network | reading alone | network alone | one after the other | reading on half of the cores | network "
             "on half | both at once, as inference does | of the slower alone | of the slower on half | peak memory of "
             "the script |", "|" + 10 * "---|"]
    for name, one in detectors.items():
        rates = []
        for _ in range(STRETCHES):
            network = network_rate(one, batch)
            files = list(itertools.islice(itertools.cycle(paths), max(2 * batch, round(SECONDS * network))))
            with inference_fixed.half_the_threads():
                halves = reading_rate(one, 4 * paths, max(1, CORES // 2)), network_rate(one, batch)
            rates.append((reading_rate(one, 4 * paths, CORES), network, *halves, whole_rate(one, files, batch)))
        reading, network, half_reading, half_network, whole = map(statistics.median, zip(*rates, strict=True))
        lines.append(f"| {name} | {reading:.0f} | {network:.0f} | {1 / (1 / reading + 1 / network):.0f} "
                     f"| {half_reading:.0f} | {half_network:.0f} | {whole:.0f} "
                     f"| {100 * whole / min(reading, network):.0f} % "
                     f"| {100 * whole / min(half_reading, half_network):.0f} % "
                     f"| {script_memory(checkpoint(folder, name), paths, one.device)} |")
    return lines


def network_rate(one: LaneDetector, batch: int) -> float:
    """Images a second through the network alone, by all threads."""
    pixels = [np.zeros((one.grid.height, one.grid.width, 3), np.uint8)] * batch
    one.answers(pixels)
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS:
        one.answers(pixels)
        done += batch
    return done / (time.perf_counter() - began)


def reading_rate(one: LaneDetector, paths: list[Path], threads: int) -> float:
    """Images a second that so many threads decode and resize when nobody looks at them."""
    with ThreadPoolExecutor(threads) as pool:
        began = time.perf_counter()
        for _ in pool.map(lambda path: one.pixels(read_image(path)), paths):
            pass
        return len(paths) / (time.perf_counter() - began)


def whole_rate(one: LaneDetector, paths: list[Path], batch: int) -> float:
    """Images a second from files to text, as inference_fixed.py makes it."""
    began, text = time.perf_counter(), io.StringIO()
    with inference_fixed.half_the_threads():
        number = itertools.count(1)
        for group in inputs.batches(read(one, paths, batch), batch):
            answers = zip(*one.answers([frame.pixels for frame in group]), strict=True)
            for frame, answer in zip(group, answers, strict=True):
                text.write(inference_fixed.lane_lines(FrameResult(next(number), frame, *answer)))
    return len(paths) / (time.perf_counter() - began)


def read(one: LaneDetector, paths: list[Path], batch: int) -> Iterator[Frame]:
    """Frames of files, read in the background as inference_fixed.py reads them."""
    return inputs.read_frames([Source(str(path), path) for path in paths], one.pixels, False, 2 * batch)


def script_memory(weights: Path, paths: list[Path], device: torch.device) -> str:
    """Most memory that inference_fixed.py had in use on these files; empty where the system does not say."""
    if not hasattr(os, "wait4"):  # Windows
        return ""
    words = [*map(str, paths), "--checkpoint", str(weights), f"train.device={device.type}"]
    said = weights.with_suffix(".txt")
    with said.open("wb") as file:
        process = subprocess.Popen([sys.executable, inference_fixed.__file__, *words], stdout=file)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if not said.stat().st_size:  # the status may be 1: random weights look like a collapse
        raise RuntimeError("inference_fixed.py has printed no lanes")
    return f"{usage.ru_maxrss / (1e9 if sys.platform == 'darwin' else 1e6):.2f} GB"
