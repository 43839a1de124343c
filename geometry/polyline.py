"""Polylines of many lanes at once: cut at the image border, how far they turn back, and smooth rows between points.

Shapes: L lanes, N points of all lanes end to end, lane (N) the number of each point's lane, ascending; S rows,
2 = (x, y) in [0, 1], x right and y down. Everything is float64 in NumPy, without a loop over lanes.
"""

import numpy as np

STEPS_PER_LANE = 8  # points are averaged over steps no coarser than this part of their lane's height


def lane_of_points(counts: np.ndarray) -> np.ndarray:
    """lane (N) of lanes with so many points each, counts (L)."""
    return np.repeat(np.arange(len(counts)), counts)


def first_points(counts: np.ndarray) -> np.ndarray:
    """The index (L) of each lane's first point; every lane has one."""
    return np.cumsum(counts) - counts


def inside_image(points: np.ndarray, lane: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The parts of polylines (N, 2) that lie in [0, 1], cut where they cross the border: points (M, 2), lane (M).

    Liang and Barsky, A new concept and method for line clipping, 1984.
    """
    segment = np.flatnonzero(lane[1:] == lane[:-1])
    start, end = points[segment], points[segment + 1]
    step = end - start
    with np.errstate(divide="ignore", invalid="ignore"):
        enters, leaves = np.sort(np.stack((-start / step, (1 - start) / step)), axis=0)  # (segments, 2) each
    level = step == 0  # runs along an axis: inside all the way or not at all
    outside = (level & ((start < 0) | (start > 1))).any(1)
    enters = np.where(level, 0, enters).max(1, initial=0)[:, None]
    leaves = np.where(level, 1, leaves).min(1, initial=1)[:, None]
    visible = (enters < leaves)[:, 0] & ~outside
    start, end = (np.where(cut, start + at * step, whole)
                  for cut, at, whole in ((enters > 0, enters, start), (leaves < 1, leaves, end)))
    ends = np.stack((start, end), axis=1)[visible].reshape(-1, 2)
    owner = np.repeat(lane[segment][visible], 2)
    distinct = np.ones(len(ends), bool)  # a segment begins where the one before it ended
    distinct[1:] = (np.abs(np.diff(ends, axis=0)) > 1e-6).any(1) | (np.diff(owner) > 0)
    return ends[distinct].clip(0, 1), owner[distinct]


def turned_back(y: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """How far (L) each lane runs against its own direction: 0 where y (N) in [0, 1] only grows, or only falls."""
    starts, apart = first_points(counts), 2.0 * lane_of_points(counts)  # each lane lies above those before it
    falls = [np.maximum.reduceat(np.maximum.accumulate(z) - z, starts) for z in (apart + y, apart + 1 - y)]
    return np.minimum(*falls)


def smooth_rows(t: np.ndarray, x: np.ndarray, counts: np.ndarray, step: np.ndarray, rows: np.ndarray
                ) -> tuple[np.ndarray, np.ndarray]:
    """x (L, S) at rows of each lane on a smooth line through its points, which swings out nowhere; and the gap in t,
    (L, S), between the points around each row.

    t (N) goes from 0 to 1 along each lane, ascending; rows (S) and step (L) are in the same units. Points nearer to
    each other than a step are averaged first, since the slope between two clicks on nearly the same row is all noise.
    Between points the line is PCHIP's monotone cubic: Fritsch and Butland, A method for constructing local monotone
    piecewise cubic interpolants, 1984.
    """
    lane, starts, lanes = lane_of_points(counts), first_points(counts)[:, None], len(counts)
    after = _points_until(t, lane, rows, lanes).clip(starts + 1, starts + counts[:, None] - 1)
    gap = t[after] - t[after - 1]
    knots = _knots(t, lane, np.minimum(step, 1 / STEPS_PER_LANE))
    sizes = np.diff(np.append(knots, len(t)))
    t, x, lane = np.add.reduceat(t, knots) / sizes, np.add.reduceat(x, knots) / sizes, lane[knots]  # of the K knots
    first, last = np.append(True, lane[1:] != lane[:-1]), np.append(lane[1:] != lane[:-1], True)
    width = np.where(last, 1, np.diff(t, append=0))  # (K) to the next knot
    slope = _slopes(np.diff(x, append=0) / width, width, first, last)
    first, last = np.flatnonzero(first)[:, None], np.flatnonzero(last)[:, None]
    i = (_points_until(t, lane, rows, lanes) - 1).clip(first, np.maximum(last - 1, first))  # (L, S) the knot before
    j, width = np.minimum(i + 1, last), width[i]
    share = (rows - t[i]) / width  # of the way from i to j; the line goes straight on beyond its ends
    a, b, rise, u = slope[i] * width, slope[j] * width, x[j] - x[i], share.clip(0, 1)
    cubic = x[i] + u * (a + u * (3 * rise - 2 * a - b + u * (a + b - 2 * rise)))
    return cubic + np.minimum(share, 0) * a + np.maximum(share - 1, 0) * b, gap


def _slopes(chord: np.ndarray, width: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """The slope (K) at each knot, from the chord to the next one; first and last mark the ends of lanes."""
    slope = np.zeros(len(chord))
    k = np.flatnonzero(~first & ~last)
    left, right = chord[k - 1], chord[k]
    k, left, right = (part[left * right > 0] for part in (k, left, right))  # elsewhere it turns: slope 0
    w_left, w_right = width[k - 1] + 2 * width[k], width[k] + 2 * width[k - 1]
    slope[k] = (w_left + w_right) / (w_left / left + w_right / right)
    start, end = np.flatnonzero(first & ~last), np.flatnonzero(last & ~first)
    slope[start] = np.where(last[start + 1], chord[start], 1.5 * chord[start] - 0.5 * slope[start + 1])  # no bend there
    slope[end] = np.where(first[end - 1], chord[end - 1], 1.5 * chord[end - 1] - 0.5 * slope[end - 1])
    return slope


def _points_until(t: np.ndarray, lane: np.ndarray, rows: np.ndarray, lanes: int) -> np.ndarray:
    """How many points (L, S) there are up to each row of each lane, those of the lanes before it among them."""
    keys = 2 * np.arange(lanes)[:, None] + rows
    return np.searchsorted(2 * lane + t, keys.ravel(), side="right").reshape(keys.shape)


def _knots(t: np.ndarray, lane: np.ndarray, step: np.ndarray) -> np.ndarray:
    """The first point of each group of points that lie in one step, or within half a step of the group before."""
    cell = (t / step[lane]).astype(int)
    knots = np.flatnonzero(np.append(True, (np.diff(cell) != 0) | (np.diff(lane) > 0)))
    at, owner = np.add.reduceat(t, knots) / np.diff(np.append(knots, len(t))), lane[knots]
    is_near = np.append(False, (np.diff(at) < step[owner[1:]] / 2) & (owner[1:] == owner[:-1]))
    is_near[1:] &= ~is_near[:-1]  # no chains
    return knots[~is_near]
