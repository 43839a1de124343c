"""The layout of a rendered road: lanes, painted lines, edges.

Legend: u metres to the right of the camera's path, z metres ahead.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np


@dataclass(frozen=True)
class LaneLine:
    """A painted line at u(z) = offset + shift * smoothstep((z - shift_start) / shift_length)."""

    offset: float
    kind: str = "solid"  # solid, dashed, double, mixed (solid beside dashed), dots
    color: str = "white"
    width: float = 0.12
    strength: float = 0.9  # opacity of the paint
    dash: float = 3.0
    period: float = 12.0
    phase: float = 0.0
    shift: float = 0.0
    shift_start: float = 30.0
    shift_length: float = 60.0

    def u(self, z):
        t = np.clip((np.asarray(z) - self.shift_start) / self.shift_length, 0, 1)
        return self.offset + self.shift * t * t * (3 - 2 * t)


@dataclass(frozen=True)
class Road:
    lines: tuple[LaneLine, ...]
    borders: tuple[float, ...]  # u of the lanes' borders, left to right, painted or not
    left: float  # u of the pavement's edges
    right: float
    wear: float = 0.0  # 0 fresh paint, 0.7 patches of it

    @property
    def lane_centers(self) -> list[float]:
        return [(a + b) / 2 for a, b in pairwise(self.borders)]


def sample_road(rng: np.random.Generator, painted: bool = True) -> Road:
    """A carriageway around the camera: TuSimple's counts of lines, mostly 3 or 4, with CULane's 1 and 2.

    Five at most, since of more than that annotators leave out one, and nothing in an image says which.
    """
    count = int(rng.choice([1, 2, 3, 4, 5], p=[0.02, 0.1, 0.32, 0.36, 0.2]))
    lanes = max(count - 1, 1)
    lane_width = float(np.clip(rng.normal(3.5, 0.25), 2.7, 3.95))
    widths = lane_width * rng.normal(1, 0.025, lanes)
    middle = (lanes - 1) / 2
    weights = np.exp(-1.6 * np.abs(np.arange(lanes) - middle))
    own = int(rng.choice(lanes, p=weights / weights.sum()))
    # the labels put the camera at 0.46 of its lane, give or take 0.1; lane changes put it anywhere
    place = rng.uniform(0, 1) if rng.random() < 0.08 else np.clip(rng.normal(0.47, 0.09), 0.15, 0.85)
    borders = np.concatenate([[0], np.cumsum(widths)])
    borders = borders - borders[own] - place * widths[own]
    shoulders = rng.uniform(0.15, 3.5, 2)
    kept = range(len(borders))
    if count == 1:
        kept = [int(rng.integers(2))]
    lines = _paint_lines(rng, borders)
    return Road(
        lines=tuple(lines[i] for i in kept) if painted else (),
        borders=tuple(float(b) for b in borders),
        left=float(borders[0] - shoulders[0]),
        right=float(borders[-1] + shoulders[1]),
        wear=float(rng.choice([0.0, rng.uniform(0, 0.65)])),
    )


def _paint_lines(rng: np.random.Generator, borders: np.ndarray) -> list[LaneLine]:
    """One LaneLine a border: edges mostly solid, the left one often yellow, lines between mostly broken."""
    convention = [(3.0, 12.2), (3.7, 14.6), (3.7, 14.6), (6.0, 15.0), (6.0, 18.0), (4.0, 10.0), (2.0, 6.0)]
    dash, period = convention[rng.integers(len(convention))]  # US, California, Europe, China, towns
    between = rng.choice(["dashed", "dots", "solid"], p=[0.7, 0.2, 0.1])
    low, high = rng.choice([(0.75, 1.0), (0.35, 0.75), (0.2, 0.35)], p=[0.5, 0.35, 0.15])
    strength = rng.uniform(low, high)
    yellow_left = rng.random() < 0.45
    phase = rng.uniform(0, period)
    lines = []
    for i, border in enumerate(borders):
        first, last = i == 0, i == len(borders) - 1
        if first or last:
            kind = rng.choice(["solid", "dashed", "double", "mixed"], p=[0.82, 0.1, 0.06, 0.02])
        else:
            other = rng.choice(["solid", "dashed", "double", "mixed", "dots"])
            kind = between if rng.random() < 0.8 else other
        taper = 0.0
        if (first or last) and rng.random() < 0.1:  # exits, samples, lanes that begin or end
            taper = rng.uniform(0.5, 4) * (1 if last else -1) * rng.choice([1, 1, -0.4])
        lines.append(
            LaneLine(
                offset=float(border + rng.normal(0, 0.04)),
                kind=str(kind),
                color="yellow" if (first and yellow_left) or rng.random() < 0.03 else "white",
                width=float(rng.uniform(0.09, 0.2) * (1.3 if kind == "solid" and rng.random() < 0.2 else 1)),
                strength=float(np.clip(strength * rng.uniform(0.7, 1.15), 0.18, 1)),
                dash=dash,
                period=period,
                phase=float(phase if rng.random() < 0.6 else rng.uniform(0, period)),
                shift=float(taper),
                shift_start=float(rng.uniform(5, 60)),
                shift_length=float(rng.uniform(40, 120)),
            )
        )
    return lines
