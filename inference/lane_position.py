"""Where the camera is in its lane, in metres, of each frame's lanes: distances to the lines, heading, curvature.

    positions = LanePositions(config.camera)
    position = positions.update(frame, detections, ids)

Values are given with their standard deviations, which follow from how exact lanes, height and angles are.
Shapes: L lane slots, K lanes, S points of a lane, P control points.
"""

import math
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from config import CameraConfig
from geometry.ground_plane import GroundPlane
from geometry.lane_arrays import x_at
from geometry.road_fit import PITCH, SLOPE, Estimate, PointNoise, RoadFit, RoadPrior, fit_road
from inference.camera_settings import check_camera, pinhole_camera
from inference.departure import Crossing, DriftFilter, time_to_line_crossing
from inference.inputs import Frame
from inference.predictor import Detections

SAMPLES = 48  # points of a lane, as close as those of labels
FARTHEST_M = 80.0  # of points that are used
CURVATURE_AT_M = 20.0  # ahead, for which the curvature is given: in view of every camera
STRAIGHT_M = 5000.0  # radius from which a road is called straight
MAX_STD_M = 1.0  # of a line's distance: one that is less sure is none
MIN_LANE_M = 1.5  # narrower than a car: the camera is not as the settings say
MAX_LANE_M = 6.0  # wider than this is not one lane: the farther line is that of another
PITCH_STD = math.radians(0.2)  # of a given pitch: the car bounces, and brakes
ROLL_STD = math.radians(0.3)
PITCH_CHANGE = math.radians(0.05)  # from frame to frame of a video
MIN_PITCH_STD = math.radians(0.05)  # of an estimate: a network's errors are the same in many frames
NOISE = PointNoise(std_px=1.5 / 1280, std_m=0.03, row_px=40 / 1280)  # of lanes; pixels of an image 1 px wide
CONFIDENT = 0.001  # 1 - confidence of lanes to which NOISE applies
LESS_CONFIDENT = 0.25  # power by which the noise of other lanes grows


class LanePosition(NamedTuple):
    """The camera in its lane; None for what cannot be told."""

    left: Estimate | None  # metres to the line on that side
    right: Estimate | None
    offset: Estimate | None  # metres to the right of the lane's middle
    width: Estimate | None  # metres
    heading: Estimate  # radians, of the car to the right of the road
    curvature: Estimate  # 1 / metres, to the right, CURVATURE_AT_M ahead
    pitch: Estimate
    pitch_source: str
    ground: GroundPlane
    crossing: Crossing | None = None

    @property
    def radius_m(self) -> float | None:
        """Radius of the bend, positive to the right; None for a straight road."""
        value = self.curvature.value
        return 1 / value if abs(value) * STRAIGHT_M > 1 else None


class NoPosition(NamedTuple):
    """Why there is none."""

    reason: str


class LanePositions:
    """The positions of images, and of one video or camera after the other, whose pitch is filtered over time."""

    def __init__(self, camera: CameraConfig):
        """Raises ConfigError for a camera that is not described fully."""
        if not check_camera(camera):
            raise ValueError("no camera: give camera.fov or camera.matrix, and camera.height")
        self.camera, self.source = camera, None
        self.forget()

    def forget(self) -> None:
        """Begin another source."""
        self.pitch, self.drift, self.time, self.sideways_m_s, self.track_ids = None, DriftFilter(), None, None, set()

    def update(self, frame: Frame, detections: Detections, ids: Sequence[int] = ()) -> LanePosition | NoPosition:
        """The position of the next frame by its reported lanes; ids (L) are their identities in a video."""
        if frame.source != self.source or frame.source.kind == "image":
            self.source = frame.source
            self.forget()
        if shown := set(ids) - {0}:
            if self.track_ids and not shown & self.track_ids:  # none of the lines before: the video was cut
                self.forget()
            self.track_ids = shown
        try:
            pinhole = pinhole_camera(self.camera, frame.size_px)
        except ValueError as error:
            return NoPosition(str(error))
        keep = detections.keep
        lanes = lane_points(detections.points[keep], frame.size_px)
        if not len(lanes):
            return NoPosition("no lane")
        prior, source = self._prior(len(lanes))
        doubt = np.maximum(1, ((1 - detections.confidence[keep].double().numpy()) / CONFIDENT) ** LESS_CONFIDENT)
        noise = NOISE._replace(std_px=NOISE.std_px * frame.size_px[0], row_px=NOISE.row_px * frame.size_px[0])
        fit = fit_road(pinhole, lanes, prior, noise, doubt, FARTHEST_M)
        if fit is None and prior.pitch is None:
            return NoPosition("the pitch is not known, and takes two lines that come together far away")
        if fit is None:
            return NoPosition("no lane lies below the horizon of this pitch")
        if self.camera.pitch == "auto":
            pitch = fit.single(PITCH)
            self.pitch = pitch._replace(std=max(pitch.std, MIN_PITCH_STD))
        position = lane_position(fit, source)
        width = position.width
        if width and width.value + 2 * width.std < MIN_LANE_M:
            return NoPosition(f"the lane would be {width.value:.1f} m wide; check camera.fov and camera.height")
        numbers = [ids[slot] for slot in keep.nonzero()[:, 0].tolist()] if ids else ()
        places = zip(numbers, known_offsets(fit).tolist(), strict=True) if ids else ()
        lines = {number: place for number, place in places if math.isfinite(place)}
        return position._replace(crossing=self._crossing(position, lines, self._seconds_since_last(frame)))

    def _seconds_since_last(self, frame: Frame) -> float:
        """From the last frame that had a position to this one; 0 for the first.

        By the rate of a video, by the clock for a camera or a stream without an end.
        """
        is_live = frame.source.kind == "camera" and frame.source.frames is None
        now = time.monotonic() if is_live else frame.index / (frame.source.fps or math.inf)
        before, self.time = self.time, now
        return 0.0 if before is None else max(0.0, now - before)

    def _prior(self, lanes: int) -> tuple[RoadPrior, str]:
        """What is known before the lanes of a frame are seen, and where its pitch comes from."""
        camera, many = self.camera, f"{lanes} lane{'s' * (lanes > 1)}"
        if camera.pitch != "auto":
            pitch, source = Estimate(math.radians(camera.pitch), PITCH_STD), "given"
        elif self.pitch:
            pitch = self.pitch._replace(std=math.hypot(self.pitch.std, PITCH_CHANGE))
            source = f"estimated from {many} and the frames before"
        else:
            pitch, source = None, f"estimated from {many}"
        return RoadPrior(camera.height, pitch, Estimate(math.radians(camera.roll), ROLL_STD),
                         math.radians(camera.yaw)), source

    def _crossing(self, position: LanePosition, lines: dict[int, float], seconds: float) -> Crossing | None:
        """By the lines of a video, by identity, or by the heading where the settings give a speed."""
        sideways = self.sideways_m_s = self.drift.update(lines, seconds)
        if sideways is None:
            sideways = self.camera.speed * math.sin(position.heading.value)
        left, right = (math.inf if side is None else side.value for side in (position.left, position.right))
        return time_to_line_crossing(left, right, self.camera.car_width / 2, sideways)


def lane_points(curves: Tensor, size_px: tuple[int, int]) -> np.ndarray:
    """(K, S, 2) points in pixels on curves (K, P, 2), far to near, on equally spaced rows."""
    curves = curves.double().numpy()
    ends = curves[:, [0, -1], 1]
    rows = ends[:, :1] + (ends[:, 1:] - ends[:, :1]) * np.linspace(0, 1, SAMPLES)
    return np.stack((x_at(curves[..., 0], ends, rows)[0], rows), axis=-1) * size_px


def lane_position(fit: RoadFit, pitch_source: str) -> LanePosition:
    """The position in a road that was fitted."""
    unit = np.eye(len(fit.offsets))
    left, right = own_lines(known_offsets(fit))
    is_lane = left is not None and right is not None
    heading, slope = fit.single(SLOPE), fit.single(SLOPE).value
    return LanePosition(
        left=None if left is None else fit.offset(-unit[left]),
        right=None if right is None else fit.offset(unit[right]),
        offset=fit.offset(-(unit[left] + unit[right]) / 2) if is_lane else None,
        width=fit.offset(unit[right] - unit[left]) if is_lane else None,
        heading=Estimate(-math.atan(slope), heading.std / (1 + slope * slope)),
        curvature=fit.curvature(CURVATURE_AT_M),
        pitch=fit.single(PITCH), pitch_source=pitch_source, ground=fit.ground)


def known_offsets(fit: RoadFit) -> np.ndarray:
    """(L) metres to the right of each line; NaN where they are not known well enough."""
    return np.where(fit.offset_stds < MAX_STD_M, fit.offsets, np.nan)


def own_lines(offsets: np.ndarray) -> tuple[int | None, int | None]:
    """Positions of the lines of the camera's own lane among those at offsets (L), metres to the right; or None.

    NaN is no line.
    """
    left, right = np.flatnonzero(offsets < 0), np.flatnonzero(offsets >= 0)
    left = int(left[offsets[left].argmax()]) if len(left) else None
    right = int(right[offsets[right].argmin()]) if len(right) else None
    if left is not None and right is not None and offsets[right] - offsets[left] > MAX_LANE_M:
        return (None, right) if -offsets[left] > offsets[right] else (left, None)
    return left, right
