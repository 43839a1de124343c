"""Fitting quintic Béziers in the canonical form of geometry/bezier.py to polylines: many at once, in NumPy alone.

Shapes: P control points (6), S rows of a lane, L lanes, N points of all lanes, 2 = (x, y) in [0, 1] of the image.
Without PyTorch, so that processes that only read images and labels start fast.
"""

import numpy as np

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
