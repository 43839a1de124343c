"""LLAMAS: one JSON file an image, painted markers joined to the lanes that its benchmark scores.

N points, 2 = (x, y) in pixels; a pixel row is a y of 0 to 716.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from formats.base import DataError, Label, MissingFile, Sample
from formats.culane_metric import Canvas, CULaneMetric, scaled_canvas
from formats.data_set import DataSet
from formats.files import PassedOver, Tree
from formats.parsing import json_file, list_of
from metrics.culane import CULANE_LANE_WIDTH

LLAMAS_SIZE = (1276, 717)  # width, height of every image
MAX_MARKERS = 1000  # in one lane
FIRST_ROW = 300  # its benchmark scores nothing above
MIN_LANE_HEIGHT = 20  # and no lane lower than this


def llamas_canvas(size_px: tuple[int, int]) -> Canvas:
    """30 px in its own size; images of other sizes as CULane's."""
    return Canvas(size_px, CULANE_LANE_WIDTH) if size_px == LLAMAS_SIZE else scaled_canvas(size_px)


class Llamas(DataSet):
    """labels/train|valid/DRIVE/X.json, color_images/train|valid/DRIVE/X_color_rect.png (or grayscale_images)."""

    name = "llamas"
    layout = "labels/train/*/X.json and color_images/train/*/X_color_rect.png (LLAMAS)"
    metric = CULaneMetric(llamas_canvas)
    image_size_px = LLAMAS_SIZE

    def detect(self, root: Path) -> bool:
        first = next(_label_files(root), None)
        if first is None or (root / "color_images").is_dir() or (root / "grayscale_images").is_dir():
            return first is not None
        try:  # labels without images; BDD100K's and others lie in such folders, too
            return isinstance(json_file(first, '"lanes"').get("lanes"), list)
        except DataError:
            return False

    def list_samples(self, root: Path) -> Iterator[Sample | DataError | PassedOver]:
        for path in _label_files(root):
            name = path.relative_to(root / "labels")
            color = root / "color_images" / name.with_name(f"{path.stem}_color_rect.png")
            gray = root / "grayscale_images" / name.with_name(f"{path.stem}_gray_rect.png")
            image = gray if gray.is_file() and not color.is_file() else color
            sample = Sample(image, path, name.as_posix(), (name.parts[0],), self.name)
            yield sample if image.is_file() else MissingFile(f"{path}: its image {image} is missing", sample)

    def read_label(self, sample: Sample) -> Label:
        """The lines left and right of the camera's lane and those next to them, a point a pixel row, near end last.

        A label lists the painted markers one by one. The lanes that its benchmark scores are made from them as in
        github.com/karstenBehrendt/unsupervised_llamas, label_scripts/spline_creator.py: the nearest marker is
        prolonged to the image's edge, markers are averaged in each row, and the rows between are interpolated.
        """
        return _label(sample.label)


def _label_files(root: Path) -> Iterator[Path]:
    """labels/PART/DRIVE/X.json, sorted."""
    files = Tree(root / "labels").files()
    return (path for path in files if path.suffix == ".json" and len(path.relative_to(root).parts) == 4)


def _label(path: Path) -> Label:
    lanes = []
    for i, lane in enumerate(list_of(json_file(path, '"lanes"').get("lanes"), f"{path}: 'lanes'"), start=1):
        where = f"{path}: lane {i}"
        markers = lane.get("markers") if isinstance(lane, dict) else None
        if not isinstance(markers, list) or len(markers) > MAX_MARKERS or not isinstance(lane.get("lane_id"), str):
            raise DataError(f"{where} has no lane_id or no list of at most {MAX_MARKERS} markers")
        table = np.array([_marker(m, where) for m in markers]).reshape(-1, 5)
        if len(table) >= 2 and np.ptp(table[:, 1]) >= MIN_LANE_HEIGHT:
            lanes.append((lane["lane_id"], table))
    sides = [sorted((name, i) for i, (name, _) in enumerate(lanes) if name.startswith(side))[:2] for side in "lr"]
    curves = [_marker_curve(lanes[i][1]) for side in sides for _, i in side]
    return Label([c for c in (c[c[:, 1] >= FIRST_ROW] for c in curves) if len(c) > 1])


def _marker(marker: object, where: str) -> list[float]:
    """[x and y of the near end, x and y of the far end, distance of the near end in metres]."""
    try:
        pixels = [int(marker[end][axis]) for end in ("pixel_start", "pixel_end") for axis in "xy"]
        distance = float(marker["world_start"]["z"])
    except (KeyError, TypeError, ValueError, OverflowError):
        raise DataError(f"{where} has a marker without whole numbers pixel_start, pixel_end and world_start") from None
    near_image = 0 <= pixels[1] < LLAMAS_SIZE[1] and abs(pixels[3]) <= LLAMAS_SIZE[1]  # a point a row is made of it
    if not near_image or not math.isfinite(distance) or max(map(abs, pixels)) > 1e5:
        raise DataError(f"{where} has a marker outside the image of {LLAMAS_SIZE[0]}x{LLAMAS_SIZE[1]}")
    return [*pixels, distance]


def _marker_curve(markers: np.ndarray) -> np.ndarray:
    """(N, 2) float32, one point a row from the highest to the lowest, of markers (M, 5) as `_marker` gives them."""
    rows: dict[int, list[float]] = {}
    for x0, y0, x1, y1 in [*_extended_marker(markers), *markers[:, :4].tolist()]:
        rows.setdefault(int(y0), []).append(x0)
        height = int(y0 - y1)
        if height > 2:
            for step in range(height + 1):
                rows.setdefault(int(y0) - step, []).append(round(x0 + (x1 - x0) / height * step))
    given = np.array(sorted((y, np.mean(xs)) for y, xs in rows.items()))
    y = np.arange(given[0, 0], given[-1, 0] + 1)
    x = np.interp(y, given[:, 0], given[:, 1])
    return np.stack((x, y), axis=1)[x >= 0].astype(np.float32)


def _extended_marker(markers: np.ndarray) -> list[list[float]]:
    """The nearest marker drawn on to the bottom or the side of the image; none where no marker has a slope."""
    sloped = markers[(markers[:, 0] != markers[:, 2]) & (markers[:, 1] != markers[:, 3])]
    if not len(sloped):
        return []
    x0, y0, x1, y1, distance = sloped[sloped[:, 4].argmin()].tolist()
    if distance < 0:
        return []
    right, bottom = LLAMAS_SIZE[0], LLAMAS_SIZE[1] - 1
    slope = (x1 - x0) / (y1 - y0)
    x = x0 + (bottom - y0) * slope
    edge = min(max(x, 0), right)
    y = bottom if edge == x else y0 + (edge - x0) / slope
    return [[round(edge), round(y), x0, y0]] if 0 <= y <= bottom else []
