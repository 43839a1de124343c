"""Pixels and metres: closed forms of a pinhole above a flat road, round trips, and OpenCV's lens."""

import math

import cv2
import numpy as np
import pytest

from geometry.ground_plane import GroundPlane, PinholeCamera, distorted, rotation, undistorted

CAMERA = PinholeCamera(1000.0, 900.0, 640.0, 360.0)
LENS = (-0.28, 0.09, 0.001, -0.002, -0.01)
ANGLES = [(0.0, 0.0, 0.0), (0.1, 0.0, 0.0), (0.05, 0.02, 0.0), (-0.03, -0.01, 0.04), (0.12, 0.03, -0.1)]


def test_a_level_camera_sees_the_road_by_similar_triangles():
    road = GroundPlane(CAMERA, 1.5)
    assert road.to_pixels([[2.0, 10.0]])[0] == pytest.approx([640 + 1000 * 2 / 10, 360 + 900 * 1.5 / 10])
    assert road.to_metres([[840.0, 495.0]])[0] == pytest.approx([2.0, 10.0], abs=1e-9)


@pytest.mark.parametrize("pitch", [0.02, 0.1, 0.2])
def test_a_camera_that_looks_down_sees_the_middle_of_its_image_at_height_over_tangent(pitch):
    x, z = GroundPlane(CAMERA, 1.4, pitch).to_metres(np.array([640.0, 360.0]))
    assert (x, z) == pytest.approx((0, 1.4 / math.tan(pitch)), abs=1e-9)
    assert GroundPlane(CAMERA, 1.4, pitch).vanishing_point() == pytest.approx([640, 360 - 900 * math.tan(pitch)])


def test_the_angles_turn_as_they_are_called():
    ahead, right = np.array([0.0, 0, 1]), np.array([1.0, 0, 0])
    assert (rotation(0.1, 0, 0) @ ahead)[1] < 0, "looking down, what is ahead lies higher in the image"
    assert (rotation(0, 0, 0.1) @ ahead)[0] < 0, "turned to the right, it lies on the left"
    assert (rotation(0, 0.1, 0) @ right)[1] < 0, "leaning to the right, what is on the right rises"
    assert np.allclose(rotation(0.1, 0.2, 0.3) @ rotation(0.1, 0.2, 0.3).T, np.eye(3))


@pytest.mark.parametrize("angles", ANGLES)
@pytest.mark.parametrize("climb", [0.0, 2e-4, -2e-4])
@pytest.mark.parametrize("lens", [(), LENS], ids=["straight", "bent"])
def test_metres_to_pixels_and_back(angles, climb, lens):
    camera = PinholeCamera(1000.0, 900.0, 640.0, 360.0, lens)
    points = np.stack(np.meshgrid(np.linspace(-4, 4, 5), np.linspace(8, 60, 7)), -1)
    road = GroundPlane(camera, 1.5, *angles, climb)
    assert road.to_metres(road.to_pixels(points)) == pytest.approx(points, abs=1e-6)


def test_the_sky_has_no_metres_and_what_is_behind_no_pixels():
    road = GroundPlane(CAMERA, 1.5)
    assert np.isnan(road.to_metres([[640.0, 359.0], [640.0, 360.0]])).all()
    assert np.isnan(road.to_pixels([[1.0, -3.0]])).all()
    crest = GroundPlane(CAMERA, 1.5, climb=-0.003)
    assert np.isnan(crest.to_metres([[640.0, 360 + 900 * 0.09]])).all(), "above the crest, below the horizon"
    assert np.isfinite(crest.to_metres([[640.0, 360 + 900 * 0.1]])).all()


@pytest.mark.parametrize("angles", ANGLES)
@pytest.mark.parametrize("heading", [0.0, 0.05])
def test_parallel_lines_meet_in_the_vanishing_point(angles, heading):
    road, z = GroundPlane(CAMERA, 1.5, *angles), 1e7
    for offset in (-2, 3):
        far = road.to_pixels(np.array([offset - math.tan(heading) * z, z]))
        assert far == pytest.approx(road.vanishing_point(heading), abs=1e-3)


def test_the_field_of_view_reaches_the_edges_and_scales_with_the_image():
    camera = PinholeCamera.from_fov(math.radians(90), 1280, 720)
    assert camera.slopes(np.array([[0.0, 360], [1280, 360]])) == pytest.approx(np.array([[-1, 0], [1, 0]]))
    assert camera.scaled(0.5, 0.5) == PinholeCamera.from_fov(math.radians(90), 640, 360)


def test_the_lens_is_that_of_opencv():
    matrix = np.array([[1000.0, 0, 640], [0, 900, 360], [0, 0, 1]])
    slopes = np.stack(np.meshgrid(np.linspace(-0.6, 0.6, 7), np.linspace(-0.35, 0.35, 5)), -1).reshape(-1, 2)
    points = np.column_stack((slopes, np.ones(len(slopes))))
    expected, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), matrix, np.array(LENS))
    camera = PinholeCamera(1000.0, 900.0, 640.0, 360.0, LENS)
    assert camera.pixels(slopes) == pytest.approx(expected[:, 0], abs=1e-6)
    assert camera.slopes(expected[:, 0]) == pytest.approx(slopes, abs=1e-6)
    assert undistorted(distorted(slopes, LENS[:2]), LENS[:2]) == pytest.approx(slopes, abs=1e-6)


def test_what_a_lens_turns_back_to_the_middle_is_not_shown():
    """r (1 - 0.3 r^2) is largest at r = 1 / sqrt(0.9): what is farther out has no pixel, in place of a wrong one."""
    camera = PinholeCamera(700.0, 700.0, 640.0, 360.0, (-0.3,))
    turn = 1 / math.sqrt(0.9)
    r = np.array([0.5, 0.99 * turn, 1.01 * turn, 1.6])
    pixels = camera.pixels(np.stack((r, 0 * r), -1))
    assert pixels[:2, 0] == pytest.approx(640 + 700 * (r - 0.3 * r**3)[:2])
    assert np.isnan(pixels[2:]).all()
    assert camera.slopes(pixels[:1])[0] == pytest.approx([r[0], 0], abs=1e-6)
    assert np.isnan(camera.slopes(np.array([640 + 700 * 0.71, 360.0]))).all(), "farther out than the lens reaches"
    road = GroundPlane(camera, 1.4)
    near = road.to_pixels(np.array([[0.0, 0.6], [0.0, 2.0]]))
    assert np.isnan(near[0]).all() and np.isfinite(near[1]).all()


def test_a_camera_rolls_about_its_own_axis():
    """Turned clockwise, it sees the point that it is pitched away from turn counterclockwise about its middle."""
    pitch, roll = 0.2, 0.3
    point = GroundPlane(PinholeCamera(1000.0, 1000.0, 640.0, 360.0), 1.4, pitch, roll).vanishing_point()
    radius = 1000 * math.tan(pitch)
    assert point == pytest.approx((640 - radius * math.sin(roll), 360 - radius * math.cos(roll)))
