"""What is between the camera and the road: rain on the glass, the car's own bonnet, what the glass reflects."""

import cv2
import numpy as np

from scene_paint import SUB, fill


def rain_on(rng, image):
    """Falling streaks and blurred drops on the windscreen."""
    height, width = image.shape[:2]
    layer = np.zeros((height, width), np.uint8)
    slant = rng.normal(0, 0.2)
    for x, y, length in rng.random((rng.integers(20, 120), 3)) * (width, height, height * 0.1):
        end = (int(x + slant * length), int(y + length))
        cv2.line(layer, (int(x), int(y)), end, int(rng.integers(15, 60)), 1)
    image = cv2.add(image, cv2.merge([layer] * 3))
    soft = cv2.blur(image, (9, 9))
    drops = np.zeros((height, width), np.uint8)
    for x, y in rng.random((rng.integers(0, 40), 2)) * (width, height):
        cv2.circle(drops, (int(x), int(y)), int(rng.uniform(2, 9) * width / 640), 255, -1)
    return np.where(drops[..., None] > 0, soft, image)


def draw_hood(rng, image, night: bool):
    """The car's own bonnet or a dashboard along the bottom; labels run on below it, as CULane's do."""
    height, width = image.shape[:2]
    rise = rng.choice([rng.uniform(0.01, 0.05), rng.uniform(0.05, 0.16), rng.uniform(0.16, 0.36)])
    x = np.linspace(0, width, 24)
    middle = width * rng.normal(0.5, 0.1)
    edge = height * (1 - rise * (1 - rng.uniform(0.2, 1.2) * ((x - middle) / width * 2) ** 2))
    shade = (rng.uniform(5, 45) if rng.random() < 0.8 else rng.uniform(45, 200)) * rng.normal(1, 0.08, 3)
    if night:
        shade = shade * rng.uniform(0, 0.4)
    top = int(np.clip(edge.min(), 0, height - 2))
    hood, bright = _metal(rng, image, top, middle, shade, night)
    outline = np.concatenate([np.stack([x, edge], -1), [(width, height + 9), (0, height + 9)]])
    mask = np.zeros(hood.shape[:2], np.uint8)
    fill(mask, [outline - (0, top)], 255)
    image[top:] = cv2.copyTo(hood, mask, image[top:].copy())
    if rng.random() < 0.6:  # the sky shines along its edge
        crest = (np.stack([x, edge + rng.uniform(1, 6)], -1) * (1 << SUB)).astype(np.int32)
        cv2.polylines(image, [crest], False, bright, int(rng.integers(1, 4)), cv2.LINE_AA, SUB)


def _metal(rng, image, top: int, middle: float, shade: np.ndarray, night: bool) -> tuple[np.ndarray, list[float]]:
    """uint8 (H - top, W, 3): a bonnet's surface from row `top` down, of a shade, and the colour that shines on it."""
    height, width = image.shape[:2]
    hood = np.empty((height - top, width, 3), np.uint8)
    hood[:] = np.clip(shade, 0, 255)
    if rng.random() < 0.7:  # polished: what stands before it is seen in it, upside down
        above = max(1, top - rng.integers(height // 12, height // 2))
        mirrored = cv2.resize(image[above:top][::-1], (width, len(hood)))
        mirrored = cv2.GaussianBlur(mirrored, (0, 0), rng.uniform(0.5, 8) * width / 640)
        hood = cv2.addWeighted(hood, 1, mirrored, rng.uniform(0.05, 0.5), 0)
    light = np.linspace(*rng.uniform(0.4, 1.6, 2), len(hood))[:, None, None]
    hood = np.clip(hood * light, 0, 255).astype(np.uint8)
    bright = np.clip(shade + rng.uniform(10, 90) * (0.5 if night else 1), 0, 255).tolist()
    if rng.random() < 0.5:  # creases, and the gaps beside it
        for at in middle + np.array([-1, 1]) * rng.uniform(0.05, 0.45) * width:
            foot = at + (at - middle) * rng.uniform(-0.2, 0.6)
            ends = (np.array([[at, 0], [foot, len(hood)]]) * (1 << SUB)).astype(np.int32)
            cv2.polylines(hood, [ends], False, bright, int(rng.integers(1, 4)), cv2.LINE_AA, SUB)
    return hood, bright


def reflect_dashboard(rng, image):
    """A faint mirror image of something pale on the dashboard, in the lower half."""
    height, width = image.shape[:2]
    layer = np.zeros((height // 4, width // 4), np.uint8)
    for _ in range(rng.integers(1, 4)):
        corner = (rng.random(2) * (width // 4, height // 4)).astype(int)
        size = (rng.random(2) * (width // 8, height // 8)).astype(int)
        cv2.rectangle(layer, corner.tolist(), (corner + size).tolist(), int(rng.integers(10, 60)), -1)
    layer = cv2.resize(cv2.blur(layer, (7, 7)), (width, height))
    return cv2.add(image, cv2.merge([layer] * 3))
