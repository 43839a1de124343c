"""Vehicles of rendered scenes."""

from dataclasses import replace

import numpy as np
import pytest

from renderer.camera import DEPTH_SAMPLES, Camera
from renderer.road import Road
from renderer.vehicles import MAX_VEHICLES, VEHICLES, draw_vehicle, sample_traffic
from renderer.weather import sample_weather

FLAT = Camera(640, 360, 800.0, 800.0, 320.0, 120.0, 1.5, 0.0, 0.0, 0.0, 0.0, 0.0,
              np.geomspace(3, 300, DEPTH_SAMPLES))
ROAD = Road((), (-1.7, 1.8, 5.3), -3.0, 6.0)
DAY = replace(sample_weather(np.random.default_rng(0)), night=False, sun=0.0, illumination=1.0, haze=(200.0,) * 3,
              visibility_m=1e6)


def test_the_shares_of_traffic_make_one():
    assert sum(kind.traffic_share for kind in VEHICLES.values()) == pytest.approx(1)


def test_traffic_keeps_clear_of_the_camera_and_in_its_lanes():
    for seed in range(50):
        vehicles = sample_traffic(np.random.default_rng(seed), FLAT, ROAD)
        assert len(vehicles) <= MAX_VEHICLES
        for z, u, _ in vehicles:
            assert 0 < z < FLAT.depths[-1] and min(abs(u - center) for center in ROAD.lane_centers) < 1.5
            if abs(u - ROAD.lane_centers[0]) < 1:  # the camera's own lane
                assert z >= 8


def test_a_vehicle_is_drawn_where_it_stands():
    for seed in range(20):
        image = np.full((360, 640, 3), 90, np.uint8)
        draw_vehicle(np.random.default_rng(seed), image, FLAT, ROAD, DAY, 20.0, 0.0, False)
        rows, columns = np.nonzero((image != 90).any(-1))
        bottom = 120 + 800 * 1.5 / 20
        widest = 800 / 20 * max(kind.width for kind in VEHICLES.values())
        assert abs(rows.max() - bottom) <= 2
        assert abs((columns.min() + columns.max()) / 2 - 320) <= 2 and np.ptp(columns) <= widest + 2


def test_lamps_are_lit_at_night_and_far_vehicles_have_none():
    image = np.zeros((360, 640, 3), np.uint8)
    night = replace(DAY, night=True)
    lamps = draw_vehicle(np.random.default_rng(1), image, FLAT, ROAD, night, 20.0, 0.0, True)
    assert len(lamps) == 2 and lamps[0].x < 320 < lamps[1].x and lamps[0].color == (255, 245, 225)
    assert draw_vehicle(np.random.default_rng(1), image, FLAT, ROAD, night, 250.0, 0.0, True) == []
