"""From labels to slots: lanes cut at the image border, fitted, counted where they do not fit."""

import numpy as np
import pytest

from formats.base import Label
from geometry.polyline import inside_image
from preprocessing.lane_fit import LaneProblems
from preprocessing.targets import lanes_in_slots

SIZE_PX = (1280, 720)


def lane(*points):
    return np.array(points, np.float32).reshape(-1, 2)


def target_of(*lanes, size_px=SIZE_PX, slots=6):
    """The curves (slots, 6, 2) of one image, which slots exist, and the problems of its lanes."""
    target, (problems,) = lanes_in_slots([Label(list(lanes))], [size_px], slots)
    return target.points[0], target.exists[0], problems


def curve_of(*points):
    """The curve (6, 2) of a label of one lane."""
    curves, exists, _ = target_of(lane(*points))
    return curves[exists][0]


def test_labels_in_either_direction_give_the_same_curves():
    down, up = lane((500, 300), (400, 400), (300, 500)), lane((300, 500), (400, 400), (500, 300))
    a, b = target_of(down), target_of(up)
    assert a[0].equal(b[0])
    assert a[1].tolist() == [False, False, True, False, False, False]
    assert a[0][2, 0].tolist() == pytest.approx([500 / 1280, 300 / 720])
    assert a[0][2, 5].tolist() == pytest.approx([300 / 1280, 500 / 720])


def test_lanes_that_cannot_be_learned_are_counted():
    good = lane((500, 300), (300, 500))
    short = [lane(), lane((5, 5)), lane((5, 5), (5, 5)), lane((-50, 300), (-20, 400), (-10, 500))]
    _, exists, problems = target_of(good, *short)
    assert (int(exists.sum()), problems) == (1, LaneProblems(too_short=4))
    many = [lane((640, 300), (x, 700)) for x in (100, 200, 300, 400, 700)]
    _, exists, problems = target_of(*many)
    assert (int(exists.sum()), problems) == (4, LaneProblems(unassigned=1))
    curves, exists, problems = target_of(slots=4)
    assert curves.shape == (4, 6, 2) and not exists.any() and problems == LaneProblems()


U_TURN = [(980, 700), (970, 600), (900, 420), (750, 330), (600, 420), (530, 600), (520, 700)]
OUTLINE = [(500, 700), (560, 550), (620, 400), (630, 400), (576, 550), (526, 700)]
STEPS = [(300, 300), (700, 300), (300, 500), (700, 500), (300, 700), (700, 700)]
TOOTH = [(x, 300 + 10 * i) for i, x in enumerate([640] * 18 + [840] + [640] * 18)]
NOT_LANES = {
    "level": ([(100, 400), (500, 400), (900, 400), (1200, 400)], LaneProblems(level=1)),
    "clicked level": ([(100, 400), (500, 403), (900, 398), (1200, 401)], LaneProblems(level=1)),
    "U-turn": (U_TURN, LaneProblems(turned_back=1)),
    "outline": (OUTLINE, LaneProblems(turned_back=1)),
    "steps": (STEPS, LaneProblems(far_off=1)),
}


@pytest.mark.parametrize(("points", "expected"), NOT_LANES.values(), ids=NOT_LANES)
def test_what_no_curve_can_be_is_left_out_and_described(points, expected):
    for order in (points, points[::-1]):
        _, exists, problems = target_of(lane(*order))
        assert (int(exists.sum()), problems, problems.left_out) == (0, expected, 1)


def test_a_lane_with_one_point_far_from_its_curve_is_taught_and_counted():
    curves, exists, problems = target_of(lane(*TOOTH))
    assert (int(exists.sum()), problems, problems.left_out) == (1, LaneProblems(imprecise=1), 0)
    assert (curves[exists][0, :, 0] * 1280 - 640).abs().max() < 100


@pytest.mark.parametrize(("fall", "taught"), [(17, False), (35, True)])
def test_a_line_is_level_below_two_percent(fall, taught):
    """As high as 1.5 or 3.2 % of its width of 1100 px: a stop line, or a lane far to the side."""
    _, exists, problems = target_of(lane((100, 400), (1200, 400 + fall)))
    assert (exists.any(), problems) == (taught, LaneProblems(level=1 - taught))


@pytest.mark.parametrize(("every", "expected"), [(10, LaneProblems(imprecise=1)), (5, LaneProblems(far_off=1))])
def test_a_lane_that_misses_a_tenth_of_its_points_is_taught_and_a_fifth_is_too_many(every, expected):
    """They are 60 px aside, to the left and to the right in turn."""
    aside = [60 * (-1) ** (i // every) if i % every == 2 else 0 for i in range(80)]
    _, _, problems = target_of(lane(*[(640 + x, 300 + 5 * i) for i, x in enumerate(aside)]))
    assert problems == expected


def test_a_slanted_lane_may_be_farther_off_along_its_row():
    """Every fifth point is 40 px aside, 13 across a lane that runs three times as far aside as down."""
    aside = [40 * (-1) ** (i // 5) if i % 5 == 2 else 0 for i in range(80)]
    for slope, expected in ((0, LaneProblems(far_off=1)), (3, LaneProblems(imprecise=1))):
        points = [(60 + slope * 5 * i + x, 300 + 5 * i) for i, x in enumerate(aside)]
        assert target_of(lane(*points))[2] == expected


def test_clicks_that_go_back_by_pixels_are_a_lane():
    _, exists, problems = target_of(lane((500, 300), (460, 340), (458, 337), (300, 500)))
    assert int(exists.sum()) == 1 and problems == LaneProblems()


def test_how_far_clicks_go_back_is_measured_in_widths():
    """6 px are 0.8 % of the height, and 0.5 % of the width, where 0.6 are allowed."""
    _, exists, _ = target_of(lane((500, 300), (460, 340), (454, 334), (300, 500)))
    assert int(exists.sum()) == 1


def test_points_in_any_order_are_a_lane_if_one_curve_passes_them_all():
    curve = curve_of((300, 500), (500, 300), (400, 400), (350, 450))
    assert curve.equal(curve_of((500, 300), (400, 400), (350, 450), (300, 500)))


def test_images_of_many_sizes_are_those_of_each_alone():
    rng = np.random.default_rng(0)
    sizes_px = [(1280, 720), (1640, 590), (320, 180), (640, 360)]

    def any_lane(width, height):
        n = rng.integers(1, 20)
        return lane(*np.stack((np.linspace(*rng.uniform(0, width, 2), n), np.linspace(0.4, 0.9, n) * height), axis=1))

    labels = [Label([any_lane(*size_px) for _ in range(count)])
              for size_px, count in zip(sizes_px, (3, 0, 7, 2), strict=True)]
    together, problems = lanes_in_slots(labels, sizes_px, 4)
    for i, (label, size_px) in enumerate(zip(labels, sizes_px, strict=True)):
        points, exists, alone = target_of(*label.lanes, size_px=size_px, slots=4)
        assert exists.equal(together.exists[i]) and alone == problems[i]
        np.testing.assert_allclose(points, together.points[i], atol=1e-6)
    assert problems[2].unassigned + problems[2].too_short > 0
    nothing, problems = lanes_in_slots([], [], 4)
    assert nothing.points.shape == (0, 4, 6, 2) and problems == []


def test_a_lane_that_leaves_the_image_ends_at_its_border():
    curve = curve_of((500, 300), (200, 500), (-100, 700))
    assert curve[-1].tolist() == pytest.approx([0, (500 + 200 * 2 / 3) / 720], abs=1e-5)
    curve = curve_of((700, 400), (1500, 720))
    assert curve[[0, -1]].flatten().tolist() == pytest.approx([700 / 1280, 400 / 720, 1, 632 / 720], abs=1e-5)


INSIDE = [[(0.2, 0.3), (0.4, 0.5), (0.7, 0.9)], [(0.5, 0.2), (0.5, 0.8)], [(0.1, 0.4), (0.9, 0.4)]]
OUTSIDE = [[], [(0.5, 0.5)], [(-0.5, 0.2), (-0.1, 0.8)], [(-0.6, 0.5), (0.2, 1.6)], [(1.2, 0.1), (1.2, 0.9)]]


@pytest.mark.parametrize("points", INSIDE)
def test_a_polyline_inside_the_image_is_left_as_it_is(points):
    inside, of_lane = inside_image(np.array(points), np.full(len(points), 3))
    assert inside.tolist() == [list(point) for point in points] and of_lane.tolist() == [3] * len(points)


@pytest.mark.parametrize("points", OUTSIDE)
def test_nothing_is_left_of_a_polyline_outside(points):
    inside, of_lane = inside_image(np.array(points).reshape(-1, 2), np.zeros(len(points), int))
    assert inside.shape == (0, 2) and of_lane.shape == (0,)


def test_polylines_are_cut_each_for_itself():
    points = np.array([(0.5, 0.5), (0.5, 1.5), (0.5, 0.5), (1.5, 0.5), (-0.5, 0.2), (0.5, 0.2), (0.5, -0.2)])
    inside, of_lane = inside_image(points, np.array([0, 0, 1, 1, 2, 2, 2]))
    np.testing.assert_allclose(inside, [(0.5, 0.5), (0.5, 1), (0.5, 0.5), (1, 0.5), (0, 0.2), (0.5, 0.2), (0.5, 0)])
    assert of_lane.tolist() == [0, 0, 1, 1, 2, 2, 2]
