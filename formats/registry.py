"""The data sets that people have on disk, recognized by their layout and listed image by image.

Where something is wrong with one image, a reader yields the DataError in its place: training stops at the first, the
check tool collects them all.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from formats.base import DataError, Label, Sample
from formats.culane import read_culane
from formats.curvelanes import curvelanes_label, read_curvelanes
from formats.folder import read_folder
from formats.llamas import llamas_label, read_llamas
from formats.parsing import json_object, lanes_of_text
from formats.sample_index import SampleIndex
from formats.tusimple import TUSIMPLE_KEYS, _tusimple_label, _tusimple_lists, read_tusimple

Reader = Callable[[Path, bool], Iterator[Sample | DataError]]


def list_samples(root: str | Path, format_name: str = "auto") -> SampleIndex:
    """All samples under root, in the order of their lists. Raises DataError for the first thing that is wrong."""
    found = SampleIndex()
    for sample in _read(root, format_name, True):
        if isinstance(sample, DataError):
            raise sample
        found.append(sample)
    return found.once_each()


def scan(root: str | Path, format_name: str = "auto", images: bool = True) -> Iterator[Sample | DataError]:
    """A DataError for each image or label under root that has no sample, then the samples; nothing found is one too.

    images=False takes labels whose image is missing.
    """
    found = SampleIndex()
    for sample in _read(root, format_name, images):
        if isinstance(sample, DataError):
            yield sample
        else:
            found.append(sample)
    yield from found.once_each()


def _read(root: str | Path, format_name: str, images: bool) -> Iterator[Sample | DataError]:
    """What the reader of a format yields: an image as often as lists name it."""
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; set data.root to the folder of your data set")
    chosen = detect(root) if format_name == "auto" else format_name
    if chosen is None:
        raise DataError(f"{root}: no known layout: expected {'; or '.join(LAYOUTS.values())}; see docs/DATA.md")
    empty = True
    for sample in READERS[chosen](root, images):
        empty = False
        yield sample
    if empty:
        other = detect(root)
        hint = f"; it looks like {other}: set data.format={other} or auto" if other not in (None, chosen) else ""
        yield DataError(f"{root}: nothing in the {chosen} layout here, which is {LAYOUTS[chosen]}{hint}")


def detect(root: Path) -> str | None:
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


def read_label(sample: Sample) -> Label:
    """The label of an sample. Raises DataError with file and line."""
    if sample.offset >= 0:
        try:
            with sample.label.open("rb") as file:
                file.seek(sample.offset)
                text = file.readline()
        except OSError as error:
            raise DataError(f"{sample.label}: cannot be read ({error.strerror})") from None
        where = f"{sample.label}:{sample.line}"
        return _tusimple_label(json_object(text, where, TUSIMPLE_KEYS), where)
    if sample.label.name.endswith(".lines.json"):
        return curvelanes_label(sample.label)
    if sample.label.suffix == ".json":
        return llamas_label(sample.label)
    return Label(lanes_of_text(sample.label))


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
