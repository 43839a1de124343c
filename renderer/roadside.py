"""What stands along the road of a drive: single trees, and walls; each frame draws them where they are by then.

Legend: u metres to the right of the camera's path, z metres ahead.
"""

import numpy as np

from renderer.background import LEAVES
from renderer.camera import Camera
from renderer.drawing import fill_polygons
from renderer.outlines import upright_pieces, upright_rectangle
from renderer.road import Road
from renderer.vehicles import Lamp
from renderer.weather import Weather

CROWN_CORNERS = 14


def draw_tree(rng: np.random.Generator, image: np.ndarray, camera: Camera, road: Road, weather: Weather, z: float,
              u: float) -> list[Lamp]:
    """Draw a tree or a bush at distance z; it has no lamps."""
    radius, trunk = rng.uniform(1, 3.2), rng.choice([0.2, rng.uniform(1, 3)])
    color = np.float32(LEAVES[rng.integers(len(LEAVES))]) * weather.illumination * rng.uniform(0.7, 1.5)
    angle = np.linspace(0, 2 * np.pi, CROWN_CORNERS, endpoint=False)
    fill_polygons(image, [upright_rectangle(camera, u - 0.15, u + 0.15, z, 0, trunk + radius)],
                  weather.fade(np.float32([60, 50, 42]) * weather.illumination, z))
    for size, brightness, lift in ((1.0, 0.8, 0.0), (0.7, 1.1, 0.25)):
        reach = size * radius * rng.uniform(0.75, 1.15, CROWN_CORNERS)
        crown = camera.project(u + reach * np.cos(angle), z, trunk + radius * (1 + lift) + reach * np.sin(angle))
        fill_polygons(image, [crown], weather.fade(color * brightness, z))
    return []


def draw_wall(rng: np.random.Generator, image: np.ndarray, camera: Camera, road: Road, weather: Weather) -> None:
    """Draw a wall or barrier along each side that has one; it looks the same wherever the camera is."""
    for side, edge in ((-1, road.left_edge), (1, road.right_edge)):
        built, beyond, height = rng.random() < 0.5, rng.uniform(0.1, 1), rng.choice([rng.uniform(0.6, 1.1), 2.5])
        color = rng.uniform(60, 180) * (1 + rng.normal(0, 0.04, 3)) * (0.4 + 0.6 * weather.illumination)
        if built:
            for low, shade in ((0.0, color), (0.9 * height, color * 1.2)):
                for outline, z in upright_pieces(camera, edge + side * beyond, low, height, 8):
                    fill_polygons(image, [outline], weather.fade(shade, z))
