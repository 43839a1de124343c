"""The loss: closed forms, symmetries, and that nothing but better lanes lowers it."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from geometry.bezier import control_points_from_x, x_at_rows
from geometry.input_grid import RowWarp
from geometry.slots import LaneTarget, RowLogits
from losses_fixed import UNIT, LaneLoss, columns_loss, curvature_loss, existence_loss, regression_loss

SHAPE = (3, 6)  # B, L


def scene(seed=0, exists=None):
    """Random points, logits and a target: (3, 6, 6, 2), (3, 6)."""
    generator = torch.Generator().manual_seed(seed)

    def lanes():
        far = 0.5 * torch.rand(SHAPE, generator=generator)
        return control_points_from_x(torch.rand(*SHAPE, 6, generator=generator), far, far + 0.4)

    if exists is None:
        exists = torch.rand(SHAPE, generator=generator) < 0.5
    target = LaneTarget(lanes() * exists[..., None, None], exists)
    return lanes(), torch.randn(SHAPE, generator=generator), target


def one_lane(points):
    """A target of one image with one slot, which holds the lane points (P, 2)."""
    return LaneTarget(points[None, None], torch.ones(1, 1, dtype=torch.bool))


CENTERS = (torch.arange(22) - 0.5) / 20  # 20 columns in the image, one more on each side
ROWS = (torch.arange(12) + 0.5) / 12


def rows(seed=0):
    """Random logits (3, 6, 12, 22) of columns and (3, 6, 12) of whether there is a lane."""
    generator = torch.Generator().manual_seed(seed)
    columns, present = (torch.randn(*SHAPE, *more, generator=generator) for more in ((12, 22), (12,)))
    return RowLogits(columns, present, CENTERS, ROWS)


def on_lane(target):
    """(B, L, 12) where a row has a lane."""
    _, t = x_at_rows(target.points, ROWS)
    return target.exists[..., None] & (t >= 0) & (t <= 1)


def x_of_rows(target):
    """(B, L, 12) x of each lane in each row, straight on beyond its ends."""
    return x_at_rows(target.points, ROWS)[0]


def with_certainty(columns, target):
    """Columns, and no doubt about which rows have a lane: what is left is the divergence of the columns."""
    return RowLogits(columns, torch.where(on_lane(target), 200.0, -200.0), CENTERS, ROWS)


def perfect_rows(target):
    """Logits whose softmax is split between the two columns beside the label's x."""
    x = x_of_rows(target).clamp(CENTERS[0], CENTERS[-1])
    distance = (x.unsqueeze(-1) - CENTERS).abs() * 20
    return with_certainty((1 - distance).clamp(min=1e-9).log(), target)


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


def test_columns_cost_their_divergence_from_the_label():
    """In the middle of a column the label is that column, and saying nothing costs ln K; in between, ln K - ln 2."""
    def cost(columns):
        target = one_lane(lane)
        return columns_loss(with_certainty(columns, target), target).item()

    middle_of_column_5 = torch.full((6,), 4.5 / 20)
    lane = control_points_from_x(middle_of_column_5, torch.tensor(0.1), torch.tensor(0.9))
    even = torch.zeros(1, 1, 12, 22)
    assert cost(even) == pytest.approx(math.log(22), rel=1e-4)
    lane[:, 0] = 5 / 20
    assert cost(even) == pytest.approx(math.log(22) - math.log(2), rel=1e-4)
    sure = even.clone()
    sure[..., 5:7] = 3.0
    assert cost(sure) == pytest.approx(math.log(2 * math.exp(3) + 20) - 3 - math.log(2), rel=1e-4)
    assert cost(sure.flip(-1)) > cost(sure) + 2


@pytest.mark.parametrize("zoom", [1.0, 3.5])
def test_columns_count_only_where_the_lane_is_and_two_rows_beyond(zoom):
    """However high the rows are: of twelve the lane is in the sixth to the eighth."""
    y = RowWarp(zoom=zoom).y((torch.arange(12) + 0.5) / 12)
    target = one_lane(control_points_from_x(torch.full((6,), 0.5), (y[4] + y[5]) / 2, (y[7] + y[8]) / 2))

    def loss(columns):
        return columns_loss(RowLogits(columns, torch.zeros(1, 1, 12), CENTERS, y), target)

    level = loss(torch.zeros(1, 1, 12, 22))
    for row in range(12):
        wild = torch.zeros(1, 1, 12, 22)
        wild[:, :, row] = torch.randn(22)
        assert (loss(wild) != level) == (3 <= row <= 9), row


def test_whether_a_row_has_a_lane_costs_its_cross_entropy_over_all_rows():
    """Five rows of twelve have the lane; saying 80 % everywhere costs -ln 0.8 in those and -ln 0.2 in the others."""
    target = one_lane(control_points_from_x(torch.full((6,), 0.5), torch.tensor(0.5), torch.tensor(0.9)))
    unsure = perfect_rows(target)._replace(present=torch.full((1, 1, 12), math.log(0.8 / 0.2)))
    expected = -(5 * math.log(0.8) + 7 * math.log(0.2)) / 12
    assert columns_loss(unsure, target).item() == pytest.approx(expected, rel=1e-4)


def test_perfect_columns_have_the_lane_as_their_mean():
    """What the loss asks of the columns is what the head reads from them."""
    _, _, target = scene()
    mean = perfect_rows(target).columns.softmax(-1) @ CENTERS
    x, _ = x_at_rows(target.points, ROWS)
    mask = on_lane(target)
    torch.testing.assert_close(mean[mask], x[mask], atol=1e-4, rtol=0)


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
