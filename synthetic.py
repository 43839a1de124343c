"""Writes data sets of rendered road scenes in the TuSimple layout (also a script).

    python synthetic.py --root data/synthetic --train 6000 --val 300 --seed 0

root/clips/synthetic/<index>/20.jpg, root/label_data_train.json, root/label_data_val.json and, last of all,
root/manifest.json: without a manifest that matches the request, the data set is unfinished.
"""

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

from config import file_or_default, load_config
from renderer.dataset_writer import _request, _scene, _write_image, write_dataset
from renderer.scene import Scene
from runtime.memory import keep_freed_memory

SETTINGS = {"train": "training scenes", "val": "validation scenes", "seed": "same seed, same bytes",
            "width": "in pixels", "height": "in pixels"}
SHEET_SCENES, SHEET_COLUMNS = 24, 4
LANE_COLORS = [(255, 60, 60), (60, 255, 60), (80, 140, 255), (255, 220, 40), (255, 80, 255)]


def contact_sheet(seed: int, width: int = 640, height: int = 360) -> np.ndarray:
    """uint8 RGB: the first training scenes of a seed with their labels drawn, at half size."""
    tiles = []
    for index in range(SHEET_SCENES):
        scene = _scene(seed, "train", index, width, height)
        for points, color in zip(scene.lanes, LANE_COLORS, strict=False):
            cv2.polylines(scene.image, [np.round(points).astype(np.int32)], False, color, 2, cv2.LINE_AA)
        tiles.append(cv2.resize(scene.image, (width // 2, height // 2), interpolation=cv2.INTER_AREA))
    return np.vstack([np.hstack(tiles[i : i + SHEET_COLUMNS]) for i in range(0, SHEET_SCENES, SHEET_COLUMNS)])


def main(argv=None) -> int:
    """Exit status: 0 when the data set is complete, 1 when it is not, 2 for impossible arguments."""
    parser = argparse.ArgumentParser("synthetic.py", description="Render a data set of labelled road scenes.")
    parser.add_argument("--root", type=Path, default=Path("data/synthetic"), help="folder of the data set")
    for name, meaning in SETTINGS.items():
        parser.add_argument(f"--{name}", type=int, help=f"{meaning} (default: synthetic.{name} of the configuration)")
    parser.add_argument("--config", metavar="FILE", help="settings (default: config.yaml, if there is one)")
    parser.add_argument("words", nargs="*", metavar="section.key=value", help="settings to override")
    parser.add_argument("--workers", type=int, default=None, help="processes (default: one a core)")
    parser.add_argument("--sheet", type=Path, default=None, help="also write a contact sheet here, a JPEG")
    args = parser.parse_intermixed_args(argv)
    try:
        settings = load_config(file_or_default(args.config), args.words).synthetic
    except (ValueError, OSError) as error:
        print(f"synthetic.py: {error}", file=sys.stderr)
        return 2
    for name in SETTINGS:
        if getattr(args, name) is None:
            setattr(args, name, getattr(settings, name))
    keep_freed_memory()
    try:
        if args.sheet:
            _request(args.train, args.val, args.seed, args.width, args.height)
            args.sheet.parent.mkdir(parents=True, exist_ok=True)
            _write_image(args.sheet, Scene(contact_sheet(args.seed, args.width, args.height)))
        write_dataset(args.root, args.train, args.val, args.seed, args.width, args.height, args.workers)
    except ValueError as error:
        print(f"synthetic.py: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"synthetic.py: cannot write the data set: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("synthetic.py: interrupted; run again to finish the data set", file=sys.stderr)
        return 130
    print(f"{args.root}: {args.train} training and {args.val} validation scenes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
