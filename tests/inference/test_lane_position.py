"""Where the camera is in its lane: a known road gives its metres; in a video the pitch is filtered, drift noticed."""

import json
import math

import numpy as np
import pytest
import torch
from road_views import CAMERA, LINES, PITCH, SIZE, seen

from config import CameraConfig
from inference.inputs import Frame
from inference.lane_position import LanePosition, LanePositions, NoPosition, own_lines
from inference.position_text import position_line, position_notes, position_record
from inference.predictor import Detections
from inference.sources import Source

IMAGE, VIDEO = Source("a.png", "a.png"), Source("a.mp4", "a.mp4", "video", fps=20.0)
LIVE = Source("camera 0", 0, "camera", frames=None, fps=30.0)


def frame(source=IMAGE, index=1, size_px=SIZE):
    return Frame(source, index, size_px)


def position_of(camera=CAMERA, **road):
    return LanePositions(camera).update(frame(), seen(camera=camera, **road))


# One image ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("camera", [CAMERA, CameraConfig(fov=65.0, height=1.4, pitch=PITCH),
                                    CameraConfig(matrix=(500.0, 500.0, 320.0, 170.0), size=(640, 360), height=1.4)],
                         ids=["pitch estimated", "pitch given", "matrix"])
@pytest.mark.parametrize(("heading", "radius"), [(0.0, None), (2.0, None), (-1.0, 400.0), (0.5, -800.0)])
def test_a_known_road_gives_its_metres(camera, heading, radius):
    position = position_of(camera, heading=math.radians(heading), curvature=1 / radius if radius else 0.0)
    assert position.left.value == pytest.approx(1.9, abs=0.02)
    assert position.right.value == pytest.approx(1.6, abs=0.02)
    assert position.offset.value == pytest.approx(0.15, abs=0.02)
    assert position.width.value == pytest.approx(3.5, abs=0.03)
    assert math.degrees(position.heading.value) == pytest.approx(heading, abs=0.1)
    assert math.degrees(position.pitch.value) == pytest.approx(PITCH, abs=0.05)
    assert (position.radius_m is None) == (radius is None)
    if radius:
        assert position.radius_m == pytest.approx(radius, rel=0.05)
    for estimate in (position.left, position.right, position.offset, position.width):
        assert 0.005 < estimate.std < 0.2
    assert 1e-4 < position.heading.std < 0.02


def test_where_the_pitch_comes_from_is_said():
    assert position_of().pitch_source == "estimated from 3 lanes"
    assert position_of(CameraConfig(fov=65.0, height=1.4, pitch=PITCH)).pitch_source == "given"
    two = position_of(lines={2: -1.9, 3: 1.6})
    assert two.pitch_source == "estimated from 2 lanes"
    assert two.pitch.std > position_of().pitch.std


def test_less_confident_lanes_are_less_sure():
    assert position_of(confidence=0.8).offset.std > 1.5 * position_of().offset.std


def test_one_line_has_a_distance_but_no_lane_where_the_pitch_is_given():
    given = CameraConfig(fov=65.0, height=1.4, pitch=PITCH)
    position = position_of(given, lines={3: 1.6})
    assert position.right.value == pytest.approx(1.6, abs=0.02)
    assert position.left is position.offset is position.width is None
    assert position_of(lines={3: 1.6}) == NoPosition(
        "the pitch is not known, and takes two lines that come together far away")
    assert position_of(given, lines={}) == NoPosition("no lane")


@pytest.mark.parametrize("height", [0.35, 0.7])
def test_a_lane_narrower_than_a_car_tells_of_a_wrong_camera(height):
    position = LanePositions(CameraConfig(fov=65.0, height=height)).update(frame(), seen())
    if height < 0.5:
        assert position == NoPosition("the lane would be 0.9 m wide; check camera.fov and camera.height")
    else:
        assert position.width.value == pytest.approx(1.75, abs=0.02)


def test_an_image_of_another_shape_than_the_matrix_is_said():
    camera = CameraConfig(matrix=(500.0, 500.0, 320.0, 170.0), size=(640, 360), height=1.4)
    position = LanePositions(camera).update(frame(size_px=(640, 480)), seen())
    assert position == NoPosition("the image is 640x480, and camera.matrix is for 640x360")


@pytest.mark.parametrize(("offsets", "lines"), [
    ((-5.0, -1.7, 1.8, 5.3), (1, 2)), ((1.8, -1.7), (1, 0)), ((-1.7,), (0, None)), ((0.0,), (None, 0)),
    ((), (None, None)), ((-5.2, 1.8), (None, 1)), ((-1.7, 5.3), (0, None)),  # the line between has not been seen
])
def test_the_own_lane_lies_between_the_nearest_lines(offsets, lines):
    assert own_lines(np.array(offsets)) == lines


def test_no_line_lies_above_the_horizon_of_a_given_pitch():
    camera = CameraConfig(fov=65.0, height=1.4, pitch=-25.0)
    assert LanePositions(camera).update(frame(), seen()) == NoPosition("no lane lies below the horizon of this pitch")


def test_a_line_without_a_point_on_the_ground_bounds_no_lane():
    lanes = seen(lines={2: -1.9, 3: 1.6})
    lanes.points[4, :, 0], lanes.keep[4] = torch.linspace(0.5, 0.52, 6), True
    lanes.points[4, :, 1] = torch.linspace(0.0, 0.2, 6)  # in the sky
    position = LanePositions(CameraConfig(fov=65.0, height=1.4, pitch=PITCH)).update(frame(), lanes)
    assert position.right.value == pytest.approx(1.6, abs=0.02) and position.right.std < 0.2


@pytest.mark.parametrize("pitch", ["auto", 2.0])
def test_whatever_lanes_are_the_record_is_json(pitch):
    rng = np.random.default_rng(0)
    for number in range(15):
        lens = tuple(rng.uniform(-0.3, 0.3, number % 6).tolist())
        camera = CameraConfig(fov=float(rng.uniform(10, 170)), height=1.0, pitch=pitch, distortion=lens)
        points = torch.from_numpy(rng.uniform(-0.3, 1.3, (6, 6, 2))).float()
        far, near = np.sort(rng.uniform(0, 1, (2, 6)), axis=0)
        points[..., 1] = torch.from_numpy(far[:, None] + (near - far)[:, None] * np.linspace(0, 1, 6))
        confidence = torch.from_numpy(rng.uniform(0.2, 1, 6))
        lanes = Detections(points, confidence, confidence > 0.5)
        with np.errstate(all="raise", under="ignore"):
            position = LanePositions(camera).update(frame(VIDEO), lanes, (1, 2, 3, 4, 5, 6))
        json.dumps(position_record(position), allow_nan=False)
        assert position_line(position) and position_notes(position)


# Videos ------------------------------------------------------------------------------------------------------


def test_the_pitch_is_carried_over_in_a_video_but_not_between_images():
    positions = LanePositions(CAMERA)
    first = positions.update(frame(VIDEO, 1), seen(), (0, 0, 1, 2, 3, 0))
    alone = positions.update(frame(VIDEO, 2), seen({3: 1.6}), (0, 0, 0, 2, 0, 0))
    assert alone.pitch_source == "estimated from 1 lane and the frames before"
    assert alone.right.value == pytest.approx(1.6, abs=0.02)
    assert alone.pitch.value == pytest.approx(first.pitch.value, abs=1e-3) and alone.pitch.std > 0
    assert isinstance(positions.update(frame(VIDEO._replace(name="b.mp4"), 1), seen({3: 1.6})), NoPosition)
    assert isinstance(positions.update(frame(IMAGE), seen()), LanePosition)
    assert isinstance(positions.update(frame(IMAGE), seen({3: 1.6})), NoPosition)


def test_a_pitch_that_changes_is_followed():
    positions = LanePositions(CAMERA)
    for index in range(1, 25):
        pitch = PITCH + (0.5 if index > 10 else 0.0)
        position = positions.update(frame(VIDEO, index), seen(pitch=pitch))
    assert math.degrees(position.pitch.value) == pytest.approx(PITCH + 0.5, abs=0.05)


def test_a_cut_begins_anew():
    """Another scene may be of another camera: no line of it was there before."""
    positions = LanePositions(CAMERA)
    for index in range(1, 6):
        positions.update(frame(VIDEO, index), seen(pitch=PITCH + 3), (0, 0, 1, 2, 3, 0))
    kept = positions.update(frame(VIDEO, 6), seen(pitch=PITCH + 3), (0, 0, 1, 4, 5, 0))  # two lines of three are others
    assert kept.pitch_source.endswith("and the frames before")
    positions.update(frame(VIDEO, 7), seen(lines={}), (0, 0, 0, 0, 0, 0))
    cut = positions.update(frame(VIDEO, 8), seen(), (0, 0, 6, 7, 8, 0))
    assert cut.pitch_source == "estimated from 3 lanes" and positions.sideways_m_s is None
    assert cut[:6] == position_of()[:6]


def drifting(speed, source=VIDEO, camera=CAMERA, frames=22, ids=(0, 0, 1, 2, 3, 0)):
    positions = LanePositions(camera)
    for index in range(1, frames + 1):
        lines = {slot: offset - speed * index / 20 for slot, offset in LINES.items()}
        position = positions.update(frame(source, index), seen(lines), ids)
    return position


@pytest.mark.parametrize(("speed", "side"), [(0.4, "right"), (-0.4, "left")])
def test_a_car_that_drifts_in_a_video_is_warned_of_its_line(speed, side):
    position = drifting(speed)
    gap = (position.right if side == "right" else position.left).value - 0.9
    assert position.crossing.side == side
    assert position.crossing.seconds == pytest.approx(gap / 0.4, rel=0.1)
    assert drifting(speed, frames=5).crossing is None, "too early to tell"
    assert drifting(speed, ids=()).crossing is None, "no identities"


@pytest.mark.parametrize("gap", [1, 6, 12])
def test_frames_without_a_position_make_no_drift_faster(gap):
    """The lines move on while none is seen: their way in that time is not that of one frame."""
    positions, ids = LanePositions(CAMERA), (0, 0, 1, 2, 3, 0)
    for index in range(1, 21 + gap):
        lines = {slot: offset - 0.2 * index / 20 for slot, offset in LINES.items()}
        hidden = 20 <= index < 20 + gap
        positions.update(frame(VIDEO, index), seen({} if hidden else lines), (0,) * 6 if hidden else ids)
        if index == 20 + gap:
            assert positions.sideways_m_s == pytest.approx(0.2, abs=0.02)


def test_the_heading_tells_the_time_where_a_speed_is_given():
    camera = CameraConfig(fov=65.0, height=1.4, speed=20.0)
    position = position_of(camera, heading=math.radians(1))
    assert position.crossing.side == "right"
    assert position.crossing.seconds == pytest.approx(0.7 / (20 * math.sin(math.radians(1))), rel=0.1)
    assert position_of(heading=math.radians(1)).crossing is None
    assert position_of(lines={2: -0.5, 3: 3.0}).crossing.seconds == 0


@pytest.mark.parametrize(("frames", "step"), [(None, 0.07), (40, 1 / 30)], ids=["endless", "a file on a server"])
def test_a_camera_goes_by_the_clock_and_a_stream_with_an_end_by_its_rate(monkeypatch, frames, step):
    now, seen_at = [100.0], 100.0
    monkeypatch.setattr("inference.lane_position.time.monotonic", lambda: now[0])
    positions = LanePositions(CAMERA)
    for index in range(1, 21):
        lines = {slot: offset - 0.4 * seen_at + 40 for slot, offset in LINES.items()}
        position = positions.update(frame(LIVE._replace(frames=frames), index), seen(lines), (0, 0, 1, 2, 3, 0))
        now[0] += 0.07  # slower than the camera's 30 frames a second
        seen_at += step
    assert position.crossing.seconds == pytest.approx((position.right.value - 0.9) / 0.4, rel=0.1)


# Words -------------------------------------------------------------------------------------------------------


def test_the_record_has_metres_with_their_deviations():
    record = position_record(position_of(heading=math.radians(1), curvature=1 / 500))["position"]
    assert record["distance_left_m"] == pytest.approx(1.9, abs=0.02)
    assert record["lateral_offset_m"] == pytest.approx(0.15, abs=0.02)
    assert record["heading_deg"] == pytest.approx(1, abs=0.1) and record["pitch_deg"] == pytest.approx(3, abs=0.05)
    assert record["radius_m"] == pytest.approx(500, rel=0.05)
    assert record["curvature_1_per_m"] == pytest.approx(0.002, rel=0.05)
    assert record["pitch_source"] == "estimated from 3 lanes" and record["time_to_line_crossing_s"] is None
    assert record["std"].keys() == {"distance_left_m", "distance_right_m", "lateral_offset_m", "lane_width_m",
                                    "heading_deg", "curvature_1_per_m", "radius_m", "pitch_deg"}
    straight = position_record(position_of())["position"]
    assert straight["radius_m"] is None and "radius_m" not in straight["std"]
    assert position_record(NoPosition("no lane")) == {"position": None, "no_position": "no lane"}


def test_the_position_in_words():
    line = position_line(position_of(heading=math.radians(-1), curvature=-1 / 500))
    for part in ("0.15 m (+-0.0", " right of the middle, left line 1.9", "right line 1.6", "lane 3.5", "1.0 deg left",
                 "to the left", "pitch 3.0 deg estimated from 3 lanes"):
        assert part in line
    assert "straight (radius above 5000 m)" in position_line(position_of())
    assert position_line(NoPosition("no lane")) == "no position: no lane"
    notes = position_notes(drifting(0.4))
    assert notes[0].endswith("m right of the middle") and notes[-1].startswith("right line in ") and len(notes) == 4
    assert position_notes(position_of(lines={2: -0.5, 3: 3.0}))[-1] == "on the left line"
    assert position_notes(NoPosition("no lane")) == ["no position: no lane"]
