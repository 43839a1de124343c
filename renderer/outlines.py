"""Outlines, in pixels, of flat and upright shapes on and beside the road.

Legend: u metres to the right of the camera's path, z metres ahead, up metres above the road.
"""

from collections.abc import Iterator

import numpy as np

from renderer.camera import Camera


def road_band(camera: Camera, left: float, right: float) -> np.ndarray:
    """(2 * DEPTH_SAMPLES, 2) float32: the ground between u = left and u = right, as far as it is visible."""
    return np.concatenate([camera.project(left, camera.depths), camera.project(right, camera.depths)[::-1]])


def band_around(camera: Camera, u, z: np.ndarray, half_width: float) -> np.ndarray:
    """(2N, 2) float32: a band of the ground around u (a number or (N,)) at distances z (N,)."""
    u = np.broadcast_to(u, np.shape(z))
    return np.concatenate([camera.project(u - half_width, z), camera.project(u + half_width, z)[::-1]])


def upright_rectangle(camera: Camera, left: float, right: float, z: float, low: float, high: float) -> np.ndarray:
    """(4, 2) float32: a rectangle across the road at distance z."""
    return camera.project([left, right, right, left], z, [low, low, high, high])


def upright_band(camera: Camera, u: float, low: float, high: float, z: np.ndarray) -> np.ndarray:
    """(2N, 2) float32: an upright band along the road at u between two heights, at distances z (N,)."""
    return np.concatenate([camera.project(u, z, low), camera.project(u, z, high)[::-1]])


def upright_pieces(camera: Camera, u: float, low: float, high, count: int = 10) -> Iterator[tuple[np.ndarray, float]]:
    """(outline, z) of each piece, far to near, of an upright band along the road, since haze grows with z.

    `high` is a number or one a depth of the camera.
    """
    z = camera.depths
    bottom, top = camera.project(u, z, low), camera.project(u, z, high)
    cuts = np.linspace(0, len(z) - 1, count + 1).astype(int)
    for a, b in zip(cuts[-2::-1], cuts[:0:-1], strict=True):
        picks = np.append(np.arange(a, b, 3), b)
        yield np.concatenate([bottom[picks], top[picks[::-1]]]), z[(a + b) // 2]
