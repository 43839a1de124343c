"""A data set as an object: it recognizes its folder, lists its samples, reads its labels, and has its own metric."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from formats.base import DataError, Label, Sample
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
    first, check_dataset.py collects them all.
    """

    name: str  # as data.format calls it
    layout: str  # of its folder, in a few words for messages
    metric: Metric  # of its own benchmark
    image_size_px: tuple[int, int] | None = None  # width, height of its images, where all have the same
    validation_lists: tuple[str, ...] = ()  # names of lists that validate by custom, the preferred one first
    test_lists: tuple[str, ...] = ()  # names of lists that are never trained on; a folder of them ends in "/"

    @abstractmethod
    def detect(self, root: Path) -> bool:
        """Whether a folder has this layout."""

    @abstractmethod
    def list_samples(self, root: Path, require_images: bool = True) -> Iterator[Sample | DataError]:
        """Samples under root, an image as often as lists name it; its file may be missing unless require_images."""

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

    def is_test_list(self, name: str) -> bool:
        """Whether a list is one of the test lists."""
        return any(name.startswith(test) if test.endswith("/") else name == test for test in self.test_lists)
