"""TuSimple: label_data_*.json and test_label.json, one JSON object a line, beside clips/."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from formats.base import DataError, Label, Sample
from formats.parsing import image_path, json_object, list_of, numbers, text_lines

TUSIMPLE_KEYS = "raw_file, lanes and h_samples"


def _tusimple_lists(root: Path) -> list[Path]:
    """The label files; of two with the same name (copied out of train_set/, as guides tell) the first."""
    found: dict[str, Path] = {}
    for folder in (root, root / "train_set", root / "test_set"):
        for pattern in ("label_data_*.json", "test_label.json"):
            for path in sorted(folder.glob(pattern)):
                found.setdefault(path.name, path)
    return list(found.values())


def read_tusimple(root: Path, images: bool) -> Iterator[Sample | DataError]:
    """TuSimple as unpacked: label files in the root, train_set/ or test_set/, clips/ in any of them."""
    for path in _tusimple_lists(root):
        empty = True
        for line, offset, text in text_lines(path):
            empty = False
            where = f"{path}:{line}"
            try:
                record = json_object(text, where, TUSIMPLE_KEYS)
                name = record.get("raw_file")
                if not isinstance(name, str) or not name:
                    raise DataError(f"{where}: no 'raw_file' that names an image")
                folders = (path.parent, root, root / "train_set", root / "test_set")
                image = image_path(folders, name, where, images)
                _tusimple_label(record, where)  # so that a broken label is named before training starts
                yield Sample(image, path, name, (path.name,), offset, line)
            except DataError as error:
                yield error
        if empty:
            yield DataError(f"{path}: the label file is empty; expected one JSON object a line")


def _tusimple_label(record: dict, where: str) -> Label:
    rows = numbers(record.get("h_samples"), f"{where}: h_samples")
    lanes = list_of(record.get("lanes"), f"{where}: 'lanes'")
    if not len(rows):
        raise DataError(f"{where}: h_samples is empty; expected the rows of the lanes' points")
    xs = np.empty((len(lanes), len(rows)))
    for i, lane in enumerate(lanes):
        values = numbers(lane, f"{where}: lane {i + 1}")
        if len(values) != len(rows):
            raise DataError(f"{where}: lane {i + 1} has {len(values)} points but h_samples has {len(rows)} rows")
        xs[i] = values
    return Label([np.stack((x, rows), axis=1)[x >= 0].astype(np.float32) for x in xs], rows, xs)
