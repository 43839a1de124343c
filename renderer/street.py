"""What lines a street: house fronts, fences, parked cars, people.

Legend: u metres to the right of the camera's path, z metres ahead, up metres above the road; x, y pixels.
"""

from collections.abc import Callable, Iterator
from functools import partial

import cv2
import numpy as np

from renderer.camera import Camera
from renderer.drawing import fill_polygons
from renderer.outlines import upright_band, upright_rectangle
from renderer.road import Road
from renderer.vehicles import Lamp, draw_vehicle
from renderer.weather import Weather

BAR_REACH_M = 22  # beyond this distance a fence's bars are drawn as a haze of their color
WINDOW_REACH_M = 45
Draw = Callable[..., list[Lamp]]


def draw_house_fronts(
    rng: np.random.Generator, image: np.ndarray, camera: Camera, weather: Weather, side: int, u: float
) -> None:
    """A row of houses along a side (-1 or 1), front at u: far ones first, with windows, and shops at their foot."""
    near, far = camera.depths[0], min(camera.depths[-1], 250.0)
    ends, end = [], near
    while end < far:
        length = rng.uniform(8, 40)
        ends.append((end, min(end + length, far)))
        end += length + (rng.uniform(3, 25) if rng.random() < 0.3 else 0)
    for start, stop in reversed(ends):
        front, height = u + side * rng.exponential(1.5), rng.uniform(3, 28)
        z = np.geomspace(start, stop, 6)
        color = np.float32(rng.uniform(60, 210) * (1 + rng.normal(0, 0.1, 3))) * (0.3 + 0.7 * weather.illumination)
        fill_polygons(image, [upright_band(camera, front, -0.2, height, z)], weather.fade(color, start))
        gable = upright_rectangle(camera, front, front + side * 30, start, -0.2, height)
        fill_polygons(image, [gable], weather.fade(color * 0.7, start))
        if rng.random() < 0.5:  # shops: a band of bright colors above dark windows
            fill_polygons(image, [upright_band(camera, front, 0.3, 2.6, z)], weather.fade(color * 0.35, start))
            sign = rng.integers(20, 255, 3) * np.float32(max(weather.illumination, 0.6))
            fill_polygons(image, [upright_band(camera, front, 2.6, 3.6, z)], weather.fade(sign, start))
        if start < WINDOW_REACH_M:
            _draw_windows(rng, image, camera, weather, front, (start, stop), height, color * rng.uniform(0.3, 0.7))


def _draw_windows(
    rng: np.random.Generator,
    image: np.ndarray,
    camera: Camera,
    weather: Weather,
    u: float,
    ends: tuple[float, float],
    height: float,
    color: np.ndarray,
) -> None:
    start, stop = ends[0], min(ends[1], 2 * WINDOW_REACH_M)
    columns = np.arange(start + 1, stop - 2, rng.uniform(2.5, 5))
    rows = np.arange(4.5, min(height - 1.5, 14), 3.2)
    if not len(columns) or not len(rows):
        return
    z, low = (grid.ravel()[:, None] for grid in np.meshgrid(columns, rows))
    corners = camera.project(u, (z + np.array([0, 1.4, 1.4, 0])).ravel(), (low + np.array([0, 0, 1.6, 1.6])).ravel())
    fill_polygons(image, corners.reshape(-1, 4, 2), weather.fade(color, start))


def draw_fence(
    rng: np.random.Generator, image: np.ndarray, camera: Camera, weather: Weather, u: float
) -> None:
    """A fence along the road at u: rails, posts and bars, white as China's or dark."""
    near, far = camera.depths[0], min(camera.depths[-1], 120.0)
    white = rng.random() < 0.7
    color = np.float32(rng.uniform(150, 240) if white else rng.uniform(20, 110)) * np.ones(3, np.float32)
    color *= (1 + rng.normal(0, 0.05, 3)) * (0.35 + 0.65 * weather.illumination)
    low, high = rng.uniform(0.1, 0.25), rng.uniform(0.6, 1.3)
    z = np.geomspace(near, far, 40)
    step, thickness = rng.uniform(0.1, 0.25), rng.uniform(0.02, 0.05)
    if far > BAR_REACH_M:  # of distant bars nothing but their mean is seen
        behind = image.copy()
        fill_polygons(image, [upright_band(camera, u, low, high, np.geomspace(BAR_REACH_M, far, 20))],
                      weather.fade(color, 2 * BAR_REACH_M))
        share = rng.uniform(0.3, 0.6)
        cv2.addWeighted(image, share, behind, 1 - share, 0, dst=image)
    for level in (low, high):
        band = upright_band(camera, u, level - 0.03, level + 0.03, z)
        fill_polygons(image, [band], weather.fade(color, 15))
    bars = np.arange(near, min(BAR_REACH_M, far), step)
    fill_polygons(image, _uprights(camera, u, bars, thickness, low, high), weather.fade(color * 0.95, 8))
    posts = np.arange(near + rng.uniform(0, 3), min(80, far), rng.uniform(2, 3.5))
    fill_polygons(image, _uprights(camera, u, posts, 0.08, 0, high + 0.08), weather.fade(color, 12))


def _uprights(camera: Camera, u: float, z: np.ndarray, width: float, low: float, high: float) -> np.ndarray:
    """(N, 4, 2) posts of a width along the road at distances z (N)."""
    ends = (z[:, None] + width * np.array([0, 1, 1, 0])).ravel()
    heights = np.tile([low, low, high, high], len(z))
    return camera.project(u, ends, heights).reshape(-1, 4, 2)


def parked_cars(rng: np.random.Generator, camera: Camera, u: float) -> Iterator[tuple[float, Draw]]:
    """(z, function that draws it there) of cars parked in a row at u."""
    z = rng.uniform(-3, 15)
    while z < min(camera.depths[-1], 90):
        yield max(z, 0.1), partial(draw_vehicle, u=u + rng.normal(0, 0.12), oncoming=rng.random() < 0.15)
        z += rng.uniform(5.3, 7) if rng.random() < 0.8 else rng.uniform(8, 30)


def draw_person(
    rng: np.random.Generator, image: np.ndarray, camera: Camera, road: Road, weather: Weather, z: float, u: float
) -> list[Lamp]:
    """Somebody on foot or on a bicycle, seen from behind or the side."""
    height, lit = rng.uniform(1.5, 1.85), 0.3 + 0.7 * weather.illumination
    clothes = [rng.integers(15, 230, 3) * np.float32(lit) for _ in range(2)]
    half = rng.uniform(0.16, 0.28)
    if rng.random() < 0.5:  # a bicycle or a scooter
        half *= rng.choice([1.0, 2.2])
        wheels = upright_rectangle(camera, u - 0.6 * half, u + 0.6 * half, z, 0, 0.6)
        fill_polygons(image, [wheels], weather.fade(np.float32([25, 25, 28]), z))
    for low, high, width, color in ((0, 0.5, 0.7, clothes[0]), (0.48, 0.84, 1.0, clothes[1]),
                                    (0.85, 1.0, 0.4, np.float32([120, 90, 75]) * lit)):
        part = upright_rectangle(camera, u - half * width, u + half * width, z, low * height, high * height)
        fill_polygons(image, [part], weather.fade(color, z))
    return []
