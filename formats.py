"""Readers of the data sets that people have on disk, all into one form: a list of entries, read one at a time.

A format is one function from a root folder to entries, named in READERS; `label` reads an entry's lanes. Where
something is wrong with one image, a reader yields the DataError in its place: training stops at the first,
the check tool (python dataset.py --check) collects them all.
"""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from entries import Entries
from formats_json import curvelanes_label, llamas_label, read_curvelanes, read_llamas
from label_files import (
    IMAGE_SUFFIXES,
    DataError,
    Entry,
    Label,
    decoded,
    image_path,
    json_object,
    lanes_of_text,
    list_of,
    numbers,
    text_lines,
)

Reader = Callable[[Path, bool], Iterator[Entry | DataError]]

VALIDATION_LISTS = ("label_data_val.json", "val.txt", "val_gt.txt", "valid.txt", "valid", "label_data_0531.json")
TEST_LISTS = ("test_label.json", "test.txt", "test")


def entries(root: str | Path, format_name: str = "auto") -> Entries:
    """All entries under root, in the order of their lists. Raises DataError for the first thing that is wrong."""
    found = Entries()
    for entry in _named(root, format_name, True):
        if isinstance(entry, DataError):
            raise entry
        found.append(entry)
    return found.once_each()


def scan(root: str | Path, format_name: str = "auto", images: bool = True) -> Iterator[Entry | DataError]:
    """A DataError for each image or label under root that has no entry, then the entries; nothing found is one too.

    images=False takes labels whose image is missing.
    """
    found = Entries()
    for entry in _named(root, format_name, images):
        if isinstance(entry, DataError):
            yield entry
        else:
            found.append(entry)
    yield from found.once_each()


def _named(root: str | Path, format_name: str, images: bool) -> Iterator[Entry | DataError]:
    """What the reader of a format yields: an image as often as lists name it."""
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; set data.root to the folder of your data set")
    chosen = recognise(root) if format_name == "auto" else format_name
    if chosen is None:
        raise DataError(f"{root}: no known layout: expected {'; or '.join(LAYOUTS.values())}; see docs/DATA.md")
    empty = True
    for entry in READERS[chosen](root, images):
        empty = False
        yield entry
    if empty:
        other = recognise(root)
        hint = f"; it looks like {other}: set data.format={other} or auto" if other not in (None, chosen) else ""
        yield DataError(f"{root}: nothing in the {chosen} layout here, which is {LAYOUTS[chosen]}{hint}")


def recognise(root: Path) -> str | None:
    """The format of a folder, from its layout; None when it looks like none."""
    if _tusimple_lists(root):
        return "tusimple"
    if next((root / "list").rglob("*.txt"), None):
        return "culane"
    if next(root.glob("*/labels/*.lines.json"), None) or next(root.glob("labels/*.lines.json"), None):
        return "curvelanes"
    if next(root.glob("labels/*/*/*.json"), None):
        return "llamas"
    return "folder" if next(root.rglob("*.lines.txt"), None) else None


def label(entry: Entry) -> Label:
    """The label of an entry. Raises DataError with file and line."""
    if entry.offset >= 0:
        try:
            with entry.label.open("rb") as file:
                file.seek(entry.offset)
                text = file.readline()
        except OSError as error:
            raise DataError(f"{entry.label}: cannot be read ({error.strerror})") from None
        where = f"{entry.label}:{entry.line}"
        return _tusimple_label(json_object(text, where, TUSIMPLE_KEYS), where)
    if entry.label.name.endswith(".lines.json"):
        return curvelanes_label(entry.label)
    if entry.label.suffix == ".json":
        return llamas_label(entry.label)
    return Label(lanes_of_text(entry.label))


def split(found: Entries, rule: str, training: bool = True) -> tuple[Entries, Entries]:
    """Entries for training and for validation.

    rule: `auto` (the data set's own validation list, or else the last tenth; where there are test lists alone and
    nothing is trained, all of them), `all` (everything validates), `none` (everything trains),
    a fraction such as 0.1 (the last tenth; neighbours in a drive stay together), `clip>=N` (images whose folder
    has a number of at least N validate), or the name of the list that validates. Raises DataError for another
    rule.
    """
    clip = re.fullmatch(r"clip\s*>=\s*(\d{1,18})", rule)
    if rule == "all":
        return Entries(), found
    if rule == "none":
        return found, Entries()
    if rule == "auto":
        return _auto_split(found, training)
    if clip:
        return _partition(found, np.fromiter((_clip_number(name) >= int(clip[1]) for name in found.names()), bool))
    if re.fullmatch(r"0?\.\d*[1-9]\d*", rule):
        return _last_part(found, float(rule))
    lists = sorted({name for kind in found.kinds for name in kind.lists})
    named = {name for name in lists if rule in (name, PurePosixPath(name).name)}
    if named:
        return _partition(found, found.listed(lambda lists: not named.isdisjoint(lists)))
    raise DataError(f"data.split is {rule[:100]!r}; expected auto, all, none, a fraction such as 0.1, clip>=N, "
                    f"or one of the lists {', '.join(lists)}")


def _auto_split(found: Entries, training: bool) -> tuple[Entries, Entries]:
    is_test = found.listed(lambda lists: all(name in TEST_LISTS or name.startswith("test_split/") for name in lists))
    if not training and is_test.all():
        return Entries(), found
    if not is_test.all():  # tests are trained on only where there is nothing else
        found = found.take(np.flatnonzero(~is_test))
    for name in VALIDATION_LISTS:
        validates = found.listed(lambda lists, name=name: name in lists)
        if 0 < validates.sum() < len(found):
            return _partition(found, validates)
    return _last_part(found, 0.1)


def _partition(found: Entries, validates: np.ndarray) -> tuple[Entries, Entries]:
    return found.take(np.flatnonzero(~validates)), found.take(np.flatnonzero(validates))


def _last_part(found: Entries, fraction: float) -> tuple[Entries, Entries]:
    cut = len(found) - max(1, round(len(found) * fraction))
    rows = found.by_name()
    return found.take(rows[:cut]), found.take(rows[cut:])


def _clip_number(name: str) -> int:
    folder = PurePosixPath(name).parent.name
    if not re.fullmatch(r"\d{1,18}", folder):
        raise DataError(f"{name}: its folder '{folder}' is not a number, so data.split=clip>=N cannot be used")
    return int(folder)


# TuSimple: label_data_*.json and test_label.json, one JSON object a line, beside clips/ ----------------------

TUSIMPLE_KEYS = "raw_file, lanes and h_samples"


def _tusimple_lists(root: Path) -> list[Path]:
    """The label files; of two with the same name (copied out of train_set/, as guides tell) the first."""
    found: dict[str, Path] = {}
    for folder in (root, root / "train_set", root / "test_set"):
        for pattern in ("label_data_*.json", "test_label.json"):
            for path in sorted(folder.glob(pattern)):
                found.setdefault(path.name, path)
    return list(found.values())


def read_tusimple(root: Path, images: bool) -> Iterator[Entry | DataError]:
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
                yield Entry(image, path, name, (path.name,), offset, line)
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


# CULane and folders: X.lines.txt beside X.jpg, a lane a line, 'x y x y ...' -----------------------------------


def read_culane(root: Path, images: bool) -> Iterator[Entry | DataError]:
    """CULane: list/**/*.txt name the images, with or without the columns of segmentation masks."""
    folder = root / "list"
    for path in sorted(folder.rglob("*.txt"), key=lambda p: (len(p.parts), p)):
        list_name, empty = path.relative_to(folder).as_posix(), True
        for line, _, text in text_lines(path):
            empty = False
            where = f"{path}:{line}"
            try:
                words = decoded(text, where).strip()
                first = (words.split() or [""])[0]
                name = (first if first.lower().endswith(IMAGE_SUFFIXES) else words).lstrip("/")
                image = image_path((root,), name, where, images)
                label_path = image.with_suffix(".lines.txt")
                if not label_path.is_file():
                    raise DataError(f"{where}: the label {label_path} is missing")
                yield Entry(image, label_path, name, (list_name,))
            except DataError as error:
                yield error
        if empty:
            yield DataError(f"{path}: the list is empty; expected one image a line")


def read_folder(root: Path, images: bool) -> Iterator[Entry | DataError]:
    """A folder of one's own, searched with its subfolders: X.lines.txt beside the image X."""
    for path in _files_below(root, ".lines.txt"):
        stem = path.name.removesuffix(".lines.txt")
        beside = [path.with_name(stem + s) for suffix in IMAGE_SUFFIXES for s in (suffix, suffix.upper())]
        image = next((p for p in beside if p.is_file()), None if images else beside[0])
        if image is None:
            yield DataError(f"{path}: no image {stem}.jpg, .png, .bmp or .webp beside it")
        else:
            yield Entry(image, path, image.relative_to(root).as_posix(), ("folder",))


def _files_below(folder: Path, suffix: str) -> Iterator[Path]:
    """Files whose names end so, sorted as paths are, with the names of one folder a level in memory."""
    try:
        children = sorted(os.scandir(folder), key=lambda child: child.name)
    except PermissionError:  # such as lost+found: nobody's data
        return
    for child in children:
        if child.name.endswith(suffix):
            yield folder / child.name
        elif child.is_dir(follow_symlinks=False):
            yield from _files_below(folder / child.name, suffix)


READERS: dict[str, Reader] = {
    "tusimple": read_tusimple,
    "culane": read_culane,
    "curvelanes": read_curvelanes,
    "llamas": read_llamas,
    "folder": read_folder,
}
LAYOUTS = {
    "tusimple": "label_data_*.json or test_label.json beside clips/ (TuSimple)",
    "culane": "list/*.txt naming images with X.lines.txt beside X.jpg (CULane)",
    "curvelanes": "train/ and valid/ with images/X.jpg and labels/X.lines.json (CurveLanes)",
    "llamas": "labels/train/*/X.json and color_images/train/*/X_color_rect.png (LLAMAS)",
    "folder": "X.lines.txt beside X.jpg (a folder of your own)",
}
