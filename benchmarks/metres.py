"""How exact metres are, against the renderer's own camera and road: the tables of docs/RESULTS.md.

    python benchmarks/metres.py [--checkpoint FILE] [--drives N] [--seed S]

One frame of each of N rendered drives: on flat ground, on hills and in bends. First by the labels' own curves, which
shows what the geometry costs; then by the lanes of a checkpoint, and over the frames of some drives as a video.
"""

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository root
from config import CameraConfig
from geometry.bezier import fit_polylines, sample_basis
from inference.inputs import Frame
from inference.lane_position import CURVATURE_AT_M, PITCH_STD, ROLL_STD, LanePosition, LanePositions
from inference.predictor import Detections, Predictor
from inference.sources import Source
from inference.tracker import Tracker
from renderer.camera import Camera
from renderer.drive import FPS, Drive, Wave, render_frame, sample_drive
from renderer.labels import lane_polylines
from renderer.road import Road
from runtime import cli
from runtime.checkpoint import DEFAULT_CHECKPOINT

SIZE = (640, 360)
FRAMES = 60  # of a drive
CLIMB = 1e-4  # 1 / metres, of hills: 1.1 m at 150 m
BENDS = (1 / 800, 1 / 250)  # 1 / metres
RADII_M = (0, 500, 1500)  # classes of bends: of straighter roads no error is a share of the curvature
NOISE_PX = (0.5, 1, 2, 4)  # of an image 1280 px wide
SLOTS = 16  # of exact curves
HEIGHT_SHARE = 0.01  # error of a height that was measured
IMAGE, VIDEO = Source("frame", "frame"), Source("drive", "drive", "video", fps=FPS)
COLUMNS = ("none, %", "offset, cm", "width, cm", "heading, deg", "curvature under 500 m, %",
           "500 to 1,500 m, %", "pitch, deg",
           "offset in 1s / 2s", "heading in 1s / 2s", "curvature in 1s / 2s")


class GroundTruth(NamedTuple):
    """What the renderer knows of a frame, in the terms of LanePosition."""

    left: float
    right: float
    heading: float
    curvature: float
    pitch: float = 0.0


class View(NamedTuple):
    """A frame with the ground truth, the camera that draws it, and lanes in it."""

    gt: GroundTruth
    camera: Camera
    detections: Detections


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default=DEFAULT_CHECKPOINT)
    parser.add_argument("--drives", type=int, default=200, help="default: %(default)s")
    parser.add_argument("--videos", type=int, default=10, help="of them as videos (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    drives = [sample_drive(options.seed, number, FRAMES, *SIZE) for number in range(options.drives)]
    grounds = {kind: [on_ground(drive, kind, number) for number, drive in enumerate(drives)] for kind in GROUNDS}
    print(f"| lanes | road | pitch | {' | '.join(COLUMNS)} |\n|{'---|' * (3 + len(COLUMNS))}", flush=True)
    exact = {kind: [label_view(drive, number) for number, drive in enumerate(some)] for kind, some in grounds.items()}
    print_rows("labels", exact)
    predictor = Predictor.load(options.checkpoint, "cpu")
    views = {kind: list(network_views(predictor, some)) for kind, some in grounds.items()}
    print_rows("network", views)
    print("\nWhat noise does, labels, pitch given; the noise is a quintic across each lane:\n")
    print(f"| noise, px of 1280 | road | {' | '.join(COLUMNS)} |\n|{'---|' * (2 + len(COLUMNS))}")
    for noise_px, kind in product(NOISE_PX, ("flat", "bends")):
        noisy = [view and shaken(view, noise_px, number) for number, view in enumerate(exact[kind])]
        print(f"| {noise_px} | {kind} | {row(noisy, True, WRONG['nothing'])} |", flush=True)
    print("\nWhat a wrong setting does, labels on flat ground, pitch given:\n")
    print(f"| wrong | {' | '.join(COLUMNS)} |\n|{'---|' * (1 + len(COLUMNS))}")
    for name, wrong in WRONG.items():
        print(f"| {name} | {row(exact['flat'], True, wrong)} |", flush=True)
    print_video(predictor, drives[:options.videos])
    return 0


def flat(drive: Drive, number: int) -> Drive:
    return replace(drive, climb=Wave(0, 0, 1, 0))


def hills(drive: Drive, number: int) -> Drive:
    return replace(drive, climb=Wave(CLIMB * (-1) ** number, 0, 1, 0))


def bends(drive: Drive, number: int) -> Drive:
    curvature = np.random.default_rng([number, 1]).uniform(*BENDS) * (-1) ** number
    return replace(flat(drive, number), curvature=Wave(curvature, 0, 1, 0))


GROUNDS = {"flat": flat, "hills": hills, "bends": bends}


def on_ground(drive: Drive, kind: str, number: int) -> Drive:
    """The drive on a kind of ground."""
    return GROUNDS[kind](drive, number)


def ground_truth(camera: Camera, road: Road) -> GroundTruth | None:
    """The ground truth of a frame; None where the camera is beside the painted lanes."""
    left = [line.offset for line in road.lines if line.offset < 0]
    right = [line.offset for line in road.lines if line.offset >= 0]
    if not (left and right):
        return None
    return GroundTruth(-left[-1], right[0], -camera.yaw, camera.curvature + CURVATURE_AT_M * camera.curvature_rate)


def own_lines(road: Road) -> set[int]:
    """The numbers of the two lines beside the camera."""
    right = sum(line.offset < 0 for line in road.lines)
    return {right - 1, right}


def seconds_of(number: int) -> float:
    """The time of the frame that is taken of a drive."""
    return int(np.random.default_rng(number).integers(FRAMES)) / FPS


def label_view(drive: Drive, number: int) -> View | None:
    """A frame by the curves of its labels."""
    seconds = seconds_of(number)
    camera, road = drive.camera_at(seconds), drive.road_at(seconds)
    gt, lanes = ground_truth(camera, road), lane_polylines(camera, road)
    if gt is None or len(lanes) < 2:
        return None
    control, _ = fit_polylines(np.concatenate(lanes) / SIZE, np.array([len(lane) for lane in lanes]))
    points, exists = torch.zeros(SLOTS, *control.shape[1:]), torch.zeros(SLOTS, dtype=torch.bool)
    points[:len(lanes)], exists[:len(lanes)] = torch.from_numpy(control), True
    return View(gt, camera, Detections(points, exists.float(), exists))


def shaken(view: View, noise_px: float, number: int) -> View:
    """The view with lanes moved across by smooth noise of so many pixels of an image 1280 px wide, root mean square."""
    points, basis = view.detections.points.clone(), sample_basis(48)
    noise = torch.from_numpy(np.random.default_rng([number, 3]).standard_normal(points.shape[:2])).float()
    noise *= noise_px / 1280 / (noise @ basis.T).square().mean().sqrt()
    run, rise = (points[:, -1] - points[:, 0]).mul(torch.tensor(SIZE)).unbind(-1)
    points[..., 0] += noise * (1 + (run / rise.clamp(min=1)).square()).sqrt().unsqueeze(-1)
    return view._replace(detections=view.detections._replace(points=points))


def network_views(predictor: Predictor, drives: Sequence[Drive]) -> Iterator[View | None]:
    """A frame of each drive by the lanes of a network; None where a line of its own lane is hidden."""
    for number, drive in enumerate(drives):
        seconds = seconds_of(number)
        camera, road = drive.camera_at(seconds), drive.road_at(seconds)
        gt = ground_truth(camera, road)
        frame = render_frame(drive, round(seconds * FPS)) if gt else None
        is_seen = frame is not None and own_lines(road) <= set(frame.lane_ids)
        yield View(gt, camera, predictor(frame.image)) if is_seen else None


def settings_of(camera: Camera, is_given: bool) -> CameraConfig:
    """The settings of a user who has measured the renderer's camera; its optical axis is level."""
    return CameraConfig(matrix=(camera.focal_x, camera.focal_y, camera.center_x, camera.horizon_y), size=SIZE,
                        height=camera.camera_height, pitch=0.0 if is_given else "auto")


def as_measured(camera: CameraConfig, number: int) -> CameraConfig:
    """Settings with the usual errors of measuring."""
    height, pitch, roll = np.random.default_rng([number, 2]).standard_normal(3)
    pitch = camera.pitch if camera.pitch == "auto" else math.degrees(PITCH_STD * pitch)
    return replace(camera, height=camera.height * (1 + HEIGHT_SHARE * height), pitch=pitch,
                   roll=math.degrees(ROLL_STD * roll))


def _focal(camera: CameraConfig, factor: float) -> CameraConfig:
    fx, fy, *center = camera.matrix
    return replace(camera, matrix=(fx * factor, fy * factor, *center))


WRONG = {
    "nothing": lambda camera, number: camera,
    "all, as usual": as_measured,
    "height, 5 %": lambda camera, number: replace(camera, height=1.05 * camera.height),
    "focal length, 5 %": lambda camera, number: _focal(camera, 1.05),
    "roll, 1 degree, or banking": lambda camera, number: replace(camera, roll=1.0),
    "pitch, 1 degree": lambda camera, number: replace(camera, pitch=1.0),
}


def print_rows(lanes: str, views: dict[str, list[View | None]]) -> None:
    """Rows of the first table."""
    for kind, some in views.items():
        for is_given in (True, False):
            text = row(some, is_given, WRONG["nothing"])
            print(f"| {lanes} | {kind} | {'given' if is_given else 'estimated'} | {text} |", flush=True)
    for is_given in (True, False):
        text = row(views["flat"], is_given, as_measured)
        print(f"| {lanes} | flat, camera measured | {'given' if is_given else 'estimated'} | {text} |", flush=True)


def row(views: Sequence[View | None], is_given: bool, settings) -> str:
    """The cells of COLUMNS: medians and 90th percentiles, and shares within one and two standard deviations."""
    pairs = [(view.gt, LanePositions(settings(settings_of(view.camera, is_given), number)).update(
        Frame(IMAGE, 1, SIZE), view.detections)) for number, view in enumerate(views) if view]
    return cells(pairs)


def cells(pairs: Sequence[tuple[GroundTruth, LanePosition]]) -> str:
    """The cells of COLUMNS for frames."""
    located = [(gt, position) for gt, position in pairs if isinstance(position, LanePosition) and position.offset]
    if not located:
        return " | ".join(["100" if pairs else "no frame", *[""] * (len(COLUMNS) - 1)])
    gt = np.array([gt for gt, _ in located])
    estimates = {name: np.array([getattr(position, name) for _, position in located])
                 for name in ("offset", "width", "heading", "curvature", "pitch")}
    left, right, heading, curvature, pitch = gt.T
    right_values = {"offset": (left - right) / 2, "width": left + right, "heading": heading, "curvature": curvature,
                    "pitch": pitch}
    error = {name: np.abs(estimates[name][:, 0] - value) for name, value in right_values.items()}
    share, radius = error["curvature"] / np.abs(curvature), 1 / np.abs(curvature)
    classes = [share[(radius >= least) & (radius < most)] for least, most in pairwise(RADII_M)]
    within = {name: error[name] / estimates[name][:, 1] for name in ("offset", "heading", "curvature")}
    return " | ".join([
        f"{100 * (1 - len(located) / len(pairs)):.0f}", middle_and_tail(100 * error["offset"], 1),
        middle_and_tail(100 * error["width"], 1), middle_and_tail(np.degrees(error["heading"]), 2),
        *(f"{middle_and_tail(100 * some, 0)} of {len(some)}" for some in classes),
        middle_and_tail(np.degrees(error["pitch"]), 2),
        *(f"{100 * (value < 1).mean():.0f} / {100 * (value < 2).mean():.0f} %" for value in within.values())])


def middle_and_tail(values: np.ndarray, digits: int) -> str:
    """Median and 90th percentile."""
    if not len(values):
        return "none"
    return " / ".join(f"{value:.{digits}f}" for value in np.percentile(values, (50, 90)))


def print_video(predictor: Predictor, drives: Sequence[Drive]) -> None:
    """The table of drives as videos: each frame alone, and tracked with its pitch filtered."""
    alone, tracked, speeds = [], [], []
    for drive in drives:
        tracker, positions = Tracker(predictor.decode.threshold), None
        for index in range(FRAMES):
            frame = render_frame(drive, index)
            camera, road = drive.camera_at(index / FPS), drive.road_at(index / FPS)
            settings = settings_of(replace(camera, horizon_y=drive.camera.horizon_y), False)
            positions = positions or LanePositions(settings)
            plain = predictor(frame.image)
            detections, ids = tracker.update(plain)
            position = positions.update(Frame(VIDEO, index + 1, SIZE), detections, ids)
            gt = ground_truth(camera, road)
            gt = gt and gt._replace(pitch=-drive.pitch.value(index / FPS))
            if gt and own_lines(road) <= set(frame.lane_ids):
                alone.append((gt, LanePositions(settings).update(Frame(IMAGE, 1, SIZE), plain)))
                tracked.append((gt, position))
            if positions.sideways_m_s is not None:
                step = 0.5 / FPS
                true = (drive.lateral(index / FPS + step) - drive.lateral(index / FPS - step)) * FPS
                speeds.append(abs(positions.sideways_m_s - true))
    print(f"\n{len(drives)} drives of {FRAMES} frames as videos, pitch estimated:\n")
    print(f"| frames | {' | '.join(COLUMNS)} | sideways speed, m/s |\n|{'---|' * (2 + len(COLUMNS))}")
    print(f"| each alone | {cells(alone)} | |\n| tracked | {cells(tracked)} | {middle_and_tail(np.array(speeds), 2)} |")


if __name__ == "__main__":
    cli.run(main)
