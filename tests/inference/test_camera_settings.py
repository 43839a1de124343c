"""The camera of the settings: each mistake in one line, a file of its own, images of other sizes."""

import math

import pytest
from refusals import refusal

from config import CameraConfig, Config, ConfigError, load_config
from inference.camera_settings import check_camera, pinhole_camera, with_camera_file

MATRIX = {"matrix": (1000.0, 1010.0, 640.0, 350.0), "size": (1280, 720), "height": 1.4}


@pytest.mark.parametrize(("camera", "words"), [
    ({"fov": 60.0}, "camera.height, metres"),
    ({"height": 1.4}, "camera.fov (degrees"),
    ({"fov": 60.0, "height": 0.05}, "camera.height is 0.05; expected 0.2 to 10 metres"),
    ({"fov": 1.2, "height": 1.4}, "camera.fov is 1.2; expected 10 to 175 degrees (not radians)"),
    (MATRIX | {"fov": 60.0}, "give one of them"),
    (MATRIX | {"size": ()}, "camera.matrix needs camera.size"),
    (MATRIX | {"matrix": (1000.0, 640.0, 350.0)}, "has 3 numbers; expected four"),
    (MATRIX | {"matrix": (1.0, 1.0, 640.0, 350.0)}, "focal lengths of 1 and 1"),
    (MATRIX | {"matrix": (1000.0, 1000.0, 64000.0, 350.0)}, "its center at (64000, 350)"),
    (MATRIX | {"distortion": (0.1,) * 6}, "camera.distortion has 6 numbers"),
    ({"distortion": (0.1,)}, "a camera needs camera.fov"),
])
def test_a_camera_that_cannot_be_used_is_one_line(camera, words):
    refusal(lambda: check_camera(CameraConfig(**camera), "mine.yaml"), ConfigError, "mine.yaml: ", words)


@pytest.mark.parametrize(("override", "words"), [
    ("camera.height=150", "camera.height is 150.0; expected 0 to 10 metres (not centimetres)"),
    ("camera.fov=400", "camera.fov is 400.0; expected 0 to 175 degrees"),
    ("camera.pitch=90", "camera.pitch is 90.0; expected -45 to 45 degrees"),
    ("camera.pitch=level", "expected one of auto"),
    ("camera.speed=400", "expected 0 to 150 metres a second"),
    ("camera.hight=1.4", "did you mean 'camera.height'"),
])
def test_a_value_out_of_range_is_one_line_with_its_unit(override, words):
    refusal(lambda: load_config(None, [override]), ConfigError, words)


def test_no_camera_is_none():
    assert check_camera(CameraConfig()) is False and check_camera(CameraConfig(fov=60.0, height=1.4)) is True
    assert check_camera(CameraConfig(**MATRIX)) is True


@pytest.mark.parametrize("text", ["fov: 70\nheight: 1.3\npitch: 2\n", "camera: {fov: 70, height: 1.3, pitch: 2}\n"])
def test_a_file_has_the_keys_alone_or_in_their_section(tmp_path, text):
    path = tmp_path / "camera.yaml"
    path.write_text(text)
    camera = CameraConfig(fov=70.0, height=1.3, pitch=2.0)
    assert with_camera_file(Config(), path) == Config(camera=camera)
    overrides = ["camera.height=2", "camera.pitch=auto"]
    changed = with_camera_file(load_config(None, overrides), path, overrides)
    assert changed.camera == CameraConfig(fov=70.0, height=2.0)


@pytest.mark.parametrize(("text", "words"), [
    ("", "expected keys such as"), ("- 60\n", "expected keys such as"), ("fov: [", "not valid YAML"),
    ("fov: 60\n", "camera.height"), ("fov: 60\nheight: tall\n", "camera.height is 'tall'"),
    ("fov: 60\nhight: 1\n", "did you mean 'camera.height'"), ("a" * 200_000, "200000 characters")])
def test_a_file_that_is_no_camera_is_one_line(tmp_path, text, words):
    path = tmp_path / "camera.yaml"
    path.write_text(text)
    refusal(lambda: with_camera_file(Config(), path), ConfigError, "camera.yaml", words)


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    refusal(lambda: with_camera_file(Config(), tmp_path / "no.yaml"), FileNotFoundError, "no.yaml: no such file")


def test_a_matrix_is_scaled_to_the_image_and_refuses_another_shape():
    camera = pinhole_camera(CameraConfig(**MATRIX, distortion=(0.1,)), (640, 360))
    assert (camera.fx, camera.fy, camera.cx, camera.cy, camera.distortion) == (500, 505, 320, 175, (0.1,))
    refusal(lambda: pinhole_camera(CameraConfig(**MATRIX), (640, 480)), ValueError, "640x480", "for 1280x720")
    refusal(lambda: pinhole_camera(CameraConfig(**MATRIX), (1280, 768)), ValueError, "1280x768", "for 1280x720")
    assert pinhole_camera(CameraConfig(**MATRIX), (641, 360)).cx == pytest.approx(320.5)  # rounded when resized


def test_a_field_of_view_is_across_the_width_of_any_image():
    camera = pinhole_camera(CameraConfig(fov=90.0, height=1.4), (640, 480))
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == pytest.approx((320, 320, 320, 240))
    wider = pinhole_camera(CameraConfig(fov=60.0, height=1.4), (1280, 480))
    assert wider.fx == pytest.approx(640 / math.tan(math.radians(30)))
