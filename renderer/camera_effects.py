"""What night, the lens and the sensor do to a drawn scene.

Images are uint8 RGB (H, W, 3); lanes are lists of (N, 2) float32 pixel points.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from renderer.camera import Camera
from renderer.vehicles import Lamp
from renderer.weather import Weather
from renderer.windscreen import draw_windscreen

MIN_RUN = 0.05  # of the height: a lane of which the roll leaves no more in the image is dropped


def apply_camera_effects(
    rng: np.random.Generator,
    image: np.ndarray,
    lanes: list[np.ndarray],
    camera: Camera,
    place: str,
    weather: Weather,
    lamps: list[Lamp],
) -> tuple[np.ndarray, list[np.ndarray]]:
    """(image, lanes) after night, roll, windscreen, lens and sensor; only the roll moves lanes."""
    if weather.night:
        image = draw_night(rng, image, camera, lamps)
    elif lamps and rng.random() < 0.4:
        image = add_lamps(image, lamps, 0.5)
    image, lanes = _roll(rng, image, lanes)
    if not weather.night and weather.sun > 0.4 and rng.random() < 0.15:
        image = _glare(rng, image)
    image = draw_windscreen(rng, image, place, weather.night, weather.rain)
    return apply_sensor(rng, image), lanes


def _roll(
    rng: np.random.Generator, image: np.ndarray, lanes: list[np.ndarray]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The image and lanes rolled by up to about two degrees and magnified to fill the frame."""
    if rng.random() < 0.4:
        return image, lanes
    height, width = image.shape[:2]
    degrees = float(np.clip(rng.normal(0, 0.8), -2.5, 2.5))
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1 + abs(np.radians(degrees)) * 0.9)
    image = cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
    rolled = []
    for points in lanes:
        points = (points @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
        inside = (points >= 0).all(1) & (points[:, 0] <= width - 1) & (points[:, 1] <= height - 1)
        if inside.sum() > MIN_RUN * height:
            rolled.append(points[inside])
    return image, rolled


def draw_night(rng: np.random.Generator, image: np.ndarray, camera: Camera, lamps: list[Lamp]) -> np.ndarray:
    """The scene by headlights and street lamps: a wedge of light ahead, dark elsewhere."""
    height, width = image.shape[:2]
    small = (width // 8, height // 8)
    x = (np.arange(small[0], dtype=np.float32)[None] * 8 - camera.center_x) / width
    y = (np.arange(small[1], dtype=np.float32)[:, None] * 8 - camera.horizon_y) / (height - camera.horizon_y)
    ambient = rng.choice([rng.uniform(0.02, 0.1), rng.uniform(0.1, 0.45)])
    spread = rng.uniform(0.06, 0.2) + np.clip(y, 0, 1) * rng.uniform(0.15, 0.6)
    reach = rng.uniform(0.15, 0.35)
    falloff = np.where(y > 0, np.exp(-(((y - reach) / rng.uniform(0.25, 0.6)) ** 2)), np.exp(y * 25) * 0.35)
    light = ambient + rng.uniform(0.4, 1.2) * np.exp(-((x / spread) ** 2)) * falloff
    headlight = np.float32([1, rng.uniform(0.85, 1), rng.uniform(0.7, 1.1)])
    street = np.float32([1.0, rng.uniform(0.6, 1.0), rng.uniform(0.15, 1.0)])  # sodium orange to white
    field = (light - ambient)[..., None] * headlight + ambient * street
    field = cv2.resize(field.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    image = np.clip(image * field, 0, 255).astype(np.uint8)
    neon = rng.integers(0, 255, 3).tolist()  # advertisements and shop fronts
    for _ in range(rng.poisson(5)):
        color = (255 * street).tolist() if rng.random() < 0.75 else neon
        x, y = rng.uniform(0, width), camera.horizon_y - rng.exponential(0.12) * height
        lamps = [*lamps, Lamp(x, y, rng.uniform(0.8, 4) * width / 640, color)]
    return add_lamps(image, lamps, rng.uniform(0.5, 1.6))


def add_lamps(image: np.ndarray, lamps: Sequence[Lamp], bloom: float) -> np.ndarray:
    """The image with glowing discs and their halo."""
    height, width = image.shape[:2]
    glow = np.zeros((height // 2, width // 2, 3), np.uint8)
    for x, y, radius, color in lamps:
        if -50 < x < width + 50 and -50 < y < height + 50:
            center = (round(x * 8), round(y * 8))
            cv2.circle(glow, center, max(8, round(radius * 8)), color, -1, cv2.LINE_AA, 4)
    halo = cv2.resize(glow, (width // 8, height // 8), interpolation=cv2.INTER_AREA)
    halo = cv2.GaussianBlur(halo, (0, 0), 2)
    image = cv2.add(image, cv2.resize(glow, (width, height)))
    return cv2.addWeighted(image, 1, cv2.resize(halo, (width, height)), float(bloom), 0)


def _glare(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """The sun in or near the frame brightens a wide disc of the image."""
    height, width = image.shape[:2]
    x = np.arange(0, width, 8, dtype=np.float32)[None] - rng.uniform(-0.1, 1.1) * width
    y = np.arange(0, height, 8, dtype=np.float32)[:, None] - rng.uniform(-0.2, 0.4) * height
    disc = rng.uniform(40, 200) * np.exp(-np.sqrt(x**2 + y**2) / (rng.uniform(0.1, 0.5) * width))
    disc = cv2.resize(disc.astype(np.float32), (width, height)).astype(np.uint8)
    return cv2.add(image, cv2.merge([disc] * 3))


def apply_sensor(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """The image with fine detail, blur, exposure, color cast, vignette and noise."""
    if rng.random() < 0.6:
        image = _roughen(rng, image)
    image = _blur(rng, image)
    image = _expose(rng, image)
    if rng.random() < 0.1:
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        image = cv2.addWeighted(image, 0.2, cv2.merge([gray] * 3), 0.8, 0)
    if rng.random() < 0.3:
        image = _vignette(rng, image)
    return _add_noise(rng, image)


def _roughen(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """The image with fine detail, as real surfaces have it: grains of a few pixels, brighter or darker by a share."""
    height, width = image.shape[:2]
    grain = rng.uniform(1.0, 3.5) * width / 640
    small = (max(1, int(height / grain)), max(1, int(width / grain)))
    noise = np.frombuffer(rng.bytes(small[0] * small[1]), np.uint8).reshape(small)
    steps = np.clip(128 + (np.arange(256) - 128) * rng.uniform(0.02, 0.2), 0, 255).astype(np.uint8)
    noise = cv2.resize(cv2.LUT(noise, steps), (width, height))
    return cv2.multiply(image, cv2.merge([noise] * 3), scale=1 / 128)


def _blur(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    kind = rng.choice(["sharp", "soft", "low resolution", "motion"], p=[0.4, 0.42, 0.1, 0.08])
    if kind == "soft":
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.35, 1.1) * width / 640)
    elif kind == "low resolution":
        factor = rng.uniform(0.45, 0.9)
        image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        image = cv2.resize(image, (width, height))
    elif kind == "motion":
        length = int(rng.integers(2, 6) * width / 640)
        kernel = np.zeros((2 * length + 1, 2 * length + 1), np.float32)
        angle = rng.uniform(0, np.pi)
        step = np.round(np.array([np.cos(angle), np.sin(angle)]) * length / 2).astype(int)
        cv2.line(kernel, (length - step).tolist(), (length + step).tolist(), 1)
        image = cv2.filter2D(image, -1, kernel / kernel.sum())
    return image


def _expose(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """The image with another gamma, gain, color cast and black level."""
    levels = np.arange(256, dtype=np.float32)[:, None] / 255
    gamma, gain = np.exp(rng.normal(0.0, 0.25)), np.exp(rng.normal(0.0, 0.2))
    cast = gain * np.exp(rng.normal(0, 0.05, 3)) * (0.97, 1.02, 1.0)
    table = np.clip(levels**gamma * cast + rng.normal(0, 0.015), 0, 1) * 255
    return cv2.LUT(image, table.astype(np.uint8)[None])


def _vignette(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    x = np.linspace(-1, 1, width // 8, dtype=np.float32)[None]
    y = np.linspace(-1, 1, height // 8, dtype=np.float32)[:, None]
    dark = 255 * np.clip(1 - rng.uniform(0.05, 0.3) * (x**2 + y**2), 0, 1)
    dark = cv2.resize(dark.astype(np.uint8), (width, height))
    return cv2.multiply(image, cv2.merge([dark] * 3), scale=1 / 255)


def _add_noise(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    deviation = rng.choice([0.0, rng.uniform(0.5, 2.5), rng.uniform(2.5, 8)], p=[0.15, 0.7, 0.15])
    if not deviation:
        return image
    colored = rng.random() < 0.3
    noise = np.frombuffer(rng.bytes(height * width * (3 if colored else 1)), np.uint8)
    steps = (np.arange(256) - 128) * (deviation / 74)  # bytes are uniform, with a deviation of 74
    noise = cv2.LUT(noise.reshape(height, width, -1), np.round(steps).astype(np.int16))
    return cv2.add(image, noise if colored else cv2.merge([noise] * 3), dtype=cv2.CV_8U)
