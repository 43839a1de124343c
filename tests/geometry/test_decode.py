"""Decoding: NMS of neighbouring slots, and x at given rows."""

import itertools
import math

import pytest
import torch

from formats.metric import THRESHOLDS
from geometry.bezier import control_points_from_x, sample_curve, x_at_rows
from geometry.decode import by_threshold, lane_nms, rows_from_curves
from geometry.lane_arrays import MIN_GAP

TOLERANCE = 5 / 720


def lanes_at(*bottoms, y_far=0.4, y_near=0.9, top=0.5):
    """Straight lanes (N, P, 2) from (top, 0.4) that reach the bottom edge at the given x."""
    bottoms = torch.tensor(bottoms)
    fraction = (torch.linspace(y_far, y_near, 6) - 0.4) / 0.6
    x = top + (bottoms[:, None] - top) * fraction
    return control_points_from_x(x, torch.full(bottoms.shape, y_far), torch.full(bottoms.shape, y_near))


def test_of_two_duplicates_the_more_confident_is_kept():
    points = lanes_at(-0.2, 0.1, 0.49, 0.50, 0.9, 1.2)[None]
    confidence = torch.tensor([[0.9, 0.9, 0.7, 0.8, 0.9, 0.1]])
    assert lane_nms(points, confidence, 0.5).tolist() == [[True, True, False, True, True, False]]
    assert lane_nms(points, confidence.flip(1) + 0.3, 0.5).tolist() == [[False, True, True, False, True, True]]
    tie = torch.full((1, 6), 0.9)
    assert lane_nms(points, tie, 0.5).sum() == 5


@pytest.mark.parametrize(("apart_px", "count"), [(18, 1), (21, 2)])
def test_lanes_are_one_line_up_to_19_px_of_1280(apart_px, count):
    points = lanes_at(0.4, 0.4)
    points[1, :, 0] += apart_px / 1280
    assert lane_nms(points[None], torch.tensor([[0.9, 0.8]]), 0.5).sum() == count


def test_a_lane_that_is_left_out_hides_no_other():
    """The second is near both others, which are 26 px of 1280 apart."""
    points = lanes_at(0.4, 0.4, 0.4)
    points[..., 0] += torch.tensor([0.0, 0.01, 0.02])[:, None]
    assert lane_nms(points[None], torch.tensor([[0.9, 0.8, 0.7]]), 0.5).tolist() == [[True, False, True]]


def test_duplicates_of_different_length_are_duplicates():
    points = torch.cat((lanes_at(0.2, y_far=0.4), lanes_at(0.2, y_far=0.55)))[None]
    assert lane_nms(points, torch.tensor([[0.9, 0.8]]), 0.5).tolist() == [[True, False]]


def test_many_thresholds_give_the_lanes_of_each():
    """Also where a confidence is the threshold itself, in float32."""
    generator = torch.Generator().manual_seed(0)
    points = torch.stack([lanes_at(*(0.4 + 0.02 * torch.rand(6, generator=generator)).tolist()) for _ in range(40)])
    confidence = torch.rand(40, 6, generator=generator)
    confidence[:, 2] = torch.from_numpy(THRESHOLDS[:40]).float()
    masks = lane_nms(points, confidence, by_threshold(THRESHOLDS))
    assert torch.equal(masks, torch.stack([lane_nms(points, confidence, float(t)) for t in THRESHOLDS]))
    assert (masks.sum(-1) < (confidence >= by_threshold(THRESHOLDS)).sum(-1)).any(), "no duplicates to leave out"


def test_lanes_apart_are_all_kept_and_a_duplicate_below_the_threshold_hides_nothing():
    points = lanes_at(-0.2, 0.1, 0.45, 0.55, 0.9, 1.2)[None]
    assert lane_nms(points, torch.full((1, 6), 0.6), 0.5).all()
    points = lanes_at(-0.2, 0.1, 0.49, 0.50, 0.9, 1.2)[None]
    confidence = torch.tensor([[0.9, 0.9, 0.45, 0.8, 0.9, 0.9]])
    assert lane_nms(points, confidence, 0.5).tolist() == [[True, True, False, True, True, True]]


@pytest.mark.parametrize("threshold", [0.0, 0.3])
def test_duplicates_are_those_of_the_curves_themselves(threshold):
    """Beside the same in PyTorch, lane by lane, on curves that are often near each other, and NaN of a few."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.rand(*shape, generator=generator)

    offsets = (0.06 * random(40, 6, 1) - 0.02).cumsum(1)
    x = 0.3 + 0.3 * random(40, 1, 6) + offsets + 0.01 * random(40, 6, 6)
    points, confidence = control_points_from_x(x, 0.5 * random(40, 6), 0.5 + 0.5 * random(40, 6)), random(40, 6)
    points[0, 2], points[1, 3, 2:] = math.nan, math.inf
    keep = lane_nms(points, confidence, threshold)
    expected = confidence >= threshold
    for image, slot in itertools.product(range(40), range(5)):
        left, right = points[image, slot], sample_curve(points[image, slot + 1], 16)
        left_x, t = x_at_rows(left, right[:, 1])
        both = (t >= 0) & (t <= 1)
        if expected[image, slot:slot + 2].all() and (left_x - right[:, 0])[both].abs().mean() < MIN_GAP:
            right_wins = confidence[image, slot + 1] > confidence[image, slot]
            expected[image, slot if right_wins else slot + 1] = False
    assert torch.equal(keep, expected)
    assert 5 < (confidence >= threshold).sum() - keep.sum() < 120


def test_without_an_image_no_lane_is_kept():
    assert lane_nms(torch.zeros(0, 6, 6, 2), torch.zeros(0, 6), 0.5).shape == (0, 6)


def test_a_confidence_equal_to_the_threshold_is_enough():
    points = lanes_at(0.1, 0.9)[None]
    assert lane_nms(points, torch.tensor([[0.5, 0.49]]), 0.5).tolist() == [[True, False]]


def test_rows_have_the_x_of_the_lane_and_minus_one_elsewhere():
    curve = lanes_at(0.2)  # from row 0.4 to row 0.9
    rows = torch.tensor([0.1, 0.4, 0.7, 0.9, 1.0])
    x = rows_from_curves(curve, rows, TOLERANCE)[0]
    torch.testing.assert_close(x, torch.tensor([-1.0, 0.5, 0.35, 0.25, -1.0]))


def test_a_lane_reaches_its_tolerance_beyond_its_ends_and_no_further():
    curve = lanes_at(0.2)
    rows = torch.tensor([0.4 - 6 / 720, 0.4 - 4 / 720, 0.9 + 4 / 720, 0.9 + 6 / 720])
    assert (rows_from_curves(curve, rows, TOLERANCE)[0] >= 0).tolist() == [False, True, True, False]
    assert (rows_from_curves(curve, rows, tolerance=7 / 720)[0] >= 0).all()
    assert (rows_from_curves(curve, rows, tolerance=0.0)[0] < 0).all()


def test_a_point_outside_the_image_is_no_point():
    curve = torch.stack((torch.tensor([0.5, 0.3, 0.1, -0.1, -0.3, -0.5]), torch.linspace(0.4, 0.9, 6)), dim=1)
    rows = torch.tensor([0.45, 0.6, 0.75, 0.85])
    assert (rows_from_curves(curve, rows, TOLERANCE) >= 0).tolist() == [True, True, False, False]
    mirrored = torch.stack((1 - curve[:, 0], curve[:, 1]), dim=1)
    x = rows_from_curves(mirrored, rows, TOLERANCE)
    assert (x >= 0).tolist() == [True, True, False, False]
    assert (x[2:] == -1).all()


def test_within_its_tolerance_a_lane_goes_straight_on():
    rows = torch.tensor([0.4 - 4 / 720, 0.9 + 4 / 720])
    x = rows_from_curves(lanes_at(0.2), rows, TOLERANCE)[0]  # a straight one, 0.5 across to the left for each height
    torch.testing.assert_close(x, torch.tensor([0.5 + 0.5 * 4 / 720, 0.25 - 0.5 * 4 / 720]))
    leaves = torch.stack((torch.linspace(0.5, 0.0, 6), torch.linspace(0.4, 0.9, 6)), dim=1)  # by the left edge
    assert (rows_from_curves(leaves, rows, TOLERANCE) >= 0).tolist() == [True, False]
