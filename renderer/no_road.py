"""Images without a road."""

import cv2
import numpy as np

from renderer.drawing import noise_texture


def draw_no_road(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """uint8 RGB (H, W, 3): blank, noise, a wall, boxes, writing, strokes in any direction."""
    color = rng.integers(0, 256, 3).astype(np.float32)
    image = np.empty((height, width, 3), np.uint8)
    image[:] = color
    kind = rng.choice(["blank", "noise", "wall", "boxes", "writing", "strokes"])
    if kind in ("noise", "wall"):
        rough = cv2.resize(noise_texture(rng, 128), (width, height)) * rng.uniform(10, 120)
        image = np.clip(color + rough[..., None], 0, 255).astype(np.uint8)
    if kind == "boxes":
        for x, y, w, h in rng.random((rng.integers(5, 60), 4)) * (width, height, width / 3, height / 3):
            shade = rng.integers(0, 256, 3).tolist()
            cv2.rectangle(image, (int(x), int(y)), (int(x + w), int(y + h)), shade, -1)
    if kind == "writing":
        _draw_writing(rng, image)
    if kind == "strokes":
        for x0, y0, x1, y1 in rng.random((rng.integers(3, 40), 4)) * (width, height, width, height):
            ends = np.array([(x0, y0), (x1, y1)]).astype(int).tolist()
            cv2.line(image, *ends, rng.integers(0, 256, 3).tolist(), int(rng.integers(1, 8)), cv2.LINE_AA)
    return image


def _draw_writing(rng: np.random.Generator, image: np.ndarray) -> None:
    height, width = image.shape[:2]
    size, ink = rng.uniform(0.3, 1.5) * width / 640, rng.integers(0, 256, 3).tolist()
    for y in np.arange(rng.uniform(10, 40), height, rng.uniform(24, 50) * size):
        letters = rng.integers(33, 126, rng.integers(5, 90)).astype(np.uint8).tobytes().decode()
        font, origin = int(rng.integers(8)), (int(rng.uniform(0, width / 8)), int(y))
        cv2.putText(image, letters, origin, font, size, ink, int(rng.integers(1, 3)), cv2.LINE_AA)
