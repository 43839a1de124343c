"""BDD100K, and what Scalabel exports: labels with poly2d in one list for all images, or in one JSON file an image.

N points, 2 = (x, y) in pixels. The layouts are those of doc.bdd100k.com/format.html and github.com/ucbdrive/bdd-data.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from formats.annotations import ImageFinder, is_no_lane, label_files, lists_of, points_of_pairs, shape_name
from formats.base import DataError, Label, Sample
from formats.culane_metric import CULaneMetric
from formats.data_set import DataSet
from formats.json_stream import first_char, list_items, object_items, value_at
from formats.outlines import join_outlines
from formats.parsing import MAX_LANES, list_of

MAX_LABELS = 10_000  # of one image, boxes among them
BEZIER_POINTS = 8  # of one cubic, its first point not among them
SNIFFED, SNIFFED_ITEMS = 5, 100  # files, and images of each, that are looked into to recognize a folder


class Bdd100k(DataSet):
    """[{"name": .., "labels": [..]}, ..], the same below "frames", or a file an image with "frames" and "objects".

    A lane is an open line of a category `lane/..`, `lane`, or a kind of marking such as `single white`; crosswalks,
    curbs, what crosses the road (direction `vertical`) and closed outlines are left out and counted. BDD100K draws
    both edges of a painted line: two lines of a kind that run side by side are read as the line between them.
    A sample knows the byte at which its image begins in a list. Lists without a lane, such as those of boxes and of
    drivable areas, name the same images again and are passed over.
    """

    name = "bdd100k"
    layout = "a .json list of images with labels and poly2d, or one .json an image with frames and objects (BDD100K)"
    metric = CULaneMetric()
    image_size_px = (1280, 720)

    def detect(self, root: Path) -> bool:
        return any(map(_is_bdd100k, islice(label_files(root, ".json"), SNIFFED)))

    def list_samples(self, root: Path) -> Iterator[Sample | DataError]:
        finder, folder = None, None
        for path in label_files(root, ".json"):
            try:
                for offset, record in _records(path) if _has_lanes(path) else ():
                    if finder is None or folder != (path if offset >= 0 else path.parent):
                        finder = ImageFinder(root, path, is_list=offset >= 0)
                        folder = path if offset >= 0 else path.parent
                    yield self._sample(finder, path, offset, record)
            except DataError as error:
                yield error

    def _sample(self, finder: ImageFinder, path: Path, offset: int, record: dict) -> Sample | DataError:
        """The sample of one image: of an item of a list, or of a whole file where offset is -1."""
        where = str(path) if offset < 0 else f"{path} at byte {offset}"
        try:
            name = record.get("name") or path.stem
            image = finder.find(name, where)
        except DataError as error:
            return error
        own = finder.name(image)
        lists = lists_of(path.name if offset >= 0 else path.parent.name, own)
        return finder.checked(Sample(image, path, own, lists, self.name, offset), name, where)

    def read_label(self, sample: Sample) -> Label:
        where = str(sample.label) if sample.offset < 0 else f"{sample.label} at byte {sample.offset}"
        lines, left_out = _lines(value_at(sample.label, max(sample.offset, 0)), where)
        list_of(lines, f"{where}: the lines", 2 * MAX_LANES)
        width_px = max((float(points[:, 0].max()) for _, points in lines if len(points)), default=0)
        lanes, joined = join_outlines(lines, min(width_px, self.image_size_px[0]))  # of smaller images at least so
        return Label(list_of(lanes, f"{where}: the lines"),
                     left_out=(*left_out, *["other edge of a painted line"] * joined))


def _records(path: Path) -> Iterator[tuple[int, dict]]:
    """Offset and record of each image that a file labels, -1 for a file of one image; none for another JSON file."""
    if first_char(path) == "[":
        for offset, record in list_items(path):
            if not isinstance(record, dict) or "name" not in record:
                raise DataError(f"{path} at byte {offset}: expected an object with name and labels")
            yield offset, record
        return
    for _, offset, frame in object_items(path, ("frames",)):
        if isinstance(frame, dict) and "objects" in frame:  # a file of one image
            record = value_at(path, 0)
            if isinstance(record, dict):
                yield -1, record
            return
        if isinstance(frame, dict) and "labels" in frame:
            yield offset, frame


def _has_lanes(path: Path) -> bool:
    """Whether a list has lanes among its first images; a file of one image need not. Raises DataError."""
    records = islice(_records(path), SNIFFED_ITEMS)
    return any(offset < 0 or _lines(record, str(path))[0] for offset, record in records)


def _is_bdd100k(path: Path) -> bool:
    """Whether a file has lines drawn as BDD100K has them among its first images."""
    try:
        return any("poly2d" in label for _, record in islice(_records(path), SNIFFED_ITEMS)
                   for label in _labels(record, str(path)))
    except DataError:
        return False


def _labels(record: Any, where: str) -> list[dict]:
    """The labels of an image; none where they are missing or null."""
    frames = record.get("frames") if isinstance(record, dict) else None
    if isinstance(frames, list) and frames and isinstance(frames[0], dict):
        labels = frames[0].get("objects")
    else:
        labels = record.get("labels") if isinstance(record, dict) else None
    labels = list_of(labels if labels is not None else [], f"{where}: 'labels'", MAX_LABELS)
    if not all(isinstance(label, dict) for label in labels):
        raise DataError(f"{where}: 'labels' is not a list of objects")
    return labels


def _lines(record: Any, where: str) -> tuple[list[tuple[tuple, np.ndarray]], list[str]]:
    """Lines (kind of marking, points (N, 2)) of an image, and what is left out; boxes are not looked at."""
    lines, left_out = [], []
    for label in _labels(record, where):
        if label.get("poly2d") is None:
            continue
        attributes = label.get("attributes") if isinstance(label.get("attributes"), dict) else {}
        kinds = [attributes.get(key) for key in ("laneType", "laneTypes", "type")]
        kind = next((k for k in kinds if isinstance(k, str)), None) or shape_name(label.get("category"), "unnamed")
        direction = attributes.get("laneDirection", attributes.get("direction"))
        style = attributes.get("laneStyle", attributes.get("style"))
        for points, closed in _polylines(label["poly2d"], f"{where}: poly2d"):
            if is_no_lane(kind):
                left_out.append(shape_name(kind.removeprefix("lane/"), "unnamed"))
            elif closed or str(label.get("category")).startswith(("area", "drivable")):
                left_out.append("closed outline")
            elif direction == "vertical":
                left_out.append("across the road")
            else:
                lines.append(((kind, style if isinstance(style, str) else ""), points))
    return lines, left_out


def _polylines(poly2d: object, where: str) -> Iterator[tuple[np.ndarray, bool]]:
    """Points (N, 2) and whether they are closed, of [{"vertices", "types", "closed"}, ...] or of [[x, y, "L"], ...]."""
    if not isinstance(poly2d, list) or len(poly2d) > MAX_LABELS:
        raise DataError(f"{where} is not a list of lines")
    if poly2d and isinstance(poly2d[0], list):
        types = [point[2] if isinstance(point, list) and len(point) > 2 else "L" for point in poly2d]
        poly2d = [{"vertices": poly2d, "types": "".join(t if t in ("L", "C") else "L" for t in types)}]
    for line in poly2d:
        if not isinstance(line, dict):
            raise DataError(f"{where} is not a list of lines with vertices")
        points = points_of_pairs(line.get("vertices"), f"{where}: vertices")
        yield _with_curves(points, line.get("types"), where), line.get("closed") is True


def _with_curves(points: np.ndarray, types: object, where: str) -> np.ndarray:
    """(M, 2) points on the line: each run of three C, or of two before an L, is a cubic Bézier curve to its third."""
    if not isinstance(types, str) or "C" not in types:
        return points
    if len(types) != len(points):
        raise DataError(f"{where}: {len(types)} types for {len(points)} vertices")
    t = np.linspace(0, 1, BEZIER_POINTS + 1)[1:, None]
    weights = np.concatenate(((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t ** 2 * (1 - t), t ** 3), axis=1)
    result, i = [points[:1]], 1
    while i < len(points):
        if types[i] != "C":
            result.append(points[i:i + 1])
            i += 1
        elif i + 2 < len(points) and types[i + 1] == "C":
            result.append(weights @ points[i - 1:i + 3])
            i += 3
        else:
            raise DataError(f"{where}: types {types[:40]!r}: a curve has two control points C and an end")
    return np.concatenate(result).astype(np.float32)
