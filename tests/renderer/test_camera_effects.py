"""Night, rain, roll and sensor of rendered scenes."""

import numpy as np
import pytest

from renderer import camera_effects
from renderer.vehicles import Lamp


def rngs(count):
    return [np.random.default_rng(seed) for seed in range(count)]


def test_the_roll_moves_lanes_with_the_pixels():
    image = np.zeros((180, 320, 3), np.uint8)
    points = np.stack([np.linspace(120, 200, 100), np.arange(60, 160)], -1).astype(np.float32)
    for x, y in np.round(points).astype(int):
        image[y, x - 2 : x + 3] = 255
    moved = 0
    for rng in rngs(20):
        rolled, (lane,) = camera_effects._roll(rng, image, [points])
        x, y = np.round(lane).astype(int).T
        assert rolled[y, x, 0].mean() > 200
        moved += not np.array_equal(lane, points[: len(lane)])
    assert moved >= 5


def test_a_lane_rolled_out_of_the_image_is_dropped():
    edge = np.stack([np.full(20, 319.0), np.arange(20)], -1).astype(np.float32)
    lengths = []
    for rng in rngs(20):
        _, lanes = camera_effects._roll(rng, np.zeros((180, 320, 3), np.uint8), [edge])
        for lane in lanes:
            assert (lane >= 0).all() and lane[:, 0].max() <= 319 and len(lane) > camera_effects.MIN_RUN * 180
        lengths.append(len(lanes))
    assert set(lengths) == {0, 1}


def test_lamps_glow_where_they_are():
    image = np.zeros((96, 160, 3), np.uint8)
    outside = Lamp(1e4, 0.0, 3.0, (255, 255, 255))
    lit = camera_effects.add_lamps(image, [Lamp(40.0, 30.0, 3.0, (255, 200, 100)), outside], 0.5)
    red = lit[..., 0].astype(float)
    rows, columns = np.indices(red.shape)
    assert (red * columns).sum() / red.sum() == pytest.approx(40, abs=1)
    assert (red * rows).sum() / red.sum() == pytest.approx(30, abs=1)
    assert lit[30, 40, 0] == red.max() > 200 and not image.any()


@pytest.mark.parametrize("effect", ["_glare", "_roughen", "apply_sensor", "_blur", "_expose", "_vignette",
                                    "_add_noise"])
def test_effects_return_images_of_the_same_shape(effect):
    image = np.random.default_rng(9).integers(0, 255, (96, 160, 3), dtype=np.uint8)
    results = [getattr(camera_effects, effect)(rng, image) for rng in rngs(12)]
    assert all(result.shape == image.shape and result.dtype == np.uint8 for result in results)
    assert any((result != image).any() for result in results)
