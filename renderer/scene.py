"""One rendered road scene with its lanes: what is drawn, in which order, and its labels.

Legend: u metres to the right of the camera's path, z metres ahead, up metres above the road; x, y pixels.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from renderer.background import draw_background
from renderer.camera import Camera, sample_camera
from renderer.camera_effects import apply_camera_effects, apply_sensor
from renderer.ground import draw_clean, draw_ground
from renderer.labels import lane_polylines, select_labelled, visible_fractions
from renderer.no_road import draw_no_road
from renderer.road import PLACES, Road, sample_road
from renderer.surroundings import draw_surroundings
from renderer.weather import Weather, sample_weather


@dataclass
class Scene:
    """image: uint8 RGB (H, W, 3); lanes: (N, 2) float32 pixel points (x, y), far to near, left to right."""

    image: np.ndarray
    lanes: list[np.ndarray] = field(default_factory=list)
    jpeg_quality: int = 92


def render_scene(
    seed: int | Sequence[int] | np.random.SeedSequence,
    width: int = 640,
    height: int = 360,
    empty_share: float = 0.0,
    clean: bool = False,
) -> Scene:
    """The Scene of a seed.

    `empty_share` is the chance of a road without paint or no road at all.
    `clean` leaves out surroundings, wear, light and camera effects: fresh paint on dark asphalt, for tests.
    """
    rng = np.random.default_rng(seed)
    if clean:
        camera, road = sample_camera(rng, width, height), sample_road(rng)
        fresh = replace(road, lines=tuple(replace(line, opacity=1.0) for line in road.lines))
        return Scene(draw_clean(camera, fresh), lane_polylines(camera, road))
    shares = [1 - empty_share, empty_share * 3 / 7, empty_share * 4 / 7]
    kind = rng.choice(["road", "unpainted road", "no road"], p=shares)
    if kind == "no road":
        image = draw_no_road(rng, width, height)
        return Scene(apply_sensor(rng, image), [], int(rng.integers(60, 97)))
    place = str(rng.choice(list(PLACES), p=list(PLACES.values())))
    camera, road = sample_camera(rng, width, height, place), sample_road(rng, kind == "road", place)
    return _render_road(rng, camera, road, sample_weather(rng))


def _render_road(rng: np.random.Generator, camera: Camera, road: Road, weather: Weather) -> Scene:
    """The Scene of a road, drawn with and without lane lines: what differs is visible paint."""
    image = draw_background(rng, camera, weather)
    unpainted = draw_ground(rng, image, camera, road, weather)
    ground = image.copy()
    lamps = draw_surroundings(rng, image, camera, road, weather)
    unobstructed = cv2.inRange(cv2.absdiff(image, ground), (0, 0, 0), (0, 0, 0))
    unpainted = cv2.copyTo(unpainted, unobstructed, image.copy())
    unpainted, _ = apply_camera_effects(copy.deepcopy(rng), unpainted, [], camera, road.place, weather, lamps)
    lanes = lane_polylines(camera, road)
    image, lanes = apply_camera_effects(rng, image, lanes, camera, road.place, weather, lamps)
    lanes = select_labelled(lanes, visible_fractions(lanes, image, unpainted))
    return Scene(image, lanes, int(np.clip(rng.normal(85, 10), 45, 97)))
