"""Lane curves: quintic Béziers in one canonical form, as pure functions.

Shapes: P control points (6), S samples, R rows, L lanes, N points of all lanes, 2 = (x, y); `...` is any batch.
x grows to the right, y downwards, both in [0, 1] of the image. P0 is the far (upper) end, P5 the near one.

Canonical form: y is linear in t, that is, the control points are equally spaced in y. A lane then has one set of
control points and no other, and x at row y needs no root finding. With a free parametrisation the same lane has many
sets, and regression learns their average.
"""

import functools
import math

import numpy as np
import torch
from torch import Tensor

from geometry.polyline import first_points, lane_of_points, smooth_rows

DEGREE = 5
CONTROL_POINTS = DEGREE + 1
FIT_TOLERANCE = 8 / 1280  # of the image's width: how far off a point may be
FIT_STEP = 0.01  # of the image's height: of points nearer to each other the difference is how they were clicked
FIT_ROWS = 32  # rows of the line between the points
POINTS_WEIGHT = 0.5  # of all points of a lane, where those rows weigh 1
FIT_BLOCK = 2**15  # points that are fitted together at most, or a single lane: 10 MB
FIT_CLOSE = 0.2 / 1280  # so near to the smooth line a curve can be told from it by its points alone
FIT_EXPENSE = 1 / 1280  # of the image's width: how much more it may be off in the mean for that
FIT_SWING = 64 / 1280  # how far from the smooth line a curve may go to come nearer to its points
FIT_OVERSHOOT = 0.2  # how far beyond the sides of its points, as a share of their width, for the same
LAWSON_ROUNDS = 16


def bernstein(t: Tensor, degree: int = DEGREE) -> Tensor:
    """Bernstein basis at t (...), as (..., degree + 1): C(n, k) t^k (1 - t)^(n - k)."""
    k = torch.arange(degree + 1, device=t.device, dtype=t.dtype)
    t = t.unsqueeze(-1)
    return _binomials(degree, t.device, t.dtype) * t**k * (1 - t) ** (degree - k)


@functools.cache  # none is ever dropped: a CUDA graph reads it where it lies
def _binomials(degree: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """C(degree, k) as (degree + 1); cached, since a copy from the CPU makes a GPU wait."""
    with torch.inference_mode(False):  # as in sample_basis
        return torch.tensor([math.comb(degree, k) for k in range(degree + 1)], device=device, dtype=dtype)


@functools.cache  # none is ever dropped: a CUDA graph reads it where it lies
def sample_basis(samples: int, device: torch.device | None = None) -> Tensor:
    """Basis (S, P) at `samples` equally spaced t in [0, 1]."""
    with torch.inference_mode(False):  # a tensor made in inference mode could not be trained with later
        return bernstein(torch.linspace(0, 1, samples)).to(device)


@functools.cache  # none is ever dropped: a CUDA graph reads it where it lies
def fit_matrix(samples: int, device: torch.device | None = None) -> Tensor:
    """Least-squares matrix (P, S) from values at `samples` equally spaced t to control values."""
    with torch.inference_mode(False):  # as in sample_basis
        return torch.linalg.pinv(bernstein(torch.linspace(0, 1, samples, dtype=torch.float64))).float().to(device)


@functools.cache  # none is ever dropped: a CUDA graph reads it where it lies
def unit_steps(count: int, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """(count) equally spaced numbers from 0 to 1."""
    with torch.inference_mode(False):  # as in sample_basis
        return torch.linspace(0, 1, count, device=device, dtype=dtype)


def sample_curve(control: Tensor, samples: int) -> Tensor:
    """Points (..., S, 2) at equally spaced t on the curves control (..., P, 2)."""
    return sample_basis(samples, control.device).to(control.dtype) @ control


def x_at_rows(control: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """x (..., R) and t (..., R) of canonical curves control (..., P, 2) at rows (R) in [0, 1].

    A row lies on the curve where 0 <= t <= 1. Beyond its ends a curve continues along its end tangents, since an
    extrapolated quintic can go anywhere.
    """
    y_far, y_near = control[..., 0, 1, None], control[..., -1, 1, None]
    t = (rows - y_far) / (y_near - y_far).clamp(min=1e-6)
    inside = t.clamp(0, 1)
    x = control[..., 0]
    on_curve = (bernstein(inside) * x.unsqueeze(-2)).sum(-1)
    far_slope, near_slope = DEGREE * (x[..., 1:2] - x[..., :1]), DEGREE * (x[..., -1:] - x[..., -2:-1])
    return on_curve + torch.where(t < 0, far_slope, near_slope) * (t - inside), t


def control_points_from_x(x: Tensor, y_far: Tensor, y_near: Tensor) -> Tensor:
    """Canonical control points (..., P, 2) from their x (..., P) and the y of both ends, y_far and y_near (...)."""
    fraction = unit_steps(CONTROL_POINTS, x.device, x.dtype)
    y = y_far.unsqueeze(-1) + (y_near - y_far).unsqueeze(-1) * fraction
    return torch.stack((x, y), dim=-1)


def fit_bezier(points: Tensor) -> Tensor:
    """Canonical control points (P, 2) of the curve that stands for one polyline (N, 2), as `fit_polylines`."""
    control, _ = fit_polylines(points.double().numpy(), np.array([len(points)]))
    return torch.from_numpy(control[0]).float()


def fit_polylines(points: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Canonical control points (L, P, 2) of the curves through L polylines, and how far in x each point is off, (N).

    points (N, 2) are those of all polylines end to end, each in any order; counts (L) how many each has. A curve is
    fitted to its points and, where they are far apart, to rows of a smooth line through them, since points alone leave
    a quintic free to swing out there. Where one of its points is off by more than FIT_TOLERANCE, and a curve is
    found that is nearer than that to all of them, the result is this one.
    Raises ValueError for a polyline of fewer than two points or without height.
    """
    if (counts < 2).any():
        raise ValueError(f"a lane needs two points on different rows, found {counts.min()} point(s)")
    order = np.lexsort((points[:, 1], lane_of_points(counts)))
    control, off = np.empty((len(counts), CONTROL_POINTS, 2)), np.empty(len(points))
    stops = np.cumsum(counts)
    block = stops // FIT_BLOCK
    for lanes in np.split(np.arange(len(counts)), np.flatnonzero(np.diff(block)) + 1) if len(counts) else ():
        part = order[stops[lanes[0]] - counts[lanes[0]]:stops[lanes[-1]]]
        control[lanes], off[part] = _fit(_Polylines(points[part].astype(float), counts[lanes]))
    return control, off


class _Polylines:
    """Polylines that are fitted together, each from the far end to the near one."""

    def __init__(self, points: np.ndarray, counts: np.ndarray):
        self.points, self.counts = points, counts
        self.lane, self.starts = lane_of_points(counts), first_points(counts)
        self.ends = points[np.stack((self.starts, self.starts + counts - 1)), 1]  # (2, L) y of both
        height = self.ends[1] - self.ends[0]
        if (height < 1e-6).any():
            raise ValueError(f"a lane needs two points on different rows, found {counts[height.argmin()]} point(s)")
        self.x, self.t = points[:, 0], (points[:, 1] - self.ends[0, self.lane]) / height[self.lane]
        rows = np.linspace(0, 1, FIT_ROWS)
        self.basis, self.row_basis = _quintic_basis(self.t), _quintic_basis(rows)  # (N, P), (S, P)
        self.smooth_x, gap = smooth_rows(self.t, self.x, counts, FIT_STEP / height, rows)  # (L, S) each
        self.row_weights = (gap * (FIT_ROWS - 1) - 1.5).clip(0, 1)  # 0 where points are as dense as rows
        self.weights = (POINTS_WEIGHT * FIT_ROWS / counts)[self.lane]

    def least_squares(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """x (L, P) of the control points by weights (N), and how far each point is off, (N)."""
        weighted = self.basis * weights[:, None]
        normal = np.add.reduceat(weighted[:, :, None] * self.basis[:, None, :], self.starts)
        normal += np.tensordot(self.row_weights, self.row_basis[:, :, None] * self.row_basis[:, None, :], 1)
        moment = np.add.reduceat(weighted * self.x[:, None], self.starts)
        moment += (self.row_weights * self.smooth_x) @ self.row_basis
        x = np.linalg.solve(normal, moment[..., None])[..., 0]
        return x, np.abs((self.basis * x[self.lane]).sum(1) - self.x)

    def swing(self, x: np.ndarray) -> np.ndarray:
        """How far (L) curves x (L, P) go from the smooth line between the points."""
        return np.abs(x @ self.row_basis.T - self.smooth_x).max(1)

    def overshoot(self, x: np.ndarray) -> np.ndarray:
        """How far (L) curves x (L, P) leave the range of x that the smooth line has, as a share of its width."""
        low, high, rows = self.smooth_x.min(1), self.smooth_x.max(1), x @ self.row_basis.T
        return np.maximum(low - rows.min(1), rows.max(1) - high) / np.maximum(high - low, 1e-9)

    def worst(self, off: np.ndarray) -> np.ndarray:
        """The largest (L) of values off (N)."""
        return np.maximum.reduceat(off, self.starts)

    def mean(self, off: np.ndarray) -> np.ndarray:
        """The mean (L) of values off (N)."""
        return np.add.reduceat(off, self.starts) / self.counts

    def with_x(self, x: np.ndarray) -> "_Polylines":
        """With other x (N) at the same rows."""
        return _Polylines(np.stack((x, self.points[:, 1]), axis=1), self.counts)

    def take(self, lanes: np.ndarray) -> "_Polylines":
        """Those of a mask (L)."""
        return _Polylines(self.points[lanes[self.lane]], self.counts[lanes])


def _fit(lines: _Polylines) -> tuple[np.ndarray, np.ndarray]:
    """Control points (L, P, 2), and how far each point is off, (N)."""
    x, off = lines.least_squares(lines.weights)
    close = lines.row_weights.any(1) & (lines.swing(x) <= FIT_CLOSE)
    if close.any():
        x[close], off[close[lines.lane]] = _refined(lines.take(close), x[close])
    poor = lines.worst(off) > FIT_TOLERANCE
    if poor.any():
        x[poor], off[poor[lines.lane]] = _levelled(lines.take(poor), x[poor], off[poor[lines.lane]])
    y = np.linspace(*lines.ends, CONTROL_POINTS, axis=1)
    return np.stack((x, y), axis=-1), off


def _refined(lines: _Polylines, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x and off of curves x (L, P) that are almost right, once more fitted to what they leave at the points."""
    left = lines.with_x(lines.x - (lines.basis * x[lines.lane]).sum(1))
    change, off = left.least_squares(left.weights)
    return x + change, off


def _levelled(lines: _Polylines, x: np.ndarray, off: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x and off as they are, or of curves that are off by FIT_TOLERANCE at most where such are found.

    Points that are far off gain weight: Lawson, Contributions to the theory of linear least maximum approximation,
    1961. Of other lanes the least squares stay, which are right for most of their points.
    """
    x, off, weights, tried = x.copy(), off.copy(), 4 * lines.weights, off
    mean = lines.mean(off)
    swing, overshoot = np.maximum(lines.swing(x), FIT_SWING), np.maximum(lines.overshoot(x), FIT_OVERSHOOT)
    for _ in range(LAWSON_ROUNDS):
        weights = weights * (0.7 + tried / lines.worst(tried)[lines.lane])
        tried_x, tried = lines.least_squares(weights)
        better = (lines.worst(tried) <= FIT_TOLERANCE) & (lines.worst(off) > FIT_TOLERANCE)
        better &= (lines.swing(tried_x) <= swing) & (lines.overshoot(tried_x) <= overshoot)
        better &= (lines.mean(tried) <= mean + FIT_EXPENSE)
        x[better], off = tried_x[better], np.where(better[lines.lane], tried, off)
    return x, off


def _quintic_basis(t: np.ndarray) -> np.ndarray:
    """`bernstein` of degree 5 in NumPy: (N, P) at t (N)."""
    s = 1 - t
    t2, s2 = t * t, s * s
    terms = s2 * s2 * s, 5 * t * s2 * s2, 10 * t2 * s2 * s, 10 * t2 * t * s2, 5 * t2 * t2 * s, t2 * t2 * t
    return np.stack(terms, axis=-1)


def refit_clipped(points: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Canonical curves (..., P, 2) through the inside part of sampled ones, and valid (...); batched, on any device.

    points (..., S, 2) run along each curve; inside (..., S) is True for those in the image. valid is False where fewer
    than two points are inside or where they have no height. y must be monotone along the curve, as it is for a lane
    rotated by less than its own slope, and the part inside must be one piece.
    """
    x, y = points.unbind(-1)
    inf = torch.inf
    y_far = torch.where(inside, y, inf).amin(-1)
    y_near = torch.where(inside, y, -inf).amax(-1)
    valid = (inside.sum(-1) >= 2) & (y_near - y_far > 0.02)
    y_far, y_near = torch.where(valid, y_far, 0.0), torch.where(valid, y_near, 1.0)
    samples = points.shape[-2]
    rows = torch.linspace(0, 1, samples, device=x.device, dtype=x.dtype)
    rows = y_far.unsqueeze(-1) + (y_near - y_far).unsqueeze(-1) * rows  # (..., S)
    right = (y.unsqueeze(-2) < rows.unsqueeze(-1)).sum(-1).clamp(1, samples - 1)  # first sample below each row
    y0, y1 = y.gather(-1, right - 1), y.gather(-1, right)
    x0, x1 = x.gather(-1, right - 1), x.gather(-1, right)
    weight = ((rows - y0) / (y1 - y0).clamp(min=1e-6)).clamp(0, 1)
    control_x = (x0 + (x1 - x0) * weight) @ fit_matrix(samples, x.device).to(x.dtype).T
    return control_points_from_x(control_x, y_far, y_near), valid
