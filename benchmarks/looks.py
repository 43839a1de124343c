"""Prints how images look and how their lanes lie, one data set beside another: rendered scenes and real roads.

    python benchmarks/looks.py ROOT ROOT ... [--sheet FILE.jpg] [section.key=value ...]

Each figure is worked out for every image, reduced to the size that scenes are rendered in; a cell gives the 10th, 50th
and 90th percentile over the images of a root. The sheet has a row of images of each root, evenly spread.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository root, from wherever it is run

from check_dataset import refuse_other_suffix
from evaluation.evaluator import evenly, in_threads
from formats import registry
from formats.base import Entry
from formats.registry import label
from geometry.bezier import sample
from geometry.slots import CAMERA_X, bottom_x
from preprocessing.images import read_image, resized
from preprocessing.targets import lanes_in_slots
from runtime import cli
from visualization import draw

SIZE_PX = (640, 360)
MOST = 300  # images of a root
POINTS = 24  # along a lane
SHOWS = 12  # of 255: paint that much brighter than the road beside it can be seen
PERCENTILES = (10, 50, 90)
COLUMNS = 5  # of the sheet


def figures(entry: Entry) -> dict[str, float]:
    """The figures of an image by name; without lanes it has some of them only."""
    image, lanes = read_image(entry.image), label(entry)
    target, _, _ = lanes_in_slots(lanes, image.shape[1::-1], slots=2 * max(1, len(lanes.lanes)))  # room for all
    image = resized(image, *SIZE_PX)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    found = {
        "brightness of the whole image": float(grey.mean()),
        "brightness of its upper quarter": float(grey[:SIZE_PX[1] // 4].mean()),
        "nearly black pixels, %": 100 * float((grey < 20).mean()),
        "nearly white pixels, %": 100 * float((grey > 250).mean()),
        "detail (mean absolute Laplacian) of the lower half": float(
            np.abs(cv2.Laplacian(grey, cv2.CV_32F)[SIZE_PX[1] // 2:]).mean()),
    }
    curves = target.points[target.exists]
    return found | _of_lanes(curves) | _of_paint(image, grey, curves)


def _of_lanes(curves: Tensor) -> dict[str, float]:
    """How lanes (K, P, 2) lie."""
    if not len(curves):
        return {"lanes": 0.0}
    points = sample(curves, POINTS)
    along = torch.linspace(0, 1, POINTS)
    straight = points[:, :1, 0] + (points[:, -1:, 0] - points[:, :1, 0]) * along
    place = bottom_x(curves)
    left, right = place[place < CAMERA_X], place[place >= CAMERA_X]
    own = float(right.min() - left.max()) if len(left) and len(right) else np.nan
    return {
        "lanes": float(len(curves)),
        "a lane begins at, % of the height": 100 * float(curves[:, 0, 1].median()),
        "own lane at the bottom, % of the width": 100 * own,
        "farthest from straight, px of 1280": 1280 * float((points[..., 0] - straight).abs().max()),
    }


def _of_paint(image: np.ndarray, grey: np.ndarray, curves: Tensor) -> dict[str, float]:
    """How the road beside lanes (K, P, 2) looks, and how far their paint stands out from it.

    The brightest pixel on a line is compared with the brightest of as many pixels on either side of it: a rough road
    without paint has a difference of about 0.
    """
    shown, road, rough, warm = [], [], [], []
    size = np.array(SIZE_PX)
    horizon = float(curves[:, 0, 1].min()) if len(curves) else 0.0
    for x, y in (sample(curves, POINTS).numpy() * size - 0.5).reshape(-1, 2):
        nearness = (y / SIZE_PX[1] - horizon) / (1 - horizon)
        reach = round(2 + 12 * max(nearness, 0))  # half of what paint and the error of its label take, in px
        row, middle = min(max(round(y), 0), SIZE_PX[1] - 1), round(x)
        on_line = _between(middle - reach, middle + reach)
        sides = [_between(middle - 4 * reach, middle - 2 * reach), _between(middle + 2 * reach, middle + 4 * reach)]
        whole = [side for side in sides if len(side) == 2 * reach + 1]
        if len(on_line) < 2 * reach + 1 or not whole:
            continue  # at the edge of the image
        beside = np.concatenate([grey[row, side] for side in whole])
        road.append(np.median(beside))
        shown.append(grey[row, on_line].max() - np.mean([grey[row, side].max() for side in whole]))
        rough.append(np.abs(beside - road[-1]).mean())
        colour = np.median(np.concatenate([image[row, side] for side in whole]), 0)
        warm.append(float(colour[0]) - float(colour[2]))
    if not shown:
        return {}
    shown = np.array(shown)
    return {
        "brightness of the road beside lines": float(np.mean(road)),
        "its roughness (mean deviation)": float(np.mean(rough)),
        "its red less its blue": float(np.mean(warm)),
        "a line's brightest less the road's brightest": float(np.median(shown)),
        f"points of a line where that is over {SHOWS}, %": 100 * float((shown > SHOWS).mean()),
    }


def _between(first: int, last: int) -> np.ndarray:
    """The columns of the image from the first to the last."""
    return np.arange(max(0, first), min(SIZE_PX[0] - 1, last) + 1)


def cell(values: Sequence[float]) -> str:
    """The percentiles of what images of a root have; a dash where none of them has it."""
    known = [value for value in values if not np.isnan(value)]
    return ", ".join(f"{value:.1f}" for value in np.percentile(known, PERCENTILES)) if known else "–"


def write_sheet(path: Path, roots: Sequence[Sequence[Entry]]) -> None:
    """A row of images of each root."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tiles = [resized(read_image(entries[i].image), *SIZE_PX)
             for entries in roots for i in evenly(range(len(entries)), COLUMNS)]
    draw.write_image(path, draw.contact_sheet(tiles, COLUMNS, SIZE_PX[0] // 2))


def main(argv: Sequence[str] | None = None) -> int:
    """Print a Markdown table."""
    arguments = cli.parser(__doc__)
    arguments.add_argument("words", nargs="*", metavar="ROOT", help="folders of data sets, and settings to override")
    arguments.add_argument("--sheet", metavar="FILE.jpg", help="also write images of each root side by side")
    options, overrides = cli.parse(arguments, argv)
    settings = cli.load_settings(options, overrides)
    if not options.words:
        raise ValueError("give at least one folder of a data set")
    if options.sheet:
        refuse_other_suffix(options.sheet)
    roots = []
    for root in options.words:
        entries = registry.entries(root, settings.data.format)
        roots.append([entries[i] for i in evenly(range(len(entries)), MOST)])
    rows = [in_threads(figures, entries, root) for root, entries in zip(options.words, roots, strict=True)]
    names = [f"{root} ({len(entries)})" for root, entries in zip(options.words, roots, strict=True)]
    print(f"| 10, 50 and 90 % of the images | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for name in max((row for part in rows for row in part), key=len):
        print(f"| {name} | {' | '.join(cell([row[name] for row in part if name in row]) for part in rows)} |")
    if options.sheet:
        write_sheet(Path(options.sheet), roots)
    return 0


if __name__ == "__main__":
    cli.run(main)
