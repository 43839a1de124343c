"""What stands around and on the road of a scene: sky, hills, trees, walls, bridges, signs."""

import cv2
import numpy as np

from renderer.ground import texture
from renderer.paint import fill
from renderer.vehicles import draw_vehicle, traffic, upright

LEAVES = [(40, 52, 30), (28, 38, 24), (60, 72, 40), (22, 30, 26), (82, 86, 52), (70, 58, 40)]


def draw_background(rng, view, weather) -> np.ndarray:
    """uint8 RGB (H, W, 3): sky, clouds, and the hills, trees and buildings on the horizon."""
    height, width = view.height, view.width
    rows = np.arange(height, dtype=np.float32)[:, None] / max(view.horizon, 1)
    down = np.minimum(rows, 1) ** rng.uniform(0.7, 2)
    column = np.float32(weather.sky_top) * (1 - down) + np.float32(weather.haze) * down
    image = cv2.resize(column.astype(np.uint8)[:, None], (width, height), interpolation=cv2.INTER_NEAREST)
    if rng.random() < 0.45:
        top = int(min(view.horizon + 0.1 * height, height))
        clouds = cv2.resize(texture(rng, 64), (width // 2, height // 2))[: top // 2]
        clouds = np.clip(clouds * rng.uniform(0.5, 2) + rng.uniform(-0.3, 0.3), 0, 1) * rng.uniform(0.2, 0.8)
        _blend(image[:top], np.full((1, 1, 3), rng.uniform(150, 255), np.uint8), clouds)
    base = view.project(0.0, view.z[-1])[0, 1] + 2
    for far in np.sort(rng.uniform(400, 3000, rng.integers(0, 3)))[::-1]:
        _draw_skyline(rng, image, base, rng.uniform(0.02, 0.16) * height, (75, 85, 80), weather, far, 0.3)
    for far in np.sort(rng.uniform(150, 600, rng.integers(0, 3)))[::-1]:
        tall = rng.uniform(0.01, 0.13) * height
        _draw_skyline(rng, image, base, tall, LEAVES[rng.integers(len(LEAVES))], weather, far, 1.0)
    for _ in range(rng.poisson(1.5)):
        _draw_building(rng, image, base, weather)
    return image


def _blend(image, colors, opacity):
    """Lays `colors` (uint8, any size) over the image in place with `opacity` (float32 in 0..1, any size)."""
    size = (image.shape[1], image.shape[0])
    opacity = cv2.resize(opacity, size, interpolation=cv2.INTER_LINEAR)
    colors = cv2.resize(colors, size, interpolation=cv2.INTER_LINEAR)
    cv2.blendLinear(colors, image, opacity, 1 - opacity, dst=image)


def _draw_skyline(rng, image, base, tall, color, weather, far, rough):
    """A silhouette from the row `base` up, as hills (rough 0.3) or tree tops (rough 1)."""
    width = image.shape[1]
    x = np.linspace(0, width, 200)
    top = sum(
        w * np.interp(x, np.linspace(0, width, n), rng.uniform(0, 1, n))
        for n, w in ((9, 0.7), (40, 0.25 * rough), (120, 0.15 * rough))
    )
    outline = np.concatenate([np.stack([x, base - tall * top], -1), [(width, base + 3), (0, base + 3)]])
    shade = np.float32(color) * weather.backlit * rng.uniform(0.7, 1.3)
    fill(image, [outline], weather.fade(shade, far * 0.5))


def _draw_building(rng, image, base, weather):
    width, far = image.shape[1], rng.uniform(80, 500)
    x0 = rng.uniform(-0.1, 1) * width
    size = np.array([rng.uniform(15, 90), rng.uniform(10, 60)]) * width / 640 * 150 / far
    color = np.float32(rng.uniform(60, 200) * (1 + rng.normal(0, 0.08, 3))) * (0.4 + 0.6 * weather.backlit)
    box = lambda a, b, c, d: np.array([(a, b), (c, b), (c, d), (a, d)])  # noqa: E731
    fill(image, [box(x0, base - size[1], x0 + size[0], base + 2)], weather.fade(color, far))
    rows, columns = rng.integers(2, 6), rng.integers(2, 9)
    for i in range(rows):
        y = base - size[1] * (i + 0.7) / rows
        left = x0 + size[0] * (np.arange(columns) + 0.2) / columns
        windows = [box(x, y, x + 0.6 * size[0] / columns, y + size[1] * 0.5 / rows) for x in left]
        fill(image, windows, weather.fade(color * 0.6, far))


def draw_clutter(rng, image, view, road, weather):
    """Draws everything that stands on the ground, far things first; returns lamps (x, y, radius, color)."""
    _draw_opposite(rng, image, view, road, weather)
    _draw_roadsides(rng, image, view, road, weather)
    things = []
    for _ in range(rng.poisson(0.5)):
        things.append((rng.uniform(25, 250), _draw_gantry))
    if rng.random() < 0.22:
        things.append((rng.uniform(12, 220), _draw_bridge))
    for _ in range(rng.poisson(3)):
        things.append((rng.uniform(10, 200), _draw_pole))
    for z, u, oncoming in traffic(rng, view, road):
        things.append((z, lambda *a, u=u, o=oncoming: draw_vehicle(*a, u, o)))
    lamps = []
    for z, draw in sorted(things, key=lambda thing: -thing[0]):
        if z < view.z[-1]:
            lamps += draw(rng, image, view, road, weather, z) or []
    return lamps


def _band(view, u, low, high, z):
    """Outline of an upright band along the road at u between two heights (numbers or one a z)."""
    return np.concatenate([view.project(u, z, low), view.project(u, z, high)[::-1]])


def _draw_opposite(rng, image, view, road, weather):
    """A carriageway beyond a median, and the barrier that hides some of it; its lines carry no labels."""
    if rng.random() < 0.5:
        return
    start = road.left - rng.uniform(1, 8)
    lanes = rng.integers(2, 5)
    grey = rng.uniform(60, 160) * np.float32(weather.ground_light)
    end = start - 3.6 * lanes - 2
    outline = np.concatenate([view.project(start, view.z), view.project(end, view.z)[::-1]])
    fill(image, [outline], weather.fade(grey, 60))
    if rng.random() < 0.6:
        pale = weather.fade(np.float32([215, 212, 205]) * weather.ground_light, 40)
        for u in start - 1 - 3.6 * np.arange(lanes + 1):
            pitch, dash = (12.0, 3.7) if rng.random() < 0.7 else (6.0, 6.0)
            for z in np.arange(view.z[0], min(80.0, view.z[-1] - 6), pitch):
                ends = np.array([z, z + dash, z + dash, z])
                fill(image, [view.project(u + np.array([0, 0, 0.15, 0.15]), ends)], pale)
    for z in np.sort(rng.uniform(view.z[0] * 2, 200, rng.poisson(3)))[::-1]:
        if z < view.z[-1]:
            u = start - 2 - 3.6 * rng.integers(lanes)
            draw_vehicle(rng, image, view, road, weather, z, u, True)
    _draw_barrier(rng, image, view, start + 0.5, weather, rng.uniform(0.7, 1.1))


def _draw_barrier(rng, image, view, u, weather, tall):
    """A concrete wall with a pale top, or a steel rail on posts."""
    color = np.float32(rng.uniform(70, 190) * (1 + rng.normal(0, 0.03, 3))) * rng.uniform(0.4, 1)
    z = view.z
    if rng.random() < 0.65:
        for low, shade in ((0, color), (0.92 * tall, color * 1.25)):
            for outline, far in _upright_pieces(view, u, low, tall, 8):
                fill(image, [outline], weather.fade(shade, far))
        return
    for post in np.arange(view.z[0] + rng.uniform(0, 4), min(60, z[-1]), 4):
        fill(image, [_band(view, u, 0, 0.7, np.array([post, post + 0.12]))], (color * 0.6).tolist())
    fill(image, [_band(view, u, 0.45, 0.75, z)], weather.fade(color, 20))
    fill(image, [_band(view, u, 0.58, 0.62, z)], weather.fade(color * 0.5, 20))


def _draw_roadsides(rng, image, view, road, weather):
    """What stands along both sides: slopes and trees, then walls, rails and kerbs."""
    sides = [(-1, road.left), (1, road.right)]
    greenery = [rng.choice(["none", "trees", "slope"], p=[0.32, 0.46, 0.22]) for _ in sides]
    _draw_greenery(rng, image, view, weather, zip(sides, greenery, strict=True))
    for (side, edge), green in zip(sides, greenery, strict=True):
        if green == "none" and rng.random() < 0.4:
            color = rng.uniform(60, 190) * (1 + rng.normal(0, 0.06, 3)) * (0.4 + 0.6 * weather.backlit)
            _draw_wall(image, view, edge + side * rng.uniform(1, 5), weather, color, rng.uniform(1.5, 7))
        if rng.random() < 0.45:
            u = edge + side * rng.uniform(0.05, 0.6)
            _draw_barrier(rng, image, view, u, weather, rng.uniform(0.6, 1.2))
        elif rng.random() < 0.3:  # a kerb: a pale step along the edge
            color = np.float32([170, 168, 160]) * rng.uniform(0.5, 1.1)
            fill(image, [_band(view, edge + side * 0.05, 0, 0.13, view.z)], weather.fade(color, 25))


def _draw_greenery(rng, image, view, weather, sides):
    """Trees and bushes: rows of varying height whose outline and shade noise breaks up, at half size."""
    size = (view.height // 2, view.width // 2)
    shape, colors = np.zeros(size, np.uint8), np.zeros((*size, 3), np.uint8)
    z = view.z
    for (side, edge), kind in sides:
        if kind == "none":
            continue
        rows = [(rng.exponential(10), rng.uniform(2, 16) * np.clip(rng.normal(0.6, 0.5, 14), 0, 1.3))]
        if kind == "slope":
            rows.append((0.0, np.full(14, rng.uniform(0.6, 4))))
        for beyond, heights in rows:
            u = edge + side * (rng.uniform(1, 5) + beyond)
            tall = np.interp(z, np.geomspace(z[0], z[-1], 14), heights)
            color = np.float32(LEAVES[rng.integers(len(LEAVES))]) * weather.backlit * rng.uniform(0.6, 1.5)
            for outline, far in _upright_pieces(view, u, -0.3, tall):
                fill(shape, [outline], 255, 0.5)
                fill(colors, [outline], weather.fade(color * rng.uniform(0.8, 1.2), far), 0.5)
    rows = np.flatnonzero(shape.max(1))
    if not len(rows):
        return
    first, last = max(rows[0] - 12, 0), min(rows[-1] + 12, size[0])
    shape, colors, size = shape[first:last], colors[first:last], (last - first, size[1])
    grain = texture(rng, -(-max(size) // 16) * 16)
    leaves, lit = grain[: size[0], : size[1]], grain[-size[0] :, -size[1] :]
    shape = cv2.GaussianBlur(shape, (0, 0), rng.uniform(1.5, 5)).astype(np.float32) * np.float32(1 / 255)
    fringe = rng.uniform(0.2, 0.7) * leaves * (np.abs(shape - 0.5) < 0.47)
    opacity = np.clip((shape - 0.5 + fringe) * 4 + 0.5, 0, 1)
    spread = cv2.dilate(colors, np.ones((9, 9), np.uint8))  # the outline may grow past what was filled
    tone = np.clip(1 + rng.uniform(0.3, 1.2) * lit, 0.2, 2).astype(np.float32)
    _blend(image[2 * first : 2 * last], cv2.multiply(spread, cv2.merge([tone] * 3), dtype=cv2.CV_8U), opacity)


def _upright_pieces(view, u, low, high, count=10):
    """(outline, z) of each piece, far to near, of an upright band along the road, for haze grows with z."""
    bottom, top = view.project(u, view.z, low), view.project(u, view.z, high)
    cuts = np.linspace(0, len(view.z) - 1, count + 1).astype(int)
    for a, b in zip(cuts[-2::-1], cuts[:0:-1], strict=True):
        picks = np.append(np.arange(a, b, 3), b)
        yield np.concatenate([bottom[picks], top[picks[::-1]]]), view.z[(a + b) // 2]


def _draw_wall(image, view, u, weather, color, tall):
    for outline, z in _upright_pieces(view, u, -0.3, tall):
        fill(image, [outline], weather.fade(color, z))


def _draw_pole(rng, image, view, road, weather, z):
    u = rng.choice([road.left - rng.uniform(0.5, 6), road.right + rng.uniform(0.5, 6)])
    tall = rng.uniform(2.5, 11)
    color = weather.fade(np.float32([80, 82, 85]) * rng.uniform(0.3, 1.6), z)
    foot, head = view.project(u, z, [0, tall])
    half = max(0.4, rng.uniform(0.06, 0.15) * view.scale(z))
    wide, thick = np.array([half, 0]), np.array([0, half])
    fill(image, [np.array([foot - wide, foot + wide, head + 0.7 * wide, head - 0.7 * wide])], color)
    if rng.random() < 0.4:
        arm = view.project(u - np.sign(u) * rng.uniform(1, 3), z, tall)[0]
        fill(image, [np.array([head - thick, arm - thick, arm + thick, head + thick])], color)
        return [(*arm, max(0.6, 0.25 * view.scale(z)), (255, 220, 160))] if weather.night else []
    if rng.random() < 0.4:  # a road sign
        sign = rng.choice([[30, 100, 60], [200, 170, 40], [220, 220, 220], [40, 80, 170], [170, 40, 40]])
        board = head + rng.uniform(0.3, 0.7) * view.scale(z) * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
        fill(image, [board], weather.fade(sign * np.float32(weather.backlit), z))
    return []


def _draw_gantry(rng, image, view, road, weather, z):
    low = rng.uniform(5.2, 6.5)
    dark = weather.fade(np.float32([70, 72, 74]) * weather.backlit, z)
    left, right = road.left - 1, road.right + rng.uniform(1, 8)
    if rng.random() < 0.5:
        fill(image, [upright(view, left, right, z, low + 0.6, low + 0.9)], dark)
    fill(image, [upright(view, right - 0.2, right + 0.2, z, 0, low + 1)], dark)
    for _ in range(rng.integers(1, 4)):
        u, half = rng.uniform(left + 2, right), rng.uniform(1, 2.6)
        color = np.float32(rng.choice([[20, 90, 60], [30, 70, 150], [40, 40, 40]])) * weather.backlit
        top = low + rng.uniform(1.2, 2.8)
        fill(image, [upright(view, u - half, u + half, z, low, top)], weather.fade(color, z))
        for row in rng.uniform(low + 0.3, top - 0.4, 2):
            text = upright(view, u - half * 0.7, u + half * rng.uniform(0, 0.8), z, row, row + 0.25)
            fill(image, [text], weather.fade(np.full(3, 200 * weather.backlit), z))


def _draw_bridge(rng, image, view, road, weather, z):
    """A bridge across the road: its dark underside, its face, its railing and its piers."""
    low = rng.uniform(4.8, 7)
    color = np.float32([130, 125, 118]) * rng.uniform(0.3, 1) * weather.backlit
    left, right = road.left - 80, road.right + 80
    for u in (road.left - rng.uniform(1, 4), road.right + rng.uniform(1, 6)):
        fill(image, [upright(view, u - 0.7, u + 0.7, z, -0.3, low)], weather.fade(color * 0.7, z))
    back = view.project([left, right], z + rng.uniform(8, 20), low)
    front = view.project([right, left], z, low)
    fill(image, [np.concatenate([back, front])], weather.fade(color * 0.3, z))
    deck = low + rng.uniform(1, 2)
    fill(image, [upright(view, left, right, z, low, deck)], weather.fade(color, z))
    fill(image, [upright(view, left, right, z, deck + 0.9, deck + 1.0)], weather.fade(color * 0.8, z))


def draw_no_road(rng, width: int, height: int) -> np.ndarray:
    """uint8 RGB (H, W, 3) without any road: blank, noise, a wall, boxes, writing, strokes in any direction."""
    color = rng.integers(0, 256, 3).astype(np.float32)
    image = np.empty((height, width, 3), np.uint8)
    image[:] = color
    kind = rng.choice(["blank", "noise", "wall", "boxes", "writing", "strokes"])
    if kind in ("noise", "wall"):
        rough = cv2.resize(texture(rng, 128), (width, height)) * rng.uniform(10, 120)
        image = np.clip(color + rough[..., None], 0, 255).astype(np.uint8)
    if kind == "boxes":
        for x, y, w, h in rng.random((rng.integers(5, 60), 4)) * (width, height, width / 3, height / 3):
            shade = rng.integers(0, 256, 3).tolist()
            cv2.rectangle(image, (int(x), int(y)), (int(x + w), int(y + h)), shade, -1)
    if kind == "writing":
        size, ink = rng.uniform(0.3, 1.5) * width / 640, rng.integers(0, 256, 3).tolist()
        for y in np.arange(rng.uniform(10, 40), height, rng.uniform(24, 50) * size):
            letters = rng.integers(33, 126, rng.integers(5, 90)).astype(np.uint8).tobytes().decode()
            face, place = int(rng.integers(8)), (int(rng.uniform(0, width / 8)), int(y))
            cv2.putText(image, letters, place, face, size, ink, int(rng.integers(1, 3)), cv2.LINE_AA)
    if kind == "strokes":
        for x0, y0, x1, y1 in rng.random((rng.integers(3, 40), 4)) * (width, height, width, height):
            ends = np.array([(x0, y0), (x1, y1)]).astype(int).tolist()
            cv2.line(image, *ends, rng.integers(0, 256, 3).tolist(), int(rng.integers(1, 8)), cv2.LINE_AA)
    return image
