"""Rows of a lane that cannot tell where it is follow those that can."""

import numpy as np
import pytest
import torch

from geometry.row_fit import (
    BEND_RIDGE,
    FLOOR,
    FOLLOWED,
    FULL_CERTAINTY,
    OUTLIER,
    SLOPE_RIDGE,
    follow_curve,
    row_basis,
)

Y = torch.linspace(0.27, 0.98, 18)
SURE = torch.ones(18)
BASIS = row_basis(Y)


def quadratic(a, b, c, y=Y):
    return a + b * (y - 0.6) + c * (y - 0.6) ** 2


@pytest.mark.parametrize("bend", [0.0, 0.5, -1.0])
def test_a_quadratic_that_all_rows_are_sure_of_stays(bend):
    x = quadratic(0.4, 0.8, bend)
    torch.testing.assert_close(follow_curve(x, BASIS, SURE, SURE), x, atol=1e-3, rtol=0)


def test_a_lane_that_bends_both_ways_keeps_its_rows():
    """A sure row is moved by 4 % of its distance from the quadratic where that is a hundredth of the image."""
    x = quadratic(0.4, 0.5, 0.2) + 0.01 * torch.sin(9 * Y)
    assert (follow_curve(x, BASIS, SURE, SURE) - x).abs().max() < 0.0015  # 2 px of 1280


@pytest.mark.parametrize("unsure", [slice(12, 18), slice(0, 5), slice(7, 10)])
def test_unsure_rows_lie_on_the_quadratic_through_the_others(unsure):
    x = quadratic(0.5, -0.6, 0.3)
    certainty = SURE.clone()
    certainty[unsure] = 0.05
    guessed = x.clone()
    guessed[unsure] = 0.9
    result = follow_curve(guessed, BASIS, certainty, SURE)
    expected = np.polyval(np.polyfit(Y[certainty == 1].double(), x[certainty == 1].double(), 2), Y.double())
    assert np.abs(result.numpy() - expected).max() < 0.01


def test_rows_without_the_lane_have_no_say():
    x, present = quadratic(0.5, 0.4, 0.0), SURE.clone()
    x[:8], present[:8] = 0.1, 1e-4
    result = follow_curve(x, BASIS, SURE, present)
    assert (result[8:] - x[8:]).abs().max() < 2e-3


def test_a_row_that_took_another_line_comes_back():
    x = quadratic(0.3, 0.5, 0.0)
    wrong = x.clone()
    wrong[9] += 0.3
    result = follow_curve(wrong, BASIS, SURE, SURE)
    assert (result[9] - x[9]).abs() < 0.02 and (result - x).abs().max() < 0.02


@pytest.mark.parametrize("rows", [[], [3]])
def test_few_sure_rows_and_none_give_finite_lanes(rows):
    torch.manual_seed(0)
    certainty = torch.full((100, 18), 1e-3)
    certainty[:, rows] = 1.0
    x = torch.rand(100, 18)
    result = follow_curve(x, BASIS, certainty, SURE)
    assert result.isfinite().all()
    assert (result - x)[:, rows].abs().lt(0.01).all()


def test_a_batch_equals_its_singles():
    torch.manual_seed(1)
    x, certainty, present = torch.rand(3, 4, 6, 18).unbind(0)
    together = follow_curve(x, BASIS, certainty, present)
    alone = torch.stack([follow_curve(*parts[:1], BASIS, *parts[1:])
                         for parts in zip(*(v.flatten(0, 1) for v in (x, certainty, present)), strict=True)])
    torch.testing.assert_close(together.flatten(0, 1), alone, atol=1e-5, rtol=1e-4)


def test_it_is_reweighted_least_squares_as_a_solver_does_it():
    torch.manual_seed(2)
    x, certainty, present = torch.rand(3, 20, 18).unbind(0)
    x = quadratic(0.2, 0.5, 0.1) + 0.1 * x
    t = ((2 * Y - Y[0] - Y[-1]) / (Y[-1] - Y[0])).double().numpy()
    powers, ridge = np.stack((np.ones(18), t, t * t), -1), np.diag((FLOOR, SLOPE_RIDGE, BEND_RIDGE))
    for x_i, certainty_i, present_i, result in zip(x, certainty, present, follow_curve(x, BASIS, certainty, present),
                                                   strict=True):
        x_i, sure = x_i.double().numpy(), certainty_i.double().numpy()
        trust = sure**2 * present_i.double().numpy() + FLOOR
        weight = trust = trust / trust.sum()
        for _ in range(3):
            curve = powers @ np.linalg.solve(powers.T @ (weight[:, None] * powers) + ridge, powers.T @ (weight * x_i))
            weight = trust / (1 + ((x_i - curve) / OUTLIER) ** 2)
        own = np.minimum(sure / FULL_CERTAINTY, 1) ** 2 / (1 + ((x_i - curve) / FOLLOWED) ** 2)
        np.testing.assert_allclose(result.numpy(), curve + own * (x_i - curve), atol=1e-5)


def test_32_bits_are_enough_where_few_rows_are_sure():
    """Exported files round otherwise: a lane that is hardly there must not move by pixels for that."""
    torch.manual_seed(3)
    x = quadratic(0.2, 0.9, 0.3) + 0.02 * torch.randn(2000, 18)
    certainty = torch.rand(2000, 18) * (torch.rand(2000, 18) < 0.15) + 0.03
    present = torch.rand(2000, 18) * torch.rand(2000, 1) ** 8
    exact = follow_curve(x.double(), row_basis(Y.double()), certainty.double(), present.double())
    assert (follow_curve(x, BASIS, certainty, present) - exact).abs().max() * 1280 < 5  # 10 without the mean taken off
