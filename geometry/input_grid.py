"""The network's input grid: an image without its top, resampled to rows that are finer where the road is far away.

The farther away a metre of road is, the fewer rows of an image it takes. In equal rows a network spends most of its
work on the few metres before the car, and a line far to the side takes two rows of its feature map. Here every row is
higher than the one above it, by the same factor.

x and y are in [0, 1] of the image, v in [0, 1] down the rows of the network. H x W pixels, F fine rows, K taps.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

if TYPE_CHECKING:  # processes that only read images start without PyTorch, which takes a second
    from torch import Tensor

MIN_ZOOM = 1.01  # a zoom below this counts as 1: 32 bits are too few for its formula
FINE_ROWS = (90, 135, 180, 270, 360, 540, 720, 1080, 1440, 2160)  # of cameras, halved: that is the fastest resizing
MIN_FINE_ROWS = 2  # for each row of the network, which is an average of them
FULL_WEIGHT = 256  # weights of fine rows are integers with this sum: the result is the same in whatever order

Positions = TypeVar("Positions", float, np.ndarray, "Tensor")


class RowWarp(NamedTuple):
    """Rows from y = cut_top down to y = 1, of which the last is `zoom` times as high as the first."""

    cut_top: float = 0.0
    zoom: float = 1.0

    def y(self, v: Positions) -> Positions:
        """Image y at network positions v, of the same shape."""
        share = v if self.zoom < MIN_ZOOM else (self.zoom**v - 1) / (self.zoom - 1)
        return self.cut_top + (1 - self.cut_top) * share

    def v(self, y: Tensor) -> Tensor:
        """Network positions v at image y, of the same shape. With a zoom, everything above cut_top is at 0."""
        share = (y - self.cut_top) / (1 - self.cut_top)
        return share if self.zoom < MIN_ZOOM else (share.clamp(min=0) * (self.zoom - 1)).log1p() / math.log(self.zoom)


UNIFORM = RowWarp()  # all of the image


class InputGrid(NamedTuple):
    """The network's input: width x height pixels of an image, in rows of equal height or of growing height."""

    width: int
    height: int
    warp: RowWarp = UNIFORM

    @property
    def fine_rows(self) -> int:
        """F, the number of equal rows of the whole image from which the network's are averaged."""
        least = MIN_FINE_ROWS * self.height
        return next((rows for rows in FINE_ROWS if rows >= least), least)

    @property
    def rows_left_out(self) -> int:
        """The number of fine rows at the top of an image that no row of the network covers."""
        return int(_row_weights(self)[0][0, 0])

    @property
    def aspect(self) -> float:
        """Width over height of the whole image, were it all in rows of mean height."""
        return self.width * (1 - self.warp.cut_top) / self.height

    def resample(self, image: np.ndarray) -> np.ndarray:
        """uint8 (H, W, 3) of an image uint8 (F, W, 3): each row is the mean of the fine rows between its edges.

        The image may lack its uppermost `rows_left_out` rows, or some of them.
        """
        rows, weights = _row_weights(self)
        taps = image.reshape(len(image), -1)[rows - (self.fine_rows - len(image))]  # (K, H, W * 3)
        # Few calls: each takes the interpreter's lock once more, which is what threads that read images wait for.
        total = np.einsum("khw,kh->hw", taps, weights, dtype=np.uint16, casting="unsafe")
        total += FULL_WEIGHT // 2
        total //= FULL_WEIGHT
        return total.astype(np.uint8).reshape(self.height, self.width, 3)

    def averaging_matrix(self) -> np.ndarray:
        """The weights of `resample` as a matrix, float32 (H, F) to multiply fine rows with; the products are exact."""
        matrix = np.zeros((self.height, self.fine_rows), np.float32)
        for rows, weights in zip(*_row_weights(self), strict=True):
            matrix[np.arange(self.height), rows] += weights / FULL_WEIGHT
        return matrix


@functools.lru_cache(maxsize=16)
def _row_weights(grid: InputGrid) -> tuple[np.ndarray, np.ndarray]:
    """The fine rows (K, H) that each row covers, from the first one on, and their weights (K, H) uint16.

    The weights of a row have the sum FULL_WEIGHT; some of them may be 0.
    """
    edges = grid.warp.y(np.linspace(0, 1, grid.height + 1)) * grid.fine_rows
    first = np.minimum(edges[:-1].astype(int), grid.fine_rows - 1)
    covered = first + np.arange(math.ceil(np.diff(edges).max()) + 1)[:, None]  # (K, H)
    shares = (np.minimum(covered + 1, edges[1:]) - np.maximum(covered, edges[:-1])).clip(0)
    shares = np.diff(np.round(FULL_WEIGHT * shares.cumsum(0) / shares.sum(0)), axis=0, prepend=0)
    return np.minimum(covered, grid.fine_rows - 1), shares.astype(np.uint16)
