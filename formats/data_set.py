"""A data set as an object: it recognizes its folder, lists its samples, reads its labels, and has its own metric."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from formats.base import DataError, Label, Sample
from formats.files import PassedOver
from formats.metric import Metric


class LabelledImage(NamedTuple):
    """An image and its lanes to be written: lanes (N, 2) in pixels of the image."""

    name: str  # of the image, a path below the root of the data set that is written
    lanes: Sequence[np.ndarray]
    size_px: tuple[int, int]  # width, height
    part: str = "train"  # train | val | test


class DataSet(ABC):
    """A kind of data set on disk. A new one is a subclass in a module of its own, named in registry.DATA_SETS.

    Where something is wrong with one image, list_samples yields a DataError instead: training stops at the
    first, check_dataset.py collects them all. A MissingFile is such an error only where its list is used.
    What could be data but is not read is yielded as PassedOver, and counted.
    """

    name: str  # as data.format calls it
    layout: str  # of its folder, in a few words for messages
    metric: Metric  # of its own benchmark
    image_size_px: tuple[int, int] | None = None  # width, height of its images, where all have the same
    validation_lists: tuple[str, ...] = ()  # lists that validate by custom where none says so by its name

    @abstractmethod
    def detect(self, root: Path) -> bool:
        """Whether a folder has this layout."""

    @abstractmethod
    def list_samples(self, root: Path) -> Iterator[Sample | DataError | PassedOver]:
        """Samples under root, an image as often as lists name it, under the same name each time."""

    @abstractmethod
    def read_label(self, sample: Sample) -> Label:
        """The label of a sample. Raises DataError with file and line."""

    def image_name(self, name: str) -> str:
        """What an image of that name is called where this data set is written."""
        return name

    def write_label(self, root: Path, image: LabelledImage) -> int:
        """Write the label of an image that is at root / image.name; returns how many lanes cannot be written.

        Raises DataError for a data set that is only read.
        """
        raise DataError(f"{self.name} is only read; it cannot be written")

    def join(self, label: Label, first: Sample, other: Sample) -> Label:
        """The label of an image, so far of the sample `first`, with that of another sample of the same image.

        It is `label` itself where the other has nothing else. Raises DataError where they contradict each other.
        """
        lanes, others = (sorted(lane.tobytes() for lane in part.lanes) for part in (label, self.read_label(other)))
        if lanes == others:
            return label
        raise contradiction(first, other)


def contradiction(first: Sample, other: Sample) -> DataError:
    """The error for two labels of one image, naming both places."""
    names = first.name if first.name == other.name else f"{first.name} (also called {other.name})"
    return DataError(f"{other.location()}: another label of the image {names} than in {first.location()}; keep one")
