"""Departure: the time to a crossing in closed form, and the sideways speed of lines that move."""

import math

import numpy as np
import pytest

from inference.departure import Crossing, DriftFilter, time_to_line_crossing

INF = math.inf


@pytest.mark.parametrize(("left", "right", "speed", "crossing"), [
    (1.9, 1.7, 0.4, Crossing(2.0, "right")),  # 1.7 - 0.9 m to go
    (1.9, 1.7, -0.5, Crossing(2.0, "left")),
    (1.9, 1.7, 0.0, None),
    (1.9, INF, 0.4, None), (INF, 1.7, -0.4, None),
    (INF, 1.7, 0.8, Crossing(1.0, "right")),
    (0.9, 2.7, 0.5, Crossing(0.0, "left")),  # on the line, whatever it does next
    (0.2, 3.4, 0.5, Crossing(0.0, "left")), (3.4, 0.2, -0.5, Crossing(0.0, "right")),
    (INF, INF, 1.0, None),
])
def test_the_time_is_the_gap_over_the_speed(left, right, speed, crossing):
    found = time_to_line_crossing(left, right, 0.9, speed)
    assert (found is None) == (crossing is None)
    if crossing:
        assert found.side == crossing.side and found.seconds == pytest.approx(crossing.seconds)


def test_a_crossing_within_a_second_is_a_warning():
    assert Crossing(0.0, "left").is_warning and Crossing(0.9, "left").is_warning
    assert not Crossing(1.1, "left").is_warning


def drift(places, seconds=0.05):
    """The speeds that a filter gives for the places of lines, a dict a frame."""
    drifting = DriftFilter()
    return [drifting.update(lines, seconds if number else 0.0) for number, lines in enumerate(places)]


@pytest.mark.parametrize("fps", [10, 20, 60])
@pytest.mark.parametrize("speed", [-0.7, 0.0, 0.4])
def test_even_drift_is_found_within_a_second_at_any_rate(fps, speed):
    times = np.arange(0, 1.5, 1 / fps)
    speeds = drift([{1: -1.8 - speed * t, 2: 1.7 - speed * t} for t in times], 1 / fps)
    assert all((given is None) == (t < 0.5) for t, given in zip(times, speeds, strict=True) if abs(t - 0.5) > 1e-6)
    assert speeds[-1] == pytest.approx(speed, abs=0.01)


def test_lines_far_aside_tremble_more_and_count_less():
    """One at 1 m, one at 3 m: 1 / 2 and 1 / 10, while both move little."""
    speeds = drift([{1: 1 - 1e-4 * t, 2: 3 + 1e-4 * t} for t in range(60)], 0.05)
    assert speeds[-1] == pytest.approx(2e-3 * (0.5 - 0.1) / (0.5 + 0.1), rel=0.02)


def test_a_change_of_the_own_lane_is_no_jump():
    """The numbering of slots shifts, identities stay."""
    places = [{1: -1.8 - 0.02 * t, 2: 1.7 - 0.02 * t, 3: 5.2 - 0.02 * t} for t in range(120)]
    places = [{key: value for key, value in lines.items() if abs(value) < 4} for lines in places]
    speeds = drift(places)
    assert set(places[-1]) == {2, 3} and np.ptp(speeds[30:]) < 0.02
    assert speeds[-1] == pytest.approx(0.4, abs=0.01)


def test_a_line_that_comes_back_begins_anew():
    drifting = DriftFilter()
    for t in range(20):
        drifting.update({1: -1.8 + 0.02 * t}, 0.05)
    assert drifting.update({}, 0.05) is None
    assert drifting.update({1: 5.0}, 0.05) is None
