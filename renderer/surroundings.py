"""What stands along the road and on it, drawn from far to near, and the carriageway beyond the median."""

from functools import partial

import cv2
import numpy as np

from renderer.background import LEAVES
from renderer.camera import Camera
from renderer.drawing import blend, fill_polygons, noise_texture
from renderer.outlines import road_band, upright_band, upright_pieces
from renderer.road import Road
from renderer.street import Draw, draw_fence, draw_house_fronts, draw_person, parked_cars
from renderer.structures import draw_bridge, draw_gantry, draw_pole
from renderer.vehicles import Lamp, draw_vehicle, sample_traffic
from renderer.weather import Weather

LANE_WIDTH_M = 3.6  # of the carriageway beyond the median
HEIGHT_KNOTS = 14  # heights of trees along the road, between which they are interpolated


def draw_surroundings(
    rng: np.random.Generator, image: np.ndarray, camera: Camera, road: Road, weather: Weather
) -> list[Lamp]:
    """Draw everything that stands on the ground, far objects first; returns the lamps."""
    _draw_opposite_carriageway(rng, image, camera, road, weather)
    _draw_roadsides(rng, image, camera, road, weather)
    objects = []  # (distance, function that draws it there)
    for _ in range(rng.poisson(0.5 if road.place == "motorway" else 0.2)):
        objects.append((rng.uniform(25, 250), draw_gantry))
    if rng.random() < (0.22 if road.place == "motorway" else 0.1):
        objects.append((rng.uniform(12, 220), draw_bridge))
    for _ in range(rng.poisson(3 if road.place == "motorway" else 7)):
        objects.append((rng.uniform(10, 200), draw_pole))
    if road.place == "town":
        objects += _street_life(rng, camera, road)
    for z, u, oncoming in sample_traffic(rng, camera, road):
        objects.append((z, partial(draw_vehicle, u=u, oncoming=oncoming)))
    lamps = []
    for z, draw in sorted(objects, key=lambda item: -item[0]):
        if z < camera.depths[-1]:
            lamps += draw(rng, image, camera, road, weather, z)
    return lamps


def _street_life(rng: np.random.Generator, camera: Camera, road: Road) -> list[tuple[float, Draw]]:
    """(distance, function that draws it there) of parked cars and people."""
    objects = []
    for side, edge, border in ((-1, road.left_edge, road.borders[0]), (1, road.right_edge, road.borders[-1])):
        if rng.random() < 0.35:  # beside the kerb, or on the pavement beyond it
            u = edge - side * 1.1 if abs(edge - border) > 1.5 else edge + side * rng.uniform(0.7, 1.5)
            objects += parked_cars(rng, camera, u)
        for _ in range(rng.poisson(1.5)):
            u = edge + side * rng.uniform(-1, 4)
            objects.append((rng.uniform(5, 60), partial(draw_person, u=u)))
    return objects


def _draw_opposite_carriageway(
    rng: np.random.Generator, image: np.ndarray, camera: Camera, road: Road, weather: Weather
) -> None:
    """A carriageway beyond a median, and the barrier that hides some of it; its lines carry no labels."""
    if rng.random() < {"motorway": 0.5, "town": 0.75, "country": 1.0}[road.place]:
        return
    near, far = camera.depths[0], camera.depths[-1]
    start = road.left_edge - rng.uniform(1, 8)
    lanes = rng.integers(2, 5)
    gray = rng.uniform(60, 160) * np.float32(weather.ground_tint)
    end = start - LANE_WIDTH_M * lanes - 2
    fill_polygons(image, [road_band(camera, start, end)], weather.fade(gray, 60))
    if rng.random() < 0.6:
        pale = weather.fade(np.float32([215, 212, 205]) * weather.ground_tint, 40)
        for u in start - 1 - LANE_WIDTH_M * np.arange(lanes + 1):
            period, dash = (12.0, 3.7) if rng.random() < 0.7 else (6.0, 6.0)
            for z in np.arange(near, min(80.0, far - 6), period):
                ends = np.array([z, z + dash, z + dash, z])
                fill_polygons(image, [camera.project(u + np.array([0, 0, 0.15, 0.15]), ends)], pale)
    for z in np.sort(rng.uniform(near * 2, 200, rng.poisson(3)))[::-1]:
        if z < far:
            u = start - 2 - LANE_WIDTH_M * rng.integers(lanes)
            draw_vehicle(rng, image, camera, road, weather, z, u, oncoming=True)
    _draw_barrier(rng, image, camera, start + 0.5, weather, rng.uniform(0.7, 1.1))


def _draw_barrier(
    rng: np.random.Generator, image: np.ndarray, camera: Camera, u: float, weather: Weather, height: float
) -> None:
    """A concrete wall with a pale top, or a steel rail on posts; `height` in metres."""
    color = np.float32(rng.uniform(70, 190) * (1 + rng.normal(0, 0.03, 3))) * rng.uniform(0.4, 1)
    z = camera.depths
    if rng.random() < 0.65:
        for low, shade in ((0, color), (0.92 * height, color * 1.25)):
            for outline, distance in upright_pieces(camera, u, low, height, 8):
                fill_polygons(image, [outline], weather.fade(shade, distance))
        return
    for post in np.arange(z[0] + rng.uniform(0, 4), min(60, z[-1]), 4):
        outline = upright_band(camera, u, 0, 0.7, np.array([post, post + 0.12]))
        fill_polygons(image, [outline], (color * 0.6).tolist())
    fill_polygons(image, [upright_band(camera, u, 0.45, 0.75, z)], weather.fade(color, 20))
    fill_polygons(image, [upright_band(camera, u, 0.58, 0.62, z)], weather.fade(color * 0.5, 20))


def _draw_roadsides(
    rng: np.random.Generator, image: np.ndarray, camera: Camera, road: Road, weather: Weather
) -> None:
    """What stands along both sides: slopes and trees, then walls, rails and kerbs."""
    sides = [(-1, road.left_edge), (1, road.right_edge)]
    shares = {"motorway": [0.32, 0.46, 0.22], "town": [0.35, 0.6, 0.05], "country": [0.2, 0.5, 0.3]}[road.place]
    greenery = [rng.choice(["none", "trees", "slope"], p=shares) for _ in sides]
    if road.place == "town":
        for side, edge in sides:
            if rng.random() < 0.6:
                draw_house_fronts(rng, image, camera, weather, side, edge + side * rng.uniform(2, 14))
    _draw_greenery(rng, image, camera, weather, sides, greenery)
    for (side, edge), green in zip(sides, greenery, strict=True):
        if green == "none" and rng.random() < 0.4:
            color = rng.uniform(60, 190) * (1 + rng.normal(0, 0.06, 3)) * (0.4 + 0.6 * weather.illumination)
            u = edge + side * rng.uniform(1, 5)
            for outline, z in upright_pieces(camera, u, -0.3, rng.uniform(1.5, 7)):  # a wall
                fill_polygons(image, [outline], weather.fade(color, z))
        rails = {"motorway": 0.45, "town": 0.15, "country": 0.15}[road.place]
        if road.place == "town" and rng.random() < 0.4:
            draw_fence(rng, image, camera, weather, edge + side * rng.uniform(0.05, 2))
        elif rng.random() < rails:
            u = edge + side * rng.uniform(0.05, 0.6)
            _draw_barrier(rng, image, camera, u, weather, rng.uniform(0.6, 1.2))
        elif rng.random() < 0.3:  # a kerb: a pale step along the edge
            color = np.float32([170, 168, 160]) * rng.uniform(0.5, 1.1)
            outline = upright_band(camera, edge + side * 0.05, 0, 0.13, camera.depths)
            fill_polygons(image, [outline], weather.fade(color, 25))


def _draw_greenery(
    rng: np.random.Generator,
    image: np.ndarray,
    camera: Camera,
    weather: Weather,
    sides: list[tuple[int, float]],
    kinds: list[str],
) -> None:
    """Trees and bushes along the sides (-1 or 1, u of the edge), of a kind each: none, trees or slope."""
    size = (camera.height // 2, camera.width // 2)  # at half size
    shape, colors = np.zeros(size, np.uint8), np.zeros((*size, 3), np.uint8)
    for (side, edge), kind in zip(sides, kinds, strict=True):
        if kind != "none":
            _fill_tree_rows(rng, shape, colors, camera, weather, side, edge, kind)
    rows = np.flatnonzero(shape.max(1))
    if not len(rows):
        return
    first, last = max(rows[0] - 12, 0), min(rows[-1] + 12, size[0])
    colors, opacity = _roughen(rng, shape[first:last], colors[first:last])
    blend(image[2 * first : 2 * last], colors, opacity)


def _fill_tree_rows(
    rng: np.random.Generator,
    shape: np.ndarray,
    colors: np.ndarray,
    camera: Camera,
    weather: Weather,
    side: int,
    edge: float,
    kind: str,
) -> None:
    """Fill a side's rows of trees, whose height varies, into `shape` (h, w) and `colors` (h, w, 3), at half size."""
    z = camera.depths
    rows = [(rng.exponential(10), rng.uniform(2, 16) * np.clip(rng.normal(0.6, 0.5, HEIGHT_KNOTS), 0, 1.3))]
    if kind == "slope":
        rows.append((0.0, np.full(HEIGHT_KNOTS, rng.uniform(0.6, 4))))
    for beyond, heights in rows:
        u = edge + side * (rng.uniform(1, 5) + beyond)
        height = np.interp(z, np.geomspace(z[0], z[-1], HEIGHT_KNOTS), heights)
        color = np.float32(LEAVES[rng.integers(len(LEAVES))]) * weather.illumination * rng.uniform(0.6, 1.5)
        for outline, distance in upright_pieces(camera, u, -0.3, height):
            fill_polygons(shape, [outline], 255, 0.5)
            fill_polygons(colors, [outline], weather.fade(color * rng.uniform(0.8, 1.2), distance), 0.5)


def _roughen(rng: np.random.Generator, shape: np.ndarray, colors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(colors, opacity) of foliage: noise breaks up the outline of `shape` and the shade of `colors`."""
    height, width = shape.shape
    noise = noise_texture(rng, -(-max(height, width) // 16) * 16)
    leaves, lit = noise[:height, :width], noise[-height:, -width:]
    shape = cv2.GaussianBlur(shape, (0, 0), rng.uniform(1.5, 5)).astype(np.float32) * np.float32(1 / 255)
    fringe = rng.uniform(0.2, 0.7) * leaves * (np.abs(shape - 0.5) < 0.47)
    opacity = np.clip((shape - 0.5 + fringe) * 4 + 0.5, 0, 1)
    spread = cv2.dilate(colors, np.ones((9, 9), np.uint8))  # the outline may grow past what was filled
    tone = np.clip(1 + rng.uniform(0.3, 1.2) * lit, 0.2, 2).astype(np.float32)
    return cv2.multiply(spread, cv2.merge([tone] * 3), dtype=cv2.CV_8U), opacity
