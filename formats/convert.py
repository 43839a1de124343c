"""A data set written anew in the layout of another one, with copies of its images."""

import shutil
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from formats import splits
from formats.base import DataError, Label, Sample
from formats.data_set import DataSet, LabelledImage
from formats.files import inner_path
from formats.list_names import TEST, purpose
from formats.sample_index import SampleIndex


class Labelled(NamedTuple):
    """A sample that was read, with the size (width, height) of its image."""

    sample: Sample
    label: Label
    size_px: tuple[int, int]


class Written(NamedTuple):
    """What was written: images, lanes, and lanes that the layout cannot express."""

    images: int
    lanes: int
    left_out: int


def write_data_set(items: Sequence[Labelled], target: DataSet, out: Path, rule: str) -> Written:
    """Write samples and copies of their images into a new folder, in the layout of another data set.

    rule: the data.split that says which of them validate. Raises DataError, before anything is written, where two
    images would have the same label file, and where `out` has files or `target` is only read.
    """
    names = [target.image_name(written_name(item.sample)) for item in items]
    _check_names(names, items)
    new_folder(out)
    parts = part_of_names([item.sample for item in items], rule)
    lanes = left_out = 0
    for name, item in zip(names, items, strict=True):
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(item.sample.image, path)
        missing = target.write_label(out, LabelledImage(name, item.label.lanes, item.size_px, parts[item.sample.name]))
        left_out += missing
        lanes += len(item.label.lanes) - missing
    return Written(len(items), lanes, left_out)


def written_name(sample: Sample) -> str:
    """The name of a sample's image where it is written: that of the sample, with the image's own suffix."""
    return PurePosixPath(sample.name).with_suffix(sample.image.suffix).as_posix()


def part_of_names(samples: Iterable[Sample], rule: str) -> dict[str, str]:
    """train, val or test of each sample by its name: test where only test lists name it, or one does and it is not of
    those that validate.
    """
    index = SampleIndex(samples)
    _, val = splits.split(index, rule)
    validates = set(val.names())
    parts = {}
    for sample in index:
        in_tests = [purpose(name) == TEST for name in sample.lists]
        is_test = all(in_tests) or (any(in_tests) and sample.name not in validates)
        parts[sample.name] = "test" if is_test else "val" if sample.name in validates else "train"
    return parts


def check_new(path: Path) -> None:
    """Raise DataError where a folder is there and has files, which may be somebody's work."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise DataError(f"{path}: is there and not empty; name a new folder")


def new_folder(path: Path) -> None:
    """Make a folder. Raises DataError where it is there and has files."""
    check_new(path)
    path.mkdir(parents=True, exist_ok=True)


def _check_names(names: Collection[str], items: Sequence[Labelled]) -> None:
    """Raises DataError where two images differ in their suffix or in capitals alone: they would share a label file.

    And where a name leads out of the folder.
    """
    first: dict[str, Path] = {}
    for name, item in zip(names, items, strict=True):
        if PurePosixPath(name) != inner_path(PurePosixPath(name)):
            raise DataError(f"{item.sample.image}: {name} leads out of the data set")
        image = first.setdefault(PurePosixPath(name).with_suffix("").as_posix().lower(), item.sample.image)
        if image != item.sample.image:
            raise DataError(f"{item.sample.image}: its label file would be that of {image}; rename one of them")
