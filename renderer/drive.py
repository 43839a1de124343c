"""A drive: a camera that moves along a rendered road, what it sees in each frame, and lanes that keep their number.

Legend: u, z as in renderer/scene.py, from the camera; `along` metres along the road and `across` metres to the right of
where the drive begins, both fixed to the road: along = z + travelled, across = u + lateral.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import NamedTuple

import cv2
import numpy as np

from renderer.background import draw_background
from renderer.camera import Camera, sample_camera, visible_depths
from renderer.camera_effects import add_lamps, apply_sensor, draw_night
from renderer.drive_ground import draw_drive_ground
from renderer.labels import MAX_LINES_PER_SIDE, lane_polylines, select_labelled, visible_fractions
from renderer.road import Road, sample_road
from renderer.roadside import draw_tree, draw_wall
from renderer.structures import draw_bridge, draw_gantry, draw_pole
from renderer.vehicles import MAX_LENGTH_M, Lamp, draw_vehicle
from renderer.weather import Weather, sample_weather

FPS = 20  # TuSimple's clips
REACH_M = 400.0  # objects are placed so far beyond the end of a drive
MAX_CURVATURE = 0.0012  # 1 / metres
LANE_CHANGE_S = (3.0, 4.5)  # its duration; in a short drive less
SHORTEST_CHANGE_S = 2.0  # a drive too short for this one has none: the car would turn across the road
NIGHT, SHADE = 3, 1  # of each four drives one is at night, and one below trees
LOOK, OBJECTS, EFFECTS, NOISE = range(4)  # random numbers of their own, the same in each frame; NOISE's are new in each

Draw = Callable[[np.random.Generator, np.ndarray, Camera, Road, Weather, float], list[Lamp]]


class Wave(NamedTuple):
    """base + amplitude * sin(position / length + phase)."""

    base: float
    amplitude: float
    length: float
    phase: float

    def value(self, position: float) -> float:
        return self.base + self.amplitude * np.sin(position / self.length + self.phase)

    def rate(self, position: float) -> float:
        """The derivative at a position."""
        return self.amplitude / self.length * np.cos(position / self.length + self.phase)

    def integral(self, position: float) -> float:
        """The integral from 0 to a position."""
        return self.base * position - self.amplitude * self.length * (
            np.cos(position / self.length + self.phase) - np.cos(self.phase))


class RoadObject(NamedTuple):
    """Something that stands or drives: where it is at the beginning, its speed in metres a second, what draws it."""

    along: float
    speed: float
    draw: Draw
    across: float | None = None  # of what has a place across the road


class DriveFrame(NamedTuple):
    """What the camera sees: an image uint8 RGB (H, W, 3), lanes as in Scene, and the number of each one's line."""

    image: np.ndarray
    lanes: list[np.ndarray]
    lane_ids: list[int]


@dataclass(frozen=True)
class Drive:
    """A world and the way of the camera through it."""

    seed: tuple[int, ...]
    camera: Camera
    road: Road  # around the camera's first position
    weather: Weather
    speed: float  # metres a second
    curvature: Wave
    climb: Wave
    pitch: Wave  # radians over seconds: the car bounces
    wander: Wave  # metres over seconds
    change_m: float  # of the lane change to the right; 0: none
    change_start: float  # in seconds
    change_s: float
    shaded: bool
    objects: tuple[RoadObject, ...]

    def rng(self, *purpose: int) -> np.random.Generator:
        """Random numbers for a purpose."""
        return np.random.default_rng([*self.seed, *purpose])

    def lateral(self, seconds: float) -> float:
        """Metres to the right of where the drive began."""
        t = np.clip((seconds - self.change_start) / self.change_s, 0, 1)
        return self.wander.value(seconds) - self.wander.value(0) + self.change_m * t**3 * (10 - 15 * t + 6 * t * t)

    def camera_at(self, seconds: float) -> Camera:
        """The camera at a time, above the road ahead of it."""
        travelled = self.speed * seconds
        heading = (self.lateral(seconds + 0.05) - self.lateral(seconds - 0.05)) / (0.1 * self.speed)
        camera = replace(
            self.camera,
            horizon_y=self.camera.horizon_y + self.camera.focal_y * self.pitch.value(seconds),
            yaw=self.camera.yaw - heading,
            curvature=self.curvature.value(travelled), curvature_rate=self.curvature.rate(travelled),
            climb=self.climb.value(travelled), climb_rate=self.climb.rate(travelled),
        )
        return replace(camera, depths=visible_depths(camera))

    def road_at(self, seconds: float) -> Road:
        """The road around the camera at a time."""
        lateral, travelled = self.lateral(seconds), self.speed * seconds
        lines = [replace(line, offset=line.offset - lateral, dash_phase=line.dash_phase + travelled)
                 for line in self.road.lines]
        return replace(self.road, lines=tuple(lines), borders=tuple(b - lateral for b in self.road.borders),
                       left_edge=self.road.left_edge - lateral, right_edge=self.road.right_edge - lateral)

    @cached_property
    def background(self) -> np.ndarray:
        """What is behind the road at the beginning."""
        return draw_background(self.rng(LOOK), self.camera_at(0.0), self.weather)

    def background_at(self, seconds: float, camera: Camera) -> np.ndarray:
        """The background, which moves as the camera turns and pitches."""
        turned = self.camera.focal_x * (self.curvature.integral(self.speed * seconds) - camera.yaw + self.camera.yaw)
        horizon, first = (c.project(0.0, c.depths[-1])[0, 1] for c in (camera, self.camera_at(0.0)))
        moved = np.float32([[1, 0, -turned], [0, 1, horizon - first]])
        return cv2.warpAffine(self.background, moved, (camera.width, camera.height), borderMode=cv2.BORDER_REFLECT)


def sample_drive(seed: int, index: int, frames: int, width: int, height: int) -> Drive:
    """Drive `index` of a seed: day, tree shade, day, night in turn; of three drives two change lanes."""
    rng = np.random.default_rng([seed, index])
    camera, road = sample_camera(rng, width, height), sample_road(rng)
    while len(road.lines) < 3 or abs(camera.yaw) > 0.02:
        camera, road = sample_camera(rng, width, height), sample_road(rng)
    road = replace(road, lines=tuple(replace(line, shift=0.0) for line in road.lines))
    weather = sample_weather(rng)
    while weather.night != (index % 4 == NIGHT) or weather.visibility_m < 150:
        weather = sample_weather(rng)
    weather = replace(weather, rain=False, sun=max(weather.sun, 0.7) if index % 4 == SHADE else weather.sun)
    speed, seconds = rng.uniform(17, 32), frames / FPS
    change_s = min(rng.uniform(*LANE_CHANGE_S), 0.8 * seconds)
    drive = Drive(
        seed=(seed, index), camera=camera, road=road, weather=weather, speed=speed,
        curvature=_wave(rng, float(np.clip(camera.curvature, -MAX_CURVATURE, MAX_CURVATURE)), 4e-4, 90),
        climb=_wave(rng, 0.0, 4e-5, 70), pitch=_wave(rng, 0.0, rng.uniform(0.0005, 0.0025), 0.12),
        wander=_wave(rng, 0.0, 0.15, 1.2),
        change_m=_lane_change(rng, road) * (change_s >= SHORTEST_CHANGE_S) if index % 3 != 2 else 0.0,
        change_start=rng.uniform(0.1, 0.9) * (seconds - change_s), change_s=change_s,
        shaded=index % 4 == SHADE, objects=())
    return replace(drive, objects=tuple(_objects(drive, speed * seconds + REACH_M)))


def _wave(rng: np.random.Generator, base: float, height: float, length: float) -> Wave:
    return Wave(base, height * rng.uniform(0.5, 1), length * rng.uniform(0.8, 1.5), rng.uniform(0, 2 * np.pi))


def _lane_change(rng: np.random.Generator, road: Road) -> float:
    """Metres to the middle of a lane beside the camera's own."""
    centers = road.lane_centers
    own = int(np.argmin(np.abs(centers)))
    beside = [i for i in (own - 1, own + 1) if 0 <= i < len(centers)]
    return centers[rng.choice(beside)] - centers[own]


def _objects(drive: Drive, end: float) -> list[RoadObject]:
    """All that stands or drives up to `end` metres along the road."""
    rng = drive.rng(OBJECTS)
    objects = [RoadObject(rng.uniform(0, end), 0.0, draw)
               for draw, spacing in ((draw_pole, 35), (draw_gantry, 350), (draw_bridge, 500))
               for _ in range(rng.poisson(end / spacing))]
    for side, edge in ((-1, drive.road.left_edge), (1, drive.road.right_edge)):
        if drive.shaded or rng.random() < 0.55:
            beyond = rng.uniform(2, 9)
            objects += [RoadObject(along, 0.0, draw_tree, edge + side * (beyond + rng.exponential(3)))
                        for along in np.cumsum(rng.uniform(3, 14, int(end / 8)))]
    spacing = np.exp(rng.uniform(np.log(20), np.log(120)))
    for center in drive.road.lane_centers:
        crossed = min(0, drive.change_m) - 2 < center < max(0, drive.change_m) + 2  # the camera comes by here
        speed = drive.speed + (rng.uniform(0, 1) if crossed else rng.uniform(-7, 7))
        along = 14.0 if crossed else -40.0
        while (along := along + 8 + rng.exponential(spacing)) < 300:
            across = center + rng.normal(0, 0.2)
            objects.append(RoadObject(along, speed, draw_vehicle, across))
    return objects


def render_frame(drive: Drive, index: int) -> DriveFrame:
    """What the camera sees in frame `index` of a drive, from 0; any frame may be rendered alone."""
    seconds = index / FPS
    camera, road, weather = drive.camera_at(seconds), drive.road_at(seconds), drive.weather
    image = drive.background_at(seconds, camera)
    unpainted = draw_drive_ground(drive.rng(LOOK), image, camera, road, weather, drive.speed * seconds,
                                  drive.lateral(seconds), drive.shaded)
    ground = image.copy()
    lamps = _draw_objects(drive, image, camera, road, seconds)
    unobstructed = cv2.inRange(cv2.absdiff(image, ground), (0, 0, 0), (0, 0, 0))
    unpainted = cv2.copyTo(unpainted, unobstructed, image.copy())
    image, unpainted = (_effects(drive, picture, camera, lamps) for picture in (image, unpainted))
    numbered = _numbered_lanes(camera, road)
    labelled = select_labelled(numbered, visible_fractions([lane for _, lane in numbered], image, unpainted))
    return DriveFrame(_noisy(drive, image, index), [lane for _, lane in labelled], [number for number, _ in labelled])


def _draw_objects(drive: Drive, image: np.ndarray, camera: Camera, road: Road, seconds: float) -> list[Lamp]:
    """Draw all objects ahead, far ones first; returns their lamps. Each has random numbers of its own."""
    draw_wall(drive.rng(OBJECTS, 0), image, camera, road, drive.weather)
    lateral, lamps = drive.lateral(seconds), []
    ahead = [(item.along + (item.speed - drive.speed) * seconds, number) for number, item in enumerate(drive.objects)]
    for z, number in sorted(ahead, reverse=True):
        item = drive.objects[number]
        nearest = -MAX_LENGTH_M if item.draw is draw_vehicle else 1.5
        if nearest < z < camera.depths[-1]:
            draw = item.draw if item.across is None else partial(item.draw, u=item.across - lateral)
            if item.draw is draw_vehicle:
                draw = partial(draw, oncoming=False)
            lamps += draw(drive.rng(OBJECTS, 1, number), image, camera, road, drive.weather, z)
    return lamps


def _effects(drive: Drive, image: np.ndarray, camera: Camera, lamps: list[Lamp]) -> np.ndarray:
    """The image after night, lamps, lens and exposure."""
    rng = drive.rng(EFFECTS)
    if drive.weather.night:
        image = draw_night(rng, image, camera, lamps)
    elif lamps:
        image = add_lamps(image, lamps, 0.5)
    return apply_sensor(rng, image)


def _noisy(drive: Drive, image: np.ndarray, index: int) -> np.ndarray:
    """The image with the noise of its frame: that of `apply_sensor` is the same in all."""
    deviation = drive.rng(NOISE).uniform(0.5, 4)
    noise = deviation * drive.rng(NOISE, index).standard_normal(image.shape[:2], np.float32)
    return cv2.add(image, cv2.merge([noise.round().astype(np.int16)] * 3), dtype=cv2.CV_8U)


def _numbered_lanes(camera: Camera, road: Road) -> list[tuple[int, np.ndarray]]:
    """(number of the line, its lane as in `lane_polylines`) of the lines beside the camera, left to right."""
    def lanes(numbers: list[int]) -> list[tuple[int, np.ndarray]]:
        alone = [(number, replace(road, lines=(road.lines[number],))) for number in numbers]
        return [(number, lane) for number, single in alone for lane in lane_polylines(camera, single)]

    left = [number for number, line in enumerate(road.lines) if line.offset < 0]
    right = [number for number, line in enumerate(road.lines) if line.offset >= 0]
    return lanes(left[-MAX_LINES_PER_SIDE:]) + lanes(right[:MAX_LINES_PER_SIDE])
