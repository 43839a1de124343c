"""What lines a rendered street: house fronts, fences, parked cars, people."""

from dataclasses import replace

import numpy as np
import pytest

from renderer import street
from renderer.camera import DEPTH_SAMPLES, Camera
from renderer.road import Road
from renderer.weather import sample_weather

FLAT = Camera(640, 360, 800.0, 800.0, 320.0, 120.0, 1.5, 0.0, 0.0, 0.0, 0.0, 0.0,
              np.geomspace(3, 300, DEPTH_SAMPLES))
ROAD = Road((), (-1.7, 1.8), -3.0, 4.0, place="town")
DAY = replace(sample_weather(np.random.default_rng(0)), night=False, sun=0.0, illumination=1.0, haze=(200.0,) * 3,
              visibility_m=1e6)
SEEDS = range(12)


def drawn(draw, seed, *arguments):
    """(rows, columns) of the pixels that a function changes."""
    image = np.full((360, 640, 3), 90, np.uint8)
    draw(np.random.default_rng(seed), image, FLAT, *arguments)
    return np.nonzero((image != 90).any(-1))


@pytest.mark.parametrize("side", [-1, 1])
def test_house_fronts_stand_on_their_side(side):
    for seed in SEEDS:
        rows, columns = drawn(street.draw_house_fronts, seed, DAY, side, side * 8.0)
        assert len(rows) > 1000 and ((columns - 320) * side >= -1).all()
        assert rows.min() < 120  # higher than the camera


def test_a_fence_is_on_its_line_and_no_higher_than_a_man():
    for seed in SEEDS:
        rows, columns = drawn(street.draw_fence, seed, DAY, 3.0)
        assert len(rows) > 300 and columns.min() >= 319
        foot = 120 + 1.5 * (columns - 320) / 3.0  # the row of the ground below, of a line 3 m to the right
        height_m = 1.5 - (rows - 120) * 3.0 / np.maximum(columns - 320, 1)
        far = columns - 320 > 20  # pixels are too coarse close to the vanishing point
        assert (rows <= foot + 2)[far].all() and (height_m < 1.7)[far].all()


def test_a_fence_changes_no_pixel_beside_it():
    """Of an image of all gray values: a mean of twice the same value is that value."""
    for seed in SEEDS:
        image = np.random.default_rng(seed).integers(256, size=(360, 640, 3), dtype=np.uint8)
        before = image.copy()
        street.draw_fence(np.random.default_rng(seed), image, FLAT, DAY, 3.0)
        assert (image[:, :318] == before[:, :318]).all() and (image != before).any()


def test_parked_cars_stand_in_a_row_with_room_between_them():
    for seed in SEEDS:
        z = np.array([at for at, _ in street.parked_cars(np.random.default_rng(seed), FLAT, 4.0)])
        assert len(z) > 3 and z[-1] < 90
        assert (np.diff(z[1:]) > 5).all()  # the first may be beside the camera
    for seed in SEEDS:
        cars = street.parked_cars(np.random.default_rng(seed), FLAT, 4.0)
        (z, draw), *_ = [(z, draw) for z, draw in cars if z > 15]
        image = np.full((360, 640, 3), 90, np.uint8)
        draw(np.random.default_rng(seed), image, FLAT, ROAD, DAY, z)
        columns = np.nonzero((image != 90).any((0, 2)))[0]
        assert abs(columns.mean() - (320 + 800 * 4.0 / z)) < 800 * 1.5 / z


def test_a_person_stands_where_it_is_put():
    for seed in SEEDS:
        rows, columns = drawn(street.draw_person, seed, ROAD, DAY, 20.0, -2.0)
        assert rows.max() == pytest.approx(120 + 800 * 1.5 / 20, abs=2)
        assert rows.min() >= 120 + 800 * (1.5 - 1.9) / 20
        assert np.abs(columns - (320 - 800 * 2 / 20)).max() < 800 * 0.7 / 20
