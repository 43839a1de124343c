"""The camera of rendered scenes: projection of road points, and what of the road is visible."""

from dataclasses import replace

import numpy as np
import pytest

from renderer.camera import ASPECTS, DEPTH_SAMPLES, FOCAL_LENGTHS, HORIZONS, Camera, sample_camera

FLAT = Camera(640, 360, 800.0, 600.0, 320.0, 120.0, 1.5, 0.0, 0.0, 0.0, 0.0, 0.0)


def test_a_flat_straight_road_is_projected_by_similar_triangles():
    assert FLAT.project(0.0, [10.0]).tolist() == [[320.0, 120.0 + 600 * 1.5 / 10]]
    assert FLAT.project([2.0, -2.0], 20.0).tolist() == [[400.0, 165.0], [240.0, 165.0]]
    assert FLAT.project(0.0, 10.0, up=1.5).tolist() == [[320.0, 120.0]]  # as high as the camera: on the horizon
    assert FLAT.pixels_per_metre(20.0) == 40.0


def test_yaw_curvature_and_climb_move_the_road():
    z = np.array([10.0, 50.0])
    bent = replace(FLAT, yaw=0.01, curvature=0.002, curvature_rate=0.0001)
    expected = 0.01 * z + 0.002 * z**2 / 2 + 0.0001 * z**3 / 6
    assert bent.road_offset(z) == pytest.approx(expected)
    assert bent.project(1.0, z)[:, 0] == pytest.approx(320 + 800 * (1 + expected) / z)
    climbing = replace(FLAT, climb=0.001)
    assert climbing.project(0.0, z)[:, 1] == pytest.approx(120 + 600 * (1.5 - 0.001 * z**2 / 2) / z)


def test_cameras_of_towns_are_of_any_aspect_focal_length_and_horizon():
    cameras = [sample_camera(np.random.default_rng(seed), 640, 360, "town") for seed in range(400)]
    aspects = np.array([camera.focal_y / camera.focal_x * 640 / 360 for camera in cameras])
    focal_lengths = np.array([camera.focal_x / 640 for camera in cameras])
    horizons = np.array([camera.horizon_y / 360 for camera in cameras])
    for values, (low, high) in ((aspects, ASPECTS), (focal_lengths, FOCAL_LENGTHS), (horizons, HORIZONS)):
        assert low <= values.min() + 1e-9 and values.max() <= high + 1e-9
        assert values.min() < low + 0.1 * (high - low) and values.max() > high - 0.1 * (high - low)


def test_most_cameras_of_motorways_are_like_tusimples():
    cameras = [sample_camera(np.random.default_rng(seed), 640, 360) for seed in range(200)]
    horizons = np.array([camera.horizon_y for camera in cameras]) / 360
    assert np.median(horizons) == pytest.approx(0.33, abs=0.02)
    assert 0.55 < (np.abs(horizons - 0.33) < 0.06).mean() < 0.8


@pytest.mark.parametrize("place", ["motorway", "town", "country"])
@pytest.mark.parametrize("size", [(640, 360), (320, 144), (96, 64)])
def test_depths_run_from_below_the_image_up_to_a_horizon_or_crest(size, place):
    for seed in range(50):
        camera = sample_camera(np.random.default_rng(seed), *size, place)
        y = camera.project(0.0, camera.depths)[:, 1]
        assert camera.depths.shape == (DEPTH_SAMPLES,) and (np.diff(camera.depths) > 0).all()
        assert y[0] > camera.height and (np.diff(y) < 0).all()
