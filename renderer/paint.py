"""Paint on the road: lane lines, other markings, and what wear leaves of them."""

from collections.abc import Mapping

import numpy as np

from renderer.camera import Camera
from renderer.drawing import SUPERSAMPLING, OpacityMask, fill_polygons
from renderer.road import LaneLine, Road

DOT_DIAMETER_M, DOT_HEIGHT_M, DOTS_PER_DASH = 0.11, 0.02, 4  # Botts' dots


def draw_lane_line(mask: OpacityMask, line: LaneLine) -> None:
    """Draw one lane line; value 255 is opaque paint."""
    near, far = mask.camera.depths[0], mask.camera.depths[-1]
    value = 255 * line.opacity
    apart = 0.75 * line.width + 0.06 if line.kind in ("double", "mixed") else 0.0
    if line.kind in ("solid", "double", "mixed"):
        mask.draw_band(lambda z: line.u(z) - apart, near, far, line.width, value)
    if line.kind == "double":
        mask.draw_band(lambda z: line.u(z) + apart, near, far, line.width, value)
    starts = near - (near + line.dash_phase) % line.dash_period + line.dash_period * np.arange(60)
    if line.kind in ("dashed", "mixed"):
        mask.draw_strokes(lambda z: line.u(z) + apart, starts, starts + line.dash_length, line.width, value)
    if line.kind == "dots":
        dots = (starts[:, None] + np.arange(DOTS_PER_DASH) * line.dash_length / 3).ravel()
        ends = dots + 0.12 + DOT_HEIGHT_M * dots / mask.camera.camera_height  # at a slant, height adds to length
        mask.draw_strokes(line.u, dots, ends, DOT_DIAMETER_M, min(255, 1.2 * value), knots=2)


def paint_coverage(road: Road, streaks: np.ndarray, blotches: np.ndarray) -> np.ndarray:
    """float32 share of the paint that wear has left at each pixel, given noise along the road and in spots."""
    if road.wear < 0.03:
        return np.ones_like(streaks)
    return np.clip((0.5 * blotches + 0.7 * streaks + 0.45 - road.wear) * 3 + 1, 0.08, 1)


def paint_road(
    rng: np.random.Generator, ground: np.ndarray, camera: Camera, road: Road, top: int, coverage: np.ndarray
) -> np.ndarray:
    """Blend symbols and lane lines into `ground` (3, h, W) in place; returns a copy from before the lines.

    `coverage` (h, W) is the share of paint left.
    """
    white, yellow = paint_colors(rng)
    stone = rng.uniform(110, 230) * np.float32([1, rng.uniform(0.95, 1.02), rng.uniform(0.85, 1.02)])
    mask = OpacityMask(camera, top)
    for _ in range(1 if road.place != "town" else rng.integers(1, 5)):
        _draw_symbols(rng, mask, road)
    _blend_color(ground, mask, coverage, white)
    unpainted = ground.copy()
    paint_lines(ground, camera, road, top, coverage, {"white": white, "yellow": yellow, "stone": stone})
    return unpainted


def paint_colors(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """White and yellow paint, float32 RGB, in the light of the day."""
    white = rng.uniform(190, 300) * np.float32([1, rng.uniform(0.97, 1.02), rng.uniform(0.9, 1.03)])
    yellow = rng.uniform(170, 260) * np.float32([1, rng.uniform(0.62, 0.85), rng.uniform(0.1, 0.5)])
    return white, yellow


def paint_lines(ground: np.ndarray, camera: Camera, road: Road, top: int, coverage: np.ndarray,
                colors: Mapping[str, np.ndarray]) -> None:
    """Blend the lane lines of each color into `ground` (3, h, W) in place; `coverage` is that of `paint_road`."""
    for color, rgb in colors.items():
        mask = OpacityMask(camera, top)
        for line in road.lines:
            if line.color == color:
                draw_lane_line(mask, line)
        _blend_color(ground, mask, coverage, rgb)


def _blend_color(ground: np.ndarray, mask: OpacityMask, coverage: np.ndarray, rgb: np.ndarray) -> None:
    """Blend a color into `ground` in place, where the mask is."""
    if not mask.canvas.any():
        return
    alpha = mask.opacity() * coverage
    for plane, value in zip(ground, rgb, strict=True):
        plane += alpha * (value - plane)


def _draw_symbols(rng: np.random.Generator, mask: OpacityMask, road: Road) -> None:
    """Arrows, letters and crosswalks: paint that is no lane line."""
    camera, near = mask.camera, mask.camera.depths[0]
    value = rng.uniform(80, 255)
    center = rng.choice(road.lane_centers)
    z = near * rng.uniform(1.3, 4 if road.place != "town" else 8)
    often = 2.5 if road.place == "town" else 1.0
    crosswalks = 0.04 * often if road.lines or road.place != "town" else 0.5  # junctions have no lines
    if rng.random() < 0.08 * often:  # an arrow
        mask.draw_band(center, z, z + 3, 0.15, value)
        bend = rng.choice([-1, 0, 1])
        tip_u = center + 0.5 * bend + np.array([-0.45, 0.45, 0.1 * bend])
        tip = camera.project(tip_u, z + np.array([3, 3, 5]) - 0.4 * abs(bend))
        fill_polygons(mask.canvas, [tip], value, SUPERSAMPLING, mask.top)
    if rng.random() < 0.05:  # letters, as upright and level strokes
        for letter in np.arange(-1.2, 1.2, 0.6):
            for upright in rng.uniform(0, 0.45, 2):
                mask.draw_band(center + letter + upright, z, z + 2.4, 0.1, value)
            for level in rng.uniform(0, 2.2, 2):
                mask.draw_band(center + letter + 0.22, z + level, z + level + 0.3, 0.45, value)
    if rng.random() < crosswalks:  # a crosswalk with its stop line
        for u in np.arange(road.left_edge, road.right_edge, 1.0):
            mask.draw_band(u, z + 3, z + 6, 0.5, value)
        width = road.right_edge - road.left_edge
        mask.draw_band((road.left_edge + road.right_edge) / 2, z + 1, z + 1.4, width, value)
