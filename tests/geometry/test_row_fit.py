"""Rows of a lane that cannot tell where it is follow those that can."""

import numpy as np
import pytest
import torch

from geometry.row_fit import follow_curve

Y = torch.linspace(0.27, 0.98, 18)
SURE = torch.ones(18)


def quadratic(a, b, c, y=Y):
    return a + b * (y - 0.6) + c * (y - 0.6) ** 2


@pytest.mark.parametrize("bend", [0.0, 0.5, -1.0])
def test_a_quadratic_that_all_rows_are_sure_of_stays(bend):
    x = quadratic(0.4, 0.8, bend)
    torch.testing.assert_close(follow_curve(x, Y, SURE, SURE), x, atol=1e-3, rtol=0)


def test_a_lane_that_bends_both_ways_keeps_its_rows():
    """A sure row is moved by 4 % of its distance from the quadratic where that is a hundredth of the image."""
    x = quadratic(0.4, 0.5, 0.2) + 0.01 * torch.sin(9 * Y)
    assert (follow_curve(x, Y, SURE, SURE) - x).abs().max() < 0.0015  # 2 px of 1280


@pytest.mark.parametrize("unsure", [slice(12, 18), slice(0, 5), slice(7, 10)])
def test_unsure_rows_lie_on_the_quadratic_through_the_others(unsure):
    x = quadratic(0.5, -0.6, 0.3)
    certainty = SURE.clone()
    certainty[unsure] = 0.05
    guessed = x.clone()
    guessed[unsure] = 0.9
    result = follow_curve(guessed, Y, certainty, SURE)
    expected = np.polyval(np.polyfit(Y[certainty == 1].double(), x[certainty == 1].double(), 2), Y.double())
    assert np.abs(result.numpy() - expected).max() < 0.01


def test_rows_without_the_lane_have_no_say():
    x, present = quadratic(0.5, 0.4, 0.0), SURE.clone()
    x[:8], present[:8] = 0.1, 1e-4
    result = follow_curve(x, Y, SURE, present)
    assert (result[8:] - x[8:]).abs().max() < 2e-3


def test_a_row_that_took_another_line_comes_back():
    x = quadratic(0.3, 0.5, 0.0)
    wrong = x.clone()
    wrong[9] += 0.3
    result = follow_curve(wrong, Y, SURE, SURE)
    assert (result[9] - x[9]).abs() < 0.02 and (result - x).abs().max() < 0.02


@pytest.mark.parametrize("rows", [[], [3]])
def test_few_sure_rows_and_none_give_finite_lanes(rows):
    torch.manual_seed(0)
    certainty = torch.full((100, 18), 1e-3)
    certainty[:, rows] = 1.0
    x = torch.rand(100, 18)
    result = follow_curve(x, Y, certainty, SURE)
    assert result.isfinite().all()
    assert (result - x)[:, rows].abs().lt(0.01).all()


def test_a_batch_equals_its_singles():
    torch.manual_seed(1)
    x, certainty, present = torch.rand(3, 4, 6, 18).unbind(0)
    together = follow_curve(x, Y, certainty, present)
    alone = torch.stack([follow_curve(*parts[:1], Y, *parts[1:])
                         for parts in zip(*(v.flatten(0, 1) for v in (x, certainty, present)), strict=True)])
    torch.testing.assert_close(together.flatten(0, 1), alone, atol=1e-5, rtol=1e-4)
