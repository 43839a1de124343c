"""The vehicles of a scene: where they drive, and how one is drawn."""

import cv2
import numpy as np

from renderer.paint import fill

# width, height, length in metres; share of the traffic; share of the height that is body below the windows
VEHICLES = {
    "car": (1.8, 1.45, 4.4, 0.42, 0.6),
    "suv": (1.9, 1.75, 4.7, 0.22, 0.58),
    "van": (2.0, 2.1, 5.0, 0.1, 0.55),
    "pickup": (1.95, 1.8, 5.4, 0.1, 0.55),
    "lorry": (2.5, 3.5, 9.0, 0.12, 1.0),
    "bus": (2.5, 3.0, 11.0, 0.04, 0.5),
}
PAINTS = [
    (20, 20, 24),
    (35, 38, 45),
    (60, 62, 66),
    (120, 122, 125),
    (170, 172, 175),
    (215, 215, 215),
    (240, 240, 240),
]


def upright(view, left, right, z, low, high):
    """Corners of an upright rectangle across the road."""
    return view.project([left, right, right, left], z, [low, low, high, high])


def traffic(rng, view, road):
    """(z, u, oncoming) of the vehicles on our carriageway, from an empty road to a jam."""
    spacing = float(np.exp(rng.uniform(np.log(14), np.log(200))))
    two_way = len(road.lane_centers) > 1 and rng.random() < 0.1
    vehicles = []
    for lane, center in enumerate(road.lane_centers):
        own = road.borders[lane] < 0 <= road.borders[lane + 1]
        z = rng.uniform(8, 12) + rng.exponential(spacing) if own else rng.exponential(spacing) - 3
        while z < view.z[-1] and len(vehicles) < 24:
            vehicles.append((max(z, 0.1), center + rng.normal(0, 0.25), two_way and lane == 0))
            z += 7 + rng.exponential(spacing)
    return vehicles


def draw_vehicle(rng, image, view, road, weather, z, u, oncoming):
    """A vehicle whose near end is at z; returns its lamps."""
    kind = rng.choice(list(VEHICLES), p=[v[3] for v in VEHICLES.values()])
    wide, tall, length, _, sill = VEHICLES[kind]
    near = max(z, 1.2)
    ends = np.array([near, max(z + length, near + 0.5)])
    half = wide / 2
    common = rng.random() < 0.75
    color = np.float32(PAINTS[rng.integers(len(PAINTS))] if common else rng.integers(15, 220, 3))
    color *= (0.35 + 0.65 * weather.backlit) * rng.uniform(0.7, 1.1)
    paint = lambda polygon, shade: fill(image, [polygon], weather.fade(shade, near))  # noqa: E731
    road_shade = np.float32([22, 23, 26])
    lean = rng.uniform(-0.8, 0.8) if weather.sun > 0.15 else 0
    shadow = [u - half + min(lean, 0), u + half + max(lean, 0)]
    paint(view.project([*shadow, *shadow[::-1]], np.repeat(ends - (0.1, 0), 2)), road_shade)
    cabin = 0.82 if kind in ("car", "suv", "pickup") else 0.97
    body, top = (0.3, sill * tall, 1, 0, 0.62), (sill * tall, tall, cabin, 0.16, 0.3)
    for low, high, narrow, inset, shade in (body, top):
        if high - low > 0.1 and low < tall:  # the sides and top: the hull of both ends
            whole = ends[1] - ends[0] > 2
            z0, z1 = ends + inset * length * np.array([1, -1.8]) if whole else ends
            corners = view.project(
                [u + s * half * n for s in (-1, 1) for n in (1, narrow) for _ in (0, 1)],
                [z0, z1] * 4,
                [low, low, high, high] * 2,
            )
            paint(cv2.convexHull(corners)[:, 0], color * shade)
    tiny = view.scale(near) * wide < 12  # pixels across: details would not show
    for at in () if tiny else (ends[0] + 0.15 * length, ends[0] + 0.8 * length):  # wheels seen from the side
        side = u - np.sign(u) * half
        if at + 0.6 < ends[1]:
            paint(view.project(side, [at, at + 0.65, at + 0.65, at], [0, 0, 0.65, 0.65]), road_shade)
    if z < near:
        return []
    if tiny:
        paint(upright(view, u - half, u + half, near, 0.3, sill * tall), color)
        return []
    x0, y0 = view.project(u, near)[0]
    across, upward = half * view.scale(near), view.focal_y / near

    def end(a, b, low, high, c=None, d=None):
        """A rectangle of the near end, a..b in half widths; a trapezium when c..d is its upper side."""
        c, d = (a, b) if c is None else (c, d)
        x = x0 + across * np.array([a, b, d, c])
        return np.stack([x, y0 - upward * np.array([low, low, high, high])], -1)

    paint(end(-0.95, -0.7, 0, 0.4), road_shade)
    paint(end(0.7, 0.95, 0, 0.4), road_shade)
    paint(end(-1, 1, sill * tall, tall, -cabin, cabin), color * 0.85)
    paint(end(-1, 1, 0.3, sill * tall), color)
    if sill < 1:
        glass = np.float32([28, 32, 38]) * rng.uniform(0.5, 2)
        edge = 0.93 * cabin
        paint(end(-edge, edge, (sill + 0.02) * tall, 0.95 * tall, -0.9 * edge, 0.9 * edge), glass)
    else:
        paint(end(-0.9, 0.9, 0.5, 0.9 * tall), color * rng.uniform(0.75, 1.1))
    paint(end(-0.98, 0.98, 0.28, 0.5), color * 0.45)
    paint(end(-0.25, 0.25, 0.6, 0.72), np.float32([190, 190, 180]) * weather.backlit)
    lit = weather.night or rng.random() < 0.25  # brakes
    lamp = (255, 245, 225) if oncoming else (230, 40, 30)
    level = 0.62 * sill * tall if sill < 1 else 0.8
    for a, b in ((-0.97, -0.68), (0.68, 0.97)):
        paint(end(a, b, level, level + 0.18), np.float32(lamp) * (1 if lit else 0.5))
    if not lit:
        return []
    radius = max(0.5, 0.12 * view.scale(near))
    return [(x0 + s * 0.82 * across, y0 - upward * (level + 0.1), radius, lamp) for s in (-1, 1)]
