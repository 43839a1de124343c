"""Slot assignment: lanes counted from the camera, and the two assignments in a lane change."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geometry.bezier import control_points_from_x, fit_bezier
from geometry.slots import (
    CAMERA_X,
    LaneTarget,
    assign_slots,
    bottom_x_by_chord,
    resolve_ambiguous_assignment,
    shift_slots,
    slot_indices,
)

SLOTS = 6


def lanes_at(*bottoms, y_far=0.4, y_near=0.9, top=0.5):
    """Straight lanes (N, P, 2) from (top, 0.4) that reach the bottom edge at the given x."""
    bottoms = torch.tensor(bottoms)
    fraction = (torch.linspace(y_far, y_near, 6) - 0.4) / 0.6
    x = top + (bottoms[:, None] - top) * fraction
    return control_points_from_x(x, torch.full(bottoms.shape, y_far), torch.full(bottoms.shape, y_near))


def target_at(*bottoms, slots=SLOTS):
    points = lanes_at(*bottoms)[None]
    return assign_slots(points, torch.ones(points.shape[:2], dtype=torch.bool), slots)


def indices_at(*bottoms, slots=SLOTS):
    points = lanes_at(*bottoms)
    return slot_indices(points, torch.ones(len(bottoms), dtype=torch.bool), slots).tolist()


def logits_for(exists):
    return torch.where(exists, 6.0, -6.0)


apart = st.lists(st.floats(-0.5, 1.5, width=32).filter(lambda x: abs(x - 0.5) > 1e-3), min_size=1, max_size=8,
                 unique_by=lambda x: round(x, 3))


def test_bottom_x_is_extrapolated_to_the_lower_edge():
    torch.testing.assert_close(bottom_x_by_chord(lanes_at(-0.3, 0.2, 0.5, 1.4)), torch.tensor([-0.3, 0.2, 0.5, 1.4]))
    torch.testing.assert_close(bottom_x_by_chord(lanes_at(0.2, y_near=1.0)), torch.tensor([0.2]))


def test_a_bent_lane_goes_on_as_its_near_half():
    """x = y^2 from 0.4 to 0.9: 0.4225 at the middle of its rows, 0.81 at their end."""
    y = torch.linspace(0.4, 0.9, 40)
    bottom = bottom_x_by_chord(fit_bezier(torch.stack((y**2, y), dim=-1)))
    assert float(bottom) == pytest.approx(0.81 + 0.1 * (0.81 - 0.4225) / 0.25, abs=1e-3)


def test_slots_are_counted_outward_from_the_camera():
    assert indices_at(-0.2, 0.1, 0.4, 0.6, 0.9, 1.2) == [0, 1, 2, 3, 4, 5]
    assert indices_at(0.4) == [2]
    assert indices_at(0.6, 1.2) == [3, 4]
    assert indices_at(0.9, 0.4, 0.6) == [4, 2, 3]


@settings(max_examples=60, deadline=None)
@given(apart, st.randoms())
def test_the_order_in_the_file_is_ignored(bottoms, random):
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
    indices = indices_at(*bottoms, slots=slots)
    half = slots // 2
    for x, index in zip(bottoms, indices, strict=True):
        rank = left.index(x) if x < 0.5 else right.index(x)
        assert index == (-1 if rank >= half else half - 1 - rank if x < 0.5 else half + rank)
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
    assert bottom_x_by_chord(points).item() == CAMERA_X
    assert slot_indices(points, torch.tensor([True]), SLOTS).tolist() == [3]
    assert indices_at(0.5, 0.6, 0.4) == [3, 4, 2]


def test_two_lanes_at_one_position_take_two_slots():
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


def test_shifting_to_and_fro_loses_only_what_left_the_slots():
    target = target_at(0.1, 0.4, 0.6, 0.9)  # slots 1 to 4
    for step in (-1, 1):
        shifted = shift_slots(target, torch.tensor([step]))
        assert shifted.exists.nonzero()[:, 1].tolist() == [1 + step, 2 + step, 3 + step, 4 + step]
        back = shift_slots(shifted, torch.tensor([-step]))
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
    for prediction in (target, other):
        chosen = resolve_ambiguous_assignment(prediction.points, logits_for(prediction.exists), target)
        assert torch.equal(chosen.exists, prediction.exists)
        assert torch.equal(chosen.points, prediction.points)


def test_the_nearer_curves_decide_where_existence_says_nothing():
    target = target_at(0.1, 0.48, 0.9)
    other = shift_slots(target, torch.tensor([1]))
    logits = torch.zeros(1, SLOTS)
    for prediction in (target, other):
        rough = prediction.points + 0.02
        chosen = resolve_ambiguous_assignment(rough, logits, target)
        assert torch.equal(chosen.exists, prediction.exists)


def test_existence_decides_where_both_slots_see_the_line_and_empty_slots_say_nothing():
    target = target_at(0.48)
    other = shift_slots(target, torch.tensor([1]))
    points = target.points + other.points
    for prediction in (target, other):
        chosen = resolve_ambiguous_assignment(points, logits_for(prediction.exists), target)
        assert torch.equal(chosen.exists, prediction.exists)
    points[0, 2, :, 0], points[0, 3, :, 0] = 0.9, points[0, 3, :, 0] - 0.02
    assert torch.equal(resolve_ambiguous_assignment(points, torch.zeros(1, SLOTS), target).exists, other.exists)


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
    prediction = shift_slots(target, torch.tensor([1, 1]))
    chosen = resolve_ambiguous_assignment(prediction.points, logits_for(prediction.exists), target)
    assert torch.equal(chosen.exists, torch.cat((prediction.exists[:1], b.exists)))


def test_nothing_is_differentiated_through_the_choice_of_a_count():
    target = target_at(0.1, 0.48, 0.9)
    points = target.points.clone().requires_grad_()
    logits = torch.zeros(1, SLOTS, requires_grad=True)
    chosen = resolve_ambiguous_assignment(points, logits, target)
    assert not chosen.points.requires_grad
