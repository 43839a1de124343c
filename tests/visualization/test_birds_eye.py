"""The road from above: what lies where on the ground lies there in the view; notes are drawn in their corner."""

import math

import cv2
import numpy as np
import pytest
import torch

from geometry.curve_fit import fit_polylines
from geometry.ground_plane import GroundPlane, PinholeCamera
from visualization.birds_eye import AHEAD_M, WARNING_COLOR, birds_eye, draw_notes

HEIGHT, WIDTH = 360, 640
ROAD = GroundPlane(PinholeCamera.from_fov(math.radians(70), WIDTH, HEIGHT), 1.4, math.radians(5))
BLUE = (0, 0, 255)


def scene(*places):
    """A gray image with white discs of 0.6 m on the ground at these places (X, Z)."""
    image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    angle = np.linspace(0, 2 * np.pi, 40)
    for x, z in places:
        outline = ROAD.to_pixels(np.stack((x + 0.6 * np.cos(angle), z + 0.6 * np.sin(angle)), -1))
        cv2.fillPoly(image, [np.round(outline * 16).astype(np.int32)], (255, 255, 255), cv2.LINE_AA, 4)
    return image


def at(view, x, z):
    """The color of a place in the view."""
    scale = HEIGHT / AHEAD_M
    return view[round(HEIGHT - z * scale), round(view.shape[1] / 2 + x * scale)].tolist()


def test_the_ground_lies_at_its_metres():
    places = [(-3.5, 12.0), (2.5, 12.0), (3.5, 25.0)]
    view = birds_eye(scene(*places), ROAD, torch.zeros(0, 6, 2), [])
    assert view.shape == (HEIGHT, HEIGHT // 2, 3)
    for place in places:
        assert min(at(view, *place)) > 200
    assert at(view, -2.0, 12.0) == [90, 90, 90] and at(view, 3.5, 22.0) == [90, 90, 90]
    assert at(view, -8.0, 5.0) == [20, 20, 20], "outside the image"


@pytest.mark.parametrize("offset", [-1.8, 1.7])
def test_a_lane_is_drawn_where_it_runs(offset):
    z = np.geomspace(40, 6, 100)
    lane = ROAD.to_pixels(np.stack((np.full(100, offset), z), -1)) / (WIDTH, HEIGHT)
    curve = torch.from_numpy(fit_polylines(lane, np.array([len(lane)]))[0]).float()
    view = birds_eye(scene(), ROAD, curve, [BLUE])
    for ahead in (12, 18, 27):
        assert at(view, offset, ahead) == [*BLUE]
    assert at(view, -offset, 12) == [90, 90, 90]


def test_without_ground_the_view_says_so():
    view = birds_eye(scene(), None, torch.zeros(0, 6, 2), [])
    assert view.shape == (HEIGHT, HEIGHT // 2, 3) and view.max() > 200


@pytest.mark.parametrize("size", [(90, 160), (360, 640), (1080, 1920), (60, 40)])
def test_notes_stay_in_the_image_and_grow_with_it(size):
    image = np.full((*size, 3), 200, np.uint8)
    drawn = draw_notes(image, ["0.31 m right of the middle", "right line in 0.3 s"], is_warning=True)
    assert drawn.shape == image.shape and (image == 200).all(), "a copy"
    changed = (drawn != 200).any((1, 2)).nonzero()[0]
    assert changed[0] == 0 and (size[0] < 100 or changed[-1] < 0.2 * size[0])
    if size[0] >= 360:
        assert levels_from_warning(drawn) <= 4, "thin strokes of OpenCV 4 are blended a little with what is behind them"
        assert levels_from_warning(draw_notes(image, ["right line in 3.0 s"])) > 60


def test_a_note_fits_in_a_portrait():
    """Its last letter ends before the image does, and the letters are as high as the image's width allows."""
    image = np.full((980, 736, 3), 200, np.uint8)
    drawn = draw_notes(image, ["bend of 3288 m to the left, heading 4.8 deg to the right|"])
    letters = (drawn > 240).all(2).any(0).nonzero()[0]
    assert 0.9 * 736 < letters[-1] < 730


def levels_from_warning(image):
    """Of 255, by which the nearest pixel differs from WARNING_COLOR."""
    return np.abs(image.astype(int) - WARNING_COLOR).max(2).min()
