"""Shadows on the ground: of poles, bridges, walls and trees."""

import cv2
import numpy as np

from renderer.camera import Camera
from renderer.drawing import fill_polygons, sample_noise
from renderer.outlines import band_around
from renderer.road import Road
from renderer.weather import Weather

SCALE = 0.5  # shadows are drawn at half size


def sunlight(
    rng: np.random.Generator,
    camera: Camera,
    road: Road,
    weather: Weather,
    top: int,
    u: np.ndarray,
    z: np.ndarray,
    noise: np.ndarray,
) -> np.ndarray:
    """float32 in 0..1, shaped like u (h, w): the light that shadows leave. z is (h, 1), `noise` a texture."""
    if weather.sun < 0.15:
        return np.ones_like(u)
    shadow = _draw_hard_shadows(rng, np.zeros(u.shape, np.uint8), camera, road, top)
    shadow = cv2.GaussianBlur(shadow, (0, 0), rng.uniform(0.3, 1.5)).astype(np.float32) * np.float32(1 / 255)
    dappled = 0.45 if road.place == "town" else 0.2
    if rng.random() < dappled:  # trees along the road throw shade over one side or all of it
        leaves = sample_noise(noise, u * rng.uniform(3, 14) + 7, z * rng.uniform(0.8, 3) + 31)
        reach = rng.uniform(0.1, 1.1) * (road.right_edge - road.left_edge)
        inside = road.left_edge + reach - u if rng.random() < 0.5 else u - road.right_edge + reach
        inside = np.clip(inside / rng.uniform(0.5, 4), -1, rng.uniform(-0.1, 0.6)).astype(np.float32)
        np.maximum(shadow, np.clip((leaves + inside) * rng.uniform(2, 9), 0, 1), out=shadow)
    return 1 - shadow * np.float32(weather.sun * rng.uniform(0.45, 0.85))


def _draw_hard_shadows(
    rng: np.random.Generator, shadow: np.ndarray, camera: Camera, road: Road, top: int
) -> np.ndarray:
    """The mask `shadow` (h, w) uint8 with bands across and along the road at 255."""
    near = camera.depths[0]
    for _ in range(rng.poisson(0.3)):  # poles, wires, gantries
        z, slant = near * rng.uniform(1, 6), rng.normal(0, 0.7)
        ends = np.array([road.left_edge - 4, road.right_edge + 4])
        draw_band_across(shadow, camera, ends, z + slant * ends, rng.uniform(0.1, 0.8), top)
    if rng.random() < 0.12:  # a bridge overhead
        z, slant = near * rng.uniform(0.9, 6), rng.normal(0, 0.4)
        ends = np.array([road.left_edge - 15, road.right_edge + 15])
        draw_band_across(shadow, camera, ends, z + slant * ends, rng.uniform(6, 20), top)
    if rng.random() < 0.15:  # the shade of a wall or barrier lies along the road
        width = rng.uniform(0.3, 3)
        u = road.left_edge + width / 2 if rng.random() < 0.5 else road.right_edge - width / 2
        fill_polygons(shadow, [band_around(camera, u, camera.depths, width / 2)], 255, SCALE, top)
    return shadow


def draw_band_across(
    shadow: np.ndarray, camera: Camera, u: np.ndarray, z: np.ndarray, length: float, top: int
) -> None:
    """Fill the ground from the points (u, z) on for `length` metres."""
    z = np.concatenate([z, z[::-1] + length])
    outline = camera.project(np.concatenate([u, u[::-1]]), np.maximum(z, camera.depths[0]))
    fill_polygons(shadow, [outline], 255, SCALE, top)
