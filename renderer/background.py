"""What is behind the road: sky, clouds, hills, trees and buildings on the horizon."""

import cv2
import numpy as np

from renderer.camera import Camera
from renderer.drawing import blend, fill_polygons, noise_texture
from renderer.weather import Weather

LEAVES = [(40, 52, 30), (28, 38, 24), (60, 72, 40), (22, 30, 26), (82, 86, 52), (70, 58, 40)]
HILLS = (75, 85, 80)


def draw_background(rng: np.random.Generator, camera: Camera, weather: Weather) -> np.ndarray:
    """uint8 RGB (H, W, 3): sky, clouds, and the hills, trees and buildings on the horizon, far ones first."""
    height = camera.height
    image = _draw_sky(rng, camera, weather)
    base = camera.project(0.0, camera.depths[-1])[0, 1] + 2
    for distance in np.sort(rng.uniform(400, 3000, rng.integers(0, 3)))[::-1]:
        _draw_skyline(rng, image, base, rng.uniform(0.02, 0.16) * height, HILLS, weather, distance, 0.3)
    for distance in np.sort(rng.uniform(150, 600, rng.integers(0, 3)))[::-1]:
        rise = rng.uniform(0.01, 0.13) * height
        _draw_skyline(rng, image, base, rise, LEAVES[rng.integers(len(LEAVES))], weather, distance, 1.0)
    for _ in range(rng.poisson(1.5)):
        _draw_building(rng, image, base, weather)
    return image


def _draw_sky(rng: np.random.Generator, camera: Camera, weather: Weather) -> np.ndarray:
    height, width = camera.height, camera.width
    rows = np.arange(height, dtype=np.float32)[:, None] / max(camera.horizon_y, 1)
    down = np.minimum(rows, 1) ** rng.uniform(0.7, 2)
    column = np.float32(weather.sky_top) * (1 - down) + np.float32(weather.haze) * down
    image = cv2.resize(column.astype(np.uint8)[:, None], (width, height), interpolation=cv2.INTER_NEAREST)
    if rng.random() < 0.45:
        bottom = int(min(camera.horizon_y + 0.1 * height, height))
        clouds = cv2.resize(noise_texture(rng, 64), (width // 2, height // 2))[: bottom // 2]
        clouds = np.clip(clouds * rng.uniform(0.5, 2) + rng.uniform(-0.3, 0.3), 0, 1) * rng.uniform(0.2, 0.8)
        blend(image[:bottom], np.full((1, 1, 3), rng.uniform(150, 255), np.uint8), clouds)
    return image


def _draw_skyline(
    rng: np.random.Generator,
    image: np.ndarray,
    base: float,
    rise: float,
    color: tuple,
    weather: Weather,
    distance: float,
    roughness: float,
) -> None:
    """A silhouette of up to `rise` pixels above the row `base`: hills (roughness 0.3) or tree tops (roughness 1)."""
    width = image.shape[1]
    x = np.linspace(0, width, 200)
    profile = sum(
        weight * np.interp(x, np.linspace(0, width, knots), rng.uniform(0, 1, knots))
        for knots, weight in ((9, 0.7), (40, 0.25 * roughness), (120, 0.15 * roughness))
    )
    outline = np.concatenate([np.stack([x, base - rise * profile], -1), [(width, base + 3), (0, base + 3)]])
    shade = np.float32(color) * weather.illumination * rng.uniform(0.7, 1.3)
    fill_polygons(image, [outline], weather.fade(shade, distance * 0.5))


def _draw_building(rng: np.random.Generator, image: np.ndarray, base: float, weather: Weather) -> None:
    width, distance = image.shape[1], rng.uniform(80, 500)
    x0 = rng.uniform(-0.1, 1) * width
    size = np.array([rng.uniform(15, 90), rng.uniform(10, 60)]) * width / 640 * 150 / distance
    color = np.float32(rng.uniform(60, 200) * (1 + rng.normal(0, 0.08, 3))) * (0.4 + 0.6 * weather.illumination)
    front = _box(x0, base - size[1], x0 + size[0], base + 2)
    fill_polygons(image, [front], weather.fade(color, distance))
    rows, columns = rng.integers(2, 6), rng.integers(2, 9)
    for i in range(rows):
        y = base - size[1] * (i + 0.7) / rows
        left = x0 + size[0] * (np.arange(columns) + 0.2) / columns
        windows = [_box(x, y, x + 0.6 * size[0] / columns, y + size[1] * 0.5 / rows) for x in left]
        fill_polygons(image, windows, weather.fade(color * 0.6, distance))


def _box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
