"""The input grid: where its rows are in the image, and that each is the mean of what it covers."""

import numpy as np
import pytest
import torch

from geometry.input_grid import InputGrid, RowWarp
from preprocessing.images import preprocess, resize

ROWS = [RowWarp(), RowWarp(0.25), RowWarp(0.0, 4.0), RowWarp(0.25, 3.5), RowWarp(0.6, 8.0)]


@pytest.mark.parametrize("rows", ROWS)
def test_v_is_the_inverse_of_y(rows):
    v = torch.linspace(0, 1, 97)
    y = rows.y(v)
    assert y[0] == pytest.approx(rows.cut_top) and y[-1] == pytest.approx(1)
    torch.testing.assert_close(rows.v(y), v, atol=1e-5, rtol=0)
    assert float(rows.y(0.3)) == pytest.approx(float(rows.y(torch.tensor(0.3)))) == pytest.approx(
        float(rows.y(np.array(0.3))))


@pytest.mark.parametrize("rows", [RowWarp(0.25, 3.5), RowWarp(0.6, 8.0)])
def test_what_is_cut_off_is_at_the_first_row(rows):
    assert rows.v(torch.tensor([0.0, 0.2, rows.cut_top])).tolist() == [0, 0, 0]


@pytest.mark.parametrize("rows", ROWS)
def test_each_row_is_higher_than_the_one_above_by_the_same_factor(rows):
    heights = np.diff(rows.y(np.linspace(0, 1, 65)))
    np.testing.assert_allclose(heights[1:] / heights[:-1], rows.zoom ** (1 / 64))


def test_hardly_any_zoom_is_none():
    v = torch.linspace(0, 1, 9)
    torch.testing.assert_close(RowWarp(0.25, 1.0101).y(v), RowWarp(0.25, 1.0).y(v), atol=2e-3, rtol=0)


@pytest.mark.parametrize("rows", ROWS)
def test_a_row_is_the_mean_of_what_it_covers(rows):
    """Of an image whose fine rows grow brighter evenly: the brightness in the middle of the row."""
    grid = InputGrid(4, 40, rows)
    fine = np.broadcast_to(2 * np.arange(grid.fine_rows, dtype=np.uint8)[:, None, None], (grid.fine_rows, 4, 3))
    edges = rows.y(np.linspace(0, 1, 41)) * grid.fine_rows
    brightness = np.concatenate([[0], np.cumsum(2 * np.arange(grid.fine_rows))])  # of all rows above an edge
    expected = np.diff(np.interp(edges, np.arange(grid.fine_rows + 1), brightness)) / np.diff(edges)
    np.testing.assert_allclose(grid.averaging_matrix() @ fine[:, 0, 0].astype(float), expected, atol=0.02)
    resampled = grid.resample(np.ascontiguousarray(fine))[..., 1]
    np.testing.assert_allclose(resampled, np.tile(expected[:, None], 4), atol=0.52)


@pytest.mark.parametrize("rows", ROWS)
def test_the_matrix_makes_the_same_rows(rows):
    grid = InputGrid(16, 48, rows)
    fine = np.random.default_rng(0).integers(0, 256, (grid.fine_rows, 16, 3), np.uint8)
    by_matrix = np.floor(np.einsum("hf,fwc->hwc", grid.averaging_matrix(), fine.astype(np.float32)) + 0.5)
    np.testing.assert_array_equal(by_matrix, grid.resample(fine))
    assert (grid.averaging_matrix().sum(1) == 1).all()


@pytest.mark.parametrize("rows", ROWS)
def test_the_rows_at_the_top_that_no_row_covers_may_be_missing(rows):
    grid = InputGrid(16, 48, rows)
    fine = np.random.default_rng(0).integers(0, 256, (grid.fine_rows, 16, 3), np.uint8)
    covered = grid.averaging_matrix().any(0)
    assert grid.rows_left_out == covered.argmax() and covered[grid.rows_left_out:].all()
    for missing in {grid.rows_left_out, grid.rows_left_out // 2}:
        np.testing.assert_array_equal(grid.resample(fine[missing:]), grid.resample(fine))


def test_what_is_cut_off_has_no_influence():
    grid = InputGrid(32, 24, RowWarp(0.25, 3.5))
    image = np.random.default_rng(0).integers(0, 256, (120, 64, 3), np.uint8)
    other = image.copy()
    other[:29] = 0
    np.testing.assert_array_equal(preprocess(image, grid), preprocess(other, grid))
    other[31] = 0
    assert (preprocess(image, grid) != preprocess(other, grid)).any()


@pytest.mark.parametrize("size", [(1280, 720), (1640, 590), (640, 360), (200, 50)])
@pytest.mark.parametrize("y", [0.3, 0.5, 0.9])
def test_a_bright_band_is_at_its_position_and_of_its_height(size, y):
    width, height = size
    grid = InputGrid(64, 96, RowWarp(0.25, 3.5))
    image = np.zeros((height, width, 3), np.uint8)
    top, bottom = round((y - 0.04) * height), round((y + 0.04) * height)
    image[top:bottom] = 200
    bright = preprocess(image, grid)[:, 32, 0] / 200
    edges = grid.warp.y(np.linspace(0, 1, 97))
    assert abs((bright * np.diff(edges)).sum() - (bottom - top) / height) < 0.01
    middle = (bright * np.diff(edges) * (edges[1:] + edges[:-1]) / 2).sum() / (bright * np.diff(edges)).sum()
    assert abs(middle - (top + bottom) / 2 / height) < 0.005


@pytest.mark.parametrize("grid", [InputGrid(32, 16), InputGrid(32, 16, RowWarp(0.3, 1.8)),
                                  InputGrid(40, 20, RowWarp(0.25))])
@pytest.mark.parametrize("times", [0.5, 1, 1.5, 2, 3, 4])
@pytest.mark.parametrize("aspect", [0.5, 1, 1.1, 2])
def test_rows_that_are_not_made_were_not_used(grid, times, aspect):
    height, width = round(times * grid.fine_rows), max(1, round(times * aspect * grid.width))
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    whole = resize(image, grid.width, grid.fine_rows)
    assert np.array_equal(preprocess(image, grid), grid.resample(whole))
    assert np.array_equal(grid.resample(whole[grid.rows_left_out:]), grid.resample(whole))


def test_the_aspect_is_that_of_the_whole_image():
    """144 rows are three quarters of it."""
    assert InputGrid(320, 144, RowWarp(0.25)).aspect == pytest.approx(320 / 192)
