"""Images and videos of roads of sorts, and reading what was made of them, for tests."""

import json
from pathlib import Path

import cv2
import numpy as np

from visualization.draw import write_image

VideoCapture = cv2.VideoCapture  # some tests put a camera in its place


def picture(seed=0, width=160, height=90):
    """A road of sorts, RGB uint8: no two seeds alike."""
    image = np.random.default_rng(seed).integers(60, 120, (height, width, 3), dtype=np.uint8)
    for x in (0.2 + 0.05 * seed, 0.8):
        cv2.line(image, (width // 2, height // 3), (int(x * width) % width, height), (255, 255, 255), 3)
    return image


def pictures(folder, *names):
    for seed, name in enumerate(names):
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, picture(seed))
    return Path(folder)


def video(path, images=12, size_px=(160, 96), codec="MJPG", fps=12.5):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), fps, size_px)
    assert writer.isOpened()
    for seed in range(images):
        writer.write(picture(seed % 15, *size_px)[..., ::-1])
    writer.release()
    return Path(path)


def film(path):
    """Frames per second and RGB images of a video, by OpenCV."""
    capture, images = VideoCapture(str(path)), []
    while (image := capture.read()[1]) is not None:
        images.append(image[..., ::-1])
    return capture.get(cv2.CAP_PROP_FPS), images


def json_lines(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]
