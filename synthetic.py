"""Renders a data set of labelled road scenes: python synthetic.py --root data/synthetic --train 6000 --val 300

Files are in TuSimple's layout; a run that was cut short goes on where it stopped.
With --drive N it renders N drives, a label for every frame: python synthetic.py --drive 6 --root data/drives
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from formats.registry import check_free
from renderer.dataset_writer import manifest, render_split_scene, write_dataset
from renderer.drive import render_frame, sample_drive
from renderer.drive_writer import drive_manifest, write_drives
from renderer.rendered_folder import DRIVES_MANIFEST, SCENES_MANIFEST
from runtime import cli
from runtime.memory import keep_freed_memory
from visualization.draw import COLORS, contact_sheet, write_image

SETTINGS = {"train": "training scenes", "val": "validation scenes", "seed": "same seed, same bytes",
            "width": "in pixels", "height": "in pixels"}
SHEET_SCENES, SHEET_COLUMNS = 24, 4
ROOT = Path("data/synthetic")
DRIVE_ROOT, DRIVE_FRAMES, DRIVE_TILES = Path("data/drives"), 100, 4


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0 when the data set is complete. Raises ValueError for impossible numbers, OSError as files do."""
    arguments = cli.parser(__doc__)
    arguments.add_argument("words", nargs="*", metavar="section.key=value", help="settings to override")
    arguments.add_argument("--root", type=Path,
                           help=f"folder of the data set (default: {ROOT}; for drives {DRIVE_ROOT})")
    for name, meaning in SETTINGS.items():
        arguments.add_argument(f"--{name}", type=int, help=f"{meaning} (default: synthetic.{name} of the settings)")
    arguments.add_argument("--drive", type=int, metavar="N", help="render N drives in place of scenes")
    arguments.add_argument("--frames", type=int, metavar="M",
                           help=f"frames of each drive, 20 a second (default: {DRIVE_FRAMES})")
    arguments.add_argument("--workers", type=int, help="processes (default: one a core)")
    arguments.add_argument("--sheet", type=Path, metavar="FILE.jpg", help="also write a contact sheet of scenes here")
    options, overrides = cli.parse(arguments, argv, inputs=False)
    settings = cli.load_settings(options, overrides).synthetic
    request = {name: getattr(settings if getattr(options, name) is None else options, name) for name in SETTINGS}
    if options.drive is None and options.frames is not None:
        raise ValueError("--frames is for drives; give --drive N as well")
    if options.drive is not None:
        if unused := next((name for name in ("train", "val") if getattr(options, name) is not None), None):
            raise ValueError(f"--{unused} is not for drives; leave it out")
        options.frames = DRIVE_FRAMES if options.frames is None else options.frames
        return write_drive_set(options, {name: request[name] for name in ("seed", "width", "height")})
    root = options.root or ROOT
    manifest(**request)  # impossible numbers are refused before any work
    check_free(root, (SCENES_MANIFEST, "unfinished"))
    keep_freed_memory()
    if options.sheet:
        write_image(options.sheet, scene_sheet(request["seed"], request["width"], request["height"], request["train"]))
    try:
        write_dataset(root, **request, workers=options.workers)
    except KeyboardInterrupt:
        print("interrupted; run again to finish the data set", file=sys.stderr)
        raise
    print(f"{root}: {request['train']} training and {request['val']} validation scenes")
    plain = argparse.Namespace(**vars(options) | {"config": None})
    usual = cli.load_settings(plain, []).synthetic  # what a training renders into this folder
    if root == ROOT and (words := [f"synthetic.{name}={value}" for name, value in request.items()
                                   if value != getattr(usual, name)]):
        print(f"train on them with: python train_fixed.py {shlex.join(words)}; without these words others replace them")
    return 0


def write_drive_set(options: argparse.Namespace, request: dict[str, int]) -> int:
    """Render the drives that are asked for; exit status 0."""
    root = options.root or DRIVE_ROOT
    drive_manifest(options.drive, options.frames, **request)  # impossible numbers are refused before any work
    check_free(root, (DRIVES_MANIFEST,))
    keep_freed_memory()
    if options.sheet:
        write_image(options.sheet, drive_sheet(options.drive, options.frames, **request))
    write_drives(root, options.drive, options.frames, **request, workers=options.workers)
    print(f"{root}: {options.drive} drives of {options.frames} frames; score a model with "
          f"python evaluate_fixed.py data.root={root}")
    return 0


def drive_sheet(drives: int, frames: int, seed: int, width: int, height: int) -> np.ndarray:
    """uint8 RGB: a row of frames a drive with their labels drawn, a color for each line, at half size."""
    tiles = []
    for drive in (sample_drive(seed, number, frames, width, height) for number in range(drives)):
        for index in np.linspace(0, frames - 1, DRIVE_TILES).astype(int):
            frame = render_frame(drive, int(index))
            tiles.append(draw_labels(frame.image, frame.lanes, frame.lane_ids))
    return contact_sheet(tiles, DRIVE_TILES, width // 2)


def scene_sheet(seed: int, width: int, height: int, count: int = SHEET_SCENES) -> np.ndarray:
    """uint8 RGB: the first training scenes of a seed, of `count`, with their labels drawn, at half size."""
    tiles = []
    for index in range(min(SHEET_SCENES, count)):
        scene = render_split_scene(seed, "train", index, width, height)
        tiles.append(draw_labels(scene.image, scene.lanes, range(len(scene.lanes))))
    return contact_sheet(tiles, SHEET_COLUMNS, width // 2)


def draw_labels(image: np.ndarray, lanes: Sequence[np.ndarray], numbers: Sequence[int]) -> np.ndarray:
    """The image with its lanes drawn on it, each in the color of its number."""
    for number, points in zip(numbers, lanes, strict=True):
        color = COLORS[number % len(COLORS)]
        cv2.polylines(image, [np.round(points).astype(np.int32)], False, color, 2, cv2.LINE_AA)
    return image


if __name__ == "__main__":
    cli.run(main)
