"""The layout of rendered roads."""

from collections import Counter

import numpy as np

from renderer.road import LaneLine, sample_road


def test_a_line_shifts_smoothly_between_two_distances():
    line = LaneLine(1.0, shift=2.0, shift_start=30.0, shift_length=60.0)
    assert line.u([10.0, 30.0, 60.0, 90.0, 120.0]).tolist() == [1.0, 1.0, 2.0, 3.0, 3.0]


def test_roads_surround_the_camera_with_one_to_five_lines():
    roads = [sample_road(np.random.default_rng(seed)) for seed in range(400)]
    counts = Counter(len(road.lines) for road in roads)
    assert set(counts) == {1, 2, 3, 4, 5} and counts[3] + counts[4] > 0.55 * len(roads)
    for road in roads:
        assert road.left_edge < road.borders[0] < 0 < road.borders[-1] < road.right_edge
        assert list(road.borders) == sorted(road.borders)
        lanes = zip(road.borders[:-1], road.lane_centers, road.borders[1:], strict=True)
        assert all(left < center < right for left, center, right in lanes)
        assert len(road.lines) in (1, len(road.borders))


def test_an_unpainted_road_is_the_same_road_without_lines():
    painted, unpainted = (sample_road(np.random.default_rng(3), painted) for painted in (True, False))
    assert painted.lines and not unpainted.lines
    assert (painted.borders, painted.wear) == (unpainted.borders, unpainted.wear)
