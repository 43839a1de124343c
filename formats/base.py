"""What all data sets share: a sample, its label, and the error for data that cannot be used.

N points, 2 = (x, y) in pixels of the image that the label belongs to; R rows.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np


class DataError(ValueError):
    """Data that cannot be used; the message is one line: where, what it is, and what to do."""


class Sample(NamedTuple):
    """An image and where its label is: a whole file, or the line at `offset` of a list of labels, and `more` of them.
    """

    image: Path
    label: Path
    name: str  # as the data set calls the image, a path below its root
    lists: tuple[str, ...]  # the lists that name it, such as label_data_0531.json or test_split/test0_normal.txt
    format: str = "folder"  # the name of its data set object
    offset: int = -1
    line: int = 0
    more: tuple[tuple[int, int], ...] = ()  # offset and number of further lines that label the same image

    def location(self) -> str:
        """File and line of the label; of one among many in a line, the image's name."""
        if self.line:
            return f"{self.label}:{self.line}"
        return str(self.label) if self.offset < 0 else f"{self.label}: {self.name}"


class MissingFile(DataError):
    """The image of a sample is not there, or its label; the lists that are not used need neither."""

    def __init__(self, message: str, sample: Sample, is_image: bool = True):
        super().__init__(message)
        self.sample, self.is_image = sample, is_image

    def __reduce__(self) -> tuple:
        """Pickled with its sample: processes hand errors back."""
        return MissingFile, (*self.args, self.sample, self.is_image)


class Label(NamedTuple):
    """Lanes in pixels. TuSimple's own rows and x (-2: no point) are kept, since its score is made on them."""

    lanes: list[np.ndarray]  # of (N, 2) float32 in the file's order, which CULane's spline depends on; N may be 0
    rows: np.ndarray | None = None  # (R)
    x_at_rows: np.ndarray | None = None  # (lanes, R)
    left_out: tuple[str, ...] = ()  # what each shape is that was drawn and is no lane: polygon, road curb ...
    size_px: tuple[int, int] | None = None  # width, height of the image by its label, where that says it
    lane_ids: tuple[int, ...] | None = None  # of the lanes, the same in all frames of a drive, where the file has them
