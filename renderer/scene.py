"""One rendered road scene with its lane lines: what is drawn, in which order, and its labels.

Legend: u metres to the right of the camera's path, z metres ahead, up metres above the road; x, y pixels.
"""

import copy
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from renderer import labels, surroundings
from renderer.camera import sample_view
from renderer.ground import draw_clean, draw_ground
from renderer.road import sample_road
from renderer.weather import sample_weather, through_camera, through_sensor


@dataclass
class Scene:
    """image: uint8 RGB (H, W, 3); lanes: (N, 2) float32 pixel points (x, y), far to near, left to right."""

    image: np.ndarray
    lanes: list[np.ndarray] = field(default_factory=list)
    jpeg_quality: int = 92


def render_scene(seed, width: int = 640, height: int = 360, empty: float = 0.0, clean: bool = False) -> Scene:
    """The Scene of a seed (an int, a sequence of ints or a SeedSequence).

    `empty` is the chance of a road without paint or no road at all.
    `clean` leaves out clutter, wear, light and camera effects: fresh paint on dark asphalt, for tests.
    """
    rng = np.random.default_rng(seed)
    if clean:
        view, road = sample_view(rng, width, height), sample_road(rng)
        fresh = replace(road, lines=tuple(replace(line, strength=1.0) for line in road.lines))
        return Scene(draw_clean(view, fresh), labels.lane_points(view, road))
    kind = rng.choice(["road", "unmarked", "no road"], p=[1 - empty, empty * 3 / 7, empty * 4 / 7])
    if kind == "no road":
        image = surroundings.draw_no_road(rng, width, height)
        return Scene(through_sensor(rng, image), [], int(rng.integers(60, 97)))
    view, road = sample_view(rng, width, height), sample_road(rng, painted=kind == "road")
    weather = sample_weather(rng)
    image = surroundings.draw_background(rng, view, weather)
    bare = draw_ground(rng, image, view, road, weather)
    ground = image.copy()
    lamps = surroundings.draw_clutter(rng, image, view, road, weather)
    in_sight = cv2.inRange(cv2.absdiff(image, ground), (0, 0, 0), (0, 0, 0))  # where nothing stands before the road
    bare = cv2.copyTo(bare, in_sight, image.copy())
    bare, _ = through_camera(copy.deepcopy(rng), bare, [], view, weather, lamps)
    lanes = labels.lane_points(view, road)
    image, lanes = through_camera(rng, image, lanes, view, weather, lamps)
    lanes = labels.labelled(lanes, labels.seen_shares(lanes, image, bare))
    return Scene(image, lanes, int(np.clip(rng.normal(85, 10), 45, 97)))
