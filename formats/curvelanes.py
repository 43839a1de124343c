"""CurveLanes: one JSON file an image, points with x and y as text.

N points, 2 = (x, y) in pixels.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from formats.base import DataError, Label, Sample
from formats.culane_metric import Canvas, CULaneMetric
from formats.data_set import DataSet
from formats.files import PassedOver, Tree
from formats.parsing import existing, file_name, image_name, image_path, json_file, list_of, numbers, text_lines

PARTS = ("train", "valid", "test")
CANVAS = Canvas((224, 224), 5)


class CurveLanes(DataSet):
    """train/train.txt and valid/valid.txt name images/X.jpg, whose label is labels/X.lines.json.

    The root may also be one of these parts. Without its list a part is all its labels.
    """

    name = "curvelanes"
    layout = "train/ and valid/ with images/X.jpg and labels/X.lines.json (CurveLanes)"
    metric = CULaneMetric(lambda size_px: CANVAS)

    def detect(self, root: Path) -> bool:
        return any(next(_label_names(folder), None) for folder in (*(root / part for part in PARTS), root))

    def list_samples(self, root: Path) -> Iterator[Sample | DataError | PassedOver]:
        parts = [root / part for part in PARTS if (root / part / "labels").is_dir()]
        for part in parts or [p for p in (root,) if (p / "labels").is_dir()]:
            list_path, count = part / f"{part.name}.txt", 0
            for where, text in _image_names(part, list_path):
                count += 1
                try:
                    yield self._sample(root, part, list_path.name, where, text)
                except DataError as error:
                    yield error
            if list_path.is_file():
                if not count:
                    yield DataError(f"{list_path}: the list is empty; expected one image a line")
                if (unnamed := sum(1 for _ in _label_names(part)) - count) > 0:
                    yield PassedOver(part / "labels", f"label files are not named by {part.name}.txt", unnamed)

    def _sample(self, root: Path, part: Path, list_name: str, where: str, text: str) -> Sample:
        """The sample of one line of a list."""
        image, exists = image_path((part, root), image_name(text, where, part))
        label = part / "labels" / f"{image.stem}.lines.json"
        sample = Sample(image, label, image.relative_to(root).as_posix(), (list_name,), self.name)
        return existing(sample, exists, where, text)

    def read_label(self, sample: Sample) -> Label:
        """{"Lines": [[{"x": "..", "y": ".."}, ...], ...]}, numbers as text or not."""
        path = sample.label
        lines = list_of(json_file(path, '"Lines"').get("Lines"), f"{path}: 'Lines'")
        return Label([_points(line, f"{path}: lane {i}") for i, line in enumerate(lines, start=1)])


def _label_names(part: Path) -> Iterator[str]:
    """The names of the label files of a part, sorted."""
    names = (child.path.name for child in Tree(part / "labels").children(part / "labels"))
    return (name for name in names if name.endswith(".lines.json"))


def _image_names(part: Path, list_path: Path) -> Iterator[tuple[str, str]]:
    """Where an image is named, and its name below the part."""
    if list_path.is_file():
        yield from ((f"{list_path}:{line}", file_name(text)) for line, _, text in text_lines(list_path))
        return
    for name in _label_names(part):
        yield str(part / "labels" / name), f"images/{name.removesuffix('.lines.json')}.jpg"


def _points(points: object, where: str) -> np.ndarray:
    """(N, 2) of a list of {"x": .., "y": ..}."""
    if not isinstance(points, list) or not all(isinstance(p, dict) for p in points):
        raise DataError(f"{where} is not a list of points with x and y")
    values = [_number(point.get(axis), where) for point in points for axis in "xy"]
    return numbers(values, where).reshape(-1, 2).astype(np.float32)


def _number(value: object, where: str) -> object:
    """A number that may be written as text; anything else as it is, for `numbers` to refuse."""
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        raise DataError(f"{where} contains {value[:40]!r}, which is not a number") from None
