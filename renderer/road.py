"""The layout of a rendered road: lanes, painted lines, edges.

Legend: u metres to the right of the camera's path, z metres ahead.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

DASHES_M = (  # length of a dash, and from the start of one to the next: US, California, Europe, China, towns
    (3.0, 12.2), (3.7, 14.6), (3.7, 14.6), (6.0, 15.0), (6.0, 18.0), (4.0, 10.0), (2.0, 6.0),
)

JUNCTIONS = 0.05  # of the streets: asphalt without lines, and crosswalks
PLACES = {"motorway": 0.5, "town": 0.38, "country": 0.12}  # and their shares of the scenes


@dataclass(frozen=True)
class LaneLine:
    """A painted line at u(z) = offset + shift * smoothstep((z - shift_start) / shift_length); lengths in metres."""

    offset: float
    kind: str = "solid"  # solid, dashed, double, mixed (solid beside dashed), dots
    color: str = "white"  # white, yellow, or stone: the kerb of a street, which is labelled where nothing is painted
    width: float = 0.12
    opacity: float = 0.9  # of the paint
    dash_length: float = 3.0
    dash_period: float = 12.0
    dash_phase: float = 0.0
    shift: float = 0.0
    shift_start: float = 30.0
    shift_length: float = 60.0

    def u(self, z) -> np.ndarray:
        """u of the line's middle at distances z of any shape."""
        t = np.clip((np.asarray(z) - self.shift_start) / self.shift_length, 0, 1)
        return self.offset + self.shift * t * t * (3 - 2 * t)


@dataclass(frozen=True)
class Road:
    """A carriageway: its lane lines and borders from left to right, in metres."""

    lines: tuple[LaneLine, ...]
    borders: tuple[float, ...]  # u of the lanes' borders, painted or not
    left_edge: float  # u of the pavement's edges
    right_edge: float
    wear: float = 0.0  # 0 fresh paint, 0.7 patches of it
    place: str = "motorway"  # one of PLACES

    @property
    def lane_centers(self) -> list[float]:
        """u of each lane's middle."""
        return [(a + b) / 2 for a, b in pairwise(self.borders)]


def sample_road(rng: np.random.Generator, painted: bool = True, place: str = "motorway") -> Road:
    """A carriageway around the camera, in one of PLACES."""
    return {"motorway": _sample_motorway, "town": _sample_street, "country": _sample_country_road}[place](rng, painted)


def _sample_motorway(rng: np.random.Generator, painted: bool) -> Road:
    """TuSimple's counts of lines, mostly 3 or 4, with CULane's 1 and 2.

    Five at most, since of more than that annotators leave out one, and nothing in an image shows which.
    """
    count = int(rng.choice([1, 2, 3, 4, 5], p=[0.02, 0.1, 0.32, 0.36, 0.2]))
    lanes = max(count - 1, 1)
    lane_width = float(np.clip(rng.normal(3.5, 0.25), 2.7, 3.95))
    widths = lane_width * rng.normal(1, 0.025, lanes)
    middle = (lanes - 1) / 2
    weights = np.exp(-1.6 * np.abs(np.arange(lanes) - middle))
    ego_lane = int(rng.choice(lanes, p=weights / weights.sum()))
    # the labels put the camera at 0.46 of its lane, give or take 0.1; lane changes put it anywhere
    position = rng.uniform(0, 1) if rng.random() < 0.1 else np.clip(rng.normal(0.47, 0.09), 0.15, 0.85)
    borders = _borders_around(widths, ego_lane, position)
    shoulders = rng.uniform(0.15, 3.5, 2)
    painted_borders = range(len(borders))
    if count == 1:
        painted_borders = [int(rng.integers(2))]
    lines = _sample_lines(rng, borders)
    return _road(rng, [lines[i] for i in painted_borders], borders, shoulders, painted, "motorway")


def _sample_lines(rng: np.random.Generator, borders: np.ndarray) -> list[LaneLine]:
    """One LaneLine a border: edges mostly solid, the left one often yellow, lines between mostly broken."""
    dash_length, dash_period = DASHES_M[rng.integers(len(DASHES_M))]
    inner_kind = rng.choice(["dashed", "dots", "solid"], p=[0.7, 0.2, 0.1])
    low, high = rng.choice([(0.75, 1.0), (0.35, 0.75), (0.2, 0.35)], p=[0.4, 0.37, 0.23])
    opacity = rng.uniform(low, high)
    yellow_left = rng.random() < 0.45
    phase = rng.uniform(0, dash_period)
    lines = []
    for i, border in enumerate(borders):
        first, last = i == 0, i == len(borders) - 1
        if first or last:
            kind = rng.choice(["solid", "dashed", "double", "mixed"], p=[0.82, 0.1, 0.06, 0.02])
        else:
            other = rng.choice(["solid", "dashed", "double", "mixed", "dots"])
            kind = inner_kind if rng.random() < 0.8 else other
        shift = 0.0
        if (first or last) and rng.random() < 0.1:  # exits, slip roads, lanes that begin or end
            shift = rng.uniform(0.5, 4) * (1 if last else -1) * rng.choice([1, 1, -0.4])
        lines.append(
            LaneLine(
                offset=float(border + rng.normal(0, 0.04)),
                kind=str(kind),
                color="yellow" if (first and yellow_left) or rng.random() < 0.03 else "white",
                width=float(rng.uniform(0.09, 0.2) * (1.3 if kind == "solid" and rng.random() < 0.2 else 1)),
                opacity=float(np.clip(opacity * rng.uniform(0.7, 1.15), 0.18, 1)),
                dash_length=dash_length,
                dash_period=dash_period,
                dash_phase=float(phase if rng.random() < 0.6 else rng.uniform(0, dash_period)),
                shift=float(shift),
                shift_start=float(rng.uniform(5, 60)),
                shift_length=float(rng.uniform(40, 120)),
            )
        )
    return lines


def _sample_street(rng: np.random.Generator, painted: bool) -> Road:
    """A street of one to three lanes a direction, or one direction of it, between kerbs, parked cars or fences."""
    own = int(rng.choice([1, 2, 3], p=[0.35, 0.4, 0.25]))
    oncoming = int(rng.choice([0, 1, own], p=[0.45, 0.25, 0.3]))
    lane_width = float(np.clip(rng.normal(3.2, 0.25), 2.6, 3.8))
    ego_lane = oncoming + int(rng.integers(own))
    borders = _borders_around(lane_width * rng.normal(1, 0.03, own + oncoming), ego_lane, _position(rng, 0.15))
    lines = _sample_lines(rng, borders)
    color = rng.choice(["yellow", "white"], p=[0.7, 0.3])
    if oncoming:  # the middle of the street
        kind = str(rng.choice(["solid", "double", "dashed", "mixed"], p=[0.4, 0.3, 0.2, 0.1]))
        lines[oncoming] = replace(lines[oncoming], kind=kind, color=color)
    shoulders = [float(rng.choice([rng.uniform(0.05, 0.5), rng.uniform(1.5, 3.5)])) for _ in range(2)]
    for i in (0, -1):  # the edges of the carriageway
        lines[i] = replace(lines[i], shift=0.0)
        edge = rng.choice(["paint", "kerb", "none"], p=[0.5, 0.35, 0.15])
        if edge == "kerb":
            lines[i] = replace(lines[i], kind="solid", color="stone", width=float(rng.uniform(0.12, 0.35)),
                               opacity=float(rng.uniform(0.5, 1)))
            shoulders[i] = 0.1
        elif edge == "none":
            lines[i] = None
    if not painted or rng.random() < JUNCTIONS:
        shoulders = rng.uniform(2, 25, 2).tolist()
        painted = False
    return _road(rng, lines, borders, shoulders, painted, "town")


def _sample_country_road(rng: np.random.Generator, painted: bool) -> Road:
    """A lane a direction without a shoulder; a middle line, edge lines, both or one of them."""
    lane_width = float(np.clip(rng.normal(3.1, 0.3), 2.4, 3.8))
    borders = _borders_around(lane_width * rng.normal(1, 0.03, 2), 1, _position(rng, 0.12))
    lines = _sample_lines(rng, borders)
    kind = str(rng.choice(["dashed", "solid", "double", "mixed"], p=[0.5, 0.25, 0.15, 0.1]))
    lines[1] = replace(lines[1], kind=kind, color=rng.choice(["white", "yellow"], p=[0.65, 0.35]))
    present = rng.choice(["all", "middle", "edges"], p=[0.55, 0.3, 0.15])
    if present == "middle":
        lines[0] = lines[2] = None
    elif present == "edges":
        lines[1] = None
    shoulders = rng.uniform(0.05, 0.8, 2).tolist()
    return _road(rng, [line and replace(line, shift=0.0) for line in lines], borders, shoulders, painted, "country")


def _position(rng: np.random.Generator, stray: float) -> float:
    """Where in its lane the camera is, 0 to 1: near the middle, `stray` aside, or anywhere."""
    return rng.uniform(0, 1) if rng.random() < 0.2 else float(np.clip(rng.normal(0.49, stray), 0.1, 0.9))


def _borders_around(widths: np.ndarray, ego_lane: int, position: float) -> np.ndarray:
    """u of the lanes' borders, of a camera at that position of its lane."""
    borders = np.concatenate([[0], np.cumsum(widths)])
    return borders - borders[ego_lane] - position * widths[ego_lane]


def _road(rng: np.random.Generator, lines: list[LaneLine | None], borders: np.ndarray, shoulders: Sequence[float],
          painted: bool, place: str) -> Road:
    return Road(
        lines=tuple(line for line in lines if line) if painted else (),
        borders=tuple(float(b) for b in borders),
        left_edge=float(borders[0] - shoulders[0]),
        right_edge=float(borders[-1] + shoulders[-1]),
        wear=float(rng.choice([0.0, rng.uniform(0, 0.65)])),
        place=place,
    )
