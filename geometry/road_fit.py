"""The road that lanes of an image show: one clothoid that all lines follow, and how the camera stands above it.

Least squares over all lanes with what is known beforehand, by Gauss-Newton; a lane that is not parallel to the others,
such as an exit, counts less the farther it is off. The inverse of the normal matrix says how exact the result is.
Legend: as geometry/ground_plane.py. A line is at X = u + slope Z + curvature Z^2 / 2 + rate Z^3 / 6.
Shapes: L lanes, S points of each, N those of all lanes, K parameters.
"""

import functools
import math
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from geometry.bezier import DEGREE
from geometry.ground_plane import GroundPlane, PinholeCamera, distance_ahead, rays_ahead

PITCH, ROLL, SCALE, CLIMB, SLOPE, CURVATURE, RATE = range(7)  # parameters; then u of each lane. SCALE: log of height
SHARED = 7
ROUNDS = 12
UNKNOWN = 1e4  # standard deviation of what nothing is known of
CONVERGED = 1e-4  # standard deviations by which a round moves a parameter
HORIZON_MARGIN = 0.01  # slope below the horizon from which points count: 100 times the height ahead
LEAST_AHEAD = 0.05  # of a ray's length: beyond it the ray points to the side
STEPS = (1e-6, 1e-6, 1e-6, 1e-8)  # of the parameters whose derivatives are taken numerically


class Estimate(NamedTuple):
    """A value and its standard deviation."""

    value: float
    std: float


class RoadPrior(NamedTuple):
    """What is known before lanes are seen; `pitch` None: nothing is."""

    height: float
    pitch: Estimate | None = None
    roll: Estimate = Estimate(0.0, math.radians(0.3))
    yaw: float = 0.0
    height_share: float = 0.01  # standard deviation of the height, as a share of it
    climb: float = 1e-4  # standard deviations around 0, in powers of 1 / metres
    slope: float = 0.3
    curvature: float = 0.01
    rate: float = 3e-5


class PointNoise(NamedTuple):
    """How exact the points of a lane are."""

    std_px: float  # across the lane
    std_m: float = 0.0  # the same, in metres: near the camera a lane is wide
    row_px: float = 0.0  # height of the rows that it is known in: farther away than the last one it goes straight on
    independent: float = 2.0  # of the points of a lane: their errors go together
    outlier: float = 3.0  # standard deviations from which a point counts less


class RoadFit(NamedTuple):
    """The parameters (K), their covariance (K, K), and the ground."""

    parameters: np.ndarray
    covariance: np.ndarray
    ground: GroundPlane
    misfit: float  # root mean square of the residuals, in standard deviations of a point

    @property
    def offsets(self) -> np.ndarray:
        """(L) u of each line: metres to the right of the camera, level with it."""
        return self.parameters[SHARED:]

    @property
    def offset_stds(self) -> np.ndarray:
        """(L) standard deviations of those; large for a line of which nothing is known."""
        return np.sqrt(np.diag(self.covariance)[SHARED:])

    def estimate(self, weights: np.ndarray) -> Estimate:
        """Value and standard deviation of a weighted sum of the parameters, weights (K)."""
        return Estimate(float(weights @ self.parameters), math.sqrt(max(0.0, weights @ self.covariance @ weights)))

    def offset(self, weights: Sequence[float]) -> Estimate:
        """A weighted sum of the lines' u, weights (L)."""
        return self.estimate(np.concatenate((np.zeros(SHARED), weights)))

    def curvature(self, ahead: float) -> Estimate:
        """The curvature of the road so many metres ahead, positive to the right."""
        return self.estimate(self._unit(CURVATURE) + ahead * self._unit(RATE))

    def single(self, parameter: int) -> Estimate:
        """One of the shared parameters."""
        return self.estimate(self._unit(parameter))

    def _unit(self, parameter: int) -> np.ndarray:
        return np.eye(len(self.parameters))[parameter]


def parallel_pitch(slopes: Sequence[np.ndarray]) -> float | None:
    """The pitch at which lanes are parallel on a flat road; None where no two of them come together far away.

    slopes: of each lane (S, 2) as `PinholeCamera.slopes`, far to near. On a flat road the width between two lines is
    linear in the row, bends or not, and vanishes at the horizon. The result is the median over all pairs.
    """
    horizons = []
    whole = [lane[np.isfinite(lane).all(1)] for lane in slopes]
    for a, b in combinations([lane for lane in whole if len(lane) > 1], 2):
        top, bottom = max(a[0, 1], b[0, 1]), min(a[-1, 1], b[-1, 1])
        if bottom - top < 0.02:
            continue
        rows = np.linspace(top, bottom, 16)
        width = np.abs(np.interp(rows, b[:, 1], b[:, 0]) - np.interp(rows, a[:, 1], a[:, 0]))
        growth, start = np.polyfit(rows, width, 1)
        if growth > 0.1:
            horizons.append(-start / growth)
    return -math.atan(float(np.median(horizons))) if horizons else None


def _first_pitch(slopes: Sequence[np.ndarray], prior: RoadPrior) -> float | None:
    """`parallel_pitch` of a camera that is also rolled and turned.

    Straight lines need the roll undone alone: turned, the horizon stays the same row. Bends need the yaw undone, too,
    which takes the pitch.
    """
    pitch = 0.0
    for yaw in (0.0, prior.yaw):
        rays = [rays_ahead(lane, pitch, prior.roll.value, yaw) for lane in slopes]
        change = parallel_pitch([ray[:, :2] / ray[:, 2:] for ray in (ray[ray[:, 2] > LEAST_AHEAD] for ray in rays)])
        if change is None:
            return pitch or None
        pitch += change
    return pitch


def fit_road(camera: PinholeCamera, lanes: Sequence[np.ndarray], prior: RoadPrior, noise: PointNoise,
             noise_scale: np.ndarray, farthest: float) -> RoadFit | None:
    """The road that lanes show, each (S, 2) pixels far to near; None where they show none.

    That is where the pitch is unknown, and no two lanes tell it, or where no lane lies below the horizon. The points of
    a lane are on equally spaced rows of a curve of geometry/bezier.py. A bend that nears the horizon is a hyperbola,
    which a quintic follows to some pixels only: what no quintic can follow is not held against the road.
    noise_scale (L) times the noise is that of each lane. Points farther than `farthest` metres are left out.
    """
    slopes = [camera.slopes(lane) for lane in lanes]
    pitch_prior = prior.pitch or Estimate(0.0, 1.0)
    pitch = _first_pitch(slopes, prior) if prior.pitch is None else pitch_prior.value
    if pitch is None:
        return None
    points = _Points(camera, lanes, slopes)
    points.keep_nearer(farthest, pitch, prior)
    if not len(points.slopes):
        return None
    means = np.zeros(SHARED + len(lanes))
    means[[PITCH, ROLL, SCALE]] = pitch_prior.value, prior.roll.value, math.log(prior.height)
    stds = np.array([pitch_prior.std, prior.roll.std, prior.height_share, prior.climb, prior.slope, prior.curvature,
                     prior.rate, *[UNKNOWN] * len(lanes)])
    at = means.copy()
    at[PITCH] = pitch
    for _ in range(ROUNDS):
        std = points.std(noise, noise_scale, at, prior.yaw)
        residual, jacobian = points.linearized(at, prior.yaw)
        weights = points.share * noise.independent / std**2 / (1 + (residual / (noise.outlier * std)) ** 2)
        normal = jacobian.T @ (jacobian * weights[:, None]) + np.diag(stds**-2.0)
        covariance = np.linalg.inv(normal)
        step = -covariance @ (jacobian.T @ (weights * residual) + (at - means) / stds**2)
        at = at + step
        if (np.abs(step) < CONVERGED * np.sqrt(np.diag(covariance))).all():
            break
    if not np.isfinite(at).all():
        return None
    misfit = math.sqrt(float(np.average((residual / std) ** 2, weights=weights * std**2)))
    ground = GroundPlane(camera, math.exp(at[SCALE]), float(at[PITCH]), float(at[ROLL]), prior.yaw, float(at[CLIMB]))
    return RoadFit(at, covariance * max(1.0, misfit) ** 2, ground, misfit)


class _Points:
    """The points of all lanes, and what they say about parameters."""

    def __init__(self, camera: PinholeCamera, lanes: Sequence[np.ndarray], slopes: Sequence[np.ndarray]):
        counts = [len(lane) for lane in lanes]
        self.slopes = np.concatenate(slopes)  # (N, 2)
        self.lane = np.repeat(np.eye(len(lanes)), counts, axis=0)  # (N, L) one-hot
        steps = [np.gradient(lane, axis=0) for lane in lanes]
        self.focal = camera.fx
        lean = [np.abs(step[:, 1]) / np.maximum(np.hypot(*step.T), 1e-9) for step in steps]
        self.cosine = np.concatenate(lean)  # (N) of the angle to the vertical
        self.share = np.repeat(1 / np.array(counts), counts)  # (N) of its lane

    def keep_nearer(self, farthest: float, pitch: float, prior: RoadPrior) -> None:
        """Leave out points that are farther away, or near the horizon of a flat road."""
        _, down, ahead = rays_ahead(self.slopes, pitch, prior.roll.value, prior.yaw).T
        near = (ahead > 0) & (down > max(HORIZON_MARGIN, prior.height / farthest) * ahead)
        self.slopes, self.lane, self.cosine, self.share = (
            part[near] for part in (self.slopes, self.lane, self.cosine, self.share))
        self.project = np.zeros((len(self.lane), len(self.lane)))  # (N, N): across lanes, of what quintics can follow
        start = 0
        for count in self.lane.sum(0).astype(int).tolist():
            rows = slice(start, start + count)
            self.project[rows, rows] = quintic_projection(count) * self.cosine[rows, None] * self.focal
            start += count

    def std(self, noise: PointNoise, scale: np.ndarray, at: np.ndarray, yaw: float) -> np.ndarray:
        """(N) standard deviations in pixels across the lane.

        Far away a bend turns much within one row: a lane that goes straight on for half of it is off by x'' row^2 / 8.
        """
        _, z = self._residual(at, yaw)
        turn = (at[CURVATURE] + z * at[RATE]) * z**3 / (self.focal * math.exp(2 * at[SCALE]))  # x'' of the image
        off = turn * noise.row_px**2 / 8
        return np.hypot((self.lane @ scale) * np.hypot(noise.std_px, noise.std_m * self.focal * self.cosine / z),
                        self.cosine * off)

    def linearized(self, at: np.ndarray, yaw: float) -> tuple[np.ndarray, np.ndarray]:
        """How many pixels each point is off across its lane, (N), and the derivatives of that, (N, K)."""
        residual, z = self._residual(at, yaw)
        jacobian = np.empty((len(residual), len(at)))
        for parameter, step in enumerate(STEPS):
            moved = at.copy()
            moved[parameter] += step
            jacobian[:, parameter] = (self._residual(moved, yaw)[0] - residual) / step
        jacobian[:, SLOPE:SHARED] = -np.stack((np.ones(len(z)), z / 2, z * z / 6), axis=-1)
        jacobian[:, SHARED:] = -self.lane / z[:, None]
        return self.project @ residual, self.project @ jacobian

    def _residual(self, at: np.ndarray, yaw: float) -> tuple[np.ndarray, np.ndarray]:
        """How far off each point is, as a slope of its ray to the right, and the distance ahead, (N) each."""
        right, down, ahead = rays_ahead(self.slopes, at[PITCH], at[ROLL], yaw).T
        height, climb = math.exp(at[SCALE]), at[CLIMB]
        slope = np.maximum(down / ahead, math.sqrt(2 * max(0.0, -climb) * height) + HORIZON_MARGIN / 4)
        z = distance_ahead(slope, height, climb)
        line = self.lane @ at[SHARED:] + z * (at[SLOPE] + z * (at[CURVATURE] / 2 + z * at[RATE] / 6))
        return right / ahead - line / z, z


@functools.cache
def quintic_projection(count: int) -> np.ndarray:
    """(S, S) from values at so many equally spaced rows to those of the nearest quintic."""
    basis, _ = np.linalg.qr(np.vander(np.linspace(-1, 1, count), DEGREE + 1, increasing=True))
    return basis @ basis.T
