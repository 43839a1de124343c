"""Both edges of a painted line joined to one; lanes beside each other are not."""

import numpy as np
import pytest

from formats.outlines import center_line, join_outlines, side_distances


def line(*points):
    return np.float32(points)


def test_the_distance_to_a_line_beside_it():
    a, b = line((100, 700), (100, 300)), line((110, 650), (110, 350))
    assert side_distances(a, b) == pytest.approx(10) and side_distances(b, a) == pytest.approx(10)
    assert side_distances(a, line((500, 300))) == pytest.approx(400)


def test_the_line_between_two_whichever_way_they_are_drawn():
    a, b = line((100, 700), (150, 500), (180, 300)), line((120, 700), (200, 300))
    forward, backward = center_line(a, b), center_line(a, b[::-1])
    assert forward == pytest.approx(backward) and len(forward) == 3
    assert (forward[0].tolist(), forward[-1].tolist()) == ([110, 700], [190, 300])


def test_each_line_is_joined_once_to_the_nearest():
    lines = [("w", line((100 + x, 700), (300 + x / 2, 300))) for x in (0, 20, 30, 400, 420)]
    lanes, joined = join_outlines(lines, 1280)
    assert joined == 2 and [lane[0, 0] for lane in lanes] == [100, 125, 510]


def test_neighboring_lanes_are_kept():
    """A lane of 3.6 m seen from 30 m on, 120 px wide there in an image of 1280."""
    lines = [("w", line((500 + x, 450), (640 + x / 4, 370))) for x in (0, 120, 240)]
    lanes, joined = join_outlines(lines, 1280)
    assert joined == 0 and all(map(np.array_equal, lanes, [points for _, points in lines]))
    assert join_outlines([], 1280) == ([], 0)


def test_a_line_that_leaves_another_one_is_not_its_edge():
    """5 px beside it for most of its way, 95 px at its end: 22 in the mean."""
    lines = [("w", line((100, 700), (100, 300))), ("w", line((105, 700), (105, 450), (195, 300)))]
    assert join_outlines(lines, 1280)[1] == 0
