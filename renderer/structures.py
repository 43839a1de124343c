"""Poles, road signs, gantries and bridges.

Each function draws one at distance z and returns its lamps; lengths are in metres.
"""

import numpy as np

from renderer.camera import Camera
from renderer.drawing import fill_polygons
from renderer.outlines import upright_rectangle
from renderer.road import Road
from renderer.vehicles import Lamp
from renderer.weather import Weather

SIGN_COLORS = [[30, 100, 60], [200, 170, 40], [220, 220, 220], [40, 80, 170], [170, 40, 40]]
BOARD_COLORS = [[20, 90, 60], [30, 70, 150], [40, 40, 40]]


def draw_pole(
    rng: np.random.Generator, image: np.ndarray, camera: Camera, road: Road, weather: Weather, z: float
) -> list[Lamp]:
    """A pole beside the road: bare, with a street lamp, or with a road sign."""
    u = rng.choice([road.left_edge - rng.uniform(0.5, 6), road.right_edge + rng.uniform(0.5, 6)])
    height = rng.uniform(2.5, 11)
    color = weather.fade(np.float32([80, 82, 85]) * rng.uniform(0.3, 1.6), z)
    foot, head = camera.project(u, z, [0, height])
    scale = camera.pixels_per_metre(z)
    half = max(0.4, rng.uniform(0.06, 0.15) * scale)
    sideways, upward = np.array([half, 0]), np.array([0, half])
    pole = np.array([foot - sideways, foot + sideways, head + 0.7 * sideways, head - 0.7 * sideways])
    fill_polygons(image, [pole], color)
    if rng.random() < 0.4:
        arm = camera.project(u - np.sign(u) * rng.uniform(1, 3), z, height)[0]
        fill_polygons(image, [np.array([head - upward, arm - upward, arm + upward, head + upward])], color)
        return [Lamp(*arm, max(0.6, 0.25 * scale), (255, 220, 160))] if weather.night else []
    if rng.random() < 0.4:
        sign = rng.choice(SIGN_COLORS)
        board = head + rng.uniform(0.3, 0.7) * scale * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
        fill_polygons(image, [board], weather.fade(sign * np.float32(weather.illumination), z))
    return []


def draw_gantry(
    rng: np.random.Generator, image: np.ndarray, camera: Camera, road: Road, weather: Weather, z: float
) -> list[Lamp]:
    """A post beside the road, often with a beam across it, and boards with writing."""
    low = rng.uniform(5.2, 6.5)
    dark = weather.fade(np.float32([70, 72, 74]) * weather.illumination, z)
    left, right = road.left_edge - 1, road.right_edge + rng.uniform(1, 8)
    if rng.random() < 0.5:
        fill_polygons(image, [upright_rectangle(camera, left, right, z, low + 0.6, low + 0.9)], dark)
    fill_polygons(image, [upright_rectangle(camera, right - 0.2, right + 0.2, z, 0, low + 1)], dark)
    for _ in range(rng.integers(1, 4)):
        u, half = rng.uniform(left + 2, right), rng.uniform(1, 2.6)
        color = np.float32(rng.choice(BOARD_COLORS)) * weather.illumination
        top = low + rng.uniform(1.2, 2.8)
        board = upright_rectangle(camera, u - half, u + half, z, low, top)
        fill_polygons(image, [board], weather.fade(color, z))
        for row in rng.uniform(low + 0.3, top - 0.4, 2):
            end = u + half * rng.uniform(0, 0.8)
            writing = upright_rectangle(camera, u - half * 0.7, end, z, row, row + 0.25)
            fill_polygons(image, [writing], weather.fade(np.full(3, 200 * weather.illumination), z))
    return []


def draw_bridge(
    rng: np.random.Generator, image: np.ndarray, camera: Camera, road: Road, weather: Weather, z: float
) -> list[Lamp]:
    """A bridge across the road: its piers, its dark underside, its face and its railing."""
    low = rng.uniform(4.8, 7)
    color = np.float32([130, 125, 118]) * rng.uniform(0.3, 1) * weather.illumination
    left, right = road.left_edge - 80, road.right_edge + 80
    for u in (road.left_edge - rng.uniform(1, 4), road.right_edge + rng.uniform(1, 6)):
        pier = upright_rectangle(camera, u - 0.7, u + 0.7, z, -0.3, low)
        fill_polygons(image, [pier], weather.fade(color * 0.7, z))
    back = camera.project([left, right], z + rng.uniform(8, 20), low)
    front = camera.project([right, left], z, low)
    fill_polygons(image, [np.concatenate([back, front])], weather.fade(color * 0.3, z))
    deck = low + rng.uniform(1, 2)
    fill_polygons(image, [upright_rectangle(camera, left, right, z, low, deck)], weather.fade(color, z))
    railing = upright_rectangle(camera, left, right, z, deck + 0.9, deck + 1.0)
    fill_polygons(image, [railing], weather.fade(color * 0.8, z))
    return []
