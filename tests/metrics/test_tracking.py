"""Identity switches and jitter against values worked out by hand."""

import math

import numpy as np
import pytest

from metrics.tracking import LaneFrame, jitter_px, lane_distances, tracking_scores

ROWS = 5


def lanes(*x):
    """Upright lanes at these x."""
    return np.repeat(np.array(x, float).reshape(-1, 1), ROWS, axis=1)


def frame(**ids):
    """A frame with an upright lane at each x; its identity is the number in the name."""
    return LaneFrame(lanes(*ids.values()), [int(name[1:]) for name in ids])


def test_distance_is_over_common_rows():
    a, b = lanes(100), lanes(107, 300)
    b[0, :3] = np.nan
    assert lane_distances(a, b).tolist() == [[7, 200]]
    b[0, 3] = np.nan  # one common row says too little
    assert lane_distances(a, b).tolist() == [[math.inf, 200]]


def test_a_perfect_clip_costs_nothing():
    clip = [(frame(_4=100 + t, _9=500), frame(_1=100 + t, _2=500)) for t in range(4)]
    scores = tracking_scores([clip])
    assert scores[:] == (8, 0, 0, 0, 0.0) and scores.mota == 1


def test_misses_false_lanes_and_distance_are_counted():
    clip = [(frame(_1=110, _2=900), frame(_1=100, _2=500)), (frame(_1=130), frame(_1=100, _2=500))]
    scores = tracking_scores([clip])
    assert scores[:] == (4, 2, 1, 0, 20.0) and scores.mota == 1 - 3 / 4


def test_a_switch_counts_once_even_after_a_gap():
    label = frame(_1=100)
    clip = [(frame(_5=100), label), (frame(), label), (frame(_6=100), label), (frame(_6=100), label)]
    assert tracking_scores([clip]).switches == 1


def test_slots_that_shift_are_switches_of_every_lane():
    """As a lane change renumbers them."""
    label = frame(_1=100, _2=500, _3=900)
    clip = [(frame(_2=100, _3=500, _4=900), label), (frame(_1=100, _2=500, _3=900), label)]
    assert tracking_scores([clip]).switches == 3


def test_identities_are_those_of_a_clip():
    label = frame(_1=100)
    assert tracking_scores([[(frame(_1=100), label)], [(frame(_2=100), label)]]).switches == 0


def test_a_match_is_kept_though_another_lane_comes_nearer():
    """CLEAR MOT: a correspondence holds while it is valid."""
    clip = [(frame(_1=100), frame(_1=100)), (frame(_1=130, _2=101), frame(_1=100))]
    scores = tracking_scores([clip])
    assert (scores.switches, scores.distance_px) == (0, 15.0)


def test_nothing_at_all_has_no_accuracy():
    scores = tracking_scores([[(frame(), frame())]])
    assert scores[:4] == (0, 0, 0, 0) and math.isnan(scores.mota) and math.isnan(scores.distance_px)


@pytest.mark.parametrize(("x", "expected"), [
    ([10, 10, 10, 10], 0), ([10, 13, 16, 19], 0), ([10, 12, 10, 12], 4), ([0, 0, 3, 3], 3)])
def test_jitter_is_the_second_difference(x, expected):
    assert jitter_px([[lanes(value, 800) for value in x]]) == pytest.approx(expected / 2)  # of two lanes one stands


def test_jitter_knows_lanes_by_their_places():
    clip = [lanes(100, 500), lanes(502, 100), lanes(100, 500)]
    assert jitter_px([clip]) == pytest.approx(4 / 2)


def test_jitter_of_a_lane_that_another_one_was_near_is_its_own():
    """The lane at 130 is gone; that at 110 is nearest to it, too, but came from 100."""
    assert jitter_px([[lanes(100, 130), lanes(110), lanes(120)]]) == 0


def test_jitter_needs_three_frames_of_a_lane():
    assert math.isnan(jitter_px([[lanes(100), lanes(100)], [lanes(100)]]))
    assert math.isnan(jitter_px([[lanes(100), lanes(), lanes(100)]]))
    assert math.isnan(jitter_px([[lanes(100), lanes(300), lanes(100)]]))
