"""What is between the camera and the road: rain on the glass, the car's own bonnet, wipers, reflections, black borders.

Images are uint8 RGB (H, W, 3). Nothing here moves a lane: labels run on below what hides them, as CULane's do.
"""

import cv2
import numpy as np

from renderer.drawing import SUBPIXEL_BITS, fill_polygons


def draw_windscreen(rng: np.random.Generator, image: np.ndarray, place: str, night: bool, rain: bool) -> np.ndarray:
    """The image through the glass, above the bonnet; dashcams of town cars see more of both than TuSimple's camera."""
    dashcam = place != "motorway"
    if rain or rng.random() < 0.02:
        image = rain_on(rng, image)
    if rng.random() < (0.2 if dashcam else 0.06):
        image = veil(rng, image, 0.4 if night else 1.0)
    if rng.random() < (0.6 if dashcam else 0.25):
        draw_bonnet(rng, image, night)
    if rng.random() < (0.08 if dashcam else 0.01):
        draw_wiper(rng, image)
    if rng.random() < (0.12 if dashcam else 0.06):
        image = reflect_dashboard(rng, image)
    if dashcam and rng.random() < 0.06:
        draw_black_borders(rng, image)
    return image


def rain_on(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Falling streaks and blurred drops on the windscreen."""
    height, width = image.shape[:2]
    streaks = np.zeros((height, width), np.uint8)
    slant = rng.normal(0, 0.2)
    for x, y, length in rng.random((rng.integers(20, 120), 3)) * (width, height, height * 0.1):
        end = (int(x + slant * length), int(y + length))
        cv2.line(streaks, (int(x), int(y)), end, int(rng.integers(15, 60)), 1)
    image = cv2.add(image, cv2.merge([streaks] * 3))
    blurred = cv2.blur(image, (9, 9))
    drops = np.zeros((height, width), np.uint8)
    for x, y in rng.random((rng.integers(0, 40), 2)) * (width, height):
        cv2.circle(drops, (int(x), int(y)), int(rng.uniform(2, 9) * width / 640), 255, -1)
    return np.where(drops[..., None] > 0, blurred, image)


def veil(rng: np.random.Generator, image: np.ndarray, strength: float) -> np.ndarray:
    """A bright haze over a part of the image: low sun on dirty glass, or the dashboard mirrored in it."""
    height, width = image.shape[:2]
    x = np.arange(0, width, 8, dtype=np.float32)[None] - rng.uniform(0, 1) * width
    y = np.arange(0, height, 8, dtype=np.float32)[:, None] - rng.uniform(0.3, 1) * height
    distance = (x / (rng.uniform(0.1, 0.5) * width)) ** 2 + (y / (rng.uniform(0.08, 0.3) * height)) ** 2
    streaks = 1 + rng.uniform(0, 0.4) * rng.normal(0, 1, x.shape[1]).astype(np.float32)
    haze = strength * rng.uniform(20, 130) * np.exp(-distance) * streaks
    haze = cv2.resize(np.clip(haze, 0, 255).astype(np.uint8), (width, height))
    return cv2.add(image, cv2.merge([haze] * 3))


def draw_bonnet(rng: np.random.Generator, image: np.ndarray, night: bool) -> None:
    """The car's own bonnet or a dashboard along the bottom, up to a third of the image."""
    height, width = image.shape[:2]
    rise = rng.choice([rng.uniform(0.01, 0.05), rng.uniform(0.05, 0.16), rng.uniform(0.16, 0.34)], p=[0.3, 0.35, 0.35])
    x = np.linspace(0, width, 24)
    middle = width * rng.normal(0.5, 0.1)
    edge = height * (1 - rise * (1 - rng.uniform(0.05, 1.2) * ((x - middle) / width * 2) ** 2))
    shade = (rng.uniform(5, 45) if rng.random() < 0.75 else rng.uniform(45, 200)) * rng.normal(1, 0.08, 3)
    if night:
        shade = shade * rng.uniform(0, 0.4)
    top = int(np.clip(edge.min(), 0, height - 2))
    surface, bright = _bonnet_surface(rng, image, top, middle, shade, night)
    outline = np.concatenate([np.stack([x, edge], -1), [(width, height + 9), (0, height + 9)]])
    mask = np.zeros(surface.shape[:2], np.uint8)
    fill_polygons(mask, [outline - (0, top)], 255)
    cv2.copyTo(surface, mask, image[top:])
    if rng.random() < 0.6:  # the sky shines along its edge
        crest = np.stack([x, edge + rng.uniform(1, 6)], -1)
        _draw_curve(image, crest, bright, int(rng.integers(1, 4)))


def _bonnet_surface(
    rng: np.random.Generator, image: np.ndarray, top: int, middle: float, shade: np.ndarray, night: bool
) -> tuple[np.ndarray, list[float]]:
    """uint8 (H - top, W, 3): a bonnet of a shade from row `top` down, and the color that shines on it."""
    height, width = image.shape[:2]
    surface = np.empty((height - top, width, 3), np.uint8)
    surface[:] = np.clip(shade, 0, 255)
    if rng.random() < 0.7:  # polished: what stands before it is seen in it, upside down
        above = max(1, top - rng.integers(height // 12, height // 2))
        mirrored = cv2.resize(image[above:top][::-1], (width // 4, max(1, len(surface) // 4)))
        mirrored = cv2.GaussianBlur(mirrored, (0, 0), rng.uniform(0.3, 2) * width / 640)
        mirrored = cv2.resize(mirrored, (width, len(surface)))
        surface = cv2.addWeighted(surface, 1, mirrored, rng.uniform(0.05, 0.6), 0)
    light = np.linspace(*rng.uniform(0.4, 1.6, 2), len(surface))[:, None, None]
    surface = np.clip(surface * light, 0, 255).astype(np.uint8)
    bright = np.clip(shade + rng.uniform(10, 90) * (0.5 if night else 1), 0, 255).tolist()
    for _ in range(rng.integers(0, 3)):  # creases along it, gaps and vents across it
        at = middle + rng.choice([-1, 1]) * rng.uniform(0.05, 0.45) * width
        crease = np.array([[at, 0], [at + (at - middle) * rng.uniform(-0.2, 0.6), len(surface)]])
        _draw_curve(surface, crease, bright, int(rng.integers(1, 4)))
    for level in rng.uniform(0.1, 0.9, rng.integers(0, 3)):
        across = np.stack([np.linspace(0, width, 12), len(surface) * (level + 0.15 * np.linspace(-1, 1, 12) ** 2)], -1)
        tone = rng.uniform(0.2, 0.8) if rng.random() < 0.6 else rng.uniform(1.2, 3)
        _draw_curve(surface, across, np.clip(shade * tone, 0, 255).tolist(), int(rng.integers(1, 7)))
    return surface, bright


def draw_wiper(rng: np.random.Generator, image: np.ndarray) -> None:
    """A wiper's arm and blade: a dark stroke from the bottom, lying or caught on its way."""
    height, width = image.shape[:2]
    foot = np.array([rng.uniform(0, 1) * width, 1.02 * height])
    angle = rng.choice([rng.uniform(0.05, 0.3), rng.uniform(2.8, 3.1), rng.uniform(0.3, 2.8)])
    tip = foot + rng.uniform(0.3, 0.8) * height * np.array([np.cos(angle), -np.sin(angle)])
    _draw_curve(image, np.stack([foot, tip]), rng.uniform(5, 50, 3).tolist(), int(rng.integers(3, 10)))


def reflect_dashboard(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """A faint mirror image of something pale on the dashboard, in the lower half."""
    height, width = image.shape[:2]
    layer = np.zeros((height // 4, width // 4), np.uint8)
    for _ in range(rng.integers(1, 4)):
        corner = (rng.random(2) * (width // 4, height // 4)).astype(int)
        size = (rng.random(2) * (width // 8, height // 8)).astype(int)
        cv2.rectangle(layer, corner.tolist(), (corner + size).tolist(), int(rng.integers(10, 60)), -1)
    layer = cv2.resize(cv2.blur(layer, (7, 7)), (width, height))
    return cv2.add(image, cv2.merge([layer] * 3))


def draw_black_borders(rng: np.random.Generator, image: np.ndarray) -> None:
    """Black above, below or beside the scene, bent as undistorted images of wide lenses have it."""
    height, width = image.shape[:2]
    x, y = np.linspace(0, width, 16), np.linspace(0, height, 16)
    bulge = 1 - np.linspace(-1, 1, 16) ** 2
    if rng.random() < 0.7:
        depth = rng.uniform(0.02, 0.1) * height
        upper = np.stack([x, depth * bulge], -1)
        fill_polygons(image, [np.concatenate([upper, [(width, -9), (0, -9)]])], (0, 0, 0))
        lower = np.stack([x, height - depth * bulge * rng.uniform(0, 1.2)], -1)
        fill_polygons(image, [np.concatenate([lower, [(width, height + 9), (0, height + 9)]])], (0, 0, 0))
    else:
        depth = rng.uniform(0.005, 0.03) * width
        for at, outside in ((depth * (0.2 + bulge), -9), (width - depth * (0.2 + bulge), width + 9)):
            border = np.concatenate([np.stack([at, y], -1), [(outside, height), (outside, 0)]])
            fill_polygons(image, [border], (0, 0, 0))


def _draw_curve(image: np.ndarray, points: np.ndarray, color: list[float], thickness: int) -> None:
    fixed = (points * (1 << SUBPIXEL_BITS)).astype(np.int32)
    cv2.polylines(image, [fixed], False, color, thickness, cv2.LINE_AA, SUBPIXEL_BITS)
