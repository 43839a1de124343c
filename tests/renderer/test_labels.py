"""What a rendered scene labels: lines of which something is seen, from where lanes are wide enough on."""

import numpy as np
import pytest

from renderer import scene, weather
from renderer.camera import View
from renderer.labels import FIRST_WIDTH, labelled, lane_points, seen_shares
from renderer.road import LaneLine, Road
from renderer.scene import render_scene

HEIGHT, WIDTH = 360, 640


def line(x_far, x_near):
    rows = np.arange(150, 350, dtype=np.float32)
    return np.stack([np.linspace(x_far, x_near, len(rows)), rows], -1).astype(np.float32)


FAN = [line(300 + 10 * i, 60 + 100 * i) for i in range(6)]  # six lines, left to right


def scene_with(seen, share=1.0, level=60):
    """(image, bare): the road with and without the lines of FAN that are seen, along `share` of each."""
    bare = np.full((HEIGHT, WIDTH, 3), 80, np.uint8)
    image = bare.copy()
    for i in seen:
        for x, y in np.round(FAN[i][: round(share * len(FAN[i]))]).astype(int):
            image[y, x - 1 : x + 2] += np.uint8(level)
    return image, bare


def shares(lanes, seen, share=1.0, level=60):
    return seen_shares(lanes, *scene_with(seen, share, level))


@pytest.mark.parametrize(("seen", "expected"), [
    ([1, 2, 3], [1, 2, 3]),
    ([1, 3], [1, 2, 3]),  # 2 is hidden, but lies between two that are seen
    ([2], [2]),
    ([], []),
])
def test_only_what_is_seen_or_between_is_labelled(seen, expected):
    lanes = labelled(FAN[:5], shares(FAN[:5], seen))
    assert [next(i for i in range(6) if FAN[i] is lane) for lane in lanes] == expected


@pytest.mark.parametrize(("share", "level", "count"), [(0.15, 60, 3), (0.02, 60, 0), (1.0, 5, 0), (1.0, 20, 3)])
def test_a_dash_is_enough_and_a_hint_is_not(share, level, count):
    assert len(labelled(FAN[1:4], shares(FAN[1:4], [1, 2, 3], share, level))) == count


def test_labels_begin_where_a_lane_is_wide_enough():
    view = View(WIDTH, HEIGHT, 800.0, 800.0, 320.0, 120.0, 1.5, 0.0, 0.0, 0.0, 0.0, 0.0, np.geomspace(3, 300, 256))
    road = Road((LaneLine(-1.6), LaneLine(2.0)), (-1.6, 2.0), -3.0, 4.0)
    left, right = lane_points(view, road)
    assert left[0, 1] == right[0, 1]
    assert abs(right[0, 0] - left[0, 0] - FIRST_WIDTH * WIDTH) < 3.6 * 800 / 1200 + 0.1  # to a row, 3 px of width


def test_an_unpainted_road_and_one_in_the_dark_have_no_lanes(monkeypatch):
    painted = [len(render_scene([4, seed]).lanes) for seed in range(6)]
    monkeypatch.setattr(weather, "through_sensor", lambda rng, image: image // 64)
    dark = [len(render_scene([4, seed]).lanes) for seed in range(6)]
    monkeypatch.undo()
    sample_road = scene.sample_road
    monkeypatch.setattr(scene, "sample_road", lambda rng, painted: sample_road(rng, painted=False))
    bare = [len(render_scene([4, seed]).lanes) for seed in range(6)]
    assert sum(painted) > 10 and sum(dark) == sum(bare) == 0
