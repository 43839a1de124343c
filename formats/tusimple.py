"""TuSimple: label_data_*.json and test_label.json, one JSON object a line, beside clips/."""

import filecmp
import fnmatch
import functools
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from formats.base import DataError, Label, Sample
from formats.data_set import DataSet, LabelledImage, contradiction
from formats.files import PassedOver, Tree, file_head
from formats.list_names import TEST, purpose
from formats.parsing import (
    MAX_LANES,
    append_line,
    image_name,
    image_path,
    json_object,
    line_at,
    list_of,
    missing_image,
    number_table,
    numbers,
    text_lines,
)
from formats.tusimple_metric import TuSimpleMetric, label_line, label_rows, label_x_at_rows
from metrics.tusimple import TUSIMPLE_SIZE

KEYS = "raw_file, lanes and h_samples"
LIST_NAMES = {"train": "label_data_train.json", "val": "label_data_val.json", "test": "test_label.json"}
PATTERNS = ("label_data*.json*", *(f"{name}_label*.json*" for name in ("test", "train", "val", "valid", "validation")))
UNREAD = "files name images but are not read as lists: their names are not like label_data_*.json or test_label.json"
HEAD_BYTES = 65536  # of a file that show what it is
OTHER_KEYS = (b'"images"', b'"annotations"', b'"categories"', b'"shapes"', b'"poly2d"')
SAME_LANE_PX = 10  # lanes that are nearer at most rows are one lane labelled twice


class TuSimple(DataSet):
    """As unpacked: label files in the root, train_set/ or test_set/, clips/ in any of them."""

    name = "tusimple"
    layout = "label_data_*.json or test_label.json beside clips/ (TuSimple)"
    metric = TuSimpleMetric()
    image_size_px = TUSIMPLE_SIZE
    validation_lists = ("label_data_0531.json",)

    def detect(self, root: Path) -> bool:
        return any(_is_label_file(path) and not _is_of_another_tool(path) for path in _json_files(root))

    def list_samples(self, root: Path) -> Iterator[Sample | DataError | PassedOver]:
        files = _json_files(root)
        for path in filter(_is_label_file, files):
            folders, lists = (path.parent, root, root / "train_set", root / "test_set"), (_list_name(path, root),)
            empty = True
            for line, offset, text in text_lines(path):
                if empty and (reason := _no_json_lines(path, text)):
                    yield DataError(f"{path}: {reason}")
                    break
                empty = False
                try:
                    yield self._sample(root, path, line, offset, text, folders, lists)
                except DataError as error:
                    yield error
            else:
                if empty:
                    yield DataError(f"{path}: the label file is empty; expected one JSON object a line")
        yield from (PassedOver(path, UNREAD) for path in files if not _is_label_file(path) and _names_images(path))

    def _sample(self, root: Path, path: Path, line: int, offset: int, text: bytes, folders: tuple[Path, ...],
                lists: tuple[str, ...]) -> Sample:
        """The sample of one line of a label file, whose image is in the first of the folders that has it."""
        where = f"{path}:{line}"
        record = json_object(text, where, KEYS)
        raw_file = record.get("raw_file")
        if not isinstance(raw_file, str) or not raw_file:
            raise DataError(f"{where}: no 'raw_file' that names an image")
        name = image_name(raw_file, where, root)
        _label(record, where)  # so that a broken label is named before training starts
        image, exists = image_path(folders, name)
        sample = Sample(image, path, name, lists, self.name, offset, line)
        if not exists:
            raise missing_image(where, sample, raw_file)
        return sample

    def read_label(self, sample: Sample) -> Label:
        places = ((sample.offset, sample.line), *sample.more)
        return functools.reduce(_together, (_label_at(sample, offset, line) for offset, line in places))

    def join(self, label: Label, first: Sample, other: Sample) -> Label:
        """Lines of one file may have a lane each: their lanes are put together where they differ."""
        added = _label_at(other, other.offset, other.line)
        is_known = [any(map(np.array_equal, itertools.repeat(x), label.x_at_rows)) for x in added.x_at_rows]
        same_rows = np.array_equal(label.rows, added.rows)
        if same_rows and all(is_known) and len(added.lanes) in (1, len(label.lanes)):
            return label
        is_possible = same_rows and first.label == other.label and len(label.lanes) and len(added.lanes)
        if not is_possible or any(is_known) or _share_a_lane(label.x_at_rows, added.x_at_rows):
            raise contradiction(first, other)
        list_of([*label.lanes, *added.lanes], f"{other.location()}: with those of the lines before it, 'lanes'")
        return _together(label, added)

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


def _json_files(root: Path) -> list[Path]:
    """The JSON files where label files may be; a copy of one (out of train_set/, as guides tell) is left out."""
    files: dict[str, list[Path]] = {}
    for folder in (root, root / "train_set", root / "test_set"):
        for child in Tree(folder).children(folder):
            if child.path.suffix.lower() in (".json", ".jsonl") and not child.is_folder:
                same_name = files.setdefault(child.path.name, [])
                if not any(filecmp.cmp(child.path, other, shallow=False) for other in same_name):
                    same_name.append(child.path)
    return [path for paths in files.values() for path in paths]


def _list_name(path: Path, root: Path) -> str:
    """The name of a label file; that of one in test_set/ says so."""
    is_in_test_set = path.parent == root / "test_set" and purpose(path.name) != TEST
    return f"test_set/{path.name}" if is_in_test_set else path.name


def _is_label_file(path: Path) -> bool:
    return any(fnmatch.fnmatchcase(path.name.lower(), pattern) for pattern in PATTERNS)


def _is_of_another_tool(path: Path) -> bool:
    """Whether a file begins as those of COCO, labelme and BDD100K do, which may have any name."""
    head = file_head(path, HEAD_BYTES)
    return b'"raw_file"' not in head and any(key in head for key in OTHER_KEYS)


def _no_json_lines(path: Path, first: bytes) -> str | None:
    """Why a file whose first line is this cannot be one of JSON lines, if it is an array or is printed with breaks."""
    second = next((text for _, _, text in itertools.islice(text_lines(path), 1, 2)), b"").strip()
    start = first.removeprefix(b"\xef\xbb\xbf").strip()
    is_array = start.startswith(b"[") and start[1:].strip()[:1] in (b"", b"{")
    if is_array or (start == b"{" and second.startswith(b'"')):
        kind = "one JSON array" if is_array else "a JSON object over many lines"
        return f"{kind}; expected one JSON object a line, with {KEYS}, and neither brackets nor commas around them"
    return None


def _names_images(path: Path) -> bool:
    return b'"raw_file"' in file_head(path, HEAD_BYTES)


def _share_a_lane(x_px: np.ndarray, others_px: np.ndarray) -> bool:
    """Whether a lane (R) of one label is, with other points, one of the other."""
    for x, other in itertools.product(x_px, others_px):
        common = (x >= 0) & (other >= 0)
        if common.sum() > 1 and np.median(np.abs(x - other)[common]) < SAME_LANE_PX:
            return True
    return False


def _together(label: Label, added: Label) -> Label:
    return label._replace(lanes=label.lanes + added.lanes, x_at_rows=np.vstack((label.x_at_rows, added.x_at_rows)),
                          lane_ids=None)  # whose numbers are those of another line of the file


def _label_at(sample: Sample, offset: int, line: int) -> Label:
    where = f"{sample.label}:{line}"
    return _label(json_object(line_at(sample.label, offset), where, KEYS), where)


def _label(record: dict, where: str) -> Label:
    for key in ("lanes", "h_samples"):
        if key not in record:
            raise DataError(f"{where}: no '{key}'; expected {KEYS}")
    lanes = record["lanes"]
    table = number_table((record["h_samples"], *lanes)) if isinstance(lanes, list) and len(lanes) <= MAX_LANES else None
    rows, xs = _checked(record, where) if table is None else (table[0], table[1:])
    has_point = xs >= 0
    points = np.empty((np.count_nonzero(has_point), 2), np.float32)
    points[:, 0], points[:, 1] = xs[has_point], rows[has_point.nonzero()[1]]
    stops = has_point.sum(1).cumsum().tolist()
    return Label([points[start:stop] for start, stop in itertools.pairwise([0, *stops])], rows, xs,
                 lane_ids=_lane_ids(record.get("lane_ids"), len(lanes), where))


def _checked(record: dict, where: str) -> tuple[np.ndarray, np.ndarray]:
    """rows (R) and x (lanes, R) of a record. Raises DataError, which says what is wrong in which lane."""
    rows = numbers(record["h_samples"], f"{where}: h_samples")
    lanes = list_of(record["lanes"], f"{where}: 'lanes'")
    if not len(rows):
        raise DataError(f"{where}: h_samples is empty; expected the rows of the lanes' points")
    xs = np.empty((len(lanes), len(rows)))
    for i, lane in enumerate(lanes):
        values = numbers(lane, f"{where}: lane {i + 1}")
        if len(values) != len(rows):
            raise DataError(f"{where}: lane {i + 1} has {len(values)} points but h_samples has {len(rows)} rows")
        xs[i] = values
    return rows, xs


def _lane_ids(values: object, count: int, where: str) -> tuple[int, ...] | None:
    """A whole number a lane, no two the same; None where the record has none."""
    if values is None:
        return None
    ids = list_of(values, f"{where}: 'lane_ids'")
    if len(ids) != count or len(set(map(str, ids))) != count or not all(type(number) is int for number in ids):
        raise DataError(f"{where}: lane_ids must be {count} different whole numbers, one a lane")
    return tuple(ids)
