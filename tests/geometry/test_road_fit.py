"""The road of lanes: known roads are found again, noise is propagated, an exit disturbs little; the renderer agrees."""

import math
from dataclasses import replace

import numpy as np
import pytest

from geometry.ground_plane import GroundPlane, PinholeCamera
from geometry.road_fit import (
    CLIMB,
    PITCH,
    SLOPE,
    Estimate,
    PointNoise,
    RoadPrior,
    fit_road,
    parallel_pitch,
)
from renderer.camera import sample_camera, visible_depths
from renderer.labels import lane_polylines
from renderer.road import sample_road

CAMERA = PinholeCamera(1000.0, 1000.0, 640.0, 360.0)
HEIGHT, PITCH_DOWN = 1.4, 0.06
EXACT = PointNoise(1e-4, independent=16)
LINES = (-5.3, -1.8, 1.7)


def seen(offsets=LINES, slope=0.0, curvature=0.0, rate=0.0, climb=0.0, pitch=PITCH_DOWN, points=16):
    """Lanes of a road as the camera sees them, on equally spaced rows, each far to near."""
    road, z, lanes = GroundPlane(CAMERA, HEIGHT, pitch, climb=climb), np.geomspace(70, 5, 2000), []
    for offset in offsets:
        x = offset + z * (slope + z * (curvature / 2 + z * rate / 6))
        pixels = road.to_pixels(np.stack((x, z), -1))
        rows = np.linspace(pixels[0, 1], pixels[-1, 1], points)
        lanes.append(np.stack((np.interp(rows, pixels[:, 1], pixels[:, 0]), rows), -1))
    return lanes


def fitted(lanes, pitch=None, noise=EXACT, **prior):
    return fit_road(CAMERA, lanes, RoadPrior(HEIGHT, pitch, **prior), noise, np.ones(len(lanes)), 80.0)


@pytest.mark.parametrize("pitch", [None, Estimate(PITCH_DOWN, 1e-3)], ids=["unknown", "given"])
def test_a_straight_road_is_found_exactly(pitch):
    fit = fitted(seen(), pitch)
    assert fit.offsets == pytest.approx(LINES, abs=1e-6)
    assert fit.single(PITCH).value == pytest.approx(PITCH_DOWN, abs=1e-7)
    assert fit.single(SLOPE).value == pytest.approx(0, abs=1e-7)
    assert fit.curvature(20).value == pytest.approx(0, abs=1e-8)
    assert fit.ground.height == pytest.approx(HEIGHT)


@pytest.mark.parametrize("pitch", [None, Estimate(PITCH_DOWN, 1e-3)], ids=["unknown", "given"])
@pytest.mark.parametrize("road", [
    {"slope": 0.05}, {"curvature": 1 / 300}, {"curvature": -1 / 700, "rate": 2e-5}, {"climb": 1e-4}, {"climb": -1e-4},
    {"slope": -0.04, "curvature": 1 / 500, "rate": -1e-5, "climb": 5e-5}])
def test_a_road_that_bends_and_climbs_is_found(road, pitch):
    fit = fitted(seen(**road), pitch)
    assert fit.offsets == pytest.approx(LINES, abs=2e-3)
    assert fit.single(SLOPE).value == pytest.approx(road.get("slope", 0), abs=2e-4)
    assert fit.single(CLIMB).value == pytest.approx(road.get("climb", 0), abs=3e-6)
    assert fit.curvature(20).value == pytest.approx(road.get("curvature", 0) + 20 * road.get("rate", 0), abs=5e-6)


def test_the_ground_is_that_of_a_camera_that_is_turned_aside():
    road, z = GroundPlane(CAMERA, HEIGHT, PITCH_DOWN, yaw=0.05), np.linspace(40, 6, 16)
    lanes = [road.to_pixels(np.stack((np.full(16, x), z), -1)) for x in LINES]
    fit = fitted(lanes, Estimate(PITCH_DOWN, 1e-3), yaw=0.05)
    for lane, x in zip(lanes, LINES, strict=True):
        assert fit.ground.to_metres(lane) == pytest.approx(np.stack((np.full(16, x), z), -1), abs=1e-2)


@pytest.mark.parametrize("roll", [0.0, -0.07, 0.07])
@pytest.mark.parametrize("yaw", [0.0, 0.14, -0.14, 0.52, -0.52])
def test_the_pitch_of_a_camera_that_is_turned_and_leans_is_found(roll, yaw):
    road, z = GroundPlane(CAMERA, HEIGHT, PITCH_DOWN, roll, yaw), np.geomspace(60, 6, 2000)
    lanes = []
    for offset in LINES:
        pixels = road.to_pixels(np.stack((offset + 0.017 * z + z * z / 1000, z), -1))
        rows = np.linspace(pixels[0, 1], pixels[-1, 1], 16)
        lanes.append(np.stack((np.interp(rows, pixels[:, 1], pixels[:, 0]), rows), -1))
    fit = fitted(lanes, roll=Estimate(roll, 1e-4), yaw=yaw)
    assert fit.single(PITCH).value == pytest.approx(PITCH_DOWN, abs=1e-3)
    assert fit.curvature(20).value == pytest.approx(1 / 500, rel=0.05)


def test_the_pitch_takes_two_lanes_that_come_together():
    assert fitted(seen(LINES[:1])) is None
    assert fitted(seen(LINES[:1]), Estimate(PITCH_DOWN, 1e-3)).offsets == pytest.approx(LINES[:1], abs=1e-6)
    upright = [np.stack((np.full(5, x), np.linspace(400, 700, 5)), -1) for x in (300.0, 900.0)]
    assert parallel_pitch([CAMERA.slopes(lane) for lane in upright]) is None and fitted(upright) is None
    assert parallel_pitch([CAMERA.slopes(lane) for lane in seen(curvature=0.002)]) == pytest.approx(PITCH_DOWN,
                                                                                                     abs=1e-3)


def test_lanes_above_the_horizon_show_no_road():
    lanes = [lane - (0, 400) for lane in seen()]
    assert fitted(lanes, Estimate(PITCH_DOWN, 1e-3)) is None


def test_an_exit_disturbs_the_others_little():
    exit_lane, = seen((5.2,), slope=0.08)
    alone, disturbed = (fitted(lanes, noise=PointNoise(1.5)) for lanes in (seen(), [*seen(), exit_lane]))
    assert disturbed.offsets[:3] == pytest.approx(alone.offsets, abs=0.05)
    assert disturbed.single(PITCH).value == pytest.approx(PITCH_DOWN, abs=math.radians(0.3))
    assert disturbed.misfit > 2 * alone.misfit


def test_the_stated_deviations_are_those_of_repeated_measurements():
    noise, rng, lanes = PointNoise(1.0, independent=16, outlier=1e6), np.random.default_rng(0), seen(curvature=0.001)
    known = {"roll": Estimate(0.0, 1e-6), "height_share": 1e-6, "climb": 1e-8, "rate": 1e-8}
    offset, curvature, pitch = [], [], []
    for _ in range(60):
        noisy = [lane + rng.normal(0, 1, (16, 1)) * (np.hypot(1, _lean(lane)), 0) for lane in lanes]
        fit = fitted(noisy, noise=noise, **known)
        offset.append(fit.offset([0, -0.5, -0.5]))
        curvature.append(fit.curvature(20))
        pitch.append(fit.single(PITCH))
    for estimates in (offset, curvature, pitch):
        values, stds = np.array(estimates).T
        assert 0.75 < values.std() / stds.mean() < 1.25


def _lean(lane):
    return np.mean(np.gradient(lane[:, 0], lane[:, 1]))


def straight_on(lane, row):
    """The lane, which above a row goes straight on."""
    below = lane[lane[:, 1] > row][:2]
    slope = (below[1, 0] - below[0, 0]) / (below[1, 1] - below[0, 1])
    x = np.where(lane[:, 1] > row, lane[:, 0], below[0, 0] + slope * (lane[:, 1] - below[0, 1]))
    return np.stack((x, lane[:, 1]), -1)


@pytest.mark.parametrize("radius", [250, -400])
def test_a_bend_that_goes_straight_on_far_away_is_found_and_less_sure(radius):
    """As those of a network that looks at rows: 25 px above 40 m are 100 m and more."""
    row = GroundPlane(CAMERA, HEIGHT, PITCH_DOWN).to_pixels(np.array([0.0, 40.0]))[1]
    lanes = [straight_on(lane, row) for lane in seen(curvature=1 / radius, points=48)]
    naive, rows = (fitted(lanes, noise=PointNoise(1.5, 0.03, row_px)) for row_px in (0, 40))
    error = [abs(fit.curvature(20).value * radius - 1) for fit in (naive, rows)]
    assert error[0] > 0.1 and error[1] < 0.6 * error[0]
    assert rows.curvature(20).std > 1.5 * naive.curvature(20).std


def test_points_farther_off_than_was_said_make_values_less_sure():
    """By 20 px where 0.5 are said: the deviations follow from the points."""
    rng, lanes, noise = np.random.default_rng(0), seen(points=48), PointNoise(0.5, outlier=1e6)
    noisy = [lane + rng.normal(0, 20, (48, 1)) * (1, 0) for lane in lanes]
    exact, rough = (fitted(part, Estimate(PITCH_DOWN, 1e-3), noise).curvature(20) for part in (lanes, noisy))
    assert rough.std > 3 * exact.std


def test_points_beyond_the_farthest_are_not_looked_at():
    """Where a label ends or a lorry hides the road a lane may do anything: here it is 20 px aside from 30 m on."""
    lanes, row = seen(points=48), GroundPlane(CAMERA, HEIGHT, PITCH_DOWN).to_pixels(np.array([0.0, 30.0]))[1]
    lanes = [lane + 20 * (lane[:, 1:] < row) * (1, 0) for lane in lanes]
    fit = fit_road(CAMERA, lanes, RoadPrior(HEIGHT, Estimate(PITCH_DOWN, 1e-3)), EXACT, np.ones(3), 25.0)
    assert fit.offsets == pytest.approx(LINES, abs=1e-4) and fit.misfit < 0.1


def test_rows_cost_nothing_on_a_straight_road():
    lanes = seen(points=48)
    naive, rows = (fitted(lanes, noise=PointNoise(1.5, 0.03, row_px)) for row_px in (0, 40))
    assert rows.curvature(20).std == pytest.approx(naive.curvature(20).std, rel=0.05)


def test_what_is_not_known_well_makes_values_less_sure():
    lanes, noise = seen(), PointNoise(1.5, 0.03)
    usual = fitted(lanes, noise=noise)
    for worse in (fitted(lanes, noise=PointNoise(4.5, 0.09)), fitted(lanes[1:], noise=noise),
                  fitted(lanes, noise=noise, roll=Estimate(0.0, math.radians(2)))):
        assert worse.offset([0, -0.5, -0.5][-len(worse.offsets):]).std > 1.02 * usual.offset([0, -0.5, -0.5]).std
    tall = fitted(lanes, noise=noise, height_share=0.05)
    assert tall.offset([0, -1, 1]).std > 2 * usual.offset([0, -1, 1]).std  # all widths grow with the height


@pytest.mark.parametrize("is_known", [True, False], ids=["pitch given", "pitch estimated"])
def test_the_renderer_agrees(is_known):
    """Its camera and its roads are written apart from ours."""
    offsets, bends = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        camera, road = sample_camera(rng, 1280, 720), sample_road(rng)
        camera = replace(camera, climb=0.0, climb_rate=0.0)
        camera = replace(camera, depths=visible_depths(camera))
        lines = [replace(line, shift=0.0) for line in road.lines]
        lanes = lane_polylines(camera, replace(road, lines=tuple(lines)))
        if len(lanes) < max(2, len(lines)):
            continue
        pinhole = PinholeCamera(camera.focal_x, camera.focal_y, camera.center_x, camera.horizon_y)
        prior = RoadPrior(camera.camera_height, Estimate(0.0, 0.003) if is_known else None)
        lanes = [lane[::4] for lane in lanes]
        fit = fit_road(pinhole, lanes, prior, PointNoise(1.0), np.ones(len(lanes)), 80.0)
        offsets.append(np.abs(fit.offsets - [line.offset for line in lines]).max())
        bend = camera.curvature + 20 * camera.curvature_rate
        if abs(bend) > 1e-3:
            bends.append(abs(fit.curvature(20).value / bend - 1))
    assert len(offsets) > 25 and np.median(offsets) < 0.01 and max(offsets) < 0.1
    assert len(bends) > 5 and np.median(bends) < 0.08
