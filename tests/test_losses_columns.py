"""The loss of the head's rows: closed forms, and which rows count."""

import math

import pytest
import torch
from loss_inputs import CENTERS, ROWS, on_lane, one_lane, perfect_rows, scene, with_certainty

from geometry.bezier import control_points_from_x, x_at_rows
from geometry.input_grid import RowWarp
from geometry.slots import RowLogits
from losses_fixed import columns_loss


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


@pytest.mark.parametrize("x", [1.3, -0.3])
def test_a_lane_far_outside_the_image_is_in_the_outermost_column(x):
    target = one_lane(control_points_from_x(torch.full((6,), x), torch.tensor(0.1), torch.tensor(0.9)))
    columns = torch.zeros(1, 1, 12, 22)
    columns[..., -1 if x > 1 else 0] = 30.0
    level, right = (columns_loss(with_certainty(logits, target), target).item() for logits in (0 * columns, columns))
    assert level == pytest.approx(math.log(22), rel=1e-4) and right == pytest.approx(0, abs=1e-4)


def test_perfect_columns_have_the_lane_as_their_mean():
    """What the loss asks of the columns is what the head reads from them."""
    _, _, target = scene()
    mean = perfect_rows(target).columns.softmax(-1) @ CENTERS
    x, _ = x_at_rows(target.points, ROWS)
    mask = on_lane(target)
    torch.testing.assert_close(mean[mask], x[mask], atol=1e-4, rtol=0)
