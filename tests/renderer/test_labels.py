"""What a rendered scene labels: lines whose paint is visible, from where lanes are wide enough on."""

import numpy as np
import pytest

from renderer.camera import DEPTH_SAMPLES, Camera
from renderer.labels import MAX_LINES_PER_SIDE, START_LANE_WIDTH, lane_polylines, select_labelled, visible_fractions
from renderer.road import LaneLine, Road

HEIGHT, WIDTH = 360, 640
FLAT = Camera(WIDTH, HEIGHT, 800.0, 800.0, 320.0, 120.0, 1.5, 0.0, 0.0, 0.0, 0.0, 0.0,
              np.geomspace(3, 300, DEPTH_SAMPLES))


def polyline(x_far, x_near):
    rows = np.arange(150, 350, dtype=np.float32)
    return np.stack([np.linspace(x_far, x_near, len(rows)), rows], -1).astype(np.float32)


FAN = [polyline(300 + 10 * i, 60 + 100 * i) for i in range(6)]  # six lines, left to right


def draw_fan(visible, share=1.0, level=60):
    """(image, unpainted): a road with and without the lines of FAN that are visible, along `share` of each."""
    unpainted = np.full((HEIGHT, WIDTH, 3), 80, np.uint8)
    image = unpainted.copy()
    for i in visible:
        for x, y in np.round(FAN[i][: round(share * len(FAN[i]))]).astype(int):
            image[y, x - 1 : x + 2] += np.uint8(level)
    return image, unpainted


def fractions_of(lanes, visible, share=1.0, level=60):
    return visible_fractions(lanes, *draw_fan(visible, share, level))


@pytest.mark.parametrize(("visible", "expected"), [
    ([1, 2, 3], [1, 2, 3]),
    ([1, 3], [1, 2, 3]),  # 2 is hidden, but lies between two that are visible
    ([2], [2]),
    ([], []),
])
def test_only_what_is_visible_or_between_is_labelled(visible, expected):
    lanes = select_labelled(FAN[:5], fractions_of(FAN[:5], visible))
    assert [next(i for i in range(6) if FAN[i] is lane) for lane in lanes] == expected


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_the_visible_fraction_is_that_of_the_painted_length(share):
    assert fractions_of([FAN[2]], [2], share)[0] == pytest.approx(share, abs=0.02)
    assert fractions_of([FAN[0]], [2], share) == [0.0]


@pytest.mark.parametrize(("share", "level", "count"), [(0.15, 60, 3), (0.02, 60, 0), (1.0, 5, 0), (1.0, 20, 3)])
def test_a_dash_is_enough_and_a_few_pixels_or_faint_paint_are_not(share, level, count):
    assert len(select_labelled(FAN[1:4], fractions_of(FAN[1:4], [1, 2, 3], share, level))) == count


def test_labels_begin_where_a_lane_is_wide_enough():
    road = Road((LaneLine(-1.6), LaneLine(2.0)), (-1.6, 2.0), -3.0, 4.0)
    left, right = lane_polylines(FLAT, road)
    assert left[0, 1] == right[0, 1]
    assert abs(right[0, 0] - left[0, 0] - START_LANE_WIDTH * WIDTH) < 3.6 * 800 / 1200 + 0.1  # to a row, 3 px of width


def test_labels_follow_the_line_through_the_camera():
    (points,) = lane_polylines(FLAT, Road((LaneLine(1.0),), (-1.0, 1.0), -3.0, 4.0))
    z = 800 * 1.5 / (points[:, 1] - 120)  # of each row on a flat road
    assert np.array_equal(np.diff(points[:, 1]), np.ones(len(points) - 1))
    assert np.abs(points[:, 0] - (320 + 800 * 1.0 / z)).max() < 0.1


def test_lines_past_the_third_on_a_side_have_no_label():
    offsets = [0.2 + 0.4 * i for i in range(5)]
    road = Road(tuple(LaneLine(offset) for offset in offsets), tuple(offsets), -3.0, 4.0)
    wide = Road(road.lines, (-1.0, 2.0), -3.0, 4.0)  # so that the labels are long enough
    lanes = lane_polylines(FLAT, wide)
    assert len(lanes) == MAX_LINES_PER_SIDE
    x_near = [lane[-1, 0] for lane in lanes]
    assert x_near == sorted(x_near) and len(set(x_near)) == MAX_LINES_PER_SIDE
