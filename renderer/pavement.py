"""The pavement and its verges: base colors, tyre tracks, joints, cracks, stains."""

from collections.abc import Callable
from itertools import pairwise

import cv2
import numpy as np

from renderer.camera import Camera
from renderer.drawing import OpacityMask, fill_polygons
from renderer.outlines import band_around, road_band
from renderer.road import LaneLine, Road

PROFILE_REACH_M, PROFILE_STEP_M = 30.0, 0.05  # road across that has a brightness profile, and its resolution
GRASS = [(86, 96, 62), (70, 82, 50), (60, 66, 48)]
VERGES = [*GRASS, (120, 112, 84), (150, 135, 105), (110, 108, 98)]  # soil, sand, gravel


def base_colors(
    rng: np.random.Generator, camera: Camera, road: Road, top: int, concrete: bool, patches: bool = True
) -> np.ndarray:
    """uint8 (h, W, 3): verge, carriageway, and shoulders, lanes or, by choice, patches of other material."""
    canvas = np.zeros((camera.height, camera.width, 3), np.uint8)
    _draw_verges(rng, canvas, camera, top)
    gray = rng.uniform(110, 185) if concrete else rng.uniform(50, 125)
    tint = np.array([rng.normal(1.0, 0.03), 1.0, rng.normal(0.96, 0.05)])
    if rng.random() < 0.05:
        tint = rng.uniform(0.6, 1.2, 3)  # red or blue asphalt, odd cameras
    color = np.clip(gray * tint, 0, 255)
    fill_polygons(canvas, [road_band(camera, road.left_edge, road.right_edge)], color.tolist())
    _draw_shoulders(rng, canvas, camera, road, color)
    for a, b in pairwise(road.borders):
        if rng.random() < 0.12:  # a lane surfaced at another time
            shade = (color * rng.uniform(0.65, 1.2)).clip(0, 255)
            fill_polygons(canvas, [road_band(camera, a, b + rng.normal(0, 0.15))], shade.tolist())
    if patches:
        _draw_patches(rng, canvas, camera, road, color)
    return canvas[top:]


def _draw_verges(rng: np.random.Generator, canvas: np.ndarray, camera: Camera, top: int) -> None:
    for left, right in ((0, camera.width), (int(camera.center_x), camera.width)):  # the right verge over the left one
        verge = np.float32(VERGES[rng.integers(len(VERGES))]) * rng.uniform(0.5, 1.2)
        if rng.random() < 0.05:
            verge = rng.uniform(20, 200, 3)  # sports grounds, red soil, odd cameras
        cv2.rectangle(canvas, (left, top), (right, camera.height), verge.tolist(), -1)


def _draw_shoulders(
    rng: np.random.Generator, canvas: np.ndarray, camera: Camera, road: Road, color: np.ndarray
) -> None:
    shade = (color * rng.uniform(0.6, 1.25)).clip(0, 255).tolist()
    for a, b in ((road.left_edge, road.borders[0]), (road.borders[-1], road.right_edge)):
        if rng.random() < 0.5:
            gap = rng.uniform(-0.1, 0.4) * np.sign(b - a)
            outer = (a, b - gap) if a == road.left_edge else (a + gap, b)
            fill_polygons(canvas, [road_band(camera, *outer)], shade)


def _draw_patches(
    rng: np.random.Generator, canvas: np.ndarray, camera: Camera, road: Road, color: np.ndarray
) -> None:
    near, far = camera.depths[0], camera.depths[-1]
    for _ in range(rng.poisson(0.8)):
        left = rng.uniform(road.left_edge, road.right_edge - 1)
        start = rng.uniform(near, 60)
        z = np.linspace(start, start + rng.uniform(1, 25), 5).clip(near, far)
        shade = (color * rng.choice([rng.uniform(0.6, 0.9), rng.uniform(1.05, 1.25)])).clip(0, 255)
        half_width = rng.uniform(0.3, 2)
        fill_polygons(canvas, [band_around(camera, left + half_width, z, half_width)], shade.tolist())


def tone_across(rng: np.random.Generator, road: Road, u: np.ndarray, concrete: bool) -> np.ndarray:
    """float32 brightness, shaped like u (h, w): tyre tracks, oil stripes, lanes worn to their own shade."""
    across = np.arange(-PROFILE_REACH_M, PROFILE_REACH_M, PROFILE_STEP_M, dtype=np.float32)
    profile = np.ones_like(across)
    track_tone = rng.normal(-0.05, 0.06)
    oil_tone = -abs(rng.normal(0, 0.2 if concrete else 0.07))
    for center in road.lane_centers:
        for side in (-0.85, 0.85):
            track = np.exp(-(((across - center - side) / rng.uniform(0.2, 0.5)) ** 2))
            profile += track_tone * rng.uniform(0.3, 1.5) * track
        oil = np.exp(-(((across - center - rng.normal(0, 0.15)) / rng.uniform(0.25, 0.8)) ** 4))
        profile += oil_tone * rng.uniform(0.2, 1.3) * oil
        profile += rng.normal(0, 0.03) * (np.abs(across - center) < 1.75)
    grooves = rng.normal(0, 1, len(across)).astype(np.float32)
    profile += cv2.GaussianBlur(grooves[None], (9, 1), 1.5)[0] * rng.uniform(0, 0.05)
    column = (u + PROFILE_REACH_M) / PROFILE_STEP_M
    row = np.zeros_like(column)
    return cv2.remap(profile[None], column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def draw_joints(rng: np.random.Generator, dark: OpacityMask, road: Road, concrete: bool) -> None:
    """Expansion joints: concrete lanes are cast one by one, so a dark seam runs beside many lane lines."""
    near, far = dark.camera.depths[0], dark.camera.depths[-1]
    if road.lines and rng.random() < (0.8 if concrete else 0.2):
        beside = rng.normal(0, 0.15)
        for line in road.lines:
            if rng.random() < 0.75:
                seam = _seam_beside(rng, line, beside * rng.uniform(0.5, 1.5), near, far)
                dark.draw_band(seam, near, far, rng.uniform(0.008, 0.03), rng.uniform(90, 220))
    if rng.random() < (0.7 if concrete else 0.1):
        spacing, width, value = rng.uniform(4, 9), rng.uniform(0.01, 0.06), rng.uniform(20, 150)
        skew = rng.normal(0, 0.08)
        for z in np.arange(near + rng.uniform(0, spacing), min(far, 90), spacing):
            ends = np.array([road.borders[0], road.borders[-1]])
            dark.draw_polyline(ends, z + skew * ends, width, value * rng.uniform(0.5, 1))


def _seam_beside(
    rng: np.random.Generator, line: LaneLine, beside: float, near: float, far: float
) -> Callable[[np.ndarray], np.ndarray]:
    """u(z) of a joint that follows a lane line at a distance: a straight cut, or a crack along it."""
    wander = np.cumsum(rng.normal(0, 0.02, 400)) * rng.choice([0.25, 1.0])
    wander -= np.linspace(0, wander[-1], 400)
    knots = np.geomspace(near, far, 400)
    return lambda z: line.u(z) + beside + np.interp(z, knots, wander)


def draw_blemishes(rng: np.random.Generator, dark: OpacityMask, road: Road) -> None:
    """Cracks, tar seams, skid marks and oil drips."""
    near, far = dark.camera.depths[0], dark.camera.depths[-1]
    for _ in range(rng.poisson(1.2)):
        _draw_crack(rng, dark, road)
    if rng.random() < 0.12:  # skid marks
        start, drift = near * rng.uniform(1, 4), rng.normal(0, 0.03)
        for u in rng.choice(road.lane_centers) + np.array([-0.75, 0.75]) + rng.normal(0, 0.2):
            end = start + rng.uniform(5, 40)
            dark.draw_band(lambda z, u=u: u + drift * (z - start), start, end, 0.2, rng.uniform(40, 120))
    if rng.random() < 0.15:  # a seam along the lane that is no lane line
        u = rng.uniform(road.borders[0], road.borders[-1])
        dark.draw_band(u, near, far, rng.uniform(0.02, 0.12), rng.uniform(50, 160))
    drips, size = rng.poisson(8), rng.uniform(0.02, 0.07)
    z = np.minimum(near * rng.uniform(1.05, 3.5, drips), 0.9 * far)
    u = rng.uniform(road.left_edge, road.right_edge, (drips, 1))
    dark.draw_strokes(lambda z: u + 0 * z, z, z + 2.5 * size, size, rng.uniform(60, 180))


def _draw_crack(rng: np.random.Generator, dark: OpacityMask, road: Road) -> None:
    """A crack or tar snake, which wanders in any direction."""
    near = dark.camera.depths[0]
    steps = int(rng.integers(6, 20))
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.35, steps))
    stride = rng.uniform(0.2, 1.0)
    u = rng.uniform(road.left_edge, road.right_edge) + stride * np.cumsum(np.cos(heading))
    z = near * rng.uniform(1.2, 6) + 3 * stride * np.cumsum(np.sin(heading))
    ahead = z > near
    if ahead.sum() > 2:
        dark.draw_polyline(u[ahead], z[ahead], rng.choice([0.01, 0.01, 0.05]), rng.uniform(60, 200), 0.6)
