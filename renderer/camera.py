"""The camera of a rendered scene, above a road that bends and climbs.

Legend: u metres to the right of the camera's path, z metres ahead, up metres above the road; x, y pixels.
"""

from dataclasses import dataclass, field, replace

import numpy as np

DEPTH_SAMPLES = 256  # points along the road: 2 % in z from one to the next, under 4 px anywhere in a 360-row image
SLOPE_REACH_M = 150  # bends and climbs are sampled as metres that the road has moved by this distance
ASPECTS = (1.2, 3.4)  # of images
HORIZONS = (0.27, 0.65)  # of the image's height
FOCAL_LENGTHS = (0.4, 1.1)  # of the image's width: fields of view of 103 to 49 degrees
MAX_SIDEWAYS = 0.7  # metres aside a metre ahead, 35 degrees: more is too much for a small angle


@dataclass(frozen=True)
class Camera:
    """A pinhole camera above a road that bends and climbs; distances in metres, the rest in pixels."""

    width: int
    height: int
    focal_x: float
    focal_y: float  # differs from focal_x where wide images are squeezed to the network's shape
    center_x: float
    horizon_y: float
    camera_height: float  # above the road
    yaw: float  # radians, of the road against the optical axis
    curvature: float  # of the road, 1 / metres
    curvature_rate: float
    climb: float
    climb_rate: float
    depths: np.ndarray = field(default=None, repr=False)  # (DEPTH_SAMPLES,) z, near to far, all visible

    def road_offset(self, z):
        """Metres that the road has moved sideways at distance z: a clothoid for small angles."""
        return z * (self.yaw + z * (self.curvature / 2 + z * (self.curvature_rate / 6)))

    def project(self, u, z, up=0.0) -> np.ndarray:
        """(N, 2) float32 pixels of road points; arguments broadcast."""
        z = np.asarray(z, np.float64)
        elevation = z * z * (self.climb / 2 + z * (self.climb_rate / 6))
        x = self.center_x + self.focal_x * (self.road_offset(z) + u) / z
        y = self.horizon_y + self.focal_y * (self.camera_height - elevation - up) / z
        pixels = np.empty((max(x.size, y.size), 2), np.float32)
        pixels[:, 0], pixels[:, 1] = x, y
        return pixels

    def pixels_per_metre(self, z):
        """Pixels across that a metre takes at distance z."""
        return self.focal_x / z


def sample_camera(rng: np.random.Generator, width: int, height: int, place: str = "motorway") -> Camera:
    """A Camera whose horizon, slopes and bends spread around those of TuSimple's and CULane's labels."""
    if place == "motorway" and rng.random() < 0.6:  # TuSimple: one camera, lane slopes 2.2 px a row apart
        horizon, focal = rng.normal(0.33, 0.02), rng.uniform(1.0, 1.6)
        camera_height, squeeze = rng.normal(1.62, 0.12), 1.0
    else:  # any other, of an image that is squeezed into the network's shape
        horizon, focal = rng.uniform(*HORIZONS), rng.uniform(*FOCAL_LENGTHS)
        camera_height = rng.uniform(1.9, 2.8) if rng.random() < 0.1 else rng.normal(1.4, 0.15)
        squeeze = np.exp(rng.uniform(*np.log(ASPECTS))) * height / width
    # metres aside and up at SLOPE_REACH_M: straight, motorway bends, ramps; plain, hills
    bends = {"motorway": [0.38, 0.5, 0.12], "town": [0.7, 0.22, 0.08], "country": [0.3, 0.4, 0.3]}[place]
    sideways = rng.normal(0, rng.choice([0.5, 13.0, 30.0], p=bends), 2)
    upward = rng.normal(0, rng.choice([0.15, 1.0, 2.5], p=[0.55, 0.35, 0.1]), 2)
    camera = Camera(
        width=width,
        height=height,
        focal_x=focal * width,
        focal_y=focal * width * squeeze,
        center_x=width * rng.normal(0.5, 0.05),
        horizon_y=height * horizon,
        camera_height=float(np.clip(camera_height, 1.0, 2.8)),
        yaw=rng.normal(0, 0.008 if place == "motorway" else 0.02),
        curvature=sideways[0] * 2 / SLOPE_REACH_M**2,
        curvature_rate=0.5 * sideways[1] * 6 / SLOPE_REACH_M**3,
        climb=upward[0] * 2 / SLOPE_REACH_M**2,
        climb_rate=0.5 * upward[1] * 6 / SLOPE_REACH_M**3,
    )
    return replace(camera, depths=visible_depths(camera))


def visible_depths(camera: Camera) -> np.ndarray:
    """(DEPTH_SAMPLES,) distances from below the image's bottom to the horizon or the crest of a hill."""
    reach = camera.focal_y * camera.camera_height
    far = min(reach / (0.007 * camera.height), 300.0)
    z = np.geomspace(reach / (1.25 * (camera.height - camera.horizon_y)), far, 2 * DEPTH_SAMPLES)
    y = camera.project(0.0, z)[:, 1]
    hidden = np.flatnonzero(np.diff(y) > -0.01)
    last = hidden[0] if len(hidden) else len(z) - 1
    too_sharp = np.flatnonzero(np.abs(camera.road_offset(z)) > MAX_SIDEWAYS * z)
    last = min(last, too_sharp[0] if len(too_sharp) else last)
    return np.geomspace(z[0], z[max(last, 8)], DEPTH_SAMPLES)
