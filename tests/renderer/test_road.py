"""The layout of rendered roads."""

from collections import Counter

import numpy as np
import pytest

from renderer.road import JUNCTIONS, PLACES, LaneLine, sample_road


def test_a_line_shifts_smoothly_between_two_distances():
    line = LaneLine(1.0, shift=2.0, shift_start=30.0, shift_length=60.0)
    assert line.u([10.0, 30.0, 60.0, 90.0, 120.0]).tolist() == [1.0, 1.0, 2.0, 3.0, 3.0]
    assert line.u(45.0) == 1 + 2 * (3 / 4**2 - 2 / 4**3), "3 t^2 - 2 t^3 of a quarter of the way"


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


def test_the_shares_of_places_make_one():
    assert sum(PLACES.values()) == pytest.approx(1)


@pytest.mark.parametrize("place", ["town", "country"])
def test_streets_and_country_roads_surround_the_camera(place):
    for seed in range(200):
        road = sample_road(np.random.default_rng(seed), place=place)
        assert road.place == place
        assert road.left_edge < road.borders[0] < 0 < road.borders[-1] < road.right_edge
        offsets = [line.offset for line in road.lines]
        assert offsets == sorted(offsets) and len(offsets) <= len(road.borders)


def test_streets_have_kerbs_middle_lines_and_junctions():
    roads = [sample_road(np.random.default_rng(seed), place="town") for seed in range(600)]
    with_kerb = [road for road in roads if any(line.color == "stone" for line in road.lines)]
    assert 0.3 < len(with_kerb) / len(roads) < 0.8
    for road in with_kerb:  # a kerb is an edge of the carriageway
        inner = road.lines[1:-1]
        assert all(line.color != "stone" for line in inner)
    junctions = [road for road in roads if not road.lines]
    assert len(junctions) / len(roads) == pytest.approx(JUNCTIONS, abs=0.03)
    assert all(road.right_edge - road.borders[-1] >= 2 for road in junctions)


def test_a_country_road_has_two_lanes_and_at_most_a_narrow_shoulder():
    roads = [sample_road(np.random.default_rng(seed), place="country") for seed in range(200)]
    assert {len(road.lines) for road in roads} == {1, 2, 3}
    assert all(len(road.borders) == 3 and road.right_edge - road.borders[-1] < 0.81 for road in roads)
