"""The vehicles of a scene: where they drive, and how one is drawn."""

from bisect import bisect_right
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from renderer.camera import Camera
from renderer.drawing import fill_polygons
from renderer.outlines import upright_rectangle
from renderer.road import Road
from renderer.weather import Weather


class VehicleKind(NamedTuple):
    """Lengths in metres."""

    width: float
    height: float
    length: float
    traffic_share: float
    body_share: float  # of the height, below the windows
    cabin_width: float  # of the body's


class Lamp(NamedTuple):
    """A light in the image: center and radius in pixels, RGB."""

    x: float
    y: float
    radius: float
    color: tuple


VEHICLES = {
    "car": VehicleKind(1.8, 1.45, 4.4, 0.42, 0.6, 0.82),
    "suv": VehicleKind(1.9, 1.75, 4.7, 0.22, 0.58, 0.82),
    "van": VehicleKind(2.0, 2.1, 5.0, 0.1, 0.55, 0.97),
    "pickup": VehicleKind(1.95, 1.8, 5.4, 0.1, 0.55, 0.82),
    "lorry": VehicleKind(2.5, 3.5, 9.0, 0.12, 1.0, 0.97),
    "bus": VehicleKind(2.5, 3.0, 11.0, 0.04, 0.5, 0.97),
}
KINDS = tuple(VEHICLES.values())
KIND_LIMITS = np.cumsum([kind.traffic_share for kind in KINDS]).tolist()  # of a random number, for each kind
MAX_LENGTH_M = max(kind.length for kind in KINDS)
PAINTS = [
    (20, 20, 24),
    (35, 38, 45),
    (60, 62, 66),
    (120, 122, 125),
    (170, 172, 175),
    (215, 215, 215),
    (240, 240, 240),
]
DARK = np.float32([22, 23, 26])  # tyres, and the shadow below
MAX_VEHICLES = 24
NEAREST_M = 1.2  # nearer than this a vehicle's end is behind the camera's image
MIN_DETAIL_PX = 12  # width from which on details are drawn

Paint = Callable[[np.ndarray, np.ndarray], None]  # fills a polygon (N, 2) with a color


def sample_traffic(rng: np.random.Generator, camera: Camera, road: Road) -> list[tuple[float, float, bool]]:
    """(z, u, oncoming) of the vehicles on our carriageway, from an empty road to a jam."""
    least = 3 if road.place == "town" else 14
    spacing = float(np.exp(rng.uniform(np.log(least), np.log(200))))
    two_way = len(road.lane_centers) > 1 and rng.random() < (0.1 if road.place == "motorway" else 0.5)
    vehicles = []
    for lane, center in enumerate(road.lane_centers):
        ego_lane = road.borders[lane] < 0 <= road.borders[lane + 1]
        first = rng.uniform(4.5 if road.place == "town" else 8, 12)
        z = first + rng.exponential(spacing) if ego_lane else rng.exponential(spacing) - 3
        while z < camera.depths[-1] and len(vehicles) < MAX_VEHICLES:
            vehicles.append((max(z, 0.1), center + rng.normal(0, 0.25), two_way and lane == 0))
            z += 7 + rng.exponential(spacing)
    return vehicles


def draw_vehicle(
    rng: np.random.Generator,
    image: np.ndarray,
    camera: Camera,
    road: Road,
    weather: Weather,
    z: float,
    u: float,
    oncoming: bool,
) -> list[Lamp]:
    """Draw a vehicle whose near end is at z, or what is ahead of one that the camera is beside; returns its lamps."""
    kind = KINDS[min(bisect_right(KIND_LIMITS, rng.random()), len(KINDS) - 1)]
    near = max(z, NEAREST_M)
    if z + kind.length <= near:
        return []
    ends = near, z + kind.length
    common = rng.random() < 0.75
    color = np.float32(PAINTS[rng.integers(len(PAINTS))] if common else rng.integers(15, 220, 3))
    color *= (0.35 + 0.65 * weather.illumination) * rng.uniform(0.7, 1.1)

    def paint(polygon, shade):
        fill_polygons(image, [polygon], weather.fade(shade, near))

    half = kind.width / 2
    lean = rng.uniform(-0.8, 0.8) if weather.sun > 0.15 else 0
    shadow = [u - half + min(lean, 0), u + half + max(lean, 0)]
    paint(camera.project([*shadow, *shadow[::-1]], [near - 0.1, near - 0.1, ends[1], ends[1]]), DARK)
    _draw_sides(paint, camera, kind, u, z, near, color)
    detailed = camera.pixels_per_metre(near) * kind.width >= MIN_DETAIL_PX
    if detailed:
        _draw_side_wheels(paint, camera, kind, u, z, near)
    if z < near:
        return []
    if not detailed:
        paint(upright_rectangle(camera, u - half, u + half, near, 0.3, kind.body_share * kind.height), color)
        return []
    return _draw_near_end(rng, paint, camera, kind, u, near, color, weather, oncoming)


def _draw_sides(
    paint: Paint, camera: Camera, kind: VehicleKind, u: float, z: float, near: float, color: np.ndarray
) -> None:
    """The sides and top, from `near` on: the hull of both ends, of the body and of the cabin."""
    half, body_top = kind.width / 2, kind.body_share * kind.height
    body, cabin = (0.3, body_top, 1, 0, 0.62), (body_top, kind.height, kind.cabin_width, 0.16, 0.3)
    for low, high, narrowing, inset, shade in (body, cabin):
        z0, z1 = max(near, z + inset * kind.length), z + (1 - 1.8 * inset) * kind.length
        if high - low > 0.1 and low < kind.height and z0 < z1:
            corners = camera.project(
                [u + side * half * n for side in (-1, 1) for n in (1, narrowing) for _ in (0, 1)],
                [z0, z1] * 4,
                [low, low, high, high] * 2,
            )
            paint(cv2.convexHull(corners)[:, 0], color * shade)


def _draw_side_wheels(paint: Paint, camera: Camera, kind: VehicleKind, u: float, z: float, near: float) -> None:
    side = u - np.sign(u) * (kind.width / 2)
    for wheel in (z + 0.15 * kind.length, z + 0.8 * kind.length):
        if wheel >= near:
            paint(camera.project(side, [wheel, wheel + 0.65, wheel + 0.65, wheel], [0, 0, 0.65, 0.65]), DARK)


def _draw_near_end(
    rng: np.random.Generator,
    paint: Paint,
    camera: Camera,
    kind: VehicleKind,
    u: float,
    near: float,
    color: np.ndarray,
    weather: Weather,
    oncoming: bool,
) -> list[Lamp]:
    """The rear, or the front of oncoming vehicles: wheels, cabin, body, window or doors, bumper, plate and lamps."""
    x0, y0 = camera.project(u, near)[0].tolist()
    across, upward = kind.width / 2 * camera.pixels_per_metre(near), camera.focal_y / near
    height, body_top, cabin = kind.height, kind.body_share * kind.height, kind.cabin_width

    def trapezium(a, b, low, high, c=None, d=None):
        """From a to b in half widths at the lower side, and from c to d, or as wide, at the upper one."""
        c, d = (a, b) if c is None else (c, d)
        bottom, top = y0 - upward * low, y0 - upward * high
        return np.array([(x0 + across * a, bottom), (x0 + across * b, bottom), (x0 + across * d, top),
                         (x0 + across * c, top)])

    paint(trapezium(-0.95, -0.7, 0, 0.4), DARK)
    paint(trapezium(0.7, 0.95, 0, 0.4), DARK)
    paint(trapezium(-1, 1, body_top, height, -cabin, cabin), color * 0.85)
    paint(trapezium(-1, 1, 0.3, body_top), color)
    if kind.body_share < 1:
        glass = np.float32([28, 32, 38]) * rng.uniform(0.5, 2)
        edge = 0.93 * cabin
        window = trapezium(-edge, edge, (kind.body_share + 0.02) * height, 0.95 * height, -0.9 * edge, 0.9 * edge)
        paint(window, glass)
    else:
        paint(trapezium(-0.9, 0.9, 0.5, 0.9 * height), color * rng.uniform(0.75, 1.1))
    paint(trapezium(-0.98, 0.98, 0.28, 0.5), color * 0.45)
    paint(trapezium(-0.25, 0.25, 0.6, 0.72), np.float32([190, 190, 180]) * weather.illumination)
    lit = weather.night or rng.random() < 0.25  # brakes
    lamp_color = (255, 245, 225) if oncoming else (230, 40, 30)
    level = 0.62 * kind.body_share * height if kind.body_share < 1 else 0.8
    for a, b in ((-0.97, -0.68), (0.68, 0.97)):
        paint(trapezium(a, b, level, level + 0.18), np.float32(lamp_color) * (1 if lit else 0.5))
    if not lit:
        return []
    radius = max(0.5, 0.12 * camera.pixels_per_metre(near))
    y = y0 - upward * (level + 0.1)
    return [Lamp(x0 + side * 0.82 * across, y, radius, lamp_color) for side in (-1, 1)]
