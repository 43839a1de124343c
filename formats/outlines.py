"""Two lines drawn along the edges of one painted line, joined to the one between them.

N points, 2 = (x, y) in pixels.
"""

from collections.abc import Hashable, Sequence

import numpy as np

EDGE_DISTANCE = 0.03  # mean distance of two edges, in widths of the image; neighboring lanes are much further apart
MAX_EDGE_DISTANCE = 0.06  # at any point
POINTS = 16  # of the shorter line, whose distance is measured


def join_outlines(lines: Sequence[tuple[Hashable, np.ndarray]], width_px: float) -> tuple[list[np.ndarray], int]:
    """Lanes (N, 2) of lines (kind, points), and how many lines were joined to another one.

    Lines of the same kind are paired, the closest first, each with one other at most.
    """
    lines = [(kind, points) for kind, points in lines if len(points)]
    pairs = []
    for i, (kind, a) in enumerate(lines):
        for j in range(i + 1, len(lines)):
            if lines[j][0] == kind:
                distances = side_distances(a, lines[j][1])
                if distances.mean() <= EDGE_DISTANCE * width_px and distances.max() <= MAX_EDGE_DISTANCE * width_px:
                    pairs.append((distances.mean(), i, j))
    partner: dict[int, int] = {}
    for _, i, j in sorted(pairs):
        if i not in partner and j not in partner:
            partner[i], partner[j] = j, i
    lanes = [points if i not in partner else center_line(points, lines[partner[i]][1])
             for i, (_, points) in enumerate(lines) if partner.get(i, i) >= i]
    return lanes, len(lines) - len(lanes)


def side_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(POINTS) distances of points along the shorter of two lines from the other one."""
    shorter, longer = sorted((a, b), key=lambda line: _lengths(line)[-1])
    points = _at(shorter, np.linspace(0, 1, POINTS))
    start, step = longer[:-1], np.diff(longer, axis=0)
    if not len(step):
        return np.linalg.norm(points - longer, axis=1)
    square = np.maximum((step ** 2).sum(1), 1e-9)
    along = (((points[:, None] - start) * step).sum(2) / square).clip(0, 1)  # (POINTS, segments)
    return np.linalg.norm(points[:, None] - (start + along[..., None] * step), axis=2).min(1)


def center_line(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, 2) float32, the mean of two lines at the same share of their lengths, whichever ends they begin at."""
    if np.linalg.norm(a[0] - b[0]) + np.linalg.norm(a[-1] - b[-1]) > (
            np.linalg.norm(a[0] - b[-1]) + np.linalg.norm(a[-1] - b[0])):
        b = b[::-1]
    shares = np.unique(np.concatenate([_lengths(line) / max(_lengths(line)[-1], 1e-9) for line in (a, b)]).round(6))
    return ((_at(a, shares) + _at(b, shares)) / 2).astype(np.float32)


def _lengths(line: np.ndarray) -> np.ndarray:
    """(N) length of a line from its first point to each of its points."""
    return np.append(0.0, np.linalg.norm(np.diff(line.astype(float), axis=0), axis=1).cumsum())


def _at(line: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """(M, 2) points at these shares of the length of a line."""
    lengths = _lengths(line)
    return np.stack([np.interp(shares * lengths[-1], lengths, line[:, axis]) for axis in (0, 1)], axis=1)
