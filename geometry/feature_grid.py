"""Where the cells of the head's feature map lie in the image; worked out once for each size of the map.

A call of the network for one image spends as long on starting an operation as on most operations themselves, so that
what is the same in each call is kept. Shapes: h rows, K columns of the map.
"""

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from geometry.input_grid import RowWarp
from geometry.row_fit import RowBasis, row_basis

COLUMNS_PER_CELL = 2  # of the feature map


class FeatureGrid(NamedTuple):
    """Positions of the map's rows and columns in [0, 1] of the image."""

    centers: Tensor  # (K) x of the middle of each column
    index: Tensor  # (K) its number
    left: float  # x of the first one, outside the image
    right: float  # of the last one
    ends: Tensor  # (h) y at which a lane may end: the lower edge of the image is one of them
    middles: Tensor  # (h) y of the middle of each row
    above: Tensor  # (h + 2) of the middle of the row before, from the row before the first to the one after the last
    below: Tensor  # (h + 2) of that of the row after
    to_above: Tensor  # (h + 2) distance to the former
    to_below: Tensor  # (h + 2)
    beyond: Tensor  # (2) the step beyond the first and the last row, as a share of the step before it
    basis: RowBasis


@functools.cache  # none is ever dropped: a CUDA graph reads it where it lies
def feature_grid(rows: int, columns: int, warp: RowWarp, device: torch.device) -> FeatureGrid:
    """For maps of so many rows and columns, those of the cell beyond each side included."""
    with torch.inference_mode(False):  # a tensor made in inference mode could not be trained with later
        y = warp.y(torch.linspace(0, 1, rows, device=device))
        middles = warp.y((torch.arange(-2, rows + 2, device=device, dtype=torch.float32) + 0.5) / rows)  # (h + 4)
        gaps = middles[1:] - middles[:-1]  # (h + 3)
        beyond = torch.stack((gaps[1] / gaps[2], gaps[-2] / gaps[-3]))
        left = (0.5 - COLUMNS_PER_CELL) / (columns - 2 * COLUMNS_PER_CELL)
        return FeatureGrid(
            column_centers(columns, device), torch.arange(columns, device=device, dtype=torch.float32), left, 1 - left,
            y, middles[2:-2], middles[:-2], middles[2:], gaps[:-1], gaps[1:], beyond, row_basis(middles[2:-2]))


def column_centers(columns: int, device: torch.device) -> Tensor:
    """x (K) of the middle of each column; those of the first and the last cell lie outside the image."""
    inside = columns - 2 * COLUMNS_PER_CELL
    return (torch.arange(columns, device=device, dtype=torch.float32) + 0.5 - COLUMNS_PER_CELL) / inside
