"""Prints how images look and how their lanes lie, one data set beside another: rendered scenes and real roads.

    python benchmarks/looks.py ROOT ROOT ... [--sheet FILE.jpg] [section.key=value ...]

Each figure is worked out for every image, reduced to the size that scenes are rendered in; a cell gives the 10th, 50th
and 90th percentile over the images of a root. What a real road has in the middle and rendered scenes have in neither
tail is what a model trained on those has never seen. The sheet has a row of images of each root, evenly spread.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository root, from wherever it is run

import formats
import runtime
import visualize
from bezier import sample
from dataset import lanes_in_slots, read_image, resized
from formats import Entry, label
from lanes import CAMERA_X, bottom_x
from validation import evenly, in_threads

SIZE_PX = (640, 360)
MOST = 300  # images of a root
POINTS = 24  # along a lane
SHOWS = 12  # of 255: paint that much brighter than the road beside it can be seen
PERCENTILES = (10, 50, 90)
COLUMNS = 5  # of the sheet


def figures(entry: Entry, slots: int) -> dict[str, float]:
    """The figures of an image by name; without lanes it has some of them only."""
    image = read_image(entry.image)
    target, _, _ = lanes_in_slots(label(entry), image.shape[1::-1], slots)
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
    """How the road beside lanes (K, P, 2) looks, and how far their paint stands out from it."""
    shown, road, rough, warm = [], [], [], []
    size = np.array(SIZE_PX)
    horizon = float(curves[:, 0, 1].min()) if len(curves) else 0.0
    for x, y in (sample(curves, POINTS).numpy() * size - 0.5).reshape(-1, 2):
        nearness = (y / SIZE_PX[1] - horizon) / (1 - horizon)
        reach = 2 + 12 * max(nearness, 0)  # half of what paint and the error of its label take, in px
        row = min(max(round(y), 0), SIZE_PX[1] - 1)
        across = np.arange(max(0, round(x - 3 * reach)), min(SIZE_PX[0], round(x + 3 * reach) + 1))
        on_line, off_line = np.abs(across - x) <= reach, np.abs(across - x) > 1.5 * reach
        if on_line.sum() < 2 or off_line.sum() < 2:
            continue
        beside = grey[row, across[off_line]]
        road.append(np.median(beside))
        shown.append(grey[row, across[on_line]].max() - road[-1])
        rough.append(np.abs(beside - road[-1]).mean())
        colour = np.median(image[row, across[off_line]], 0)
        warm.append(float(colour[0]) - float(colour[2]))
    if not shown:
        return {}
    shown = np.array(shown)
    return {
        "brightness of the road beside lines": float(np.mean(road)),
        "its roughness (mean deviation)": float(np.mean(rough)),
        "its red less its blue": float(np.mean(warm)),
        "paint: brighter than the road by": float(np.median(shown)),
        "points of a line where that is over 12, %": 100 * float((shown > SHOWS).mean()),
    }


def write_sheet(path: Path, roots: Sequence[Sequence[Entry]]) -> None:
    """A row of images of each root."""
    tiles = [resized(read_image(entries[i].image), *SIZE_PX)
             for entries in roots for i in evenly(range(len(entries)), COLUMNS)]
    visualize.write_image(path, visualize.contact_sheet(tiles, COLUMNS, SIZE_PX[0] // 2))


def main(argv: Sequence[str] | None = None) -> int:
    """Print a Markdown table."""
    arguments = runtime.parser(__doc__)
    arguments.add_argument("words", nargs="*", metavar="ROOT", help="folders of data sets, and settings to override")
    arguments.add_argument("--sheet", metavar="FILE.jpg", help="also write images of each root side by side")
    options, overrides = runtime.parse(arguments, argv)
    settings = runtime.load_settings(options, overrides)
    if not options.words:
        raise ValueError("give at least one folder of a data set")
    roots = []
    for root in options.words:
        entries = formats.entries(root, settings.data.format)
        roots.append([entries[i] for i in evenly(range(len(entries)), min(MOST, len(entries)))])
    rows = []
    for root, entries in zip(options.words, roots, strict=True):
        rows.append(in_threads(lambda entry: figures(entry, settings.model.slots), entries, root))
    names = [f"{root} ({len(entries)})" for root, entries in zip(options.words, roots, strict=True)]
    print(f"| 10, 50 and 90 % of the images | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for name in max((row for part in rows for row in part), key=len):
        values = [[row.get(name, np.nan) for row in part] for part in rows]
        cells = [", ".join(f"{value:.3g}" for value in np.nanpercentile(part, PERCENTILES)) for part in values]
        print(f"| {name} | {' | '.join(cells)} |")
    if options.sheet:
        write_sheet(Path(options.sheet), roots)
    return 0


if __name__ == "__main__":
    runtime.run(main)
