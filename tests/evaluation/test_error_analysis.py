"""Precision, recall and error by slot, distance and image, and calibration, on predictions made by hand."""

import math

import numpy as np
import pytest
import torch

from evaluation import error_analysis
from evaluation.error_analysis import BANDS, ROWS
from geometry.bezier import CONTROL_POINTS, control_points_from_x
from geometry.decode import rows_from_curves
from geometry.slots import LaneTarget
from metrics import collapse, tusimple
from metrics.collapse import REFERENCE_WIDTH_PX


def lane(x_far, x_near, y_far=0.0, y_near=1.0):
    """A straight lane (P, 2) from x_far, y_far to x_near, y_near, in px of 1280 and in [0, 1]."""
    x = torch.linspace(x_far, x_near, CONTROL_POINTS) / REFERENCE_WIDTH_PX
    return control_points_from_x(x, torch.tensor(y_far), torch.tensor(y_near))


def image(*lanes, slots=4):
    """points (1, L, P, 2) and exists (1, L) of an image with a lane or None in each of the first slots."""
    lanes = [*lanes, *[None] * (slots - len(lanes))]
    points = torch.stack([torch.zeros(CONTROL_POINTS, 2) if points is None else points for points in lanes])
    return points[None], torch.tensor([[points is not None for points in lanes]])


def point_counts(predicted, labelled):
    (points, reported), (label_points, exists) = predicted, labelled
    positions = error_analysis.row_positions(points, LaneTarget(label_points, exists))
    return error_analysis.point_counts(positions, reported)


def errors_px(points, label_points, exists):
    return error_analysis.errors_px(error_analysis.row_positions(points, LaneTarget(label_points, exists)))


LEFT, RIGHT = lane(400, 200), lane(800, 1000)


def test_a_perfect_prediction_is_correct_everywhere():
    counts = point_counts(image(LEFT, RIGHT), image(LEFT, RIGHT))
    slots, bands = error_analysis.by_slot(counts), error_analysis.by_band(counts)
    assert slots.precision[:2].tolist() == slots.recall[:2].tolist() == [1, 1]
    assert np.isnan(slots.precision[2:]).all() and np.isnan(slots.recall[2:]).all()
    assert slots.labelled.tolist() == slots.predicted.tolist() == [len(ROWS), len(ROWS), 0, 0]
    assert bands.precision.tolist() == bands.recall.tolist() == [1] * BANDS
    assert error_analysis.by_image(counts).tolist() == [1]


@pytest.mark.parametrize(("shift", "correct"), [(19.5, 1), (-19.5, 1), (20.5, 0), (-20.5, 0)])
def test_an_upright_lane_may_be_20_px_off(shift, correct):
    rates = error_analysis.by_slot(point_counts(image(lane(600 + shift, 600 + shift)), image(lane(600, 600))))
    assert (rates.precision[0], rates.recall[0]) == (correct, correct)


@pytest.mark.parametrize(("shift", "correct"), [(28, 1), (29, 0)])
def test_a_lane_of_45_degrees_may_be_28_px_off(shift, correct):
    """20 px / cos(45 degrees) = 28.3 px; 720 px down the image, 720 px across."""
    counts = point_counts(image(lane(100 + shift, 820 + shift)), image(lane(100, 820)))
    assert error_analysis.by_slot(counts).recall[0] == correct


def test_half_a_lane_has_full_precision_and_half_recall():
    counts = point_counts(image(lane(600, 600, y_far=0.5)), image(lane(600, 600)))
    assert error_analysis.by_slot(counts).precision[0] == 1 and error_analysis.by_slot(counts).recall[0] == 0.5
    assert error_analysis.by_band(counts).recall.tolist() == [0] * 5 + [1] * 5
    assert error_analysis.by_band(counts).predicted.tolist() == [0] * 5 + [8] * 5
    assert error_analysis.by_image(counts)[0] == pytest.approx(2 * 0.5 / 1.5)


def test_a_false_lane_costs_precision_in_its_slot_and_a_missed_one_recall():
    rates = error_analysis.by_slot(point_counts(image(LEFT, lane(600, 600)), image(LEFT, None, RIGHT)))
    assert rates.precision[:2].tolist() == [1, 0] and rates.recall[[0, 2]].tolist() == [1, 0]


def test_a_lane_in_another_slot_is_detected_all_the_same():
    rates = error_analysis.by_slot(point_counts(image(None, LEFT), image(LEFT)))
    assert rates.recall[0] == 1 and rates.precision[1] == 1


def test_a_lane_that_crosses_others_is_matched_with_the_one_it_follows():
    """The label's own points near another lane's crossing do not make that lane detected."""
    counts = point_counts(image(LEFT), image(LEFT, lane(200, 400)))
    rates = error_analysis.by_slot(counts)
    assert rates.precision[0] == 1 and rates.recall[0] == 1 and 0 < rates.recall[1] < 0.2


def test_what_is_not_reported_is_not_point_counts():
    points, exists = image(LEFT, RIGHT)
    counts = point_counts((points, torch.tensor([[True, False, False, False]])), (points, exists))
    assert error_analysis.by_slot(counts).predicted.tolist() == [len(ROWS), 0, 0, 0]
    assert error_analysis.by_slot(counts).recall[:2].tolist() == [1, 0]


def test_an_image_with_no_label_and_no_reported_lane_is_nan():
    assert math.isnan(error_analysis.by_image(point_counts(image(), image()))[0])
    assert error_analysis.by_image(point_counts(image(LEFT), image()))[0] == 0


@pytest.mark.parametrize("seed", range(5))
def test_points_agree_with_tusimple(seed):
    """The rows of one lane that TuSimple's own metric takes as right are the detected points."""
    torch.manual_seed(seed)
    width, height = tusimple.TUSIMPLE_SIZE
    label = lane(*(torch.rand(2) * 700 + 300).tolist())
    predicted = label.clone()
    predicted[:, 0] += torch.randn(CONTROL_POINTS) * 25 / width
    counts = point_counts(image(predicted), image(label))
    x, label_x = ((rows_from_curves(points, ROWS, tolerance=0.0) * width).tolist() for points in (predicted, label))
    share = tusimple.tusimple_rows_right([x], [label_x], (ROWS * height).tolist())[0, 0]
    assert counts.detected.sum() == counts.correct.sum() == round(share * len(ROWS)) > 0


def test_images_count_together_as_they_do_alone():
    predicted, labelled = [image(LEFT, RIGHT), image(lane(600, 620))], [image(LEFT), image(lane(610, 600), RIGHT)]
    alone = [point_counts(*pair) for pair in zip(predicted, labelled, strict=True)]
    both = point_counts(*([torch.cat(part) for part in zip(*group, strict=True)] for group in (predicted, labelled)))
    for name in both._fields:
        assert torch.equal(getattr(both, name), torch.cat([getattr(counts, name) for counts in alone]))


def test_images_that_are_compared_a_few_at_a_time_count_as_all_at_once(monkeypatch):
    images = image(LEFT, RIGHT), image(lane(600, 620)), image(None, LEFT)
    group = [torch.cat(part) for part in zip(*images, strict=True)]
    whole = point_counts(group, group)
    monkeypatch.setattr(error_analysis, "BLOCK", 2)
    assert all(map(torch.equal, whole, point_counts(group, group)))


# Errors ------------------------------------------------------------------------------------------------------


def test_a_shift_is_the_error_everywhere():
    points, exists = image(lane(400, 200), None, lane(800, 1000, y_far=0.5))
    errors = errors_px(points + torch.tensor([16 / REFERENCE_WIDTH_PX, 0]), points, exists)
    assert errors.shape == (1, 4, len(ROWS))
    assert error_analysis.mean_error_px(errors, "band") == pytest.approx([16] * BANDS, abs=1e-3)
    assert error_analysis.mean_error_px(errors, "image") == pytest.approx([16], abs=1e-3)
    by_slot = error_analysis.mean_error_px(errors, "slot")
    assert by_slot[[0, 2]] == pytest.approx([16, 16], abs=1e-3) and np.isnan(by_slot[[1, 3]]).all()


def test_an_error_that_grows_with_distance():
    """A lane that leaves its label by 100 px towards the top: linear, 95 px in the first tenth, 5 in the last."""
    (points, _), (label, exists) = image(lane(700, 600)), image(lane(600, 600))
    errors = errors_px(points, label, exists)
    assert error_analysis.mean_error_px(errors, "band") == pytest.approx(np.arange(95, 0, -10), abs=0.01)
    mean = collapse.mean_x_error(points.numpy(), label.numpy(), exists.numpy())
    assert error_analysis.mean_error_px(errors, "image")[0] == pytest.approx(mean, abs=0.01)


def test_where_a_prediction_ends_before_its_label_its_end_counts():
    """A lane that leans by 400 px over the height and ends in the middle: from there on its last x."""
    (points, _), (label, exists) = image(lane(600, 800, y_near=0.5)), image(lane(600, 1000))
    errors = errors_px(points, label, exists)
    assert error_analysis.mean_error_px(errors, "band")[:5] == pytest.approx([0] * 5, abs=0.01)
    assert error_analysis.mean_error_px(errors, "band")[5:] == pytest.approx([20, 60, 100, 140, 180], abs=0.01)
    mean = collapse.mean_x_error(points.numpy(), label.numpy(), exists.numpy())
    assert error_analysis.mean_error_px(errors, "image")[0] == pytest.approx(mean, rel=0.04)  # it takes both ends


def test_an_image_without_labels_has_no_error():
    (points, _), (label, exists) = image(LEFT), image()
    errors = errors_px(points, label, exists)
    assert np.isnan(error_analysis.mean_error_px(errors, "image")).all()


# Calibration -------------------------------------------------------------------------------------------------


def test_confidences_that_come_true_have_no_calibration_error():
    confidence = np.repeat([0.25, 0.75, 1.0], 4)
    exists = np.array([1, 0, 0, 0, 1, 1, 1, 0, 1, 1, 1, 1], bool)
    calibration = error_analysis.calibration(confidence, exists)
    assert calibration.error == pytest.approx(0)
    assert calibration.count.tolist() == [0, 0, 4, 0, 0, 0, 0, 4, 0, 4]
    assert calibration.frequency[[2, 7, 9]].tolist() == calibration.confidence[[2, 7, 9]].tolist() == [0.25, 0.75, 1.0]
    assert np.isnan(calibration.frequency[[0, 1, 3]]).all()


def test_certain_and_half_right_is_an_error_of_one_half():
    assert error_analysis.calibration(np.ones((2, 4)), np.array([[1, 0] * 2] * 2, bool)).error == pytest.approx(0.5)


def test_the_calibration_error_weighs_bins_by_their_slots():
    """Three slots 0.1 off and one 0.5 off: (3 x 0.1 + 0.5) / 4."""
    calibration = error_analysis.calibration(np.array([0.9, 0.9, 0.9, 0.5]), np.array([1, 1, 1, 0], bool))
    assert calibration.error == pytest.approx((3 * 0.1 + 0.5) / 4)


# Ranking -----------------------------------------------------------------------------------------------------


def test_images_are_ranked_by_points_then_by_error():
    f1 = np.array([0.9, 0.2, 0.9, math.nan, 0.0])
    assert error_analysis.worst_first(f1, np.array([5.0, 1.0, 9.0, math.nan, math.nan])).tolist() == [4, 1, 2, 0]


def test_where_no_image_has_a_lane_all_are_ranked():
    assert sorted(error_analysis.worst_first(np.full(3, math.nan), np.full(3, math.nan)).tolist()) == [0, 1, 2]


@pytest.mark.parametrize("count", range(1, 14))
def test_best_median_and_worst_are_ends_and_middle_and_never_twice(count):
    order = np.arange(count)[::-1]
    chosen = error_analysis.best_median_worst(order, best=3, median=3, worst=3)
    everyone = [i for group in chosen.values() for i in group]
    assert len(set(everyone)) == len(everyone) == min(count, 3 * max(1, min(3, count // 3)))
    assert chosen["worst"][0] == count - 1
    if count >= 9:
        assert chosen["best"] == [0, 1, 2] and chosen["worst"] == [count - 1, count - 2, count - 3]
        assert abs(np.median(chosen["median"]) - (count - 1) / 2) <= 0.5
