"""Slots: which lane is which, counted from the camera, and back."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geometry.bezier import control_points_from_x
from geometry.decode import lane_nms, rows_from_curves
from geometry.slots import (
    CAMERA_X,
    LaneTarget,
    assign_slots,
    bottom_x,
    resolve_ambiguous_assignment,
    shift_slots,
    slot_indices,
)

SLOTS = 6


def lanes_at(*bottoms, y_far=0.4, y_near=0.9, top=0.5):
    """Straight lanes (N, P, 2) from (top, 0.4) that meet the bottom edge at the given x."""
    bottoms = torch.tensor(bottoms)
    fraction = (torch.linspace(y_far, y_near, 6) - 0.4) / 0.6
    x = top + (bottoms[:, None] - top) * fraction
    return control_points_from_x(x, torch.full(bottoms.shape, y_far), torch.full(bottoms.shape, y_near))


def target_at(*bottoms, slots=SLOTS):
    points = lanes_at(*bottoms)[None]
    return assign_slots(points, torch.ones(points.shape[:2], dtype=torch.bool), slots)


def numbers_at(*bottoms, slots=SLOTS):
    points = lanes_at(*bottoms)
    return slot_indices(points, torch.ones(len(bottoms), dtype=torch.bool), slots).tolist()


def logits_for(exists):
    return torch.where(exists, 6.0, -6.0)


apart = st.lists(st.floats(-0.5, 1.5, width=32).filter(lambda x: abs(x - 0.5) > 1e-3), min_size=1, max_size=8,
                 unique_by=lambda x: round(x, 3))


def test_bottom_is_where_a_lane_would_meet_the_lower_edge():
    torch.testing.assert_close(bottom_x(lanes_at(-0.3, 0.2, 0.5, 1.4)), torch.tensor([-0.3, 0.2, 0.5, 1.4]))
    torch.testing.assert_close(bottom_x(lanes_at(0.2, y_near=1.0)), torch.tensor([0.2]))


def test_slots_are_counted_outward_from_the_camera():
    assert numbers_at(-0.2, 0.1, 0.4, 0.6, 0.9, 1.2) == [0, 1, 2, 3, 4, 5]
    assert numbers_at(0.4) == [2]
    assert numbers_at(0.6, 1.2) == [3, 4]
    assert numbers_at(0.9, 0.4, 0.6) == [4, 2, 3]


@settings(max_examples=60, deadline=None)
@given(apart, st.randoms())
def test_the_order_in_the_file_plays_no_part(bottoms, random):
    mixed = list(bottoms)
    random.shuffle(mixed)
    a, b = target_at(*bottoms), target_at(*mixed)
    assert torch.equal(a.exists, b.exists)
    torch.testing.assert_close(a.points, b.points, atol=1e-6, rtol=0)


@settings(max_examples=60, deadline=None)
@given(apart)
def test_a_mirrored_road_has_mirrored_slots(bottoms):
    a, b = target_at(*bottoms), target_at(*(1 - x for x in bottoms))
    assert torch.equal(a.exists, b.exists.flip(1))
    mirrored = torch.stack((1 - a.points[..., 0], a.points[..., 1]), dim=-1) * a.exists[..., None, None]
    torch.testing.assert_close(mirrored, b.points.flip(1), atol=1e-5, rtol=0)


@settings(max_examples=60, deadline=None)
@given(apart, st.sampled_from([2, 4, 6]))
def test_lanes_beyond_the_slots_are_left_out_and_the_nearest_kept(bottoms, slots):
    left = sorted((x for x in bottoms if x < 0.5), reverse=True)
    right = sorted(x for x in bottoms if x > 0.5)
    numbers = numbers_at(*bottoms, slots=slots)
    half = slots // 2
    for x, number in zip(bottoms, numbers, strict=True):
        rank = left.index(x) if x < 0.5 else right.index(x)
        assert number == (-1 if rank >= half else half - 1 - rank if x < 0.5 else half + rank)
    target = target_at(*bottoms, slots=slots)
    assert int(target.exists.sum()) == min(len(left), half) + min(len(right), half)


def test_absent_lanes_take_no_slot_and_no_rank():
    points = lanes_at(0.4, 0.2)[None]
    target = assign_slots(points, torch.tensor([[False, True]]), SLOTS)
    assert target.exists.tolist() == [[False, False, True, False, False, False]]
    torch.testing.assert_close(target.points[0, 2], points[0, 1])
    assert not target.points[~target.exists].any()


def test_a_lane_exactly_at_the_camera_has_one_slot():
    points = lanes_at(0.5)
    assert bottom_x(points).item() == CAMERA_X
    assert slot_indices(points, torch.tensor([True]), SLOTS).tolist() == [3]
    assert numbers_at(0.5, 0.6, 0.4) == [3, 4, 2]


def test_two_lanes_that_meet_at_the_bottom_take_two_slots():
    a = lanes_at(0.7, top=0.5)
    b = a.clone()
    both = torch.cat((a, b))
    assert slot_indices(both, torch.ones(2, dtype=torch.bool), SLOTS).tolist() == [3, 4]
    three = torch.cat((both, lanes_at(0.9)))
    assert slot_indices(three, torch.ones(3, dtype=torch.bool), SLOTS).tolist() == [3, 4, 5]


def test_slots_of_a_batch_are_those_of_its_images():
    points = torch.stack((lanes_at(0.1, 0.4, 0.8), lanes_at(0.9, 0.6, 0.55)))
    exists = torch.tensor([[True, True, True], [True, False, True]])
    together = assign_slots(points, exists, SLOTS)
    for i in range(2):
        one = assign_slots(points[i:i + 1], exists[i:i + 1], SLOTS)
        assert torch.equal(together.exists[i], one.exists[0])
        assert torch.equal(together.points[i], one.points[0])


def test_shifting_there_and_back_loses_only_what_left_the_slots():
    target = target_at(0.1, 0.4, 0.6, 0.9)  # slots 1 to 4
    for step in (-1, 1):
        there = shift_slots(target, torch.tensor([step]))
        assert there.exists.nonzero()[:, 1].tolist() == [1 + step, 2 + step, 3 + step, 4 + step]
        back = shift_slots(there, torch.tensor([-step]))
        assert torch.equal(back.exists, target.exists)
        assert torch.equal(back.points, target.points)
    full = target_at(-0.2, 0.1, 0.4, 0.6, 0.9, 1.2)
    back = shift_slots(shift_slots(full, torch.tensor([1])), torch.tensor([-1]))
    assert back.exists.tolist() == [[True] * 5 + [False]]
    assert not back.points[0, 5].any()


def test_each_image_of_a_batch_is_shifted_by_its_own_number():
    one = target_at(0.4, 0.6)
    batch = LaneTarget(one.points.expand(3, -1, -1, -1), one.exists.expand(3, -1))
    moved = shift_slots(batch, torch.tensor([-1, 0, 1]))
    assert [row.nonzero()[:, 0].tolist() for row in moved.exists] == [[1, 2], [2, 3], [3, 4]]
    assert torch.equal(moved.points[1], one.points[0])


@pytest.mark.parametrize(("bottoms", "step"), [((0.1, 0.48, 0.9), 1), ((0.1, 0.52, 0.9), -1), ((0.1, 0.5, 0.9), -1),
                                               ((0.48, 0.52, 0.9), 1)])
def test_on_a_line_the_count_that_the_prediction_made_is_right(bottoms, step):
    target = target_at(*bottoms)
    other = shift_slots(target, torch.tensor([step]))
    for said in (target, other):
        chosen = resolve_ambiguous_assignment(said.points, logits_for(said.exists), target)
        assert torch.equal(chosen.exists, said.exists)
        assert torch.equal(chosen.points, said.points)


def test_the_nearer_curves_decide_where_existence_says_nothing():
    target = target_at(0.1, 0.48, 0.9)
    other = shift_slots(target, torch.tensor([1]))
    logits = torch.zeros(1, SLOTS)
    for said in (target, other):
        rough = said.points + 0.02
        chosen = resolve_ambiguous_assignment(rough, logits, target)
        assert torch.equal(chosen.exists, said.exists)


def test_between_lines_there_is_one_count_whatever_the_prediction():
    target = target_at(0.1, 0.42, 0.58, 0.9)  # nothing within 0.05 of the camera
    other = shift_slots(target, torch.tensor([1]))
    chosen = resolve_ambiguous_assignment(other.points, logits_for(other.exists), target)
    assert torch.equal(chosen.exists, target.exists)
    assert torch.equal(chosen.points, target.points)


@settings(max_examples=60, deadline=None)
@given(apart, st.sampled_from([2, 4, 6]), st.integers(0, 2**31))
def test_no_count_drops_a_lane(bottoms, slots, seed):
    target = target_at(*[0.5 + (x - 0.5) / 10 if i == 0 else x for i, x in enumerate(bottoms)], slots=slots)
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(1, slots, 6, 2, generator=generator)
    logits = torch.randn(1, slots, generator=generator) * 10
    chosen = resolve_ambiguous_assignment(points, logits, target)
    assert chosen.exists.sum() == target.exists.sum()
    real = sorted(target.points[target.exists].flatten(1).tolist())
    assert sorted(chosen.points[chosen.exists].flatten(1).tolist()) == real


def test_each_image_of_a_batch_has_its_own_count():
    a, b = target_at(0.1, 0.48, 0.9), target_at(0.1, 0.42, 0.9)
    target = LaneTarget(torch.cat((a.points, b.points)), torch.cat((a.exists, b.exists)))
    said = shift_slots(target, torch.tensor([1, 1]))
    chosen = resolve_ambiguous_assignment(said.points, logits_for(said.exists), target)
    assert torch.equal(chosen.exists, torch.cat((said.exists[:1], b.exists)))


def test_nothing_is_differentiated_through_the_choice_of_a_count():
    target = target_at(0.1, 0.48, 0.9)
    points = target.points.clone().requires_grad_()
    logits = torch.zeros(1, SLOTS, requires_grad=True)
    chosen = resolve_ambiguous_assignment(points, logits, target)
    assert not chosen.points.requires_grad


def test_of_two_lanes_on_one_line_the_surer_is_kept():
    points = lanes_at(-0.2, 0.1, 0.49, 0.50, 0.9, 1.2)[None]
    confidence = torch.tensor([[0.9, 0.9, 0.7, 0.8, 0.9, 0.1]])
    assert lane_nms(points, confidence, 0.5).tolist() == [[True, True, False, True, True, False]]
    assert lane_nms(points, confidence.flip(1) + 0.3, 0.5).tolist() == [[False, True, True, False, True, True]]
    tie = torch.full((1, 6), 0.9)
    assert lane_nms(points, tie, 0.5).sum() == 5


def test_one_line_seen_to_different_distances_is_still_one():
    points = torch.cat((lanes_at(0.2, y_far=0.4), lanes_at(0.2, y_far=0.55)))[None]
    assert lane_nms(points, torch.tensor([[0.9, 0.8]]), 0.5).tolist() == [[True, False]]


def test_lanes_apart_are_all_kept_and_a_doubtful_double_hides_nothing():
    points = lanes_at(-0.2, 0.1, 0.45, 0.55, 0.9, 1.2)[None]
    assert lane_nms(points, torch.full((1, 6), 0.6), 0.5).all()
    points = lanes_at(-0.2, 0.1, 0.49, 0.50, 0.9, 1.2)[None]
    confidence = torch.tensor([[0.9, 0.9, 0.45, 0.8, 0.9, 0.9]])
    assert lane_nms(points, confidence, 0.5).tolist() == [[True, True, False, True, True, True]]


def test_a_confidence_equal_to_the_threshold_is_enough():
    points = lanes_at(0.1, 0.9)[None]
    assert lane_nms(points, torch.tensor([[0.5, 0.49]]), 0.5).tolist() == [[True, False]]


def test_rows_have_the_x_of_the_lane_and_minus_one_elsewhere():
    curve = lanes_at(0.2)  # from row 0.4 to row 0.9
    rows = torch.tensor([0.1, 0.4, 0.7, 0.9, 1.0])
    x = rows_from_curves(curve, rows)[0]
    torch.testing.assert_close(x, torch.tensor([-1.0, 0.5, 0.35, 0.25, -1.0]))


def test_a_lane_reaches_its_tolerance_beyond_its_ends_and_no_further():
    curve = lanes_at(0.2)
    rows = torch.tensor([0.4 - 6 / 720, 0.4 - 4 / 720, 0.9 + 4 / 720, 0.9 + 6 / 720])
    assert (rows_from_curves(curve, rows)[0] >= 0).tolist() == [False, True, True, False]
    assert (rows_from_curves(curve, rows, tolerance=7 / 720)[0] >= 0).all()
    assert (rows_from_curves(curve, rows, tolerance=0.0)[0] < 0).all()


def test_a_point_outside_the_image_is_no_point():
    curve = torch.stack((torch.tensor([0.5, 0.3, 0.1, -0.1, -0.3, -0.5]), torch.linspace(0.4, 0.9, 6)), dim=1)
    rows = torch.tensor([0.45, 0.6, 0.75, 0.85])
    assert (rows_from_curves(curve, rows) >= 0).tolist() == [True, True, False, False]
    mirrored = torch.stack((1 - curve[:, 0], curve[:, 1]), dim=1)
    x = rows_from_curves(mirrored, rows)
    assert (x >= 0).tolist() == [True, True, False, False]
    assert (x[2:] == -1).all()


def test_within_its_tolerance_a_lane_goes_straight_on():
    rows = torch.tensor([0.4 - 4 / 720, 0.9 + 4 / 720])
    x = rows_from_curves(lanes_at(0.2), rows)[0]  # a straight one, 0.5 across to the left for each height
    torch.testing.assert_close(x, torch.tensor([0.5 + 0.5 * 4 / 720, 0.25 - 0.5 * 4 / 720]))
    leaves = torch.stack((torch.linspace(0.5, 0.0, 6), torch.linspace(0.4, 0.9, 6)), dim=1)  # by the left edge
    assert (rows_from_curves(leaves, rows) >= 0).tolist() == [True, False]
