"""What a rendered scene labels: lines from where lanes are wide enough on, and no scene in which that is a guess."""

import itertools

import numpy as np
import pytest

import scene
import scene_effects
from scene import LaneLine, Road, View, render_scene
from scene_labels import FIRST_WIDTH, are_certain, lane_points

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


@pytest.mark.parametrize(("seen", "certain"), [
    ([0, 1, 2, 3, 4], True),
    ([0, 4], True),  # the others are hidden, but lie between two that are seen
    ([0, 1, 2, 3], False),  # the last one is there, and who labels it guesses
    ([1, 4], False),
    ([], False),
])
def test_labels_are_certain_where_the_outermost_lines_are_seen(seen, certain):
    assert are_certain(FAN[:5], *scene_with(seen)) is certain


@pytest.mark.parametrize(("share", "level", "certain"), [(0.2, 60, True), (0.08, 60, False), (1.0, 5, False),
                                                         (1.0, 20, True)])
def test_some_dashes_are_enough_and_a_hint_is_not(share, level, certain):
    assert are_certain(FAN[1:4], *scene_with([1, 2, 3], share, level)) is certain


def test_nothing_to_label_is_certain():
    assert are_certain([], *scene_with([]))


def test_a_doubtful_scene_is_drawn_anew_in_the_same_weather(monkeypatch):
    sample_weather, skies = scene_effects.sample_weather, []
    monkeypatch.setattr(scene_effects, "sample_weather", lambda rng: skies.append(1) or sample_weather(rng))
    monkeypatch.setattr(scene.scene_labels, "are_certain", lambda lanes, image, bare: next(answers))
    answers = iter([False, True])
    after = render_scene([4, 0])
    answers = iter([True])
    first = render_scene([4, 0])
    assert after.image.shape == first.image.shape and (after.image != first.image).any()
    answers = iter([False, True])
    assert (render_scene([4, 0]).image == after.image).all()
    assert len(skies) == 3  # scenes, not drawings


def test_labels_begin_where_a_lane_is_wide_enough():
    view = View(WIDTH, HEIGHT, 800.0, 800.0, 320.0, 120.0, 1.5, 0.0, 0.0, 0.0, 0.0, 0.0, np.geomspace(3, 300, 256))
    road = Road((LaneLine(-1.6), LaneLine(2.0)), (-1.6, 2.0), -3.0, 4.0)
    left, right = lane_points(view, road)
    assert left[0, 1] == right[0, 1]
    assert abs(right[0, 0] - left[0, 0] - FIRST_WIDTH * WIDTH) < 3.6 * 800 / 1200 + 0.1  # to a row, 3 px of width


def test_an_unpainted_road_has_no_lanes(monkeypatch):
    painted = [len(render_scene([4, seed]).lanes) for seed in range(6)]
    sample_road = scene.sample_road
    monkeypatch.setattr(scene, "sample_road", lambda rng, painted: sample_road(rng, painted=False))
    bare = [len(render_scene([4, seed]).lanes) for seed in range(6)]
    assert sum(painted) > 10 and sum(bare) == 0


def test_a_road_in_the_dark_is_drawn_anew(monkeypatch):
    through_sensor, darkness = scene_effects.through_sensor, itertools.chain((64, 64), itertools.repeat(1))
    monkeypatch.setattr(scene_effects, "through_sensor",
                        lambda rng, image: through_sensor(rng, image) // next(darkness))
    found = render_scene([4, 0])
    assert found.lanes and found.image.mean() > 20
