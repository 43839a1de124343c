"""The loss: closed forms, symmetries, and that nothing but better lanes lowers it."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_inputs import SHAPE, one_lane, perfect_rows, rows, scene
from torch import nn

from geometry.bezier import control_points_from_x
from geometry.slots import LaneTarget
from losses_fixed import UNIT, LaneLoss, curvature_loss, existence_loss, regression_loss

STRAIGHT = control_points_from_x(torch.linspace(0.5, 0.2, 6), torch.tensor(0.4), torch.tensor(0.9))
CURVED = control_points_from_x(torch.tensor([0.9, 0.6, 0.42, 0.33, 0.3, 0.3]), torch.tensor(0.4), torch.tensor(0.9))


def test_a_perfect_prediction_costs_nothing():
    _, _, target = scene()
    terms = LaneLoss()(target.points, torch.where(target.exists, 200.0, -200.0), target)
    assert terms._asdict() == dict.fromkeys(terms._fields, 0)
    terms = LaneLoss()(target.points, torch.where(target.exists, 200.0, -200.0), target, perfect_rows(target))
    assert all(abs(term) < 1e-5 for term in terms)


@pytest.mark.parametrize("axis", [0, 1])
def test_regression_costs_one_for_an_error_of_a_tenth_of_the_image(axis):
    moved = STRAIGHT.clone()
    moved[:, axis] += 0.1
    assert regression_loss(moved[None, None], one_lane(STRAIGHT)).item() == pytest.approx(1, rel=1e-4)
    moved[:, axis] += 0.2
    assert regression_loss(moved[None, None], one_lane(STRAIGHT)).item() == pytest.approx(3, rel=1e-4)
    assert curvature_loss(moved[None, None], one_lane(STRAIGHT)).item() == pytest.approx(0, abs=1e-4)


def test_regression_adds_x_and_y_and_is_a_mean_along_the_curve():
    moved = STRAIGHT + torch.tensor([3 * UNIT, -2 * UNIT])
    assert regression_loss(moved[None, None], one_lane(STRAIGHT)).item() == pytest.approx(5, rel=1e-4)
    wedge = STRAIGHT.clone()
    wedge[:, 0] += torch.linspace(0, 2 * UNIT, 6)  # from 0 at the far end to 2 at the near one
    assert regression_loss(wedge[None, None], one_lane(STRAIGHT)).item() == pytest.approx(1, rel=1e-4)


def test_curvature_of_one_control_point_out_of_place():
    """Moving P2 by d changes three of the four second differences, by d, -2d and d: 4d / 4 = d."""
    bent = STRAIGHT.clone()
    bent[2, 0] += 3 * UNIT
    assert curvature_loss(bent[None, None], one_lane(STRAIGHT)).item() == pytest.approx(3, rel=1e-4)
    ended = STRAIGHT.clone()
    ended[5, 0] += 4 * UNIT  # an end is in one second difference only
    assert curvature_loss(ended[None, None], one_lane(STRAIGHT)).item() == pytest.approx(1, rel=1e-4)


def test_existence_is_cross_entropy_over_all_slots():
    target = LaneTarget(torch.zeros(1, 4, 6, 2), torch.tensor([[True, True, False, False]]))
    assert existence_loss(torch.zeros(1, 4), target).item() == pytest.approx(math.log(2))
    sure = torch.tensor([[2.0, -1.0, 3.0, -4.0]])
    expected = sum(math.log1p(math.exp(v)) for v in (-2, 1, 3, -4)) / 4
    assert existence_loss(sure, target).item() == pytest.approx(expected, rel=1e-5)


def test_a_straight_lane_is_not_cheapest_on_a_curved_road():
    straight = curvature_loss(STRAIGHT[None, None], one_lane(CURVED))
    assert straight * UNIT > 20 / 1280
    assert curvature_loss(CURVED[None, None], one_lane(CURVED)) == 0
    half = (STRAIGHT + CURVED) / 2
    assert 0 < curvature_loss(half[None, None], one_lane(CURVED)) < straight


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([1e-3, 1.0, 1e4]), st.floats(0, 10), st.floats(0, 10), st.floats(0.1, 10))
def test_no_term_is_ever_negative_and_the_total_is_the_weighted_sum(seed, size, regression, existence, curvature):
    points, logits, target = scene(seed)
    loss = LaneLoss(regression, existence, curvature, columns=0.7)
    terms = loss(points * size, logits * size, target, rows(seed)._replace(columns=size * rows(seed).columns))
    assert all(term >= 0 and term.isfinite() for term in terms)
    weighted = regression * terms.regression + existence * terms.existence + curvature * terms.curvature
    torch.testing.assert_close(terms.total, weighted + 0.7 * terms.columns)


def test_a_weight_of_zero_takes_a_term_out_of_the_total_only():
    points, logits, target = scene()
    terms = LaneLoss(0, 2, 0, 0)(points, logits, target, rows())
    assert terms.regression > 0 and terms.curvature > 0 and terms.columns > 0
    torch.testing.assert_close(terms.total, 2 * terms.existence)


def test_a_batch_costs_what_its_lanes_cost_on_average():
    points, logits, target = scene()
    together = LaneLoss()(points, logits, target)
    singles = [LaneLoss()(points[i:i + 1], logits[i:i + 1], LaneTarget(*(v[i:i + 1] for v in target)))
               for i in range(len(points))]
    assert together.columns == 0, "without rows there is no such term"
    lanes = target.exists.sum(1)
    assert len(set(lanes.tolist())) > 1, "images with the same number of lanes would not tell the means apart"
    for name in ("regression", "curvature"):
        mean = sum(getattr(one, name) * n for one, n in zip(singles, lanes, strict=True)) / lanes.sum()
        torch.testing.assert_close(getattr(together, name), mean)
    torch.testing.assert_close(together.existence, sum(one.existence for one in singles) / len(singles))


def test_what_is_predicted_where_no_lane_is_changes_no_geometry():
    points, logits, target = scene()
    other = torch.where(target.exists[..., None, None], points, 1e3 * torch.randn_like(points))
    others = rows()._replace(columns=torch.where(target.exists[..., None, None], rows().columns, rows(1).columns))
    assert not torch.equal(points, other) and not torch.equal(rows().columns, others.columns)
    before = LaneLoss()(points, logits, target, rows())
    after = LaneLoss()(other, logits, target, others)
    assert before == after
    other.requires_grad_()
    LaneLoss()(other, logits, target).total.backward()
    assert not other.grad[~target.exists].any()
    assert other.grad[target.exists].any()


def test_images_without_lanes_give_zero_and_finite_gradients():
    points, logits, target = scene(exists=torch.zeros(SHAPE, dtype=torch.bool))
    points.requires_grad_()
    logits.requires_grad_()
    row_logits = rows()
    columns, present = row_logits.columns.requires_grad_(), row_logits.present.requires_grad_()
    terms = LaneLoss()(points, logits, target, row_logits)
    assert terms.regression == terms.curvature == 0
    terms.total.backward()
    assert torch.equal(points.grad, torch.zeros_like(points))
    assert torch.equal(columns.grad, torch.zeros_like(columns))
    assert present.grad.isfinite().all() and (present.grad > 0).all()
    assert logits.grad.isfinite().all() and (logits.grad > 0).all()


def test_arguments_are_left_as_they_were():
    points, logits, target = scene()
    row_logits = rows()
    arguments = (points, logits, *target, *row_logits)
    copies = [v.clone() for v in arguments]
    LaneLoss()(points, logits, target, row_logits)
    assert all(torch.equal(a, b) for a, b in zip(arguments, copies, strict=True))


def test_not_a_number_is_not_hidden():
    points, logits, target = scene()
    points[target.exists.nonzero()[0].tolist()] = math.nan
    assert LaneLoss()(points, logits, target).total.isnan()


@pytest.mark.parametrize("name", ["regression", "existence", "curvature", "columns"])
@pytest.mark.parametrize("weight", [-0.1, -1e-9, math.nan, math.inf, -math.inf])
def test_a_weight_that_is_negative_or_not_finite_is_refused(name, weight):
    with pytest.raises(ValueError, match=rf"loss\.{name} is .*at least 0"):
        LaneLoss(**{name: weight})


def test_weights_that_are_all_zero_are_refused():
    with pytest.raises(ValueError, match="all weights are 0"):
        LaneLoss(0, 0, 0, 0)


def test_there_is_nothing_to_learn_in_the_loss():
    loss = LaneLoss()
    points, logits, target = scene()
    loss(points.requires_grad_(), logits.requires_grad_(), target).total.backward()
    assert not isinstance(loss, nn.Module)
    assert all(type(weight) is float for weight in loss.weights.values())
    assert set(vars(loss)) == {"weights"}


def test_no_prediction_brings_the_total_below_zero():
    """An optimizer that may choose every prediction freely, and a loss weight if one could be learned, stops at 0."""
    points, logits, target = scene()
    points.requires_grad_()
    logits.requires_grad_()
    optimizer = torch.optim.Adam([points, logits], lr=0.05)
    loss, totals = LaneLoss(), []
    for step in range(300):
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * (1 - step / 300)
        terms = loss(points, logits, target)
        optimizer.zero_grad()
        terms.total.backward()
        optimizer.step()
        totals.append(terms.total.item())
    assert min(totals) >= 0
    assert totals[-1] < 0.05 * totals[0]
