"""Pixels to metres on the road and back: a pinhole camera with a lens, and the ground that it looks at.

Legend: x, y pixels of the image, right and down. X, Y, Z metres from the camera: to the right, down, ahead as the car
points. The ground lies `height` below the camera and may climb: Y = height - climb Z^2 / 2.
Everything is float64 in NumPy. Angles are radians: pitch down, roll clockwise as seen from behind, yaw to the right.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

UNDISTORT_ROUNDS = 20
UNDISTORTED = 1e-6  # slope by which the result may be off
STEEPEST = 10.0  # slope of a ray: 84 degrees from the optical axis
LEAST_SLOPE = 1e-9  # of a ray, metres down a metre ahead: it meets the ground far beyond anything


@dataclass(frozen=True)
class PinholeCamera:
    """Focal lengths and principal point in pixels, and OpenCV's distortion coefficients (k1, k2, p1, p2, k3)."""

    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, ...] = ()

    @classmethod
    def from_fov(cls, fov: float, width: float, height: float) -> "PinholeCamera":
        """A camera with square pixels that sees `fov` radians across the image's width, through its middle."""
        focal = width / 2 / math.tan(fov / 2)
        return cls(focal, focal, width / 2, height / 2)

    def scaled(self, x: float, y: float) -> "PinholeCamera":
        """The camera of the image resized by these factors."""
        return replace(self, fx=self.fx * x, fy=self.fy * y, cx=self.cx * x, cy=self.cy * y)

    def slopes(self, points_px: np.ndarray) -> np.ndarray:
        """(..., 2) metres to the right and down a metre along the optical axis, of the rays of pixels (..., 2)."""
        slopes = (np.asarray(points_px, float) - (self.cx, self.cy)) / (self.fx, self.fy)
        return undistorted(slopes, self.distortion) if any(self.distortion) else slopes

    def pixels(self, slopes: np.ndarray) -> np.ndarray:
        """(..., 2) pixels of rays with these slopes (..., 2); NaN for those that the lens does not show."""
        if any(self.distortion):
            slopes = np.where(is_shown(slopes, self.distortion), distorted(slopes, self.distortion), np.nan)
        return slopes * (self.fx, self.fy) + (self.cx, self.cy)


@dataclass(frozen=True)
class GroundPlane:
    """How a camera stands above the road."""

    camera: PinholeCamera
    height: float
    pitch: float = 0.0
    roll: float = 0.0
    yaw: float = 0.0
    climb: float = 0.0  # 1 / metres

    def to_metres(self, points_px: np.ndarray) -> np.ndarray:
        """(..., 2) X and Z on the road of pixels (..., 2); NaN where a pixel shows none of it."""
        rays = rays_ahead(self.camera.slopes(points_px), self.pitch, self.roll, self.yaw)
        right, down, ahead = np.moveaxis(rays, -1, 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            z = distance_ahead(down / ahead, self.height, self.climb)
            z = np.where((ahead > 0) & (z > 0), z, np.nan)
            return np.stack((z * right / ahead, z), axis=-1)

    def to_pixels(self, points_m: np.ndarray) -> np.ndarray:
        """(..., 2) pixels of X and Z (..., 2) on the road; NaN where no pixel can show it."""
        x, z = np.moveaxis(np.asarray(points_m, float), -1, 0)
        return self.pixels_at(x, z)

    def pixels_at(self, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        """(..., 2) as `to_pixels`, of X and Z that are broadcast to one shape: those of a grid cost little."""
        y = self.height - self.climb * z * z / 2
        right, down, depth = (to_x * x + (to_y * y + to_z * z)
                              for to_x, to_y, to_z in rotation(self.pitch, self.roll, self.yaw))
        depth = np.where(depth > 1e-6, depth, np.nan)
        return self.camera.pixels(np.stack((right / depth, down / depth), axis=-1))

    def vanishing_point(self, heading: float = 0.0) -> np.ndarray:
        """(2) the pixel at which parallel lines of a flat road meet that the car points `heading` to the right of."""
        direction = rotation(self.pitch, self.roll, self.yaw) @ (-math.sin(heading), 0, math.cos(heading))
        return self.camera.pixels(direction[:2] / direction[2])


def rotation(pitch: float, roll: float, yaw: float) -> np.ndarray:
    """(3, 3) from metres right, down and ahead of the car to those along the axes of its camera."""
    (sp, cp), (sr, cr), (sy, cy) = ((math.sin(angle), math.cos(angle)) for angle in (pitch, roll, yaw))
    turned = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    tilted = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    rolled = np.array([[cr, sr, 0], [-sr, cr, 0], [0, 0, 1]])
    return rolled @ tilted @ turned


def rays_ahead(slopes: np.ndarray, pitch: float, roll: float, yaw: float) -> np.ndarray:
    """(..., 3) directions right, down and ahead of the car, of rays with the camera's slopes (..., 2)."""
    matrix = rotation(pitch, roll, yaw)
    return slopes @ matrix[:2] + matrix[2]


def distance_ahead(slope: np.ndarray, height: float, climb: float) -> np.ndarray:
    """Z at which rays that fall by `slope` a metre meet the road: of h - climb Z^2 / 2 = slope Z the nearer root.

    Not a number where a ray passes above a crest.
    """
    if not climb:
        return np.where(slope > LEAST_SLOPE, height / np.maximum(slope, LEAST_SLOPE), np.nan)
    root = np.sqrt(slope * slope + 2 * climb * height)
    if climb < 0:  # the crest hides the farther root
        return np.where(slope > 0, 2 * height / (slope + root), np.nan)
    return 2 * height / (slope + root)  # uphill every ray meets the road


def distorted(slopes: np.ndarray, coefficients: tuple[float, ...]) -> np.ndarray:
    """Slopes (..., 2) as a lens bends them: Brown's model with the coefficients k1, k2, p1, p2, k3 of OpenCV."""
    k1, k2, p1, p2, k3 = (*coefficients, *(0.0,) * (5 - len(coefficients)))
    x, y = slopes[..., 0], slopes[..., 1]
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    return np.stack((x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
                     y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y), axis=-1)


def is_shown(slopes: np.ndarray, coefficients: tuple[float, ...]) -> np.ndarray:
    """(..., 1) whether rays with these slopes (..., 2) are nearer to the axis than where Brown's model turns back.

    Farther out it moves rays towards the middle again, where the lens shows others.
    """
    k1, k2, _, _, k3 = (*coefficients, *(0.0,) * (5 - len(coefficients)))
    roots = np.roots((7 * k3, 5 * k2, 3 * k1, 1))  # of the derivative of r (1 + k1 r^2 + k2 r^4 + k3 r^6), by r^2
    turns = roots.real[(np.abs(roots.imag) < 1e-9) & (roots.real > 0)]
    return (slopes * slopes).sum(-1, keepdims=True) < turns.min(initial=np.inf)


def undistorted(slopes: np.ndarray, coefficients: tuple[float, ...]) -> np.ndarray:
    """Slopes (..., 2) that a lens bends into these, by fixed-point iteration; NaN where it finds none."""
    straight = slopes
    for _ in range(UNDISTORT_ROUNDS):
        straight = np.clip(straight + slopes - distorted(straight, coefficients), -STEEPEST, STEEPEST)
    off = np.abs(distorted(straight, coefficients) - slopes).max(-1, keepdims=True)
    return np.where((off < UNDISTORTED) & is_shown(straight, coefficients), straight, np.nan)
