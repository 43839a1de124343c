"""Curve geometry: the basis, the canonical form, fitting, and reading x at a row."""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from paths import SHARED

from geometry import bezier
from geometry.bezier import (
    bernstein,
    control_points_from_x,
    fit_bezier,
    refit_clipped,
    sample_curve,
    x_at_rows,
)
from geometry.curve_fit import fit_polylines
from geometry.feature_grid import feature_grid

LABELS = SHARED / "data" / "tusimple_labels"
X = torch.tensor([0.52, 0.50, 0.44, 0.40, 0.21, 0.05])
CURVE = control_points_from_x(X, torch.tensor(0.35), torch.tensor(0.95))
PIXEL = 1 / 1280


def de_casteljau(control, t):
    """The point at t by repeated interpolation, without the Bernstein basis."""
    points = [tuple(p) for p in control.tolist()]
    while len(points) > 1:
        points = [tuple((1 - t) * a + t * b for a, b in zip(p, q, strict=True))
                  for p, q in itertools.pairwise(points)]
    return points[0]


def elevated(degree):
    """Control values of the quintic that is t ** degree."""
    return torch.tensor([math.comb(k, degree) / math.comb(5, degree) for k in range(6)])


@pytest.mark.parametrize("degree", [1, 2, 5])
def test_bernstein_is_a_partition_of_unity(degree):
    basis = bernstein(torch.linspace(0, 1, 41, dtype=torch.float64), degree)
    assert basis.shape == (41, degree + 1)
    assert (basis >= 0).all()
    torch.testing.assert_close(basis.sum(-1), torch.ones(41, dtype=torch.float64))


def test_samples_agree_with_de_casteljau():
    expected = [de_casteljau(CURVE, t) for t in torch.linspace(0, 1, 11).tolist()]
    torch.testing.assert_close(sample_curve(CURVE, 11), torch.tensor(expected), atol=1e-6, rtol=0)


def test_samples_begin_at_the_far_end_and_stop_at_the_near_one():
    points = sample_curve(CURVE, 7)
    torch.testing.assert_close(points[0], CURVE[0])
    torch.testing.assert_close(points[-1], CURVE[-1])
    assert (points[1:, 1] > points[:-1, 1]).all()


@pytest.mark.parametrize("function", [bezier._binomials, bezier.sample_basis, bezier.fit_matrix, bezier.unit_steps,
                                      feature_grid])
def test_no_table_is_dropped_while_a_graph_may_read_it(function):
    """A replay does not call the function, so that a cache of limited size would drop the table of a graph first."""
    assert function.cache_info().maxsize is None


def test_canonical_control_points_are_equally_spaced_in_y():
    batch = control_points_from_x(torch.rand(4, 3, 6), torch.full((4, 3), 0.25), torch.full((4, 3), 0.75))
    assert batch.shape == (4, 3, 6, 2)
    torch.testing.assert_close(batch[..., 1].diff(dim=-1), torch.full((4, 3, 5), 0.1))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1, width=32), min_size=6, max_size=6), st.floats(0, 0.5), st.floats(0.1, 0.5))
def test_fitting_points_of_a_canonical_curve_gives_it_back(x, far, height):
    curve = control_points_from_x(torch.tensor(x), torch.tensor(far).float(), torch.tensor(far + height).float())
    torch.testing.assert_close(fit_bezier(sample_curve(curve, 40)), curve, atol=1e-4, rtol=0)


def test_the_same_lane_has_one_set_of_control_points_however_it_was_sampled():
    generator = torch.Generator().manual_seed(1)
    t = torch.cat((torch.tensor([0.0, 1.0]), torch.rand(60, generator=generator) ** 3))  # dense at the far end
    uneven = bernstein(t.double()) @ CURVE.double()
    mixed = uneven[torch.randperm(62, generator=generator)]
    for points in (sample_curve(CURVE, 25), sample_curve(CURVE, 200), uneven, uneven.flip(0), mixed):
        torch.testing.assert_close(fit_bezier(points), CURVE, atol=1e-4, rtol=0)


def test_fit_leaves_its_argument_as_it_was():
    points = sample_curve(CURVE, 20).flip(0)
    before = points.clone()
    fit_bezier(points)
    assert torch.equal(points, before)


@pytest.mark.parametrize("degree", [1, 2, 5])
def test_x_at_rows_is_a_polynomial_in_the_row(degree):
    y_far, y_near = torch.tensor(0.2), torch.tensor(0.7)
    rows = torch.tensor([0.2, 0.3, 0.45, 0.7])
    x, t = x_at_rows(control_points_from_x(elevated(degree), y_far, y_near), rows)
    expected = (rows - 0.2) / 0.5
    torch.testing.assert_close(t, expected)
    torch.testing.assert_close(x, expected**degree, atol=1e-6, rtol=0)


def test_beyond_its_ends_a_curve_goes_straight_on():
    """x = 0.2 + 0.3 t: the tangent of a straight line is the line itself; a curved one leaves along its end."""
    rows = torch.tensor([0.1, 0.4, 0.8, 1.1])
    line = control_points_from_x(0.2 + 0.3 * torch.linspace(0, 1, 6), torch.tensor(0.4), torch.tensor(0.8))
    x, t = x_at_rows(line, rows)
    torch.testing.assert_close(t, torch.tensor([-0.75, 0.0, 1.0, 1.75]))
    torch.testing.assert_close(x, 0.2 + 0.3 * t)
    bent = control_points_from_x(torch.tensor([0.1, 0.1, 0.1, 0.1, 0.1, 0.3]), torch.tensor(0.4), torch.tensor(0.8))
    x, _ = x_at_rows(bent, rows)  # leaves with 5 x 0.2 a unit of t
    torch.testing.assert_close(x, torch.tensor([0.1, 0.1, 0.3, 1.05]))


def test_x_at_rows_of_a_batch_is_that_of_its_curves():
    curves = control_points_from_x(torch.rand(2, 3, 6), torch.rand(2, 3) * 0.4, 0.6 + torch.rand(2, 3) * 0.4)
    rows = torch.linspace(0, 1, 9)
    x, t = x_at_rows(curves, rows)
    for b in range(2):
        for n in range(3):
            one = x_at_rows(curves[b, n], rows)
            torch.testing.assert_close((x[b, n], t[b, n]), one)


@pytest.mark.parametrize("points", [[], [[0.5, 0.5]], [[0.1, 0.5], [0.9, 0.5]], [[0.4, 0.5], [0.4, 0.5]]],
                         ids=["none", "one", "level", "twice the same"])
def test_a_lane_without_height_is_refused(points):
    with pytest.raises(ValueError, match=rf"two points on different rows, found {len(points)} point"):
        fit_bezier(torch.tensor(points).reshape(-1, 2))


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([2, 3, 5]).flatmap(lambda n: st.lists(st.floats(0, 1, width=32), min_size=n, max_size=n)))
@example([1.0, 0.0, 1.0, 0.0, 1.0])
@example([0.0, 1.0, 0.0, 0.0, 1.0])
@example([0.0, 1.0, 1.0])
def test_few_points_do_not_swing_out(x):
    """A quintic through five rows of a zigzag overshoots by more than half its width; the fit must not."""
    y = torch.linspace(0.4, 0.8, len(x))
    curve = sample_curve(fit_bezier(torch.stack((torch.tensor(x), y), dim=1)), 50)[:, 0]
    width = max(x) - min(x)
    assert curve.min() >= min(x) - 0.3 * width - 1e-4
    assert curve.max() <= max(x) + 0.3 * width + 1e-4


def test_two_points_give_the_straight_line_between_them():
    curve = fit_bezier(torch.tensor([[0.1, 0.9], [0.6, 0.4]]))
    fraction = torch.linspace(0, 1, 6)
    torch.testing.assert_close(curve, torch.stack((0.6 - 0.5 * fraction, 0.4 + 0.5 * fraction), dim=1),
                               atol=1e-6, rtol=0)


def test_refit_of_a_whole_curve_is_the_curve():
    points = sample_curve(CURVE, 32)
    curve, valid = refit_clipped(points, torch.ones(32, dtype=torch.bool))
    assert valid
    torch.testing.assert_close(curve, CURVE, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.7), (0.5, 1.0), (0.45, 0.8)])
def test_refit_of_a_part_lies_on_the_whole(low, high):
    points = sample_curve(CURVE, 32)
    curve, valid = refit_clipped(points, (points[:, 1] >= low) & (points[:, 1] <= high))
    assert valid
    step = 0.6 / 31  # the part ends at the last sample that is inside
    assert max(low, 0.35) - 1e-6 <= curve[0, 1] <= max(low, 0.35) + step
    assert min(high, 0.95) - step <= curve[-1, 1] <= min(high, 0.95) + 1e-6
    rows = torch.linspace(curve[0, 1], curve[-1, 1], 20)
    torch.testing.assert_close(x_at_rows(curve, rows)[0], x_at_rows(CURVE, rows)[0], atol=0.5 * PIXEL, rtol=0)


def test_refit_says_which_lanes_are_left_and_stays_finite():
    points = sample_curve(CURVE, 32).expand(4, 32, 2).clone()
    points[3, :, 1] = 0.5  # level
    inside = torch.ones(4, 32, dtype=torch.bool)
    inside[0] = False
    inside[1, 1:] = False
    inside[2, 2:] = False  # two samples are left, 0.019 of the image apart
    curves, valid = refit_clipped(points, inside)
    assert valid.tolist() == [False] * 4
    assert curves.isfinite().all()


def turned(degrees, aspect=16 / 9):
    """256 samples of a flat lane to the right, turned about its far end in pixels: below 0 its near end rises."""
    lane = sample_curve(control_points_from_x(torch.linspace(0.3, 0.9, 6), torch.tensor(0.5), torch.tensor(0.62)), 256)
    moved, angle = (lane - lane[0]) * torch.tensor([aspect, 1]), torch.tensor(math.radians(degrees))
    rotation = torch.stack((angle.cos(), -angle.sin(), angle.sin(), angle.cos())).view(2, 2)
    return lane[0] + moved @ rotation.T / torch.tensor([aspect, 1])


@pytest.mark.parametrize("degrees", [-30, -15, -8, 0, 8, 30])
def test_refit_of_a_turned_curve_lies_on_it(degrees):
    points = turned(degrees)
    curve, valid = refit_clipped(points, torch.ones(256, dtype=torch.bool))
    assert valid and curve[-1, 1] > curve[0, 1]
    rows = torch.linspace(curve[0, 1], curve[-1, 1], 20)
    order = points[:, 1].argsort()
    expected = np.interp(rows.numpy(), points[order, 1].numpy(), points[order, 0].numpy())
    torch.testing.assert_close(x_at_rows(curve, rows)[0], torch.from_numpy(expected).float(), atol=2 * PIXEL, rtol=0)


@pytest.mark.parametrize("degrees", [-30, 8])
def test_refit_of_a_part_of_a_turned_curve_lies_on_it(degrees):
    points, inside = turned(degrees), torch.arange(256) < 100
    curve, valid = refit_clipped(points, inside)
    part = points[inside]
    assert valid and curve[:, 1].amax() == part[:, 1].amax() and curve[:, 1].amin() == part[:, 1].amin()
    rows, order = torch.linspace(curve[0, 1], curve[-1, 1], 20), part[:, 1].argsort()
    expected = np.interp(rows.numpy(), part[order, 1].numpy(), part[order, 0].numpy())
    torch.testing.assert_close(x_at_rows(curve, rows)[0], torch.from_numpy(expected).float(), atol=2 * PIXEL, rtol=0)


def test_refit_refuses_what_runs_up_and_down():
    points = sample_curve(CURVE, 64)
    points[:, 1] = 0.5 + 0.2 * torch.linspace(-1, 1, 64).square()
    _, valid = refit_clipped(points, torch.ones(64, dtype=torch.bool))
    assert not valid
    half = torch.arange(64) > 32  # the other one is outside the image, at the same rows
    curve, valid = refit_clipped(points, half)
    assert valid
    rows = torch.linspace(0.52, 0.69, 9)
    expected = np.interp(rows, points[half, 1], points[half, 0])
    torch.testing.assert_close(x_at_rows(curve, rows)[0], torch.from_numpy(expected).float(), atol=2 * PIXEL, rtol=0)


def test_refit_of_a_batch_is_that_of_its_curves():
    curves = control_points_from_x(torch.rand(2, 3, 6), torch.rand(2, 3) * 0.4, 0.6 + torch.rand(2, 3) * 0.4)
    points = sample_curve(curves, 32)
    inside = points[..., 1] < 0.7
    together, valid = refit_clipped(points, inside)
    for b in range(2):
        for n in range(3):
            one, one_valid = refit_clipped(points[b, n], inside[b, n])
            torch.testing.assert_close(together[b, n], one)
            assert valid[b, n] == one_valid


def test_real_lanes_fit_within_the_tolerance_of_the_metric():
    """The ceiling of the representation: every 20th official TuSimple label, at 20 px of 1280."""
    if not LABELS.is_dir():
        pytest.skip(f"no real labels at {LABELS}")
    lanes = []
    for path in sorted(LABELS.glob("*.json")):
        for line in path.read_text().splitlines()[::20]:
            record = json.loads(line)
            rows = np.array(record["h_samples"])
            for lane in record["lanes"]:
                x = np.array(lane)
                has_point = x >= 0
                if has_point.sum() < 2:
                    continue
                lanes.append(np.stack((x[has_point] / 1280, rows[has_point] / 720), axis=1))
    counts = np.array([len(lane) for lane in lanes])
    curves, off = fit_polylines(np.concatenate(lanes), counts)
    errors = torch.from_numpy(off) / PIXEL
    curve, lane = torch.from_numpy(curves[-1]), torch.from_numpy(lanes[-1])
    fitted_x, _ = x_at_rows(curve, lane[:, 1])
    torch.testing.assert_close((fitted_x - lane[:, 0]).abs() / PIXEL, errors[-len(lane):], atol=1e-3, rtol=0)
    assert len(errors) > 20_000
    assert (errors < 20).float().mean() >= 0.999
    assert errors.mean() < 1.0
