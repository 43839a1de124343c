"""From labels to slots: lanes cut at the image border, fitted, counted where they do not fit."""

import numpy as np
import pytest
import torch

from formats.base import Label
from preprocessing.targets import inside_image, lanes_in_slots


def lane(*points):
    return np.array(points, np.float32).reshape(-1, 2)


def test_labels_in_either_direction_give_the_same_curves():
    down, up = lane((500, 300), (400, 400), (300, 500)), lane((300, 500), (400, 400), (500, 300))
    a, b = (lanes_in_slots(Label([points]), (1280, 720), 6) for points in (down, up))
    assert torch.equal(a[0].points, b[0].points)
    assert a[0].exists.tolist() == [False, False, True, False, False, False]
    assert a[0].points[2, 0].tolist() == pytest.approx([500 / 1280, 300 / 720])
    assert a[0].points[2, 5].tolist() == pytest.approx([300 / 1280, 500 / 720])


def test_lanes_that_cannot_be_learned_are_counted():
    good = lane((500, 300), (300, 500))
    short = [lane(), lane((5, 5)), lane((5, 300), (900, 300)), lane((-50, 300), (-20, 400), (-10, 500))]
    target, num_unassigned, num_too_short = lanes_in_slots(Label([good, *short]), (1280, 720), 6)
    assert (int(target.exists.sum()), num_unassigned, num_too_short) == (1, 0, 4)
    many = [lane((640, 300), (x, 700)) for x in (100, 200, 300, 400, 700)]
    target, num_unassigned, num_too_short = lanes_in_slots(Label(many), (1280, 720), 6)
    assert (int(target.exists.sum()), num_unassigned, num_too_short) == (4, 1, 0)
    target, num_unassigned, num_too_short = lanes_in_slots(Label([]), (1280, 720), 4)
    assert target.points.shape == (4, 6, 2) and not target.exists.any() and (num_unassigned, num_too_short) == (0, 0)


def test_a_lane_that_leaves_the_image_ends_at_its_border():
    target, _, _ = lanes_in_slots(Label([lane((500, 300), (200, 500), (-100, 700))]), (1280, 720), 6)
    curve = target.points[target.exists][0]
    assert curve[-1].tolist() == pytest.approx([0, (500 + 200 * 2 / 3) / 720], abs=1e-5)
    target, _, num_too_short = lanes_in_slots(Label([lane((700, 400), (1500, 720))]), (1280, 720), 6)
    assert num_too_short == 0
    curve = target.points[target.exists][0]
    assert curve[[0, -1]].flatten().tolist() == pytest.approx([700 / 1280, 400 / 720, 1, 632 / 720], abs=1e-5)


INSIDE = [[(0.2, 0.3), (0.4, 0.5), (0.7, 0.9)], [(0.5, 0.2), (0.5, 0.8)], [(0.1, 0.4), (0.9, 0.4)]]
OUTSIDE = [[], [(0.5, 0.5)], [(-0.5, 0.2), (-0.1, 0.8)], [(-0.6, 0.5), (0.2, 1.6)], [(1.2, 0.1), (1.2, 0.9)]]


@pytest.mark.parametrize("points", INSIDE)
def test_a_polyline_inside_the_image_is_left_as_it_is(points):
    np.testing.assert_allclose(inside_image(np.float32(points)), np.float32(points), atol=1e-6)


@pytest.mark.parametrize("points", OUTSIDE)
def test_nothing_is_left_of_a_polyline_outside(points):
    assert inside_image(np.float32(points).reshape(-1, 2)).shape == (0, 2)
