"""The TuSimple metric and the collapse measures against closed forms and values worked out by hand."""

import math

import numpy as np
import pytest

from metrics import collapse, tusimple

ROWS = list(tusimple.TUSIMPLE_ROWS)
R = len(ROWS)


def upright(x: float) -> list:
    """A lane with the same x in every row: its tolerance is 20 px exactly."""
    return [x] * R


def slot(xs, y=(0.4, 1.0), points=6) -> np.ndarray:
    """(N, 1, P, 2) upright Bezier lanes, one an image, at `xs` (N,), y equally spaced from y[0] to y[1]."""
    lanes = np.zeros((len(xs), 1, points, 2))
    lanes[..., 0] = np.reshape(xs, (-1, 1, 1))
    lanes[..., 1] = np.linspace(*y, points)
    return lanes


def test_tusimple_rows_are_the_benchmark_s():
    assert (ROWS[0], ROWS[-1], R) == (160, 710, 56)


@pytest.mark.parametrize("lanes", [1, 3, 4, 5])
def test_tusimple_perfect_prediction(lanes):
    gt = [upright(100 + 150 * i) for i in range(lanes)]
    assert tusimple.tusimple_image(gt, gt, ROWS) == (1.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("pred", "gt", "expected"),
    [
        ([], [], (0, 0, 0)),
        ([], [upright(300)], (0, 0, 1)),
        ([upright(300)], [], (0, 1, 0)),
        ([upright(319.9)], [upright(300)], (1, 0, 0)),
        ([upright(320)], [upright(300)], (0, 1, 1)),  # the distance has to stay below 20 px
        ([upright(300)], [upright(300), upright(310)], (1, -1, 0)),  # one prediction may find two labels
        ([upright(300)] * 3, [upright(300)], (1, 2 / 3, 0)),
        ([upright(300)] * 4, [upright(300)], (0, 0, 1)),  # more than two surplus: refused
        ([upright(-2)], [upright(-2)], (1, 0, 0)),  # rows without a point agree
        ([upright(5)], [upright(-2)], (0, 1, 1)),  # and x = 5 is not within 20 px of a missing point
        ([upright(-7)], [upright(-2)], (1, 0, 0)),  # any negative x is missing
    ],
)
def test_tusimple_by_hand(pred, gt, expected):
    assert tusimple.tusimple_image(pred, gt, ROWS) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("rows_right", "found"), [(47, False), (48, True)])  # 0.85 of 56 rows are 47.6
def test_tusimple_lane_needs_85_percent_of_its_rows(rows_right, found):
    pred = [300] * rows_right + [900] * (R - rows_right)
    score = tusimple.tusimple_image([pred], [upright(300)], ROWS)
    assert score == pytest.approx((rows_right / R, 1 - found, 1 - found), abs=1e-12)


def test_tusimple_fifth_lane_is_forgiven():
    gt = [upright(100 + 150 * i) for i in range(6)]
    assert tusimple.tusimple_image(gt[:4], gt[:5], ROWS) == (1.0, 0.0, 0.0)
    assert tusimple.tusimple_image(gt[:3], gt[:5], ROWS) == pytest.approx((3 / 4, 0, 1 / 4))
    assert tusimple.tusimple_image(gt, gt, ROWS).accuracy == 5 / 4  # one is left out, the rest divided by four


@pytest.mark.parametrize(("offset", "accuracy"), [(28.2, 1.0), (28.3, 0.0)])
def test_tusimple_tolerance_grows_with_the_slant(offset, accuracy):
    gt = [row + 200.0 for row in ROWS]  # 45 degrees: 20 / cos = 28.28 px
    score = tusimple.tusimple_image([[x + offset for x in gt]], [gt], ROWS)
    assert score.accuracy == accuracy


def test_tusimple_slow_prediction_is_refused():
    lane = [upright(300)]
    assert tusimple.tusimple_image(lane, lane, ROWS, run_time_ms=200).accuracy == 1
    assert tusimple.tusimple_image(lane, lane, ROWS, run_time_ms=201) == (0, 0, 1)


@pytest.mark.parametrize(
    ("pred", "gt", "rows", "message"),
    [
        ([[1, 2]], [], ROWS, "pred lane 0 has 2 x values, expected 56"),
        ([], [upright(1), [5] * 48], ROWS, "gt lane 1 has 48 x values, expected 56"),
        ([upright(math.nan)], [], ROWS, "pred lanes have NaN"),
        ([], [upright(math.inf)], ROWS, "gt lanes have NaN or infinity"),
        ([], [], [], "h_samples has shape"),
    ],
)
def test_tusimple_refuses_bad_input(pred, gt, rows, message):
    with pytest.raises(ValueError, match=message):
        tusimple.tusimple_image(pred, gt, rows)


@pytest.mark.parametrize(
    ("fp", "fn", "f1"),
    [
        (0, 0, 1),
        (1, 0, 0),  # 0 / 0 in the recall
        (1, 1, 0),
        (0.0228, 0.0192, 0.9789),  # CLRNet, ResNet-18, as published
        (0.0356, 0.0301, 0.9671),  # LaneATT, ResNet-18
        (0.0942, 0.0933, 0.9062),  # PolyLaneNet
    ],
)
def test_tusimple_f1(fp, fn, f1):
    assert tusimple.tusimple_f1(fp, fn) == pytest.approx(f1, abs=1e-4)


def test_tusimple_score_is_the_mean_over_images():
    gt = [upright(300), upright(600)]
    score = tusimple.tusimple_score(iter([(gt, gt, ROWS), (gt[:1], gt, ROWS), ([], gt, ROWS)]))
    assert score["accuracy"] == pytest.approx(0.5)
    assert score["fp"] == 0
    assert score["fn"] == pytest.approx(0.5)
    assert score["f1"] == pytest.approx(tusimple.tusimple_f1(0, 0.5)) == pytest.approx(0.8)


def test_tusimple_score_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no image"):
        tusimple.tusimple_score([])


def test_diversity_of_the_labels_themselves_is_one():
    labels = np.random.default_rng(0).random((20, 4, 6, 2))
    exists = np.random.default_rng(1).random((20, 4)) < 0.6
    assert collapse.diversity(labels, labels, exists) == pytest.approx(1)


def test_diversity_of_a_constant_prediction_is_zero():
    labels = np.random.default_rng(0).random((20, 4, 6, 2))
    exists = np.random.default_rng(1).random((20, 4)) < 0.6
    constant = np.broadcast_to(collapse.constant_prediction(labels, exists), labels.shape)
    assert collapse.diversity(constant, labels, exists) == pytest.approx(0, abs=1e-12)


def test_diversity_counts_neither_place_nor_absent_lanes():
    labels, exists = slot([0.2, 0.4, 0.9]), np.array([[1], [1], [0]])
    pred = slot([0.65, 0.75, 0.0])  # half as far apart, elsewhere; the third image has no label
    assert collapse.diversity(pred, labels, exists) == pytest.approx(0.5)


def test_diversity_weighs_slots_by_their_images():
    labels = np.concatenate([slot([0.2, 0.4, 0.2, 0.4]), slot([0.1, 0.5, 0, 0])], axis=1)
    pred = np.concatenate([slot([0.2, 0.4, 0.2, 0.4]), slot([0.3, 0.3, 0, 0])], axis=1)
    exists = np.array([[1, 1], [1, 1], [1, 0], [1, 0]])
    assert collapse.diversity(pred, labels, exists) == pytest.approx(4 * 0.1 / (4 * 0.1 + 2 * 0.2))


def test_diversity_is_undefined_without_two_images_or_varied_labels():
    assert math.isnan(collapse.diversity(slot([0.2, 0.4]), slot([0.2, 0.4]), [[1], [0]]))
    assert math.isnan(collapse.diversity(slot([0.2, 0.4]), slot([0.5, 0.5]), [[1], [1]]))
    assert math.isnan(collapse.diversity(slot([]), slot([]), np.zeros((0, 1))))


def test_constant_prediction_is_the_median_lane_of_each_slot():
    labels = np.concatenate([slot([0.1, 0.2, 0.9, 0.5]), slot([0.7] * 4)], axis=1)
    constant = collapse.constant_prediction(labels, [[1, 0], [1, 0], [1, 0], [0, 0]])
    assert constant.shape == (2, 6, 2)
    np.testing.assert_allclose(constant[0], slot([0.2])[0, 0])
    assert not constant[1].any()


@pytest.mark.parametrize(("shift", "width", "error"), [(0, 1280, 0), (0.01, 1280, 12.8), (-0.01, 1640, 16.4)])
def test_mean_x_error_of_a_shift(shift, width, error):
    labels = slot([0.3, 0.6])
    labels[..., 0] += np.linspace(0, 0.2, 6) ** 2  # bent, which a shift does not care about
    pred = labels + np.array([shift, 0])
    assert collapse.mean_x_error(pred, labels, [[1], [1]], width_px=width) == pytest.approx(error)


def test_mean_x_error_compares_equal_rows():
    """One straight line, x = y / 2, cut to other ends: no error where both reach, an end point beyond."""
    label, pred = slot([0], y=(0.4, 0.8)), slot([0], y=(0.2, 1.0))
    for lanes in (label, pred):
        lanes[..., 0] = lanes[..., 1] / 2
    assert collapse.mean_x_error(pred, label, [[1]]) == pytest.approx(0, abs=1e-9)
    # The short one, as prediction, misses y = 0.2 to 0.4 and 0.8 to 1: a mean of 0.05 over half of the rows.
    assert collapse.mean_x_error(label, pred, [[1]], samples=4001) == pytest.approx(0.025 * 1280, rel=1e-3)


def test_mean_x_error_is_upside_down_alike():
    label, pred = slot([0.3]), slot([0.3])
    for lanes in (label, pred):
        lanes[..., 0] = lanes[..., 1] ** 2
    assert collapse.mean_x_error(pred[:, :, ::-1], label, [[1]]) == pytest.approx(0, abs=1e-9)


def test_mean_x_error_of_a_prediction_without_height_is_finite():
    assert collapse.mean_x_error(slot([0.4], y=(0.5, 0.5)), slot([0.3]), [[1]]) == pytest.approx(128)


def test_mean_x_error_ignores_absent_lanes():
    labels = slot([0.3, np.nan])
    assert collapse.mean_x_error(slot([0.3, 0.9]), labels, [[True], [False]]) == pytest.approx(0, abs=1e-9)
    assert math.isnan(collapse.mean_x_error(labels, labels, [[False], [False]]))


def test_the_constant_prediction_has_the_least_mean_x_error():
    labels = slot(np.random.default_rng(0).random(31))
    exists = np.ones((31, 1), bool)
    median = np.broadcast_to(collapse.constant_prediction(labels, exists), labels.shape)
    mean = np.broadcast_to(labels.mean(0), labels.shape)
    assert collapse.mean_x_error(median, labels, exists) <= collapse.mean_x_error(mean, labels, exists)


@pytest.mark.parametrize("measure", [collapse.diversity, collapse.mean_x_error])
def test_measures_refuse_bad_input(measure):
    good, exists = slot([0.3, 0.4]), [[1], [1]]
    with pytest.raises(ValueError, match="pred_points has NaN"):
        measure(slot([0.3, np.nan]), good, exists)
    with pytest.raises(ValueError, match=r"expected \(..., L, P, 2\)"):
        measure(good, good, [1, 1])
    with pytest.raises(ValueError, match=r"pred_points \(2, 1, 4, 2\) and label_points \(2, 1, 6, 2\)"):
        measure(slot([0.3, 0.4], points=4), good, exists)
