"""The rows that the network looks at: where they are, and what they hold."""

import numpy as np
import pytest
import torch

from geometry.input_grid import Raster, Rows
from preprocessing.images import preprocess

ROWS = [Rows(), Rows(0.25), Rows(0.0, 4.0), Rows(0.25, 3.5), Rows(0.6, 8.0)]


@pytest.mark.parametrize("rows", ROWS)
def test_places_go_there_and_back(rows):
    v = torch.linspace(0, 1, 97)
    y = rows.y(v)
    assert y[0] == pytest.approx(rows.sky) and y[-1] == pytest.approx(1)
    torch.testing.assert_close(rows.v(y), v, atol=1e-5, rtol=0)
    assert float(rows.y(0.3)) == pytest.approx(float(rows.y(torch.tensor(0.3)))) == pytest.approx(
        float(rows.y(np.array(0.3))))


@pytest.mark.parametrize("rows", [Rows(0.25, 3.5), Rows(0.6, 8.0)])
def test_the_sky_is_at_the_first_row(rows):
    assert rows.v(torch.tensor([0.0, 0.2, rows.sky])).tolist() == [0, 0, 0]


@pytest.mark.parametrize("rows", ROWS)
def test_each_row_is_higher_than_the_one_above_by_the_same_factor(rows):
    heights = np.diff(rows.y(np.linspace(0, 1, 65)))
    np.testing.assert_allclose(heights[1:] / heights[:-1], rows.zoom ** (1 / 64))


def test_hardly_any_zoom_is_none():
    v = torch.linspace(0, 1, 9)
    torch.testing.assert_close(Rows(0.25, 1.0101).y(v), Rows(0.25, 1.0).y(v), atol=2e-3, rtol=0)


@pytest.mark.parametrize("rows", ROWS)
def test_a_row_is_the_mean_of_what_it_covers(rows):
    """Of an image whose fine rows grow brighter evenly: the brightness in the middle of the row."""
    raster = Raster(4, 40, rows)
    fine = np.broadcast_to(2 * np.arange(raster.fine, dtype=np.uint8)[:, None, None], (raster.fine, 4, 3))
    edges = rows.y(np.linspace(0, 1, 41)) * raster.fine
    brightness = np.concatenate([[0], np.cumsum(2 * np.arange(raster.fine))])  # of all rows above an edge
    wanted = np.diff(np.interp(edges, np.arange(raster.fine + 1), brightness)) / np.diff(edges)
    np.testing.assert_allclose(raster.means() @ fine[:, 0, 0].astype(float), wanted, atol=0.02)
    np.testing.assert_allclose(raster.of(np.ascontiguousarray(fine))[..., 1], np.tile(wanted[:, None], 4), atol=0.52)


@pytest.mark.parametrize("rows", ROWS)
def test_the_matrix_makes_the_same_rows(rows):
    raster = Raster(16, 48, rows)
    fine = np.random.default_rng(0).integers(0, 256, (raster.fine, 16, 3), np.uint8)
    by_matrix = np.floor(np.einsum("hf,fwc->hwc", raster.means(), fine.astype(np.float32)) + 0.5)
    np.testing.assert_array_equal(by_matrix, raster.of(fine))
    assert (raster.means().sum(1) == 1).all()


def test_the_sky_is_not_looked_at():
    raster = Raster(32, 24, Rows(0.25, 3.5))
    image = np.random.default_rng(0).integers(0, 256, (120, 64, 3), np.uint8)
    other = image.copy()
    other[:29] = 0
    np.testing.assert_array_equal(preprocess(image, raster), preprocess(other, raster))
    other[31] = 0
    assert (preprocess(image, raster) != preprocess(other, raster)).any()


@pytest.mark.parametrize("size", [(1280, 720), (1640, 590), (640, 360), (200, 50)])
@pytest.mark.parametrize("y", [0.3, 0.5, 0.9])
def test_a_place_of_the_image_is_where_the_rows_have_it(size, y):
    width, height = size
    raster = Raster(64, 96, Rows(0.25, 3.5))
    image = np.zeros((height, width, 3), np.uint8)
    top, bottom = round((y - 0.04) * height), round((y + 0.04) * height)
    image[top:bottom] = 200
    bright = preprocess(image, raster)[:, 32, 0] / 200
    edges = raster.rows.y(np.linspace(0, 1, 97))
    assert abs((bright * np.diff(edges)).sum() - (bottom - top) / height) < 0.01
    middle = (bright * np.diff(edges) * (edges[1:] + edges[:-1]) / 2).sum() / (bright * np.diff(edges)).sum()
    assert abs(middle - (top + bottom) / 2 / height) < 0.005
