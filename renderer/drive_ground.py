"""The ground of a drive: what is on it stays where it is while the camera moves over it.

What varies smoothly is sampled by its place on the road; what has a shape is drawn cell by cell, each cell of the road
with random numbers of its own. Legend: along, across as in renderer/drive.py; h rows from the ground's first one down.
"""

from collections.abc import Iterator

import cv2
import numpy as np

from renderer import pavement
from renderer.camera import Camera
from renderer.drawing import OpacityMask, noise_texture, sample_noise
from renderer.ground import ground_coordinates, light_ground, top_row
from renderer.paint import paint_colors, paint_coverage, paint_lines
from renderer.road import Road
from renderer.shadows import SCALE, draw_band_across
from renderer.weather import Weather

CELL_M = 15.0
DETAIL_M = 70.0  # cracks and stains farther away are too small
SHADOW_M = 150.0


def draw_drive_ground(rng: np.random.Generator, image: np.ndarray, camera: Camera, road: Road, weather: Weather,
                      travelled: float, lateral: float, shaded: bool) -> np.ndarray:
    """Draw the ground over `image` from its top row down; returns a copy of the image without lane lines.

    rng is at the same state for each frame of a drive, and no draw from it depends on where the camera is.
    """
    top = top_row(camera)
    size = (camera.width, camera.height - top)
    concrete = rng.random() < 0.3
    seed, noise = int(rng.integers(1 << 32)), noise_texture(rng)
    u, z = ground_coordinates(camera, top, 2)
    across, along = (u + lateral).astype(np.float32), (z + travelled).astype(np.float32)
    streaks = sample_noise(noise, across * 7, along * 1.5)
    blotches = sample_noise(noise, across * 1.3 + 40, along * 0.35 + 90)
    tone = pavement.tone_across(rng, road, u, concrete)
    tone *= 1 + (rng.uniform(0.03, 0.16) * np.minimum(1, 25 / z)) * streaks + rng.uniform(0.02, 0.22) * blotches
    coverage = paint_coverage(road, streaks, blotches)
    leaves = sample_noise(noise, across * rng.uniform(3, 9) + 7, along * rng.uniform(0.8, 2) + 31)
    light = _sunlight(rng, camera, road, weather, top, u, leaves, seed, travelled, shaded)
    tone, coverage, light = (cv2.resize(field, size) for field in (tone, coverage, light))
    tone *= 1 - _blemishes(camera, road, top, seed, travelled, lateral, concrete).opacity()
    ground = np.float32(cv2.split(pavement.base_colors(rng, camera, road, top, concrete, patches=False)))
    ground *= tone
    unpainted_ground = ground.copy()
    white, yellow = paint_colors(rng)
    paint_lines(ground, camera, road, top, coverage, {"white": white, "yellow": yellow})
    unpainted = image.copy()
    light_ground(rng, [ground, unpainted_ground], [image[top:], unpainted[top:]], camera, top, weather, light)
    return unpainted


def _cells(seed: int, camera: Camera, travelled: float, reach: float) -> Iterator[tuple[np.random.Generator, float]]:
    """(random numbers, z of its beginning) of each cell of the road from below the camera to `reach` metres ahead."""
    first = int((travelled + camera.depths[0]) // CELL_M) - 1
    last = int((travelled + min(reach, camera.depths[-1])) // CELL_M)
    for cell in range(first, last + 1):
        yield np.random.default_rng([seed, cell + 1000]), cell * CELL_M - travelled


def _blemishes(camera: Camera, road: Road, top: int, seed: int, travelled: float, lateral: float, concrete: bool
               ) -> OpacityMask:
    """Joints, cracks, patches and stains of the road ahead."""
    dark, near = OpacityMask(camera, top), camera.depths[0]
    for rng, start in _cells(seed, camera, travelled, DETAIL_M):
        if concrete:
            for joint in start + np.arange(0, CELL_M, CELL_M / 3):
                if joint > near:
                    dark.draw_polyline(np.array([road.left_edge, road.right_edge]), np.full(2, joint), 0.03, 90)
        if rng.random() < 0.5:  # a crack or tar snake
            heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.35, 12))
            u = rng.uniform(road.left_edge, road.right_edge) + 0.5 * np.cumsum(np.cos(heading))
            z = start + rng.uniform(0, CELL_M) + 1.5 * np.cumsum(np.sin(heading))
            width, value = rng.choice([0.01, 0.05]), rng.uniform(60, 200)
            if (z > near).sum() > 2:
                dark.draw_polyline(u[z > near], z[z > near], width, value, 0.6)
        if rng.random() < 0.12:  # a patch
            u, z = rng.uniform(road.left_edge, road.right_edge - 1), start + rng.uniform(0, CELL_M)
            dark.draw_band(u, z, z + rng.uniform(1, 12), rng.uniform(0.6, 3), rng.uniform(20, 90))
        drips = rng.poisson(3)
        z, u = start + rng.uniform(0, CELL_M, drips), rng.uniform(road.left_edge, road.right_edge, (drips, 1))
        ahead = (z > near) & (z < camera.depths[-1] - 1)
        dark.draw_strokes(lambda _, u=u[ahead]: np.broadcast_to(u, (len(u), 4)), z[ahead], z[ahead] + 0.15, 0.06, 130)
    return dark


def _sunlight(rng: np.random.Generator, camera: Camera, road: Road, weather: Weather, top: int, u: np.ndarray,
              leaves: np.ndarray, seed: int, travelled: float, shaded: bool) -> np.ndarray:
    """float32 in 0..1, shaped like u (h, w): the light that shadows of poles, bridges and, if shaded, trees leave."""
    strength, hardness, side = rng.uniform(0.45, 0.8), rng.uniform(2, 8), rng.choice([-1, 1])
    reach = rng.uniform(0.4, 1.1) * (road.right_edge - road.left_edge)
    if weather.sun < 0.15:
        return np.ones_like(u)
    shadow = np.zeros(u.shape, np.uint8)
    for cell, start in _cells(seed + 1, camera, travelled, SHADOW_M):
        length = cell.choice([cell.uniform(0.1, 0.6), cell.uniform(6, 18)], p=[0.8, 0.2])
        if cell.random() < 0.15 and start + length > camera.depths[0]:
            ends = np.array([road.left_edge - 6, road.right_edge + 6])
            draw_band_across(shadow, camera, ends, start + cell.normal(0, 0.4) * (ends - road.left_edge), length, top)
    shadow = cv2.GaussianBlur(shadow, (0, 0), 2 * SCALE).astype(np.float32) * np.float32(1 / 255)
    if shaded:
        inside = road.left_edge + reach - u if side < 0 else u - road.right_edge + reach
        inside = np.clip(inside / 2, -1, 0.3).astype(np.float32)
        np.maximum(shadow, np.clip((leaves + inside) * hardness, 0, 1), out=shadow)
    return 1 - shadow * np.float32(weather.sun * strength)
