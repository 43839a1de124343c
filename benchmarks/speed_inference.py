"""Inference from JPEG files of 1280x720 to printed lanes: what each part costs, and how well the parts overlap.

The weights are random, on which the time does not depend, and every lane is printed: the most text that is possible.
"""

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
import speed_host
import torch
from speed_activity import COLUMNS, measure
from speed_forward import baseline_forward
from speed_networks import BASELINE, SIZES, build_network
from speed_scale import Scale
from speed_timing import WARMUP

import dataset
import inference_fixed
from config import Config, load_config
from geometry.decode import lane_nms
from inference import inputs, writers
from inference.batch_runner import to_batch
from inference.inputs import Frame
from inference.predictor import Detections, Predictor
from inference.sources import Source
from inference.writers import FrameResult
from preprocessing.images import read_image, resize
from renderer.scene import render_scene
from runtime.checkpoint import build_model, save_checkpoint
from runtime.device import pick_precision

QUALITY = 90  # of the JPEG files
CORES = os.cpu_count() or 1
PARTS = ("decode", "resize", "forward", "lanes and text")


class Case(NamedTuple):
    """A network with what it takes."""

    width: int
    height: int
    preprocess: Callable[[np.ndarray], np.ndarray]  # an image (height, width, 3) to what the network takes, (H, W, 3)
    forward: Callable[[Sequence[np.ndarray]], Sequence[torch.Tensor]]  # B of those to outputs on the CPU
    has_lanes: bool = True  # whether these are points (B, L, P, 2) and logits (B, L)


def tables(device: torch.device, scale: Scale, overrides: Sequence[str]) -> Iterator[list[str]]:
    """Markdown tables: the parts at batch 1 and at inference.batch_size, then the whole."""
    config = load_config(None, overrides)
    batch = config.inference.batch_size
    with tempfile.TemporaryDirectory() as folder:
        paths = image_files(Path(folder), config, overrides, scale)
        predictors = {name: random_predictor(name, Path(folder), device) for name in scale.networks
                      if name != BASELINE}
        cases = {BASELINE: baseline_case(device)} | {name: predictor_case(one) for name, one in predictors.items()}
        megabytes = sum(path.stat().st_size for path in paths) / len(paths) / 1e6
        origin = "" if any(word.startswith("data.root=") for word in overrides) else ", rendered"
        files = f"{len(paths)} JPEG files{origin}, {megabytes:.2f} MB each on average"
        for size, count in ((1, scale.latencies * scale.rounds), (batch, max(3, scale.rounds // 5))):
            yield [f"Batch {size}, milliseconds an image, medians of {count} rounds in turn, one part after the "
                   f"other; {files}:", "", *parts_table(cases, paths, size, count, device)]
        if device.type == "cuda":
            yield ["From the host's memory or disk to lanes on the host, all that a user waits for:", "",
                   *speed_host.table(predictors, paths, batch, scale)]
        yield [f"Files to lanes, batch {batch}, images a second, medians of {scale.repeats}; {files}:", "",
               *throughput_table(predictors, paths, batch, Path(folder), scale)]


def image_files(folder: Path, config: Config, overrides: Sequence[str], scale: Scale) -> list[Path]:
    """The validation images of data.root where it was given, else rendered scenes, written to the folder."""
    if any(word.startswith("data.root=") for word in overrides):
        return [sample.image for sample in itertools.islice(dataset.validation_samples(config), scale.files)]
    paths = [folder / f"{seed}.jpg" for seed in range(scale.files)]
    for seed, path in enumerate(paths):
        image = cv2.cvtColor(render_scene(seed, *scale.file_size_px).image, cv2.COLOR_RGB2BGR)
        path.write_bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes())
    return paths


def random_predictor(name: str, folder: Path, device: torch.device) -> Predictor:
    """A backbone with random weights, from a checkpoint in the folder; it reports every lane."""
    height, width = SIZES[name]
    config = load_config(None, [f"model.backbone={name}", f"model.height={height}", f"model.width={width}"])
    path = checkpoint_path(folder, name)
    save_checkpoint(path, config, model=build_model(config).state_dict())
    return Predictor.load(path, device.type, threshold=0.0)


def checkpoint_path(folder: Path, name: str) -> Path:
    """Where the weights of a backbone are."""
    return folder / f"{name}.pth"


def predictor_case(predictor: Predictor) -> Case:
    """What is measured of a predictor."""
    return Case(predictor.grid.width, predictor.grid.height, predictor.preprocess, predictor.predict)


def baseline_case(device: torch.device) -> Case:
    """The trunk alone, which predicts no lanes."""
    trunk = build_network(BASELINE).to(device, memory_format=torch.channels_last).eval()
    forward = baseline_forward(trunk, device, pick_precision("auto", device))

    def run(pixels: Sequence[np.ndarray]) -> list[torch.Tensor]:
        images = to_batch(pixels).to(device).float().contiguous(memory_format=torch.channels_last)
        return [forward(images).float().cpu()]

    height, width = SIZES[BASELINE]
    return Case(width, height, lambda image: resize(image, width, height), run, has_lanes=False)


def parts_table(cases: dict[str, Case], paths: list[Path], batch: int, rounds: int, device: torch.device) -> list[str]:
    """What each part of inference costs an image, and how long an image takes."""
    times = {name: [] for name in cases}
    files = itertools.cycle(paths)
    for _ in range(WARMUP + rounds):
        chosen = list(itertools.islice(files, batch))
        for name, case in cases.items():
            times[name].append(parts_ms(case, chosen))
    columns = ["network", "input", *PARTS, "p50", "p99", "images/s",
               *(["GPU memory", *(f"{column}, forward" for column in COLUMNS)] if device.type == "cuda" else [])]
    lines = [f"| {' | '.join(columns)} |", "|" + len(columns) * "---|"]
    for name, case in cases.items():
        parts = np.array(times[name][WARMUP:]) / batch  # (rounds, parts)
        medians, whole = np.median(parts, axis=0), parts.sum(1)
        cells = [name, f"{case.width}x{case.height}", *(f"{ms:.1f}" for ms in medians[:3]),
                 f"{medians[3]:.1f}" if case.has_lanes else "", f"{np.median(whole):.1f}",
                 f"{np.percentile(whole, 99):.1f}", f"{1e3 / np.median(whole):.0f}"]
        if device.type == "cuda":
            images = np.zeros((batch, case.height, case.width, 3), np.uint8)
            activity = measure(lambda case=case, images=images: case.forward(images))
            cells += [f"{cuda_memory(case, images) / 1e6:.0f} MB", *activity.cells(batch * medians[2])]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def parts_ms(case: Case, paths: Sequence[Path]) -> list[float]:
    """Milliseconds of each of PARTS for a batch of files."""
    stamps = [time.perf_counter()]
    images = [read_image(path) for path in paths]
    stamps.append(time.perf_counter())
    pixels = [case.preprocess(image) for image in images]
    stamps.append(time.perf_counter())
    outputs = case.forward(pixels)
    stamps.append(time.perf_counter())
    if case.has_lanes:
        points, confidence = outputs[0], outputs[1].sigmoid()
        keep = lane_nms(points, confidence, 0.0)
        for number, path in enumerate(paths):
            frame = Frame(Source(str(path), path))
            writers.text_lines(FrameResult(number, frame, Detections(points[number], confidence[number], keep[number])))
    stamps.append(time.perf_counter())
    return [1e3 * (after - before) for before, after in itertools.pairwise(stamps)]


def cuda_memory(case: Case, images: np.ndarray) -> int:
    """Bytes that a forward pass takes of a GPU beside the weights and what its recordings keep."""
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    case.forward(images)
    return torch.cuda.max_memory_allocated() - before


def throughput_table(predictors: dict[str, Predictor], paths: list[Path], batch: int, folder: Path, scale: Scale
                     ) -> list[str]:
    """The rate of inference as the script runs it, against those of its two halves alone.

    Each half is timed with all cores to itself, and with the half of them that is left to it when both run at once.
    """
    lines = ["| network | reading alone | network alone | one after the other | reading on half of the cores | network "
             "on half | both at once, as inference does | of the slower alone | of the slower on half | peak memory of "
             "the script |", "|" + 10 * "---|"]
    for name, predictor in predictors.items():
        with_memory, rates = name == "compact" or scale.repeats > 1, []  # the script takes seconds to start
        for _ in range(scale.repeats):
            network, reading = network_rate(predictor, batch, scale.seconds), reading_rate(predictor, 4 * paths, CORES)
            count = max(2 * batch, round(scale.seconds * min(network, reading)))
            files = list(itertools.islice(itertools.cycle(paths), count))
            with inputs.half_the_threads():
                halves = (reading_rate(predictor, 4 * paths, max(1, CORES // 2)),
                          network_rate(predictor, batch, scale.seconds))
            rates.append((reading, network, *halves, overlapped_rate(predictor, files, batch)))
        reading, network, half_reading, half_network, both = map(statistics.median, zip(*rates, strict=True))
        memory = script_memory(checkpoint_path(folder, name), paths, predictor.device) if with_memory else ""
        lines.append(f"| {name} | {reading:.0f} | {network:.0f} | {1 / (1 / reading + 1 / network):.0f} "
                     f"| {half_reading:.0f} | {half_network:.0f} | {both:.0f} "
                     f"| {100 * both / min(reading, network):.0f} % "
                     f"| {100 * both / min(half_reading, half_network):.0f} % "
                     f"| {memory} |")
    return lines


def network_rate(predictor: Predictor, batch: int, seconds: float) -> float:
    """Images a second through the network alone, by all threads."""
    pixels = [np.zeros((predictor.grid.height, predictor.grid.width, 3), np.uint8)] * batch
    predictor.detect(pixels)
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        predictor.detect(pixels)
        done += batch
    return done / (time.perf_counter() - start)


def reading_rate(predictor: Predictor, paths: list[Path], threads: int) -> float:
    """Images a second that so many threads decode and resize when no network runs."""
    with ThreadPoolExecutor(threads) as pool:
        start = time.perf_counter()
        for _ in pool.map(lambda path: predictor.preprocess(read_image(path)), paths):
            pass
        return len(paths) / (time.perf_counter() - start)


def overlapped_rate(predictor: Predictor, paths: list[Path], batch: int) -> float:
    """Images a second from files to text, as inference_fixed.py makes it with threads that read."""
    return speed_host.files_rate(predictor, paths, batch, by_processes=False)[0]


def script_memory(weights: Path, paths: list[Path], device: torch.device) -> str:
    """Most memory that inference_fixed.py had in use on these files; empty where the system does not report it."""
    if not hasattr(os, "wait4"):  # Windows
        return ""
    words = [*map(str, paths), "--checkpoint", str(weights), f"train.device={device.type}"]
    printed = weights.with_suffix(".txt")
    with printed.open("wb") as file:
        process = subprocess.Popen([sys.executable, inference_fixed.__file__, *words], stdout=file)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if not printed.stat().st_size:  # the status may be 1: random weights look like a collapse
        raise RuntimeError("inference_fixed.py has printed no lanes")
    return f"{usage.ru_maxrss / (1e9 if sys.platform == 'darwin' else 1e6):.2f} GB"
