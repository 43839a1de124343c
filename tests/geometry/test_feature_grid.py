"""Positions of the head's rows and columns: kept between calls, and fit to train with."""

import pytest
import torch

from geometry.feature_grid import feature_grid
from geometry.input_grid import RowWarp

CPU = torch.device("cpu")


@pytest.mark.parametrize("warp", [RowWarp(), RowWarp(0.25, 1.8)])
def test_columns_and_rows_cover_the_image(warp):
    grid = feature_grid(18, 84, warp, CPU)
    assert [grid.left, grid.right] == pytest.approx([-1.5 / 80, 81.5 / 80])
    assert grid.centers[[0, -1]].tolist() == pytest.approx([grid.left, grid.right])
    assert grid.ends[[0, -1]].tolist() == pytest.approx([warp.cut_top, 1])
    torch.testing.assert_close(grid.middles, warp.y((torch.arange(18) + 0.5) / 18))
    torch.testing.assert_close(grid.above[2:], grid.middles)
    torch.testing.assert_close(grid.below[:-2], grid.middles)
    growth = warp.zoom ** (1 / 18)  # of each row over the one above it
    assert grid.beyond.tolist() == pytest.approx([1 / growth, growth], rel=1e-4)
    torch.testing.assert_close(grid.above + grid.to_above + grid.to_below, grid.below)


def test_what_was_made_in_inference_can_be_trained_with():
    with torch.inference_mode():
        grid = feature_grid(17, 44, RowWarp(0.1, 3.0), CPU)  # a size that no other test asks for
    assert not any(part.is_inference() for part in (*grid, *grid.basis) if isinstance(part, torch.Tensor))
    assert feature_grid(17, 44, RowWarp(0.1, 3.0), CPU) is grid
