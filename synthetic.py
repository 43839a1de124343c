"""Renders a data set of labelled road scenes: python synthetic.py --root data/synthetic --train 6000 --val 300

Files are in TuSimple's layout; a run that was cut short goes on where it stopped.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from renderer.dataset_writer import manifest, render_split_scene, write_dataset
from runtime import cli
from runtime.memory import keep_freed_memory
from visualization.draw import COLORS, contact_sheet, write_image

SETTINGS = {"train": "training scenes", "val": "validation scenes", "seed": "same seed, same bytes",
            "width": "in pixels", "height": "in pixels"}
SHEET_SCENES, SHEET_COLUMNS = 24, 4


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0 when the data set is complete. Raises ValueError for impossible numbers, OSError as files do."""
    arguments = cli.parser(__doc__)
    arguments.add_argument("words", nargs="*", metavar="section.key=value", help="settings to override")
    arguments.add_argument("--root", type=Path, default=Path("data/synthetic"), help="folder of the data set")
    for name, meaning in SETTINGS.items():
        arguments.add_argument(f"--{name}", type=int, help=f"{meaning} (default: synthetic.{name} of the settings)")
    arguments.add_argument("--workers", type=int, help="processes (default: one a core)")
    arguments.add_argument("--sheet", type=Path, metavar="FILE.jpg", help="also write a contact sheet of scenes here")
    options, overrides = cli.parse(arguments, argv, inputs=False)
    settings = cli.load_settings(options, overrides).synthetic
    request = {name: getattr(settings if getattr(options, name) is None else options, name) for name in SETTINGS}
    manifest(**request)  # impossible numbers are refused before any work
    keep_freed_memory()
    if options.sheet:
        write_image(options.sheet, scene_sheet(request["seed"], request["width"], request["height"]))
    try:
        write_dataset(options.root, **request, workers=options.workers)
    except KeyboardInterrupt:
        print("interrupted; run again to finish the data set", file=sys.stderr)
        raise
    print(f"{options.root}: {request['train']} training and {request['val']} validation scenes")
    return 0


def scene_sheet(seed: int, width: int, height: int) -> np.ndarray:
    """uint8 RGB: the first training scenes of a seed with their labels drawn, at half size."""
    tiles = []
    for index in range(SHEET_SCENES):
        scene = render_split_scene(seed, "train", index, width, height)
        for number, points in enumerate(scene.lanes):
            color = COLORS[number % len(COLORS)]
            cv2.polylines(scene.image, [np.round(points).astype(np.int32)], False, color, 2, cv2.LINE_AA)
        tiles.append(scene.image)
    return contact_sheet(tiles, SHEET_COLUMNS, width // 2)


if __name__ == "__main__":
    cli.run(main)
