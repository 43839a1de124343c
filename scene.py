"""One rendered road scene with its lane lines: camera, layout of the road, labels, order of drawing.

Legend: u metres to the right of the camera's path, z metres ahead, up metres above the road; x, y pixels.
A point of the road is (u, z): bends and hills are the View's, so a lane line is nearly a constant u.
"""

import copy
from dataclasses import dataclass, field, replace
from itertools import pairwise

import cv2
import numpy as np

import scene_clutter
import scene_effects
import scene_ground
import scene_labels

SAMPLES = 256  # points along the road: 2 % in z from one to the next, under 4 px anywhere in a 360-row image


@dataclass
class Scene:
    """image: uint8 RGB (H, W, 3); lanes: (N, 2) float32 pixel points (x, y), far to near, left to right."""

    image: np.ndarray
    lanes: list[np.ndarray] = field(default_factory=list)
    jpeg_quality: int = 92


@dataclass(frozen=True)
class View:
    """A pinhole camera above a road that bends and climbs; distances in metres, the rest in pixels."""

    width: int
    height: int
    focal_x: float
    focal_y: float  # differs from focal_x where wide images are squeezed to the network's shape
    centre: float
    horizon: float
    camera_height: float
    yaw: float
    curvature: float
    curvature_rate: float
    climb: float
    climb_rate: float
    z: np.ndarray = field(default=None, repr=False)  # (SAMPLES,) near to far, all in sight

    def bend(self, z):
        """Metres that the road has moved sideways at distance z: a clothoid for small angles."""
        return z * (self.yaw + z * (self.curvature / 2 + z * (self.curvature_rate / 6)))

    def project(self, u, z, up=0.0) -> np.ndarray:
        """(N, 2) float32 pixels of road points; arguments broadcast."""
        z = np.asarray(z, np.float64)
        elevation = z * z * (self.climb / 2 + z * (self.climb_rate / 6))
        x = self.centre + self.focal_x * (self.bend(z) + u) / z
        y = self.horizon + self.focal_y * (self.camera_height - elevation - up) / z
        pixels = np.empty((max(x.size, y.size), 2), np.float32)
        pixels[:, 0], pixels[:, 1] = x, y
        return pixels

    def scale(self, z) -> float:
        """Pixels across that a metre takes at distance z."""
        return self.focal_x / z


@dataclass(frozen=True)
class LaneLine:
    """A painted line at u(z) = offset + shift * smoothstep((z - shift_start) / shift_length)."""

    offset: float
    kind: str = "solid"  # solid, dashed, double, mixed (solid beside dashed), dots
    colour: str = "white"
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
    def lane_centres(self) -> list[float]:
        return [(a + b) / 2 for a, b in pairwise(self.borders)]


def sample_view(rng: np.random.Generator, width: int, height: int) -> View:
    """A View whose horizon, slopes and bends spread around those of TuSimple's and CULane's labels."""
    if rng.random() < 0.6:  # TuSimple: one camera, lane slopes 2.2 px a row apart, horizon at row 237 of 720
        horizon, focal = rng.normal(0.33, 0.02), rng.uniform(1.0, 1.6)
        camera_height, squeeze = rng.normal(1.62, 0.12), 1.0
    else:  # dashcams: wider angles, lower cars, and images squeezed into the network's shape
        horizon, focal = rng.uniform(0.26, 0.54), rng.uniform(0.5, 1.2)
        camera_height, squeeze = rng.uniform(1.1, 2.2), rng.choice([1.0, rng.uniform(0.85, 1.6)])
    # metres that the road moves aside and up by 150 m ahead: straight, motorway bends, ramps; plain, hills
    aside = rng.normal(0, rng.choice([0.5, 13.0, 30.0], p=[0.38, 0.5, 0.12]), 2)
    aloft = rng.normal(0, rng.choice([0.15, 1.0, 2.5], p=[0.55, 0.35, 0.1]), 2)
    view = View(
        width=width,
        height=height,
        focal_x=focal * width,
        focal_y=focal * width * squeeze,
        centre=width * rng.normal(0.52, 0.04),
        horizon=height * horizon,
        camera_height=float(np.clip(camera_height, 1.0, 2.5)),
        yaw=rng.normal(0, 0.008),
        curvature=aside[0] * 2 / 150**2,
        curvature_rate=0.5 * aside[1] * 6 / 150**3,
        climb=aloft[0] * 2 / 150**2,
        climb_rate=0.5 * aloft[1] * 6 / 150**3,
    )
    return replace(view, z=_distances_in_sight(view))


def _distances_in_sight(view: View) -> np.ndarray:
    """(SAMPLES,) distances from below the image's bottom to the horizon or the crest of a hill."""
    reach = view.focal_y * view.camera_height
    far = min(reach / (0.007 * view.height), 300.0)
    z = np.geomspace(reach / (1.25 * (view.height - view.horizon)), far, 2 * SAMPLES)
    y = view.project(0.0, z)[:, 1]
    hidden = np.flatnonzero(np.diff(y) > -0.01)
    last = hidden[0] if len(hidden) else len(z) - 1
    sharp = np.flatnonzero(np.abs(view.bend(z)) > 0.7 * z)  # 35 degrees: too much for a small angle
    last = min(last, sharp[0] if len(sharp) else last)
    return np.geomspace(z[0], z[max(last, 8)], SAMPLES)


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
        if (first or last) and rng.random() < 0.1:  # exits, entries, lanes that begin or end
            taper = rng.uniform(0.5, 4) * (1 if last else -1) * rng.choice([1, 1, -0.4])
        lines.append(
            LaneLine(
                offset=float(border + rng.normal(0, 0.04)),
                kind=str(kind),
                colour="yellow" if (first and yellow_left) or rng.random() < 0.03 else "white",
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


def render_scene(seed, width: int = 640, height: int = 360, empty: float = 0.0, certain: bool = False,
                 clean: bool = False) -> Scene:
    """The Scene of a seed (an int, a sequence of ints or a SeedSequence).

    `empty` is the chance of a road without paint or no road at all. `certain` draws a scene anew in which a label hangs
    on a few pixels of paint, in the same weather: there are as many nights as without, if brighter ones.
    `clean` leaves out clutter, wear, light and camera effects: fresh paint on dark asphalt, for tests.
    """
    rng = np.random.default_rng(seed)
    if clean:
        view, road = sample_view(rng, width, height), sample_road(rng)
        fresh = replace(road, lines=tuple(replace(line, strength=1.0) for line in road.lines))
        return Scene(scene_ground.draw_clean(view, fresh), scene_labels.lane_points(view, road))
    kind = rng.choice(["road", "unmarked", "no road"], p=[1 - empty, empty * 3 / 7, empty * 4 / 7])
    if kind == "no road":
        image = scene_clutter.draw_no_road(rng, width, height)
        return Scene(scene_effects.through_sensor(rng, image), [], int(rng.integers(60, 97)))
    weather, scene = None, None
    while scene is None:
        view, road = sample_view(rng, width, height), sample_road(rng, painted=kind == "road")
        weather = weather or scene_effects.sample_weather(rng)
        scene = _draw_road(rng, view, road, weather, certain)
    return scene


def _draw_road(rng, view, road, weather, certain) -> Scene | None:
    """A Scene; None where it has to be certain which lines are labelled, and is not."""
    image = scene_clutter.draw_background(rng, view, weather)
    bare = scene_ground.draw_ground(rng, image, view, road, weather)
    ground = image.copy()
    lamps = scene_clutter.draw_clutter(rng, image, view, road, weather)
    in_sight = cv2.inRange(cv2.absdiff(image, ground), (0, 0, 0), (0, 0, 0))  # where nothing stands before the road
    bare = cv2.copyTo(bare, in_sight, image.copy())
    bare, _ = scene_effects.through_camera(copy.deepcopy(rng), bare, [], view, weather, lamps)
    lanes = scene_labels.lane_points(view, road)
    image, lanes = scene_effects.through_camera(rng, image, lanes, view, weather, lamps)
    shares = scene_labels.seen_shares(lanes, image, bare)
    if certain and not scene_labels.are_certain(shares):
        return None
    lanes = scene_labels.labelled(lanes, shares)
    return Scene(image, lanes, int(np.clip(rng.normal(85, 10), 45, 97)))
