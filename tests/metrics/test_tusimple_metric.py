"""The TuSimple metric against closed forms and values worked out by hand."""

import math

import pytest

from metrics import tusimple

ROWS = list(tusimple.TUSIMPLE_ROWS)
R = len(ROWS)


def upright(x: float) -> list:
    """A lane with the same x in every row: its tolerance is 20 px exactly."""
    return [x] * R


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
        ([upright(300)], [upright(300), upright(310)], (1, -1, 0)),  # one prediction may match two labels
        ([upright(300)] * 3, [upright(300)], (1, 2 / 3, 0)),
        ([upright(300)] * 4, [upright(300)], (0, 0, 1)),  # more than two surplus: refused
        ([upright(-2)], [upright(-2)], (1, 0, 0)),  # rows without a point agree
        ([upright(5)], [upright(-2)], (0, 1, 1)),  # and x = 5 is not within 20 px of a missing point
        ([upright(-7)], [upright(-2)], (1, 0, 0)),  # any negative x is missing
    ],
)
def test_tusimple_by_hand(pred, gt, expected):
    assert tusimple.tusimple_image(pred, gt, ROWS) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("rows_right", "matched"), [(47, False), (48, True)])  # 0.85 of 56 rows are 47.6
def test_tusimple_lane_needs_85_percent_of_its_rows(rows_right, matched):
    pred = [300] * rows_right + [900] * (R - rows_right)
    score = tusimple.tusimple_image([pred], [upright(300)], ROWS)
    assert score == pytest.approx((rows_right / R, 1 - matched, 1 - matched), abs=1e-12)


def test_tusimple_85_percent_exactly_are_enough():
    assert tusimple.tusimple_image([[300] * 17 + [900] * 3], [[300] * 20], range(20)) == (0.85, 0, 0)


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
        (-1, 0, 1),  # predictions that match two labels each: no share exceeds 1
        (-0.25, 0.5, 0.8),
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
