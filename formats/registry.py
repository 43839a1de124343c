"""All data sets that can be read: recognized by their layout, listed, and labels read by their own object."""

import itertools
import os
from collections.abc import Iterable
from pathlib import Path

from formats.base import DataError, Label, Sample
from formats.bdd100k import Bdd100k
from formats.coco import Coco
from formats.culane import CULane
from formats.culane_metric import CULaneMetric
from formats.curvelanes import CurveLanes
from formats.cvat import Cvat
from formats.data_set import DataSet
from formats.files import IMAGE_SUFFIXES, Tree
from formats.folder import SUFFIX, Folder
from formats.label_checks import normalized_range
from formats.labelme import Labelme
from formats.listing import Listing, read_listing
from formats.llamas import Llamas
from formats.metric import Metric
from formats.openlane import OpenLane
from formats.sample_index import SampleIndex
from formats.tusimple import TuSimple
from formats.tusimple_metric import TuSimpleMetric
from formats.vil100 import Vil100

DATA_SETS: dict[str, DataSet] = {  # in the order in which they are recognized
    item.name: item for item in (TuSimple(), CULane(), CurveLanes(), Llamas(), Vil100(), OpenLane(), Folder(),
                                 Labelme(), Cvat(), Coco(), Bdd100k())
}
MAX_LOOKED_AT = 10_000  # files of a folder of no known layout
LABEL_SUFFIXES = (".txt", ".json", ".xml", ".csv")
WRITABLE = ("tusimple", "culane", "folder", "labelme")
METRICS: dict[str, Metric] = {metric.name: metric for metric in (TuSimpleMetric(), CULaneMetric())}


def list_samples(root: str | Path, format_name: str = "auto") -> SampleIndex:
    """All samples under root, in the order of their lists. Raises DataError for the first thing that is wrong."""
    listing = list_folder(root, format_name)
    for error in listing.missing_errors.values():
        raise error
    return listing.samples


def list_folder(root: str | Path, format_name: str = "auto", stop: bool = True, require_images: bool = True
                ) -> Listing:
    """What is in a folder, as `read_listing` gives it. Raises DataError where it is no data set."""
    root = Path(root)
    check_folder(root)
    name = detect(root) if format_name == "auto" else format_name
    if name is None:
        layouts = "; or ".join(item.layout for item in DATA_SETS.values())
        raise DataError(f"{root}: no known layout: {_what_is_there(root)}. Expected {layouts}; see docs/DATASETS.md")
    chosen = data_set(name)
    listing = read_listing(root, chosen, stop, require_images)
    if not (listing.samples or listing.missing or listing.errors):
        other = detect(root)
        hint = f"; it looks like {other}: set data.format={other} or auto" if other not in (None, name) else ""
        raise DataError(f"{root}: nothing in the {name} layout here, which is {chosen.layout}{hint}")
    return listing


def check_folder(root: Path) -> None:
    """Raise DataError where a root is no folder."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; set data.root to the folder of your data set")


def check_free(root: Path, own: Iterable[str]) -> None:
    """Raise DataError where a folder without any of the files `own` holds labelled images, beside which rendered ones
    would be read alone.
    """
    if root.is_dir() and not any((root / name).exists() for name in own) and (name := detect(root)):
        raise DataError(f"{root}: holds labelled images in the {name} layout, which nothing would read beside rendered "
                        "ones; render into a folder of its own")


def _what_is_there(root: Path) -> str:
    """The images of a folder, what may be their labels, and what to do."""
    files = list(itertools.islice(Tree(root).files(), MAX_LOOKED_AT))
    images = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    stems = {path.stem for path in images}
    others = [path for path in files if path.suffix.lower() in LABEL_SUFFIXES]
    texts = [path for path in others if path.suffix.lower() == ".txt" and path.stem in stems]
    if not images:
        return "there is no image"
    count = f"there are {'at least ' * (len(files) == MAX_LOOKED_AT)}{len(images)} images"
    if texts:
        return (f"{count} and {len(texts)} files like {texts[0].name} of their names; if those are lanes, a line each "
                f"as x y x y ... in pixels, call them {texts[0].stem}{SUFFIX}")
    if others:
        return f"{count}, and {len(others)} files like {others[0].name}, which are no labels of any layout"
    return (f"{count} and no labels; draw lanes in labelme or CVAT, or let a model draw them first: "
            "python inference_fixed.py ROOT --labels NEW_FOLDER")


def detect(root: Path) -> str | None:
    """The name of the data set whose layout a folder has; None where it is none of them."""
    return next((name for name, item in DATA_SETS.items() if item.detect(root)), None)


def other_layouts(root: Path, listing: Listing) -> list[str]:
    """A line for each other layout in which a folder has labels, of images that are not among those listed."""
    listed = {os.path.realpath(sample.image) for part in (listing.samples, listing.missing) for sample in part}
    lines = []
    for name, item in DATA_SETS.items():
        if name == listing.format or not item.detect(root):
            continue
        others = read_listing(root, item, stop=False).samples
        count = sum(os.path.realpath(sample.image) not in listed for sample in others)
        if count:
            lines.append(f"{count} more images here have labels in the {name} layout, which are not read: give them a "
                         "folder of their own")
    return lines


def read_label(sample: Sample) -> Label:
    """The label of a sample, in pixels. Raises DataError with file and line."""
    label = DATA_SETS[sample.format].read_label(sample)
    if label.lanes and (limits := normalized_range(label.lanes)):
        raise DataError(f"{sample.location()}: points from {limits[0]:.3g} to {limits[1]:.3g} are shares of the "
                        "image; pixels are expected: multiply x by its width and y by its height")
    return label


def data_set(name: str) -> DataSet:
    """The data set of that name. Raises DataError, naming those there are."""
    if name not in DATA_SETS:
        raise DataError(f"data.format is {name[:100]!r}; expected auto or one of {', '.join(DATA_SETS)}")
    return DATA_SETS[name]


def own_data_set(samples: SampleIndex) -> DataSet:
    """The data set that samples belong to: all of one root are of one."""
    return DATA_SETS[samples.formats()[0]]


def own_metric(samples: SampleIndex) -> Metric:
    """The metric of the benchmark that the samples belong to."""
    return own_data_set(samples).metric
