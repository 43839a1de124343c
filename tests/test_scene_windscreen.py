"""What stands between the camera and the road: it hides the near part of lanes, and moves none."""

import numpy as np
import pytest

import scene_windscreen

SEEDS = range(40)


def grey(value=120):
    return np.full((180, 320, 3), value, np.uint8)


def with_hood(seed, night=False, value=120):
    image = grey(value)
    scene_windscreen.draw_hood(np.random.default_rng(seed), image, night)
    return image


def test_a_hood_lies_at_the_bottom_and_reaches_up_to_a_third_of_the_image():
    heights = []
    for seed in SEEDS:
        changed = (with_hood(seed) != 120).any((1, 2))
        assert changed[np.argmax(changed):].all(), "one piece, down to the bottom"
        heights.append(changed.mean())
    assert max(heights) < 0.42 and min(heights) < 0.05
    assert np.mean(np.array(heights) > 0.16) > 0.2  # CULane's take a quarter of the image


def test_a_hood_is_darker_by_night():
    day, night = (np.mean([with_hood(seed, night, value=0)[-1].mean() for seed in SEEDS]) for night in (False, True))
    assert night < 0.5 * day


def test_a_polished_hood_shows_what_is_before_it():
    def change(seed):
        """How much the hood changes when the road before it turns from dark to bright."""
        dark, bright = with_hood(seed, value=40), with_hood(seed, value=200)
        return float(np.median(np.abs(bright[-4:].astype(int) - dark[-4:])))

    changes = np.array([change(seed) for seed in SEEDS])
    assert 0.4 < np.mean(changes > 3) < 0.95


@pytest.mark.parametrize("effect", [scene_windscreen.rain_on, scene_windscreen.reflect_dashboard])
def test_rain_and_reflections_keep_the_size(effect):
    image = effect(np.random.default_rng(1), grey())
    assert image.shape == (180, 320, 3) and image.dtype == np.uint8 and (image != 120).any()
