"""TuSimple: label_data_*.json and test_label.json, one JSON object a line, beside clips/."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from formats.base import DataError, Label, Sample
from formats.data_set import DataSet, LabelledImage
from formats.parsing import append_line, image_path, json_object, line_at, list_of, numbers, text_lines
from formats.tusimple_metric import TuSimpleMetric, label_line, label_rows, label_x_at_rows
from metrics.tusimple import TUSIMPLE_SIZE

KEYS = "raw_file, lanes and h_samples"
LIST_NAMES = {"train": "label_data_train.json", "val": "label_data_val.json", "test": "test_label.json"}


class TuSimple(DataSet):
    """As unpacked: label files in the root, train_set/ or test_set/, clips/ in any of them."""

    name = "tusimple"
    layout = "label_data_*.json or test_label.json beside clips/ (TuSimple)"
    metric = TuSimpleMetric()
    image_size_px = TUSIMPLE_SIZE
    validation_lists = ("label_data_val.json", "label_data_0531.json")
    test_lists = ("test_label.json",)

    def detect(self, root: Path) -> bool:
        return bool(_label_files(root))

    def list_samples(self, root: Path, require_images: bool = True) -> Iterator[Sample | DataError]:
        for path in _label_files(root):
            empty = True
            for line, offset, text in text_lines(path):
                empty = False
                try:
                    yield self._sample(root, path, line, offset, text, require_images)
                except DataError as error:
                    yield error
            if empty:
                yield DataError(f"{path}: the label file is empty; expected one JSON object a line")

    def _sample(self, root: Path, path: Path, line: int, offset: int, text: bytes, require_images: bool) -> Sample:
        """The sample of one line of a label file."""
        where = f"{path}:{line}"
        record = json_object(text, where, KEYS)
        name = record.get("raw_file")
        if not isinstance(name, str) or not name:
            raise DataError(f"{where}: no 'raw_file' that names an image")
        folders = (path.parent, root, root / "train_set", root / "test_set")
        image = image_path(folders, name, where, require_images)
        _label(record, where)  # so that a broken label is named before training starts
        return Sample(image, path, name, (path.name,), self.name, offset, line)

    def read_label(self, sample: Sample) -> Label:
        where = f"{sample.label}:{sample.line}"
        return _label(json_object(line_at(sample.label, sample.offset), where, KEYS), where)

    def image_name(self, name: str) -> str:
        return name if name.startswith("clips/") else f"clips/{name}"

    def write_label(self, root: Path, image: LabelledImage) -> int:
        """A line of a label file: each lane as x at TuSimple's 56 rows, scaled to the height of the image.

        A lane that has fewer than two of these rows in the image cannot be written. Of one that turns back each row
        has one point.
        """
        label = Label(list(image.lanes))
        rows, x = label_rows(label, image.size_px), label_x_at_rows(label, image.size_px)
        x = x[(x >= 0).sum(1) >= 2]
        append_line(root / LIST_NAMES[image.part], label_line(image.name, rows, x.round(2)))
        return len(image.lanes) - len(x)


def _label_files(root: Path) -> list[Path]:
    """The label files; of two with the same name (copied out of train_set/, as guides tell) the first."""
    files: dict[str, Path] = {}
    for folder in (root, root / "train_set", root / "test_set"):
        for pattern in ("label_data_*.json", "test_label.json"):
            for path in sorted(folder.glob(pattern)):
                files.setdefault(path.name, path)
    return list(files.values())


def _label(record: dict, where: str) -> Label:
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
