"""The ground of a scene, put together: pavement, paint, shadows, wetness and haze.

Shapes with edges are polygons of projected road points. What varies smoothly across or along the road (tyre tracks,
stains, wear) is sampled for each pixel by its (u, z), which `ground_coordinates` gives.
Legend: h rows from the ground's first one down, W the image's width.
"""

import cv2
import numpy as np

from renderer import pavement
from renderer.camera import Camera
from renderer.drawing import OpacityMask, fill_polygons, noise_texture, sample_noise
from renderer.outlines import road_band
from renderer.paint import draw_lane_line, paint_coverage, paint_road
from renderer.road import Road
from renderer.shadows import sunlight
from renderer.weather import Weather


def top_row(camera: Camera) -> int:
    """The first row of the image that the ground fills."""
    return int(np.clip(np.ceil(camera.project(0.0, camera.depths[-1:])[0, 1]), 0, camera.height - 8))


def ground_coordinates(camera: Camera, top: int, step: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """u (h, w) and z (h, 1), float32, of the pixels from row `top` down, every `step` pixels."""
    y = camera.project(0.0, camera.depths)[:, 1]
    rows = np.arange(top + (step - 1) / 2, camera.height, step)
    z = np.interp(rows, y[::-1], camera.depths[::-1])[:, None]
    x = np.arange((step - 1) / 2, camera.width, step, dtype=np.float32)[None]
    metres = z / camera.focal_x  # that a pixel spans
    u = x * metres.astype(np.float32) - (camera.center_x * metres + camera.road_offset(z)).astype(np.float32)
    return u, z.astype(np.float32)


def draw_clean(camera: Camera, road: Road) -> np.ndarray:
    """uint8 RGB (H, W, 3): fresh paint on even dark asphalt under an even sky."""
    image = np.full((camera.height, camera.width, 3), 150, np.uint8)
    top = top_row(camera)
    image[top:] = (60, 70, 55)
    fill_polygons(image, [road_band(camera, road.left_edge, road.right_edge)], (70, 70, 70))
    for color, rgb in (("white", (235, 235, 235)), ("yellow", (225, 180, 60))):
        mask = OpacityMask(camera, top)
        for line in road.lines:
            if line.color == color:
                draw_lane_line(mask, line)
        alpha = mask.opacity()[..., None]
        image[top:] = image[top:] * (1 - alpha) + np.float32(rgb) * alpha
    return image


def draw_ground(
    rng: np.random.Generator, image: np.ndarray, camera: Camera, road: Road, weather: Weather
) -> np.ndarray:
    """Draw the ground over `image` from its top row down; returns a copy of the image without lane lines."""
    top = top_row(camera)
    size = (camera.width, camera.height - top)
    concrete = rng.random() < 0.45
    noise = noise_texture(rng)
    u, z = ground_coordinates(camera, top, 2)  # stains and tracks are smooth: half the pixels will do
    streaks = sample_noise(noise, u * 7, z * 1.5)
    blotches = sample_noise(noise, u * 1.3 + 40, z * 0.35 + 90)
    grain = np.minimum(1, 25 / z)  # which averages out far away
    tone = pavement.tone_across(rng, road, u, concrete)
    tone *= 1 + (rng.uniform(0.03, 0.16) * grain) * streaks + rng.uniform(0.02, 0.22) * blotches
    coverage = paint_coverage(road, streaks, blotches)
    light = sunlight(rng, camera, road, weather, top, u, z, noise)
    tone, coverage, light = (cv2.resize(field, size) for field in (tone, coverage, light))
    dark = OpacityMask(camera, top)
    pavement.draw_joints(rng, dark, road, concrete)
    pavement.draw_blemishes(rng, dark, road)
    tone *= 1 - dark.opacity()
    colors = pavement.base_colors(rng, camera, road, top, concrete)
    ground = np.float32(cv2.split(colors))  # (3, h, W): numpy works faster on planes
    ground *= tone
    unpainted_ground = paint_road(rng, ground, camera, road, top, coverage)
    unpainted = image.copy()
    light_ground(rng, [ground, unpainted_ground], [image[top:], unpainted[top:]], camera, top, weather, light)
    return unpainted


def light_ground(
    rng: np.random.Generator,
    grounds: list[np.ndarray],
    targets: list[np.ndarray],
    camera: Camera,
    top: int,
    weather: Weather,
    light: np.ndarray,
) -> None:
    """Write each ground (3, h, W), which is changed, into its target (h, W, 3) uint8: wet, lit and in haze."""
    _, z = ground_coordinates(camera, top)
    shine = rng.uniform(0.15, 0.5) * np.clip(1 - 14 / (z + 6), 0.05, 1) if weather.wet else None
    air = np.exp(-z / weather.visibility_m).astype(np.float32)
    light *= air
    for planes, target in zip(grounds, targets, strict=True):
        if shine is not None:  # wet roads mirror the sky, more so far away where one looks along them
            planes += shine.astype(np.float32) * (np.float32(weather.haze)[:, None, None] - planes)
        for plane, tint, haze in zip(planes, weather.ground_tint, weather.haze, strict=True):
            plane *= light * np.float32(tint)
            plane += (1 - air) * np.float32(haze)
        np.clip(planes, 0, 255, out=planes)
        target[:] = cv2.merge(list(planes.astype(np.uint8)))
