"""What is between the camera and the road: bonnet, wiper, rain, reflections, borders."""

import numpy as np
import pytest

from renderer import windscreen

HEIGHT, WIDTH = 96, 160


def gray():
    return np.full((HEIGHT, WIDTH, 3), 120, np.uint8)


def rngs(count):
    return [np.random.default_rng(seed) for seed in range(count)]


@pytest.mark.parametrize("effect", ["rain_on", "reflect_dashboard"])
def test_effects_return_images_of_the_same_shape(effect):
    image = np.random.default_rng(9).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    results = [getattr(windscreen, effect)(rng, image) for rng in rngs(12)]
    assert all(result.shape == image.shape and result.dtype == np.uint8 for result in results)
    assert any((result != image).any() for result in results)


@pytest.mark.parametrize("night", [False, True])
def test_a_bonnet_covers_at_most_the_lowest_third_and_a_little_more_at_its_crest(night):
    depths = []
    for rng in rngs(40):
        image = gray()
        windscreen.draw_bonnet(rng, image, night)
        changed = (image != 120).any(-1)
        assert changed.any() and not changed[: int(0.55 * HEIGHT)].any()
        depths.append(changed.mean())
    assert min(depths) < 0.05 < 0.2 < max(depths)


def test_a_veil_only_brightens():
    for rng in rngs(12):
        assert (windscreen.veil(rng, gray(), 1.0) >= 120).all()


def test_black_borders_leave_the_middle():
    for rng in rngs(20):
        image = gray()
        windscreen.draw_black_borders(rng, image)
        assert (image[HEIGHT // 5 : -HEIGHT // 5, WIDTH // 8 : -WIDTH // 8] == 120).all()
        assert (image[[0, -1]] == 0).any() or (image[:, [0, -1]] == 0).any()


def test_town_cars_show_more_of_themselves_than_those_on_motorways():
    def covered(place):
        images = [windscreen.draw_windscreen(rng, gray(), place, False, False) for rng in rngs(60)]
        return np.mean([(image[int(0.9 * HEIGHT):] != 120).mean() for image in images])

    assert covered("town") > 1.3 * covered("motorway") > 0
