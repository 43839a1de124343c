"""The CULane metric against hand-counted drawings, brute force and an uncropped drawing."""

import itertools
import math

import cv2
import numpy as np
import pytest

from metrics import culane

WIDTH, HEIGHT = culane.CULANE_SIZE


def upright(x: float, top: float = 200, bottom: float = 500, points: int = 5) -> np.ndarray:
    return np.stack([np.full(points, float(x)), np.linspace(bottom, top, points)], axis=1)


def whole_drawing(lane, width: int) -> np.ndarray:
    """The lane drawn on the whole image, segment by segment, as the evaluator does it."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    lane = np.asarray(lane, np.float32)
    points = np.rint(lane if len(lane) == 2 else culane._spline_points(lane)).astype(int).tolist()
    for a, b in itertools.pairwise(points):
        cv2.line(mask, a, b, 1, width)
    return mask


def random_lanes(seed: int, count: int, points) -> list:
    """Lanes that may start or end up to an image's size outside of the image."""
    rng = np.random.default_rng(seed)
    size = np.array([WIDTH, HEIGHT])
    return [rng.uniform(-size, 2 * size, (rng.integers(*points), 2)) for _ in range(count)]


def test_thresholds():
    assert culane.CULANE_THRESHOLDS == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


@pytest.mark.parametrize("points", [2, 3, 30])
def test_perfect_prediction(points):
    lanes = [upright(x, points=points) for x in (300, 700, 1100)]
    iou = culane.culane_iou(lanes, lanes)
    np.testing.assert_array_equal(iou, np.eye(3))
    score = culane.culane_score(culane.culane_counts(lanes, lanes))
    assert score["f1@50"] == score["f1@75"] == score["mf1"] == score["precision"][0.95] == 1


def test_iou_of_two_boxes():
    # Beyond both ends of the image the caps are cut off: two bands, 31 px wide, 10 px apart.
    a, b = upright(400, -100, 700), upright(410, -100, 700)
    assert culane.culane_iou([a], [b]) == pytest.approx(np.array([[21 / 41]]))


def test_iou_is_symmetric_and_shaped_pred_by_gt():
    pred, gt = random_lanes(0, 3, (2, 6)), random_lanes(1, 4, (2, 6))
    iou = culane.culane_iou(pred, gt)
    assert iou.shape == (3, 4)
    np.testing.assert_array_equal(iou, culane.culane_iou(gt, pred).T)
    assert culane.culane_iou([], gt).shape == (0, 4)


@pytest.mark.parametrize("points", [(2, 3), (3, 8)])
def test_the_cropped_drawing_has_the_pixels_of_the_whole(points):
    for lane in random_lanes(2, 60, points):
        for width in (30, 7, 1):
            crop, left, top, area = culane._lane_mask(lane, culane.CULANE_SIZE, width, "pred")
            mask = np.zeros((HEIGHT, WIDTH), np.uint8)
            mask[top : top + crop.shape[0], left : left + crop.shape[1]] = crop
            np.testing.assert_array_equal(mask, whole_drawing(lane, width))
            assert area == mask.sum()


def test_spline_keeps_straight_lines_and_given_points():
    lane = np.array([[0, 0], [30, 40], [90, 120], [120, 160]], np.float32)
    points = culane._spline_points(lane)
    assert points.shape == (151, 2)
    np.testing.assert_allclose(points[::50], lane, atol=1e-4)
    np.testing.assert_allclose(points[:, 0] * 4, points[:, 1] * 3, atol=1e-3)


def test_spline_by_hand():
    """Chords of 1 and 1 through (0, 0), (1, 0), (1, 1): the bend at the middle is 1.5 * (-1, 1)."""
    points = culane._spline_points(np.array([[0, 0], [1, 0], [1, 1]], np.float32))
    t = np.arange(50) / 50
    np.testing.assert_allclose(points[:50], np.stack([1.25 * t - t**3 / 4, (t**3 - t) / 4], 1), atol=1e-6)


def test_a_point_given_twice_spoils_the_lane_as_in_the_evaluator():
    lane = upright(300)
    twice = np.insert(lane, 2, lane[2], axis=0)
    assert np.isnan(culane._spline_points(twice.astype(np.float32))[:-1]).all()
    assert culane.culane_counts([twice], [lane], thresholds=[0.5]).tolist() == [[0, 1, 1]]


def best_total(weight) -> float:
    """The largest total weight of a one-to-one pairing, by trying all."""
    if weight.shape[0] > weight.shape[1]:
        weight = weight.T
    rows = range(weight.shape[0])
    choices = itertools.permutations(range(weight.shape[1]), weight.shape[0])
    return max(sum(weight[r, c] for r, c in zip(rows, choice, strict=True)) for choice in choices)


def test_assignment_equals_brute_force():
    rng = np.random.default_rng(3)
    for _ in range(400):
        shape = rng.integers(1, 6, 2)
        weight = rng.integers(0, 20, shape) / 20  # steps above the tolerance: no near ties
        pairs = culane.assign(weight)
        assert len({r for r, _ in pairs}) == len({c for _, c in pairs}) == len(pairs) == shape.min()
        assert sum(weight[pair] for pair in pairs) == pytest.approx(best_total(weight))


def test_assignment_of_near_ties_is_within_the_evaluator_s_tolerance():
    rng = np.random.default_rng(4)
    for _ in range(400):
        weight = rng.random(rng.integers(1, 6, 2))
        pairs = culane.assign(weight)
        assert sum(weight[pair] for pair in pairs) >= best_total(weight) - 0.01 * len(pairs)


def test_assignment_takes_the_first_of_a_near_tie():
    assert culane.assign(np.array([[0.496, 0.504]])) == [(0, 0)]
    assert culane.assign(np.array([[0.49, 0.51]])) == [(0, 1)]


def test_assignment_never_takes_nan():
    assert culane.assign(np.array([[math.nan]])) == []
    assert culane.assign(np.array([[math.nan, 0.0], [0.8, 0.0]])) == [(1, 0), (0, 1)]


@pytest.mark.parametrize(
    ("pred", "gt", "counts"),
    [
        ([], [], [0, 0, 0]),
        ([], [upright(300)] * 2, [0, 0, 2]),
        ([upright(300)], [], [0, 1, 0]),
        ([upright(300)] * 2, [upright(300)], [1, 1, 0]),  # a doubled prediction counts once
        ([upright(300)], [upright(300)] * 2, [1, 0, 1]),
        ([upright(300)] * 2, [upright(300)] * 2, [2, 0, 0]),
        ([upright(300, points=2)], [upright(300)], [1, 0, 0]),
        ([upright(300, points=1)], [upright(300)], [0, 1, 1]),
        ([np.zeros((0, 2))], [[]], [0, 1, 1]),
        ([upright(-300)], [upright(300)], [0, 1, 1]),
        ([upright(-300)], [upright(-300)], [0, 1, 1]),  # neither has a pixel: 0 / 0 is no match
        ([upright(600)], [upright(300)], [0, 1, 1]),
        ([upright(1100), upright(300)], [upright(300), upright(700), upright(1100)], [2, 0, 1]),
    ],
)
def test_counts_by_hand(pred, gt, counts):
    assert culane.culane_counts(pred, gt).tolist() == [counts] * len(culane.CULANE_THRESHOLDS)


def test_a_match_must_exceed_the_threshold():
    pred, gt = [upright(400, -100, 700)], [upright(410, -100, 700)]
    counts = culane.culane_counts(pred, gt, thresholds=[21 / 41 - 1e-9, 21 / 41])
    assert counts.tolist() == [[1, 0, 0], [0, 1, 1]]


def test_score_by_hand():
    gt = [upright(300), upright(700)]
    preds = gt, gt[:1], [*gt, upright(1200)]
    score = culane.culane_score(np.array([culane.culane_counts(pred, gt) for pred in preds]))
    assert score["precision"][0.5] == pytest.approx(5 / 6)
    assert score["recall"][0.5] == pytest.approx(5 / 6)
    assert score["f1@50"] == score["f1@75"] == score["mf1"] == pytest.approx(5 / 6)


def test_score_takes_counts():
    counts = np.zeros((2, 10, 3), int)
    counts[:, 0] = [[3, 1, 0], [1, 0, 2]]
    score = culane.culane_score(counts)
    assert score["precision"][0.5] == pytest.approx(4 / 5)
    assert score["recall"][0.5] == pytest.approx(4 / 6)
    assert score["f1@50"] == pytest.approx(8 / 11)
    assert score["mf1"] == pytest.approx(8 / 110)
    assert culane.culane_score(counts.sum(0)) == score


@pytest.mark.parametrize(("pred", "gt"), [([], []), ([], [upright(300)]), ([upright(300)], [])])
def test_score_of_nothing_is_zero(pred, gt):
    assert culane.culane_score(culane.culane_counts(pred, gt))["mf1"] == 0
    assert culane.culane_score(np.zeros((0, 10, 3), int))["mf1"] == 0


@pytest.mark.parametrize(
    ("pred", "gt", "message"),
    [
        ([[[1, 2, 3], [4, 5, 6]]], [], r"pred lane has shape \(2, 3\), expected \(N, 2\)"),
        ([], [[1, 2, 3]], r"gt lane has shape \(3,\)"),
        ([[[1, 2], [math.nan, 3]]], [], "pred lane has NaN"),
    ],
)
def test_bad_lanes_are_refused(pred, gt, message):
    with pytest.raises(ValueError, match=message):
        culane.culane_iou(pred, gt)


def test_bad_widths_and_counts_are_refused():
    with pytest.raises(ValueError, match="lane_width is 0"):
        culane.culane_iou([], [], lane_width=0)
    with pytest.raises(ValueError, match=r"counts have shape \(3, 3\)"):
        culane.culane_score(np.zeros((3, 3), int))
