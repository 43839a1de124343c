"""Polygons, masks and noise that scenes are drawn with."""

import numpy as np
import pytest

from renderer.camera import DEPTH_SAMPLES, Camera
from renderer.drawing import OpacityMask, blend, fill_polygons, noise_texture, sample_noise

FLAT = Camera(640, 360, 800.0, 800.0, 320.0, 120.0, 1.5, 0.0, 0.0, 0.0, 0.0, 0.0,
              np.geomspace(3, 300, DEPTH_SAMPLES))
SQUARE = np.array([(10.0, 20.0), (30.0, 20.0), (30.0, 40.0), (10.0, 40.0)])


def filled_center(scale, top):
    """Center, in pixels of the full image, of what is filled of SQUARE in an image at `scale` from `top`."""
    image = np.zeros((round((60 - top) * scale), round(60 * scale)), np.uint8)
    fill_polygons(image, [SQUARE], 255, scale, top)
    rows, columns = np.nonzero(image > 127)
    return (columns.mean() + 0.5) / scale - 0.5, (rows.mean() + 0.5) / scale - 0.5 + top


@pytest.mark.parametrize(("scale", "top"), [(1.0, 0), (2.0, 0), (2.0, 10), (0.5, 0), (0.5, 10)])
def test_a_polygon_is_at_its_position_at_every_scale(scale, top):
    assert filled_center(scale, top) == pytest.approx((20, 30), abs=0.3 * max(1, 1 / scale))


def test_a_band_has_its_width_at_each_distance():
    mask = OpacityMask(FLAT, top=125)
    mask.draw_band(1.0, 3.0, 100.0, width=0.5, value=255)
    opacity = mask.opacity()
    assert opacity.shape == (235, 640) and opacity.dtype == np.float32
    for z in (6.0, 10.0, 20.0):
        row = opacity[round(120 + 800 * 1.5 / z) - 125]
        assert row.sum() == pytest.approx(0.5 * 800 / z, abs=1.5)
        assert (row * np.arange(640)).sum() / row.sum() == pytest.approx(320 + 800 / z, abs=0.7)


def test_a_thin_band_fades_instead_of_growing():
    mask = OpacityMask(FLAT, top=125)
    mask.draw_band(0.0, 40.0, 60.0, width=0.01, value=255)
    row = mask.opacity()[round(120 + 800 * 1.5 / 50) - 125]
    assert 0 < row.max() < 0.6


def test_noise_has_mean_zero_and_its_tile_repeats():
    noise = noise_texture(np.random.default_rng(0), 64)
    assert noise.shape == (64, 64) and noise.dtype == np.float32
    assert abs(noise.mean()) < 0.1 and 0.5 < np.abs(noise).max() < 1.1
    u = np.array([[0.0, 10.0, 63.0]], np.float32)
    assert np.array_equal(sample_noise(noise, u, np.float32([[5]])), noise[5, [0, 10, 63]][None])
    assert np.array_equal(sample_noise(noise, u + 64, np.float32([[69]])), noise[5, [0, 10, 63]][None])


def test_blend_lays_colors_over_in_place():
    image = np.full((4, 6, 3), 100, np.uint8)
    opacity = np.zeros((4, 6), np.float32)
    opacity[:, 3:] = 1.0
    blend(image, np.full((1, 1, 3), 200, np.uint8), opacity)
    assert (image[:, :3] == 100).all() and (image[:, 3:] == 200).all()
