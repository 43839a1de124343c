"""Readers of the data sets that people have on disk, all into one form: a list of entries, read one at a time.

A format is one function from a root folder to entries; `label` reads an entry's lanes. Pixels here are those of
the image that the label belongs to. N points, 2 = (x, y); lanes run from the far end to the near one.
"""

import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

MAX_POINTS = 10_000  # in one lane; more is a broken file, not a road
MAX_LANES = 64
MAX_PIXEL = 1e5


class DataError(ValueError):
    """Data that cannot be used; the message says in one line what was found, where, and what to do."""


class Entry(NamedTuple):
    """An image and where its label is: a whole file, or the line at `offset` of a list of labels."""

    image: Path
    label: Path
    name: str  # as the data set calls the image
    list_name: str  # the list that names it, such as label_data_0531.json
    offset: int = -1
    line: int = 0


class Label(NamedTuple):
    """Lanes in pixels. TuSimple's own rows and x (-2: no point) are kept, since its score is made on them."""

    lanes: list[np.ndarray]  # of (N, 2) float32, N may be 0
    rows: np.ndarray | None = None  # (R) int
    x_at_rows: np.ndarray | None = None  # (lanes, R)


def entries(root: str | Path, format_name: str = "auto") -> list[Entry]:
    """All entries under root, in the order of their lists. Raises DataError naming what was looked for."""
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; set data.root to the folder of your data set")
    if format_name == "auto":
        format_name = recognise(root)
    found = READERS[format_name](root)
    if not found:
        raise DataError(f"{root}: no labelled image found in the {format_name} layout")
    return found


def recognise(root: Path) -> str:
    """The format of a folder, from its layout. Raises DataError when it looks like none."""
    if _tusimple_lists(root):
        return "tusimple"
    if any((root / "list").glob("*.txt")):
        return "culane"
    if next(root.rglob("*.lines.txt"), None) is not None:
        return "folder"
    raise DataError(
        f"{root}: no known layout: neither label_data_*.json (TuSimple), list/*.txt (CULane) "
        "nor X.lines.txt beside X.jpg; see 'Your own data' in the README"
    )


def label(entry: Entry) -> Label:
    """The label of an entry. Raises DataError with file and line."""
    if entry.offset >= 0:
        with entry.label.open("rb") as file:
            file.seek(entry.offset)
            return _tusimple_label(_json_line(file.readline(), f"{entry.label}:{entry.line}"), entry)
    return _lines_label(entry.label)


def split(found: list[Entry], rule: str) -> tuple[list[Entry], list[Entry]]:
    """Entries for training and for validation.

    rule: `auto` (the data set's own validation list, or else the last tenth), `all` (everything validates),
    a fraction such as 0.1 (the last tenth; neighbours in a drive stay together), `clip>=N` (images whose folder
    has a number of at least N validate), or the name of the list that validates. Raises DataError for another
    rule.
    """
    clip = re.fullmatch(r"clip\s*>=\s*(\d+)", rule)
    if rule == "all":
        return [], list(found)
    if rule == "auto":
        return _auto_split(found)
    if clip:
        return _partition(found, lambda e: _clip_number(e) >= int(clip[1]))
    if re.fullmatch(r"0?\.\d+", rule):
        return _last_part(found, float(rule))
    names = sorted({e.list_name for e in found})
    if rule in names:
        return _partition(found, lambda e: e.list_name == rule)
    raise DataError(f"data.split is '{rule}'; expected auto, all, a fraction such as 0.1, clip>=N, "
                    f"or one of the lists {', '.join(names)}")


def _auto_split(found: list[Entry]) -> tuple[list[Entry], list[Entry]]:
    names = {e.list_name for e in found}
    for name in ("label_data_val.json", "val.txt", "val_gt.txt", "valid.json", "label_data_0531.json"):
        if name in names and len(names - {"test_label.json", "test.txt", name}) > 0:
            found = [e for e in found if e.list_name not in ("test_label.json", "test.txt")]
            return _partition(found, lambda e, name=name: e.list_name == name)
    if names - {"test_label.json", "test.txt"}:  # a test list is trained on only where there is nothing else
        found = [e for e in found if e.list_name not in ("test_label.json", "test.txt")]
    return _last_part(found, 0.1)


def _partition(found: list[Entry], validates: Callable[[Entry], bool]) -> tuple[list[Entry], list[Entry]]:
    return [e for e in found if not validates(e)], [e for e in found if validates(e)]


def _last_part(found: list[Entry], fraction: float) -> tuple[list[Entry], list[Entry]]:
    cut = len(found) - max(1, round(len(found) * fraction))
    ordered = sorted(found, key=lambda e: e.name)
    return ordered[:cut], ordered[cut:]


def _clip_number(entry: Entry) -> int:
    folder = PurePosixPath(entry.name).parent.name
    if not folder.isdigit():
        raise DataError(f"{entry.name}: its folder '{folder}' is not a number, so data.split=clip>=N cannot be used")
    return int(folder)


# TuSimple: label_data_*.json and test_label.json, one JSON object a line, beside clips/ ----------------------


def _tusimple_lists(root: Path) -> list[Path]:
    folders = [root, root / "train_set", root / "test_set"]
    return [p for f in folders for pattern in ("label_data_*.json", "test_label.json") for p in sorted(f.glob(pattern))]


def read_tusimple(root: Path) -> list[Entry]:
    lists = _tusimple_lists(root)
    if not lists:
        raise DataError(f"{root}: no label_data_*.json or test_label.json here, in train_set/ or in test_set/")
    found = []
    for path in lists:
        before = len(found)
        for line, offset, text in _lines(path):
            where = f"{path}:{line}"
            record = _json_line(text, where)
            name = record.get("raw_file")
            if not isinstance(name, str) or not name:
                raise DataError(f"{where}: no 'raw_file' that names an image")
            image = _image_path((path.parent, root, root / "train_set", root / "test_set"), name, where)
            entry = Entry(image, path, name, path.name, offset, line)
            _tusimple_label(record, entry)  # so that a broken label is named before training starts
            found.append(entry)
        if len(found) == before:
            raise DataError(f"{path}: the label file is empty; expected one JSON object a line")
    return found


def _lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Line number, byte offset and bytes of every line that is not blank."""
    offset = 0
    with path.open("rb") as file:
        for number, text in enumerate(file, start=1):
            if text.strip():
                yield number, offset, text
            offset += len(text)


def _json_line(text: bytes, where: str) -> dict:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: broken JSON: {str(error).splitlines()[0]}") from None
    if not isinstance(record, dict):
        raise DataError(f"{where}: expected a JSON object with raw_file, lanes and h_samples")
    return record


def _tusimple_label(record: dict, entry: Entry) -> Label:
    where = f"{entry.label}:{entry.line}"
    rows = _numbers(record.get("h_samples"), f"{where}: h_samples")
    lanes = record.get("lanes")
    if not isinstance(lanes, list) or len(lanes) > MAX_LANES:
        raise DataError(f"{where}: 'lanes' is not a list of at most {MAX_LANES} lanes")
    xs = np.empty((len(lanes), len(rows)), np.float32)
    for i, lane in enumerate(lanes):
        values = _numbers(lane, f"{where}: lane {i + 1}")
        if len(values) != len(rows):
            raise DataError(f"{where}: lane {i + 1} has {len(values)} points but h_samples has {len(rows)} rows")
        xs[i] = values
    order = np.argsort(rows, kind="stable")
    points = [np.stack((x[order], rows[order]), axis=1)[x[order] >= 0] for x in xs]
    return Label(points, rows, xs)


def _numbers(values: object, where: str) -> np.ndarray:
    if not isinstance(values, list) or len(values) > MAX_POINTS:
        raise DataError(f"{where} is not a list of at most {MAX_POINTS} numbers")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise DataError(f"{where} holds {value!r}, which is not a number")
        if not math.isfinite(value) or abs(value) > MAX_PIXEL:
            raise DataError(f"{where} holds {value}, which is no pixel position")
    return np.asarray(values, np.float32)


def _image_path(folders: tuple[Path, ...], name: str, where: str) -> Path:
    """The file that a label names, below one of the folders. Names that leave them are refused."""
    relative = PurePosixPath(name.replace("\\", "/"))
    if not relative.parts or relative.is_absolute() or ".." in relative.parts or ":" in relative.parts[0] or "\0" in name:
        raise DataError(f"{where}: the image name '{name}' leaves the data folder; use a path below it")
    for folder in folders:
        if (folder / relative).is_file():
            return folder / relative
    raise DataError(f"{where}: the image {folders[0] / relative} is missing")


# CULane and folders: X.lines.txt beside X.jpg, a lane a line, 'x y x y ...' -----------------------------------

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


def read_culane(root: Path) -> list[Entry]:
    """CULane: list/*.txt name the images, with or without the columns of segmentation masks."""
    found = []
    for path in sorted((root / "list").glob("*.txt")):
        before = len(found)
        for line, _, text in _lines(path):
            where = f"{path}:{line}"
            name = _decoded(text, where).split()[0].lstrip("/")
            image = _image_path((root,), name, where)
            label_path = image.with_suffix(".lines.txt")
            if not label_path.is_file():
                raise DataError(f"{where}: the label {label_path} is missing")
            found.append(Entry(image, label_path, name, path.name))
        if len(found) == before:
            raise DataError(f"{path}: the list is empty; expected one image a line")
    if not found:
        raise DataError(f"{root}: no list of images in {root / 'list'}")
    return found


def read_folder(root: Path) -> list[Entry]:
    """A folder of one's own, searched with its subfolders: X.lines.txt beside the image X."""
    found = []
    for path in sorted(root.rglob("*.lines.txt")):
        stem = path.name.removesuffix(".lines.txt")
        image = next((p for s in IMAGE_SUFFIXES for p in (path.with_name(stem + s), path.with_name(stem + s.upper()))
                      if p.is_file()), None)
        if image is None:
            raise DataError(f"{path}: no image {stem}.jpg, .png, .bmp or .webp beside it")
        found.append(Entry(image, path, image.relative_to(root).as_posix(), "folder"))
    return found


def _lines_label(path: Path) -> Label:
    lanes = []
    for line, _, text in _lines(path):
        where = f"{path}:{line}"
        try:
            values = [float(v) for v in _decoded(text, where).split()]
        except ValueError as error:
            raise DataError(f"{where}: {error}; expected numbers 'x y x y ...'") from None
        if len(values) % 2:
            raise DataError(f"{where}: {len(values)} numbers; expected pairs 'x y x y ...'")
        points = _numbers(values, where).reshape(-1, 2)
        lanes.append(points[points[:, 1].argsort(kind="stable")])
        if len(lanes) > MAX_LANES:
            raise DataError(f"{where}: more than {MAX_LANES} lanes")
    return Label(lanes)


def _decoded(text: bytes, where: str) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        raise DataError(f"{where}: not text in UTF-8") from None


READERS: dict[str, Callable[[Path], list[Entry]]] = {
    "tusimple": read_tusimple,
    "culane": read_culane,
    "folder": read_folder,
}
