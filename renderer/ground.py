"""The ground of a scene: verge, road surface and what lies on it, light and shadows.

Shapes with edges are polygons of projected road points; what varies smoothly across or along the road (tyre
tracks, stains, wear) is looked up for each pixel by its (u, z), which `_ground_points` gives.
"""

from itertools import pairwise

import cv2
import numpy as np

from renderer.paint import Mask, fill, kept_paint, paint_ground, paint_line

PROFILE_REACH, PROFILE_STEP = 30.0, 0.05  # metres of road across that have a profile, and its resolution
GRASS = [(86, 96, 62), (70, 82, 50), (60, 66, 48)]
VERGES = [*GRASS, (120, 112, 84), (150, 135, 105), (110, 108, 98)]  # soil, sand, gravel


def texture(rng: np.random.Generator, size: int = 256) -> np.ndarray:
    """(size, size) float32 in about -1..1: noise of three sizes, mean 0."""
    layers = np.zeros((size, size), np.float32)
    for cells, weight in ((size, 0.5), (size // 4, 0.7), (size // 16, 0.8)):
        grid = rng.random((cells, cells), dtype=np.float32) - 0.5
        layers += weight * cv2.resize(grid, (size, size), interpolation=cv2.INTER_LINEAR)
    return layers


def _top_row(view) -> int:
    """The first row of the image that the ground fills."""
    return int(np.clip(np.ceil(view.project(0.0, view.z[-1:])[0, 1]), 0, view.height - 8))


def _ground_points(view, top, step=1):
    """u (h, w) and z (h, 1), float32, of the pixels from row `top` down, every `step` pixels."""
    y = view.project(0.0, view.z)[:, 1]
    z = np.interp(np.arange(top + (step - 1) / 2, view.height, step), y[::-1], view.z[::-1])[:, None]
    x = np.arange((step - 1) / 2, view.width, step, dtype=np.float32)[None]
    metre = z / view.focal_x  # metres that a pixel spans
    u = x * metre.astype(np.float32) - (view.center * metre + view.bend(z)).astype(np.float32)
    return u, z.astype(np.float32)


def _corners(view, u, z, half_width):
    """(2N, 2) float32: outline of a band of the road around u(z)."""
    u = np.broadcast_to(u, np.shape(z))
    return np.concatenate([view.project(u - half_width, z), view.project(u + half_width, z)[::-1]])


def _road_polygon(view, left, right):
    return np.concatenate([view.project(left, view.z), view.project(right, view.z)[::-1]])


def draw_clean(view, road) -> np.ndarray:
    """uint8 RGB (H, W, 3): fresh paint on even dark asphalt under an even sky."""
    image = np.full((view.height, view.width, 3), 150, np.uint8)
    top = _top_row(view)
    image[top:] = (60, 70, 55)
    fill(image, [_road_polygon(view, road.left, road.right)], (70, 70, 70))
    for color, rgb in (("white", (235, 235, 235)), ("yellow", (225, 180, 60))):
        mask = Mask(view, top)
        for line in road.lines:
            if line.color == color:
                paint_line(mask, line)
        alpha = mask.opacity()[..., None]
        image[top:] = image[top:] * (1 - alpha) + np.float32(rgb) * alpha
    return image


def draw_ground(rng, image, view, road, weather) -> np.ndarray:
    """Draws the ground over `image` from its top row down; returns the image as it is without lane lines."""
    top = _top_row(view)
    size = (view.width, view.height - top)
    concrete = rng.random() < 0.45
    noise = texture(rng)
    u, z = _ground_points(view, top, 2)  # stains and tracks are smooth: half the pixels will do
    streaks = _lookup(noise, u * 7, z * 1.5)
    blotches = _lookup(noise, u * 1.3 + 40, z * 0.35 + 90)
    calm = np.minimum(1, 25 / z)  # far away the grain averages out
    tone = _profile(rng, road, u, concrete)
    tone *= 1 + (rng.uniform(0.03, 0.16) * calm) * streaks + rng.uniform(0.02, 0.22) * blotches
    kept = kept_paint(road, streaks, blotches)
    light = _light(rng, view, road, weather, top, u, z, noise)
    tone, kept, light = (cv2.resize(field, size) for field in (tone, kept, light))
    dark = Mask(view, top)
    _draw_joints(rng, dark, road, concrete)
    _draw_blemishes(rng, dark, road)
    tone *= 1 - dark.opacity()
    colors = _surface_colors(rng, view, road, top, concrete)
    ground = np.float32(cv2.split(colors))  # (3, h, W): numpy works faster on planes
    ground *= tone
    unpainted = paint_ground(rng, ground, view, road, top, kept)
    _, z = _ground_points(view, top)
    shine = rng.uniform(0.15, 0.5) * np.clip(1 - 14 / (z + 6), 0.05, 1) if weather.wet else None
    air = np.exp(-z / weather.sight).astype(np.float32)
    light *= air
    bare = image.copy()
    for target, planes in ((image, ground), (bare, unpainted)):
        if shine is not None:  # wet roads mirror the sky, more so far away where one looks along them
            planes += shine.astype(np.float32) * (np.float32(weather.haze)[:, None, None] - planes)
        for plane, share, haze in zip(planes, weather.ground_light, weather.haze, strict=True):
            plane *= light * np.float32(share)
            plane += (1 - air) * np.float32(haze)
        np.clip(planes, 0, 255, out=planes)
        target[top:] = cv2.merge(list(planes.astype(np.uint8)))
    return bare


def _surface_colors(rng, view, road, top, concrete) -> np.ndarray:
    """uint8 (h, W, 3): verge, carriageway, and lanes or patches of other material."""
    canvas = np.zeros((view.height, view.width, 3), np.uint8)
    for left, right in ((0, view.width), (int(view.center), view.width)):  # the right verge over the left one
        verge = np.float32(VERGES[rng.integers(len(VERGES))]) * rng.uniform(0.5, 1.2)
        if rng.random() < 0.05:
            verge = rng.uniform(20, 200, 3)  # sports grounds, red soil, odd cameras
        cv2.rectangle(canvas, (left, top), (right, view.height), verge.tolist(), -1)
    grey = rng.uniform(110, 185) if concrete else rng.uniform(50, 125)
    tint = np.array([rng.normal(1.0, 0.03), 1.0, rng.normal(0.96, 0.05)])
    if rng.random() < 0.05:
        tint = rng.uniform(0.6, 1.2, 3)  # red or blue asphalt, odd cameras
    color = np.clip(grey * tint, 0, 255)
    fill(canvas, [_road_polygon(view, road.left, road.right)], color.tolist())
    shoulder = (color * rng.uniform(0.6, 1.25)).clip(0, 255).tolist()
    for a, b in ((road.left, road.borders[0]), (road.borders[-1], road.right)):
        if rng.random() < 0.5:
            gap = rng.uniform(-0.1, 0.4) * np.sign(b - a)
            outer = (a, b - gap) if a == road.left else (a + gap, b)
            fill(canvas, [_road_polygon(view, *outer)], shoulder)
    for a, b in pairwise(road.borders):
        if rng.random() < 0.12:  # a lane surfaced at another time
            shade = (color * rng.uniform(0.65, 1.2)).clip(0, 255)
            fill(canvas, [_road_polygon(view, a, b + rng.normal(0, 0.15))], shade.tolist())
    for _ in range(rng.poisson(0.8)):
        a = rng.uniform(road.left, road.right - 1)
        z0 = rng.uniform(view.z[0], 60)
        z = np.linspace(z0, z0 + rng.uniform(1, 25), 5).clip(view.z[0], view.z[-1])
        shade = (color * rng.choice([rng.uniform(0.6, 0.9), rng.uniform(1.05, 1.25)])).clip(0, 255)
        half = rng.uniform(0.3, 2)
        fill(canvas, [_corners(view, a + half, z, half)], shade.tolist())
    return canvas[top:]


def _lookup(noise, across, along):
    """Noise at each pixel; its tile repeats."""
    along = np.broadcast_to(along, across.shape)
    return cv2.remap(noise, across, along, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


def _profile(rng, road, u, concrete) -> np.ndarray:
    """(h, W) float32 brightness across the road: tyre tracks, oil stripes, lanes worn to their own shade."""
    at = np.arange(-PROFILE_REACH, PROFILE_REACH, PROFILE_STEP, dtype=np.float32)
    shade = np.ones_like(at)
    tracks = rng.normal(-0.05, 0.06)
    stripe = -abs(rng.normal(0, 0.2 if concrete else 0.07))
    for center in road.lane_centers:
        for side in (-0.85, 0.85):
            track = np.exp(-(((at - center - side) / rng.uniform(0.2, 0.5)) ** 2))
            shade += tracks * rng.uniform(0.3, 1.5) * track
        oil = np.exp(-(((at - center - rng.normal(0, 0.15)) / rng.uniform(0.25, 0.8)) ** 4))
        shade += stripe * rng.uniform(0.2, 1.3) * oil
        shade += rng.normal(0, 0.03) * (np.abs(at - center) < 1.75)
    grooves = rng.normal(0, 1, len(at)).astype(np.float32)
    shade += cv2.GaussianBlur(grooves[None], (9, 1), 1.5)[0] * rng.uniform(0, 0.05)
    column = (u + PROFILE_REACH) / PROFILE_STEP
    row = np.zeros_like(column)
    return cv2.remap(shade[None], column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _draw_joints(rng, dark, road, concrete):
    """Expansion joints: concrete lanes are cast one by one, so a dark seam runs beside many lane lines."""
    view = dark.view
    near, far = view.z[0], view.z[-1]
    if road.lines and rng.random() < (0.8 if concrete else 0.2):
        beside = rng.normal(0, 0.15)
        for line in road.lines:
            if rng.random() < 0.75:
                seam = _seam(rng, line, beside * rng.uniform(0.5, 1.5), near, far)
                dark.band(seam, near, far, rng.uniform(0.008, 0.03), rng.uniform(90, 220))
    if rng.random() < (0.7 if concrete else 0.1):
        spacing, width, value = rng.uniform(4, 9), rng.uniform(0.01, 0.06), rng.uniform(20, 150)
        skew = rng.normal(0, 0.08)
        for z in np.arange(near + rng.uniform(0, spacing), min(far, 90), spacing):
            ends = np.array([road.borders[0], road.borders[-1]])
            dark.line(ends, z + skew * ends, width, value * rng.uniform(0.5, 1))


def _seam(rng, line, beside, near, far):
    """u(z) of a joint that follows a lane line at a distance: a straight cut, or a crack along it."""
    wander = np.cumsum(rng.normal(0, 0.02, 400)) * rng.choice([0.25, 1.0])
    wander -= np.linspace(0, wander[-1], 400)
    knots = np.geomspace(near, far, 400)
    return lambda z: line.u(z) + beside + np.interp(z, knots, wander)


def _draw_blemishes(rng, dark, road):
    """Cracks, tar seams, skid marks and oil drips."""
    near, far = dark.view.z[0], dark.view.z[-1]
    for _ in range(rng.poisson(1.2)):  # cracks and tar snakes wander in any direction
        steps = int(rng.integers(6, 20))
        heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.35, steps))
        stride = rng.uniform(0.2, 1.0)
        u = rng.uniform(road.left, road.right) + stride * np.cumsum(np.cos(heading))
        z = near * rng.uniform(1.2, 6) + 3 * stride * np.cumsum(np.sin(heading))
        keep = z > near
        if keep.sum() > 2:
            dark.line(u[keep], z[keep], rng.choice([0.01, 0.01, 0.05]), rng.uniform(60, 200), 0.6)
    if rng.random() < 0.12:  # skid marks
        start, drift = near * rng.uniform(1, 4), rng.normal(0, 0.03)
        for u in rng.choice(road.lane_centers) + np.array([-0.75, 0.75]) + rng.normal(0, 0.2):
            end = start + rng.uniform(5, 40)
            dark.band(lambda z, u=u: u + drift * (z - start), start, end, 0.2, rng.uniform(40, 120))
    if rng.random() < 0.15:  # a seam along the lane that is no lane line
        at = rng.uniform(road.borders[0], road.borders[-1])
        dark.band(at, near, far, rng.uniform(0.02, 0.12), rng.uniform(50, 160))
    drips, size = rng.poisson(8), rng.uniform(0.02, 0.07)
    z = np.minimum(near * rng.uniform(1.05, 3.5, drips), 0.9 * far)
    u = rng.uniform(road.left, road.right, (drips, 1))
    dark.strokes(lambda z: u + 0 * z, z, z + 2.5 * size, size, rng.uniform(60, 180))


def _light(rng, view, road, weather, top, u, z, noise) -> np.ndarray:
    """float32, shaped like u: the light that the shadows of trees, poles, walls and bridges leave, 0..1."""
    if weather.sun < 0.15:
        return np.ones_like(u)
    shadow = np.zeros(u.shape, np.uint8)
    near = view.z[0]
    for _ in range(rng.poisson(0.3)):  # poles, wires, gantries
        at, slant = near * rng.uniform(1, 6), rng.normal(0, 0.7)
        ends = np.array([road.left - 4, road.right + 4])
        _shade_band(shadow, view, ends, at + slant * ends, rng.uniform(0.1, 0.8), top)
    if rng.random() < 0.12:  # a bridge overhead
        at, slant = near * rng.uniform(0.9, 6), rng.normal(0, 0.4)
        ends = np.array([road.left - 15, road.right + 15])
        _shade_band(shadow, view, ends, at + slant * ends, rng.uniform(6, 20), top)
    if rng.random() < 0.15:  # the shade of a wall or barrier lies along the road
        width = rng.uniform(0.3, 3)
        at = road.left + width / 2 if rng.random() < 0.5 else road.right - width / 2
        fill(shadow, [_corners(view, at, view.z, width / 2)], 255, 0.5, top)
    shadow = cv2.GaussianBlur(shadow, (0, 0), rng.uniform(0.3, 1.5)).astype(np.float32) * np.float32(1 / 255)
    if rng.random() < 0.2:  # trees along the road throw dappled shade over one side or all of it
        leaves = _lookup(noise, u * rng.uniform(3, 14) + 7, z * rng.uniform(0.8, 3) + 31)
        reach = rng.uniform(0.1, 1.1) * (road.right - road.left)
        inside = road.left + reach - u if rng.random() < 0.5 else u - road.right + reach
        inside = np.clip(inside / rng.uniform(0.5, 4), -1, rng.uniform(-0.1, 0.6)).astype(np.float32)
        np.maximum(shadow, np.clip((leaves + inside) * rng.uniform(2, 9), 0, 1), out=shadow)
    return 1 - shadow * np.float32(weather.sun * rng.uniform(0.45, 0.85))


def _shade_band(shadow, view, u, z, length, top):
    z = np.concatenate([z, z[::-1] + length])
    fill(shadow, [view.project(np.concatenate([u, u[::-1]]), np.maximum(z, view.z[0]))], 255, 0.5, top)
