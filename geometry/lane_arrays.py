"""Lane curves in NumPy, for programs that handle a few of them at a time: PyTorch takes several times as long.

Shapes: N, K curves, P = 6 control points, R rows. A curve is canonical, as in geometry/bezier.py: the x of its control
points (N, P) and the y of its far and its near end, ends (N, 2), all in [0, 1].
"""

import math

import numpy as np

from geometry.bezier import CONTROL_POINTS, DEGREE

MIN_GAP = 0.015  # of the image width: lanes nearer to each other are one line twice
FAR = 9.0  # a distance beyond any other
POWER_BASIS = np.array([[math.comb(DEGREE, i) * math.comb(i, k) * (-1) ** (i - k) if k <= i else 0
                         for i in range(CONTROL_POINTS)] for k in range(CONTROL_POINTS)], float)  # (P, coefficient)


def x_at(x: np.ndarray, ends: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x (N, R) of curves at rows (R) or (N, R), and which of these rows are on the curve.

    As geometry.bezier.x_at_rows: straight beyond the ends.
    """
    t = (rows - ends[:, :1]) / np.maximum(ends[:, 1:] - ends[:, :1], 1e-6)
    inside = np.minimum(np.maximum(t, 0), 1)
    coefficients = (x @ POWER_BASIS)[..., None]  # (N, P, 1)
    curve = coefficients[:, -1]
    for power in range(DEGREE - 1, -1, -1):
        curve = curve * inside + coefficients[:, power]
    beyond = t - inside
    slopes = np.where(beyond < 0, x[:, 1:2] - x[:, :1], x[:, -1:] - x[:, -2:-1])
    return curve + DEGREE * slopes * beyond, beyond == 0


def bottom_x_by_tangent(x: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """x (N) at the bottom edge of curves with control x (N, P) and ends (N, 2), along their near ends."""
    return x[:, -1] + DEGREE * (x[:, -1] - x[:, -2]) * (1 - ends[:, 1]) / np.maximum(ends[:, 1] - ends[:, 0], 1e-6)


def gaps(rows: np.ndarray, on: np.ndarray) -> np.ndarray:
    """(N, N) mean distances in x of curves (N, R) from each other over the rows that both are on; FAR below two."""
    both = on[:, None] & on
    count = both.sum(2)
    total = np.einsum("ijr,ijr->ij", np.abs(rows[:, None] - rows), both)
    return np.where(count >= 2, total / np.maximum(count, 1), FAR)


def close_pairs(distance: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of curves that are one line twice, the first position before the second."""
    rows, columns = np.nonzero(distance < MIN_GAP)
    return [(a, b) for a, b in zip(rows.tolist(), columns.tolist(), strict=True) if a < b]


def without_duplicates(distance: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """Positions of the lanes to keep: of two on one line the more confident."""
    gone = set()
    for a, b in close_pairs(distance):
        if a not in gone and b not in gone:
            gone.add(a if confidence[b] > confidence[a] else b)
    return np.array([i for i in range(len(confidence)) if i not in gone], int)


def nearest_pairs(distance: np.ndarray, limit: float) -> list[tuple[int, int]]:
    """One-to-one (row, column) pairs of a matrix (N, K), the nearest first, none farther apart than `limit`."""
    rows, columns = np.nonzero(distance <= limit)
    order = np.argsort(distance[rows, columns], kind="stable")
    used_rows, used_columns, pairs = set(), set(), []
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row not in used_rows and column not in used_columns:
            pairs.append((row, column))
            used_rows.add(row)
            used_columns.add(column)
    return pairs
