"""Curves in NumPy: the same as those of geometry/bezier.py."""

import numpy as np
import pytest
import torch

from geometry import bezier, slots
from geometry.lane_arrays import FAR, bottom_x_by_tangent, close_pairs, gaps, nearest_pairs, without_duplicates, x_at


@pytest.fixture
def curves():
    """Control points (8, P, 2) of canonical curves."""
    rng = np.random.default_rng(0)
    far, near = rng.uniform(0.2, 0.5, 8), rng.uniform(0.6, 1, 8)
    x = torch.from_numpy(rng.uniform(-0.3, 1.3, (8, 6)))
    return bezier.control_points_from_x(x, torch.from_numpy(far), torch.from_numpy(near))


def test_x_is_that_of_the_curves(curves):
    rows = np.linspace(0.1, 1, 40)
    x, on = x_at(curves[..., 0].numpy(), curves[:, [0, -1], 1].numpy(), rows)
    expected, t = bezier.x_at_rows(curves, torch.from_numpy(rows))
    assert x == pytest.approx(expected.numpy(), abs=1e-9)
    assert (on == ((t >= 0) & (t <= 1)).numpy()).all()


def test_rows_may_differ_between_curves(curves):
    x, ends = curves[..., 0].numpy(), curves[:, [0, -1], 1].numpy()
    rows = np.linspace(ends[:, 0], ends[:, 1], 5).T
    each = [x_at(x[i:i + 1], ends[i:i + 1], rows[i])[0][0] for i in range(len(x))]
    assert x_at(x, ends, rows)[0] == pytest.approx(np.array(each))


def test_the_bottom_is_along_the_near_end():
    """A straight lane reaches the bottom where the slots see it."""
    points = bezier.fit_bezier(torch.tensor([[0.5, 0.3], [0.3, 0.7]]))[None]
    assert bottom_x_by_tangent(points[..., 0].numpy(), points[:, [0, -1], 1].numpy()) == pytest.approx(
        slots.bottom_x_by_chord(points).numpy(), abs=1e-5)


def test_gaps_are_over_common_rows():
    rows = np.array([[0.1, 0.1, 0.1], [0.2, 0.4, 0.9], [0.5, 0.5, 0.5]])
    on = np.array([[True, True, True], [True, True, False], [False, False, True]])
    assert gaps(rows, on) == pytest.approx(np.array([[0, 0.2, FAR], [0.2, 0, FAR], [FAR, FAR, FAR]]))


def test_nearest_pairs_are_one_to_one():
    assert nearest_pairs(np.array([[0.1, 0.2], [0.05, 0.3]]), 1) == [(1, 0), (0, 1)]
    assert nearest_pairs(np.array([[0.1, 0.2], [0.05, 0.3]]), 0.1) == [(1, 0)]
    assert nearest_pairs(np.zeros((0, 3)), 1) == nearest_pairs(np.zeros((3, 0)), 1) == []


def test_of_duplicates_the_more_confident_stays():
    distance = np.array([[0, 0.001, 0.5], [0.001, 0, 0.5], [0.5, 0.5, 0]])
    assert close_pairs(distance) == [(0, 1)]
    assert without_duplicates(distance, np.array([0.6, 0.9, 0.1])).tolist() == [1, 2]
    assert without_duplicates(distance, np.array([0.9, 0.6, 0.1])).tolist() == [0, 2]


def test_a_lane_that_is_left_out_hides_no_other():
    """The second is near both others, which are apart."""
    distance = np.array([[0, 0.01, 0.02], [0.01, 0, 0.01], [0.02, 0.01, 0]])
    assert without_duplicates(distance, np.array([0.9, 0.8, 0.7])).tolist() == [0, 2]
