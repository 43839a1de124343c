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
FINE_ROWS = 2.5  # equal rows of the whole image for each of the network's, which are averages of them
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
        return round(FINE_ROWS * self.height)

    @property
    def aspect(self) -> float:
        """Width over height of the whole image, were it all in rows of mean height."""
        return self.width * (1 - self.warp.cut_top) / self.height

    def resample(self, image: np.ndarray) -> np.ndarray:
        """uint8 (H, W, 3) of an image uint8 (F, W, 3): each row is the mean of the fine rows between its edges."""
        first, weights = _row_weights(self)
        values = image[first[0]:].reshape(self.fine_rows - first[0], -1).astype(np.uint16)
        total = values[first - first[0]] * weights[0]
        for tap in range(1, len(weights)):
            total += values[np.minimum(first + tap, self.fine_rows - 1) - first[0]] * weights[tap]
        return ((total + FULL_WEIGHT // 2) // FULL_WEIGHT).astype(np.uint8).reshape(self.height, self.width, 3)

    def averaging_matrix(self) -> np.ndarray:
        """The weights of `resample` as a matrix, float32 (H, F) to multiply fine rows with; the products are exact."""
        first, weights = _row_weights(self)
        matrix = np.zeros((self.height, self.fine_rows), np.float32)
        for tap, weight in enumerate(weights):
            matrix[np.arange(self.height), np.minimum(first + tap, self.fine_rows - 1)] += weight[:, 0] / FULL_WEIGHT
        return matrix


@functools.lru_cache(maxsize=16)
def _row_weights(grid: InputGrid) -> tuple[np.ndarray, np.ndarray]:
    """The first fine row (H) that each row covers; weights of it and the next, uint16 (K, H, 1), sum FULL_WEIGHT."""
    edges = grid.warp.y(np.linspace(0, 1, grid.height + 1)) * grid.fine_rows
    first = np.minimum(edges[:-1].astype(int), grid.fine_rows - 1)
    covered = first + np.arange(math.ceil(np.diff(edges).max()) + 1)[:, None]  # (K, H)
    shares = (np.minimum(covered + 1, edges[1:]) - np.maximum(covered, edges[:-1])).clip(0)
    shares = np.diff(np.round(FULL_WEIGHT * shares.cumsum(0) / shares.sum(0)), axis=0, prepend=0)
    return first, shares.astype(np.uint16)[..., None]
