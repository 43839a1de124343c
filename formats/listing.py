"""A folder as its data set lists it: its samples, an image once; what is broken or missing; what is passed over.

N samples as lists name them, an image as often as they do.
"""

import os
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import numpy as np

from formats.base import DataError, MissingFile, Sample
from formats.data_set import DataSet
from formats.files import PassedOver
from formats.sample_index import SampleIndex

EXAMPLES = 3  # of what is passed over
FILES = ("are ", "cannot ")  # reasons of formats/files.py, which do not name what they are of
OTHER_NAMES = "images are read under another name: links to the same file"


@dataclass
class Tally:
    """How many things are passed over for one reason, and the first of them."""

    count: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass
class Listing:
    """What is in a folder. A missing file matters only if its list is used, and has its message only once a list."""

    format: str
    samples: SampleIndex
    missing: SampleIndex  # samples without an image, or without a label
    errors: list[DataError]
    missing_errors: dict[str, MissingFile]  # the first of each list
    passed_over: dict[str, Tally]  # by the reason

    def notes(self) -> list[str]:
        """What is passed over, a line for each reason."""
        return [f"{tally.count} {'files ' if reason.startswith(FILES) else ''}{reason}, such as "
                f"{', '.join(tally.examples)}" for reason, tally in self.passed_over.items()]


def read_listing(root: Path, data_set: DataSet, stop: bool = True, require_images: bool = True) -> Listing:
    """What a data set lists below root. Raises the first DataError but those of missing files; collects them all
    unless `stop`. Without require_images a sample needs no image.
    """
    named, missing = _NamedSamples(), _NamedSamples()
    listing = Listing(data_set.name, SampleIndex(), SampleIndex(), [], {}, {})
    for item in data_set.list_samples(root):
        if isinstance(item, Sample):
            named.append(item)
        elif isinstance(item, PassedOver):
            _count(listing, root, item)
        elif isinstance(item, MissingFile) and item.is_image and not require_images:
            named.append(item.sample)
        elif isinstance(item, MissingFile):
            missing.append(item.sample)
            for name in item.sample.lists:
                listing.missing_errors.setdefault(name, item)
        elif stop:
            raise item
        else:
            listing.errors.append(item)
    listing.missing, *_ = missing.unique(None)
    listing.samples, errors, other_names = named.unique(data_set)
    listing.errors += errors
    for path in other_names:
        _count(listing, root, PassedOver(path, OTHER_NAMES))
    if stop and errors:
        raise errors[0]
    return listing


def _count(listing: Listing, root: Path, item: PassedOver) -> None:
    tally = listing.passed_over.setdefault(item.reason, Tally())
    tally.count += item.count
    if len(tally.examples) < EXAMPLES:
        is_below = item.path.is_relative_to(root) and item.path != root
        tally.examples.append(str(item.path.relative_to(root) if is_below else item.path))


class _NamedSamples:
    """Samples as lists name them. Two of the same name, or of the same file, are of one image."""

    def __init__(self):
        self.samples, self._names, self._files = SampleIndex(), array("q"), array("q")

    def append(self, sample: Sample) -> None:
        self.samples.append(sample)
        self._names.append(hash(sample.name))
        self._files.append(_file_id(sample.image))

    def unique(self, data_set: DataSet | None) -> tuple[SampleIndex, list[DataError], list[Path]]:
        """Each image once; an error for each that has two labels which contradict each other; images that had
        another name as well. Without a data set labels are not compared.
        """
        names, files = np.asarray(self._names), np.asarray(self._files)
        by_name = (rows for group in _equal(names) for rows in self._of_one_name(group))
        samples, kept, errors = _merged(self.samples, by_name, data_set)
        files = files[kept]
        by_file = [rows for rows in _equal(files) if files[rows[0]] and _is_one_file(samples[i].image for i in rows)]
        unique, _, other_errors = _merged(samples, by_file, data_set)
        return unique, errors + other_errors, [samples[i].image for rows in by_file for i in rows[1:]]

    def _of_one_name(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """The rows of each name, of rows whose names have the same hash."""
        for _, group in groupby(sorted(rows, key=self.samples.name), self.samples.name):
            yield np.fromiter(group, np.int64)


def _merged(samples: SampleIndex, groups: Iterable[np.ndarray], data_set: DataSet | None
            ) -> tuple[SampleIndex, np.ndarray, list[DataError]]:
    """The samples with each group of rows as one; the row that each had; the errors of those that contradict."""
    first, is_part, errors = np.arange(len(samples)), np.zeros(len(samples), bool), []
    for rows in groups:
        row, *others = rows
        first[others], label = row, None
        for other in others:
            if data_set is None or samples.has_same_label(row, other):
                continue
            try:
                label = data_set.read_label(samples[row]) if label is None else label
                joined = data_set.join(label, samples[row], samples[other])
            except DataError as error:
                errors.append(error)
                first[rows] = -1
                break
            is_part[other], label = joined is not label, joined
    kept = np.flatnonzero(first == np.arange(len(samples)))
    return (samples if len(kept) == len(samples) else samples.merge(first, is_part)), kept, errors


def _equal(values: np.ndarray) -> Iterator[np.ndarray]:
    """The rows of each value that occurs more than once, ascending."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[:len(values)])
    stops = np.append(starts[1:], len(values))
    several = stops - starts > 1
    for start, stop in zip(starts[several], stops[several], strict=True):
        yield order[start:stop]


def _is_one_file(paths: Iterable[Path]) -> bool:
    first, *others = paths
    return all(os.path.samefile(first, path) for path in others)


def _file_id(path: Path) -> int:
    """A number that is the same for all names of a file; 0 where it is not there or the file system has none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return 0
    return hash((status.st_dev, status.st_ino)) if status.st_ino else 0
