"""Curves that stand for polylines: near every point, without swinging out between them, however they were clicked."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geometry.curve_fit import FIT_TOLERANCE, fit_polylines
from geometry.polyline import smooth_rows, turned_back

PIXEL = 1 / 1280
T = np.linspace(0, 1, 101)
fit_settings = settings(max_examples=40, deadline=None, derandomize=True)


def bernstein5(t):
    binomials = np.array([1, 5, 10, 10, 5, 1])
    k = np.arange(6)
    return binomials * t[:, None] ** k * (1 - t[:, None]) ** (5 - k)


def fitted(points):
    """Control points (6, 2) of one lane, and how far each of its points is off in px of 1280."""
    control, off = fit_polylines(np.asarray(points, float), np.array([len(points)]))
    return control[0], off / PIXEL


def x_at(control, y):
    """x (M) of a curve at rows y (M)."""
    return bernstein5((y - control[0, 1]) / (control[-1, 1] - control[0, 1])) @ control[:, 0]


def road_line(rng):
    """x of y for a line of a bent road in perspective, and the row near the horizon where it begins."""
    horizon, lateral, bend = rng.uniform(0.3, 0.45), rng.uniform(-0.8, 0.8), rng.uniform(-4e-3, 4e-3)
    return lambda y: 0.5 + lateral * (y - horizon) + bend / (y - horizon), horizon + 0.04


def clicked(rng, line, top, count):
    """`count` points of a line, each a pixel of care off, crowded anywhere."""
    spread = rng.choice([1, 1, 3, 8])
    t = rng.random(count) ** spread
    y = np.sort(top + (1 - top) * (t if rng.random() < 0.5 else 1 - t))
    care = rng.uniform(-PIXEL, PIXEL, (count, 2)) * (1, 1280 / 720)
    points = np.stack((line(y), y), axis=1) + care
    return points if np.ptp(points[:, 1]) > 0.01 else None


def test_every_clicking_of_a_road_line_passes_its_points():
    rng, lanes, lines = np.random.default_rng(0), [], []
    while len(lanes) < 2000:
        line, top = road_line(rng)
        points = clicked(rng, line, top, rng.integers(2, 13))
        if points is not None:
            lanes.append(points)
            lines.append(line)
    counts = np.array([len(points) for points in lanes])
    control, off = fit_polylines(np.concatenate(lanes), counts)
    worst = np.maximum.reduceat(off, np.cumsum(counts) - counts) / PIXEL
    assert np.median(off) / PIXEL < 1 and np.median(worst) < 2 and worst.max() <= 8
    between = []
    for curve, line in zip(control, lines, strict=True):
        y = np.linspace(curve[0, 1], curve[-1, 1], 50)
        between.append(np.abs(x_at(curve, y) - line(y)).max() / PIXEL)
    assert np.median(between) < 4 and np.percentile(between, 99) < 60, "no worse than what was clicked tells"


def test_points_crowded_on_the_far_bend():
    """One near point and ten on the bend: the points alone would let a quintic run off by thousands of pixels."""
    def line(y_px):
        return 524 - 1.15 * (y_px - 335) + 3500 / (y_px - 235)

    y_px = np.array([715, *np.linspace(335, 265, 10)])
    control, off = fitted(np.stack((line(y_px), y_px), axis=1) / (1280, 720))
    assert off.max() <= 8
    y_px = np.linspace(265, 715, 200)
    assert np.abs(1280 * x_at(control, y_px / 720) - line(y_px)).max() < 25


def test_three_points_on_a_bend_are_not_a_straight_line():
    control, off = fitted(np.array([(150, 585), (620, 400), (720, 290)]) / (1640, 590))
    assert off.max() < 2
    x = x_at(control, np.linspace(290, 585, 50) / 590)
    assert (np.diff(x) < 0).all() and np.abs(np.diff(x, 2)).max() > 0


@fit_settings
@given(st.integers(2, 40), st.floats(0, 1), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_a_straight_line_is_reproduced_exactly(count, x_far, x_near, seed):
    t = np.concatenate(([0, 1], np.random.default_rng(seed).random(count - 2) ** 4))
    control, off = fitted(np.stack((x_far + (x_near - x_far) * t, 0.3 + 0.6 * t), axis=1))
    np.testing.assert_allclose(control[:, 0], np.linspace(x_far, x_near, 6), atol=1e-9)
    assert off.max() < 1e-6


@fit_settings
@given(st.lists(st.floats(0, 1), min_size=6, max_size=6), st.integers(24, 3000))
def test_a_canonical_quintic_is_reproduced(x, count):
    t = np.linspace(0, 1, count)
    control, _ = fitted(np.stack((bernstein5(t) @ x, 0.4 + 0.5 * t), axis=1))
    assert np.abs(bernstein5(T) @ (control[:, 0] - x)).max() / PIXEL < 0.1


thousandths = st.integers(0, 1000).map(lambda n: n / 1000)
polylines = st.lists(st.tuples(st.floats(0, 1, width=32), thousandths), min_size=2, max_size=30).filter(
    lambda points: np.ptp([y for _, y in points]) > 0)


@fit_settings
@given(polylines)
def test_any_polyline_has_a_finite_curve_that_is_mirrored_with_it(points):
    points = np.array(points)
    control, off = fitted(points)
    assert np.isfinite(control).all() and control[0, 1] == points[:, 1].min() and control[-1, 1] == points[:, 1].max()
    mirrored, _ = fitted(points * (-1, 1) + (1, 0))
    np.testing.assert_allclose(mirrored[:, 0], 1 - control[:, 0], atol=0.1 * PIXEL)
    nearest = np.abs(x_at(control, points[:, 1]) - points[:, 0]) / PIXEL
    np.testing.assert_allclose(off, nearest, atol=1e-6)


@fit_settings
@given(st.sets(st.integers(0, 1000), min_size=2, max_size=40), st.integers(0, 2**32 - 1))
def test_the_order_of_points_does_not_matter(rows, seed):
    rng = np.random.default_rng(seed)
    points = np.stack((rng.random(len(rows)), np.array(sorted(rows)) / 1000), axis=1)
    order = rng.permutation(len(points))
    (control, off), (shuffled, shuffled_off) = fitted(points), fitted(points[order])
    np.testing.assert_array_equal(control, shuffled)
    np.testing.assert_array_equal(off[order], shuffled_off)


@fit_settings
@given(st.lists(polylines, min_size=2, max_size=6))
def test_lanes_that_are_fitted_together_are_those_fitted_alone(lanes):
    lanes = [np.array(points) for points in lanes]
    control, off = fit_polylines(np.concatenate(lanes), np.array([len(points) for points in lanes]))
    alone = [fitted(points) for points in lanes]
    np.testing.assert_allclose(control, np.stack([one for one, _ in alone]), atol=0.1 * PIXEL)
    np.testing.assert_allclose(off / PIXEL, np.concatenate([one for _, one in alone]), atol=0.1)


def test_blocks_of_many_points_change_nothing(monkeypatch):
    rng = np.random.default_rng(1)
    points, counts = rng.random((400, 2)), np.full(40, 10)
    together = fit_polylines(points, counts)
    monkeypatch.setattr("geometry.curve_fit.FIT_BLOCK", 32)
    for whole, part in zip(together, fit_polylines(points, counts), strict=True):
        np.testing.assert_allclose(whole, part, atol=1e-9)
    control, off = fit_polylines(np.zeros((0, 2)), np.zeros(0, int))
    assert control.shape == (0, 6, 2) and off.shape == (0,)


def test_the_worst_point_is_brought_near_where_a_curve_can_and_the_others_do_not_pay_for_it():
    t = np.linspace(0, 1, 40)
    bend = np.stack((0.3 + 0.02 * np.exp(-t * 12), 0.3 + 0.6 * t), axis=1)
    _, off = fitted(bend)
    assert off.max() <= FIT_TOLERANCE / PIXEL
    outlier = bend.copy()
    outlier[20, 0] += 100 * PIXEL
    _, off = fitted(outlier)
    assert off[20] > 80 and np.median(off) < 8


@pytest.mark.parametrize(("counts", "number"), [([2, 1], 1), ([3, 0], 0)])
def test_a_lane_of_fewer_than_two_points_is_refused(counts, number):
    with pytest.raises(ValueError, match=rf"two points on different rows, found {number} point"):
        fit_polylines(np.random.default_rng(0).random((sum(counts), 2)), np.array(counts))


# The smooth line ---------------------------------------------------------------------------------------------


@fit_settings
@given(st.lists(st.floats(0, 1), min_size=2, max_size=12), st.integers(0, 2**32 - 1))
def test_the_smooth_line_goes_through_its_points_and_never_beyond_them(x, seed):
    x, rng = np.array(x), np.random.default_rng(seed)
    t = np.concatenate(([0], np.cumsum(rng.uniform(0.05, 1, len(x) - 1))))
    t /= t[-1]
    at_points, _ = smooth_rows(t, x, np.array([len(x)]), np.array([1e-6]), t)
    np.testing.assert_allclose(at_points[0], x, atol=1e-9)
    rows, gap = smooth_rows(t, x, np.array([len(x)]), np.array([1e-6]), T)
    assert rows.min() >= x.min() - 1e-9 and rows.max() <= x.max() + 1e-9
    assert np.allclose(np.unique(gap.round(9)), np.unique(np.diff(t).round(9)))


def test_two_clicks_on_nearly_the_same_row_are_one():
    t, x = np.array([0, 0.001, 1]), np.array([0.5, 0.52, 0.5])
    rows, _ = smooth_rows(t, x, np.array([3]), np.array([0.01]), T)
    assert np.abs(rows - 0.505).max() < 0.01, "their slope of 20 would carry the line out of the image"


@pytest.mark.parametrize(("y", "back"), [([0.1, 0.5, 0.9], 0), ([0.9, 0.5, 0.5, 0.1], 0), ([0.9, 0.2, 0.9], 0.7),
                                         ([0.2, 0.5, 0.45, 0.9], 0.05), ([0.9, 0.3, 0.6], 0.3)])
def test_how_far_a_lane_turns_back(y, back):
    counts = np.array([len(y), 2])
    np.testing.assert_allclose(turned_back(np.array([*y, 0.0, 1.0]), counts), [back, 0], atol=1e-12)
