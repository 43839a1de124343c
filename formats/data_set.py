"""A data set as an object: it recognizes its folder, lists its samples, reads its labels, and has its own metric."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

from formats.base import DataError, Label, Sample
from formats.metric import Metric


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

    def is_test_list(self, name: str) -> bool:
        """Whether a list is one of the test lists."""
        return any(name.startswith(test) if test.endswith("/") else name == test for test in self.test_lists)
