"""COCO: one JSON file for many images; a lane is an annotation with keypoints, a polyline, or an open segmentation.

N points, 2 = (x, y) in pixels. A file may have hundreds of MB: it is read once, entry by entry, and what stays in
memory is where each image and each annotation begins.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from formats.annotations import (
    AnnotationFiles,
    ImageFinder,
    is_no_lane,
    label_files,
    lists_of,
    pixel_size,
    points_of_pairs,
    shape_name,
)
from formats.base import DataError, Label, Sample
from formats.files import file_head, reading
from formats.json_stream import first_char, object_items, value_at
from formats.parsing import MAX_POINTS, list_of

KEYS = ("images", "annotations", "categories")
LANE_NAME = re.compile(r"lane|line|mark|stripe", re.IGNORECASE)
HEAD_BYTES = 65536  # of a broken file that show what it was


class CocoIndex(NamedTuple):
    """Where each of N images and A annotations begins in a file, annotations in the order of their images."""

    images: np.ndarray  # (N) byte offsets, ascending
    first: np.ndarray  # (N + 1) the first annotation of each image, and A
    annotations: np.ndarray  # (A) byte offsets
    categories: dict[Any, str]  # names by id
    lane_categories: frozenset  # ids
    problem: str = ""  # with annotations that belong to no image, the first of which is named; they are left out


class Coco(AnnotationFiles):
    """Every .json file below the root with images, annotations and categories.

    Where categories are named as lanes or lines, annotations of others are no lanes. Segmentations that enclose an
    area, and annotations with a box alone, are none either; all of them are counted.
    """

    name = "coco"
    layout = "a .json with images, annotations and categories such as lane (COCO)"
    suffix = ".json"
    sniffed = 5

    def has_labels(self, path: Path) -> bool:
        """Whether a file has images and a category that is named as lanes are, or begins so and is broken."""
        try:
            index = coco_index(path)
        except DataError:
            return _begins_as_coco(path)
        return index is not None and any(LANE_NAME.search(str(index.categories[key])) for key in index.lane_categories)

    def list_labelled(self, root: Path) -> Iterator[Sample | DataError]:
        for path in label_files(root, self.suffix):
            try:
                index = coco_index(path)
                finder = ImageFinder(root, path)
                list_name = path.name if path.name[0] != "_" else f"{path.parent.name}/{path.name}"
                if index is not None and index.problem:
                    yield DataError(index.problem)
                if index is not None:
                    for offset in index.images.tolist():
                        yield self._sample(finder, path, offset, list_name)
            except DataError as error:
                yield error

    def _sample(self, finder: ImageFinder, path: Path, offset: int, list_name: str) -> Sample | DataError:
        """The sample of the image record at a byte offset."""
        try:
            name, where = value_at(path, offset).get("file_name"), f"{path} at byte {offset}"
            image = finder.find(name, where)
        except DataError as error:
            return error
        own = finder.name(image)
        return finder.checked(Sample(image, path, own, lists_of(list_name, own), self.name, offset), name, where)

    def read_label(self, sample: Sample) -> Label:
        """{"category_id": .., "keypoints": [x, y, v, ...]}, or "polyline" or "segmentation" with [x, y, ...]."""
        path = sample.label
        index = coco_index(path)
        row = int(np.searchsorted(index.images, sample.offset)) if index is not None else 0
        if index is None or row == len(index.images) or index.images[row] != sample.offset:
            raise DataError(f"{path} at byte {sample.offset}: no image begins here; was the file changed?")
        record = value_at(path, sample.offset)
        lanes, left_out = [], []
        for offset in index.annotations[index.first[row]:index.first[row + 1]].tolist():
            annotation, where = value_at(path, offset), f"{path} at byte {offset}"
            name = shape_name(index.categories.get(annotation.get("category_id")), "unnamed")
            if annotation.get("category_id") not in index.lane_categories:
                left_out.append(name)
                continue
            lines = _lines(annotation, where)
            lanes += lines
            left_out += [] if lines else [f"{name}: an area or a box"]
        return Label(list_of(lanes, f"{path} at byte {sample.offset}: the annotations"), left_out=tuple(left_out),
                     size_px=pixel_size(record.get("width"), record.get("height")))


def coco_index(path: Path) -> CocoIndex | None:
    """Where images and annotations begin in a file; None for another JSON file. Raises DataError.

    A file is read once in each process, and again when it has changed.
    """
    with reading(path):
        status = path.stat()
    return _index(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=16)
def _index(path: Path, _size: int, _mtime: int) -> CocoIndex | None:
    if first_char(path) != "{":
        return None
    images: dict[Any, int] = {}  # row by id
    offsets, owners, annotations, categories, keys = [], [], [], {}, set()
    for key, offset, item in object_items(path, KEYS):
        keys.add(key)
        where = f"{path} at byte {offset}"
        if not isinstance(item, dict):
            raise DataError(f"{where}: an entry of {key} is no object")
        number = item.get("image_id" if key == "annotations" else "id")
        if not isinstance(number, (int, str)):
            raise DataError(f"{where}: an entry of {key} without its id")
        if key == "images":
            if number in images:
                raise DataError(f"{where}: a second image with the id {str(number)[:40]}")
            images[number] = len(offsets)
            offsets.append(offset)
        elif key == "annotations":
            owners.append(number)
            annotations.append(offset)
        else:
            categories[number] = item.get("name")
    if "images" not in keys:
        return None
    rows = np.array([images.get(owner, -1) for owner in owners], np.int64)
    problem = ""
    if count := int((rows < 0).sum()):
        at = int(rows.argmin())
        more = f", nor of {count - 1} more annotations" if count > 1 else ""
        problem = f"{path} at byte {annotations[at]}: no image has the image_id {str(owners[at])[:40]}{more}"
    order = rows.argsort(kind="stable")
    first = np.searchsorted(rows[order], np.arange(len(offsets) + 1))
    return CocoIndex(np.array(offsets, np.int64), first, np.array(annotations, np.int64)[order], categories,
                     frozenset(_lane_categories(categories)), problem)


def _lane_categories(categories: dict[Any, Any]) -> list:
    """Ids of the categories that are lanes: those named so, or else all but crosswalks and the like."""
    allowed = {key: name for key, name in categories.items() if not is_no_lane(name)}
    named = [key for key, name in allowed.items() if isinstance(name, str) and LANE_NAME.search(name)]
    return named or list(allowed)


def _begins_as_coco(path: Path) -> bool:
    """Whether the first bytes of a file are of COCO's records of images."""
    head = file_head(path, HEAD_BYTES)
    return all(key in head for key in (b'"images"', b'"file_name"', b'"id"'))


def _lines(annotation: dict, where: str) -> list[np.ndarray]:
    """The lines (N, 2) of an annotation, none where it is an area or a box; keypoints without visibility left out."""
    if isinstance(annotation.get("keypoints"), list):
        table = _table(annotation["keypoints"], 3, f"{where}: keypoints")
        return [table[table[:, 2] > 0, :2]] if (table[:, 2] > 0).any() else []
    for key in ("polyline", "segmentation"):
        value = annotation.get(key)
        if isinstance(value, list) and value:
            lines = value if isinstance(value[0], list) else [value]
            if isinstance(lines[0], list) and lines[0] and isinstance(lines[0][0], list):
                lines = [points_of_pairs(line, f"{where}: {key}") for line in lines]
            elif isinstance(value[0], list) and len(value[0]) == 2 and len(value) > 1:
                lines = [points_of_pairs(value, f"{where}: {key}")]
            else:
                lines = [_table(line, 2, f"{where}: {key}") for line in lines]
            return [line for line in lines if key == "polyline" or is_open(line)]
    return []


def is_open(points: np.ndarray) -> bool:
    """Whether points run along a line, not around an area: they end far from where they began, and do not turn back.

    A COCO segmentation is an outline by definition, but is also what tools write for lines.
    """
    if len(points) < 2:
        return False
    extent = np.ptp(points, axis=0)
    ends = np.linalg.norm(points[-1] - points[0])
    climb = np.abs(np.diff(points[:, 1])).sum()
    return bool(ends >= 0.5 * np.linalg.norm(extent) and climb <= 1.2 * max(extent[1], 1))


def _table(values: object, columns: int, where: str) -> np.ndarray:
    """(N, columns) float32 of a flat list of numbers."""
    if not isinstance(values, list) or len(values) % columns or len(values) > columns * MAX_POINTS:
        raise DataError(f"{where} is not a flat list of {'x, y, v' if columns == 3 else 'x, y'}")
    rows = [values[i:i + columns] for i in range(0, len(values), columns)]
    if columns == 2:
        return points_of_pairs(rows, where)
    return np.concatenate((points_of_pairs(rows, where), points_of_pairs([[row[2], 0] for row in rows], where)[:, :1]),
                          axis=1)
