"""What an exported file costs and gains in half precision and in 8-bit integers, against the checkpoint in float32.

    python benchmarks/export_precision.py --checkpoint FILE [--images DIR] [--calibration DIR] [data.root=DIR]

Lanes of the checkpoint and of each file, at the checkpoint's threshold, are paired by their slots; a pair is as far
apart as its curves are on average in the rows that both have, in pixels of a 1280 px wide image. The images are
rendered scenes that no other part of the project has, and those of --images. With a data.root the validation images
are scored by their metric. Times are for one image, the fastest of the rounds, in which all run in turn: of one thread
the processor's time, of two by the clock.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository root
from export_speed import open_session

import export_fixed
from config import Config
from dataset import validation_samples
from formats.files import IMAGE_SUFFIXES, Tree
from formats.registry import own_metric, read_label
from geometry.bezier import sample_curve, x_at_rows
from geometry.decode import DecodeSettings, lane_nms
from geometry.input_grid import InputGrid
from inference.onnx_precision import PRECISIONS
from inference.predictor import Detections, Predictor
from metrics.collapse import REFERENCE_WIDTH_PX
from preprocessing.images import read_image, resize
from renderer.scene import render_scene
from runtime import cli
from runtime.checkpoint import input_grid, load_model, with_checkpoint

FIRST_SEED = 900_000  # of the rendered scenes
ROWS = 32  # in which two lanes are compared

Run = Callable[[np.ndarray], Sequence[np.ndarray]]  # pixels (1, 3, F, W) to points (1, L, P, 2) and confidence (1, L)


def main(argv: Sequence[str] | None = None) -> int:
    """Print two or three tables; exit status 0."""
    parser = cli.parser(__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("words", nargs="*", metavar="section.key=value", help="settings to override")
    parser.add_argument("--checkpoint", required=True, metavar="FILE")
    parser.add_argument("--images", type=Path, metavar="DIR", help="also compare on the images below DIR")
    parser.add_argument("--calibration", metavar="DIR", help="as for export_fixed.py")
    parser.add_argument("--scenes", type=int, default=200, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=100, help="default: %(default)s")
    options, overrides = cli.parse(parser, argv, inputs=False)
    network, config, payload = load_model(options.checkpoint, torch.device("cpu"), {})
    config = with_checkpoint(cli.load_settings(options, overrides), payload)
    grid = input_grid(config)
    decode = DecodeSettings(config.inference.threshold, config.inference.end_tolerance)
    predictor = Predictor(network, grid, torch.device("cpu"), torch.float32, decode)
    sets = {f"{options.scenes} rendered scenes": pixels((render_scene(FIRST_SEED + i).image for i in
                                                         range(options.scenes)), grid)}
    if options.images:
        paths = [path for path in Tree(options.images).files() if path.suffix.lower() in IMAGE_SUFFIXES]
        sets[f"{len(paths)} images of {options.images}"] = pixels(map(read_image, paths), grid)
    with tempfile.TemporaryDirectory() as folder:
        files = {precision: Path(folder) / f"{precision}.onnx" for precision in PRECISIONS}
        for precision, file in files.items():
            calibration = ["--calibration", options.calibration] if precision == "int8" and options.calibration else []
            export_fixed.main(["--checkpoint", options.checkpoint, "--output", str(file), "--precision", precision,
                               *calibration])
        runs = {precision: onnx_run(file, 1) for precision, file in files.items()}
        print_errors(predictor, runs, sets)
        if any(word.startswith("data.root=") for word in overrides):
            print_scores(predictor, runs, config)
        print_times(files, next(iter(sets.values()))[:1], options.rounds)
    return 0


def pixels(images: Iterator[np.ndarray], grid: InputGrid) -> np.ndarray:
    """Images of any size as the file takes them, (N, 3, F, W)."""
    resized = np.stack([resize(image, grid.width, grid.fine_rows) for image in images])
    return np.ascontiguousarray(resized.transpose(0, 3, 1, 2))


def onnx_run(file: Path, threads: int) -> Run:
    """The file in onnxruntime."""
    session = open_session(file, threads)
    return lambda images: session.run(["points", "confidence"], {"images": images})


def opencv_run(file: Path, *engine: int) -> Run:
    """The file in OpenCV's dnn."""
    net = cv2.dnn.readNetFromONNX(str(file), *engine)

    def run(images: np.ndarray) -> Sequence[np.ndarray]:
        net.setInput(images, "images")
        return net.forward(["points", "confidence"])

    return run


def file_detections(run: Run, images: np.ndarray, threshold: float) -> Detections:
    """What a file finds in images (N, 3, F, W)."""
    outputs = [run(images[i:i + 1]) for i in range(len(images))]
    points, confidence = (torch.from_numpy(np.concatenate(part)) for part in zip(*outputs, strict=True))
    return Detections(points, confidence, lane_nms(points, confidence, threshold))


def checkpoint_detections(predictor: Predictor, images: np.ndarray) -> Detections:
    """What the checkpoint finds in images (N, 3, F, W)."""
    each = [predictor.detect([predictor.grid.resample(image.transpose(1, 2, 0))]) for image in images]
    return Detections(*map(torch.cat, zip(*each, strict=True)))


def gaps_px(first: torch.Tensor, second: torch.Tensor) -> np.ndarray:
    """How far N pairs of curves (N, P, 2) are apart on average in the rows that both have, (N) in px; NaN without."""
    curves = sample_curve(second, ROWS)
    x, t = x_at_rows(first, curves[..., 1])
    both = (t >= 0) & (t <= 1)
    return (REFERENCE_WIDTH_PX * ((x - curves[..., 0]).abs() * both).sum(-1) / both.sum(-1)).numpy()


def print_errors(predictor: Predictor, runs: dict[str, Run], sets: dict[str, np.ndarray]) -> None:
    """A table of the files' lanes against the checkpoint's."""
    print("\n| images | file | lanes | median, px | 95th percentile, px | largest, px | lost | gained |")
    print("|---|---|---|---|---|---|---|---|")
    for name, images in sets.items():
        own = checkpoint_detections(predictor, images)
        for precision, run in runs.items():
            other = file_detections(run, images, predictor.decode.threshold)
            both = own.keep & other.keep
            gaps = gaps_px(own.points[both], other.points[both])
            median, high, largest = np.nanquantile(gaps, (0.5, 0.95, 1))
            print(f"| {name} | {precision} | {int(own.keep.sum())} | {median:.2f} | {high:.2f} | {largest:.1f} | "
                  f"{int((own.keep & ~other.keep).sum())} | {int((other.keep & ~own.keep).sum())} |", flush=True)


def print_scores(predictor: Predictor, runs: dict[str, Run], config: Config) -> None:
    """A table of the scores of the checkpoint and of the files on the validation images."""
    samples = validation_samples(config)
    metric, labels = own_metric(samples), [read_label(sample) for sample in samples]
    images = [read_image(sample.image) for sample in samples]
    sizes_px = [image.shape[1::-1] for image in images]
    images = pixels(iter(images), predictor.grid)
    print(f"\n| {len(samples)} images of {config.data.root[-1]} | {' | '.join(metric.score_names.values())} |")
    print("|---" * (1 + len(metric.score_names)) + "|")
    detectors = {"checkpoint": partial(checkpoint_detections, predictor)} | {
        precision: partial(file_detections, run, threshold=predictor.decode.threshold)
        for precision, run in runs.items()}
    for name, detections in detectors.items():
        points, _, keep = detections(images=images)
        lanes = [metric.to_prediction(points[i][keep[i]], label, size, predictor.decode.end_tolerance)
                 for i, (label, size) in enumerate(zip(labels, sizes_px, strict=True))]
        scores, _ = metric.score(lanes, samples, labels, sizes_px)
        print(f"| {name} | {' | '.join(f'{100 * scores[key]:.2f} %' for key in metric.score_names)} |", flush=True)


def print_times(files: dict[str, Path], image: np.ndarray, rounds: int) -> None:
    """A table of sizes and times of one image."""
    cv2.setNumThreads(1)
    engines = {"OpenCV": []}
    if hasattr(cv2.dnn, "ENGINE_CLASSIC"):
        engines = {"OpenCV, new engine": [cv2.dnn.ENGINE_NEW], "OpenCV, classic engine": [cv2.dnn.ENGINE_CLASSIC]}
    runs = {(precision, f"onnxruntime, {threads} thread{'s' * (threads > 1)}"): onnx_run(file, threads)
            for precision, file in files.items() for threads in (1, 2)}
    for precision, file in files.items():
        for name, engine in engines.items():
            run = opencv_run(file, *engine)
            try:
                run(image)
                runs[precision, f"{name}, 1 thread"] = run
            except cv2.error:
                print(f"{name} does not calculate {precision}", file=sys.stderr)
    times = {key: [] for key in runs}
    for _ in range(rounds):
        for key, run in runs.items():
            clock = time.process_time if key[1].endswith("1 thread") else time.perf_counter
            start = clock()
            run(image)
            times[key].append(1e3 * (clock() - start))
    print(f"\nonnxruntime {onnxruntime.__version__}, OpenCV {cv2.__version__}, ms an image, the fastest of {rounds}\n")
    columns = list(dict.fromkeys(name for _, name in runs))
    print(f"| file | MB | {' | '.join(columns)} |\n" + "|---" * (2 + len(columns)) + "|")
    for precision, file in files.items():
        cells = [f"{min(times[precision, name]):.1f}" if (precision, name) in times else "-"
                 for name in columns]
        print(f"| {precision} | {file.stat().st_size / 1e6:.1f} | {' | '.join(cells)} |")


if __name__ == "__main__":
    cli.run(main)
