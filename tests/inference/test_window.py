"""A window that shows images, and the machines that have none."""

import itertools
import sys

import cv2
import numpy as np
import pytest
from roads import picture, write_pictures

from inference import window

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there may be a display whatever the environment says")
def test_without_a_display_the_rest_goes_on(run, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    write_pictures(".", "a.png", "b.png")
    status, out, err = run("a.png", "b.png", "--show")
    assert status == 0 and "a.png" in out and "b.png" in out
    assert len(err) == 1 and err[0].startswith("--show: no display here")


@pytest.mark.parametrize(("key", "images"), [(ord(" "), 3), (ord("q"), 1), (27, 1)])
def test_each_image_is_shown_until_a_key_is_pressed(run, monkeypatch, key, images):
    write_pictures("a", "1.png", "2.png", "3.png")
    shown, keys = [], itertools.cycle([-1, key])
    monkeypatch.setattr(window, "has_display", lambda: True)
    for name in ("namedWindow", "resizeWindow"):
        monkeypatch.setattr(cv2, name, lambda *_: None)
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: 1.0)
    monkeypatch.setattr(cv2, "imshow", lambda _, image: shown.append(image))
    monkeypatch.setattr(cv2, "waitKey", lambda _: next(keys))
    status, _, err = run("a", "--show", "--threshold", "1", "inference.batch_size=1")
    assert (status, err) == (0, [])
    assert len(shown) == images
    np.testing.assert_array_equal(shown[0], picture(0)[..., ::-1])
