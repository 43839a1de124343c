"""TuSimple's metric on whole data sets: its scores at every threshold, which model it selects, what it submits."""

import math

import numpy as np
import pytest
import torch

from formats import tusimple_metric
from formats.base import Label
from formats.tusimple_metric import TuSimpleMetric, label_x_at_rows
from geometry.bezier import control_points_from_x
from geometry.decode import lane_nms
from metrics.tusimple import TUSIMPLE_ROWS

METRIC = TuSimpleMetric()
SIZE_PX = (1280, 720)
TOLERANCE = 0.007


def upright_curve(x_px, y_far=0.3):
    return control_points_from_x(torch.full((6,), x_px / 1280), torch.tensor(y_far), torch.tensor(0.98))


def label_of(*x_px):
    rows = np.array(TUSIMPLE_ROWS, float)
    x = np.array([np.where(rows >= 216, x, -2.0) for x in x_px]).reshape(len(x_px), len(rows))
    return Label([np.stack((x[i], rows), 1)[x[i] >= 0].astype(np.float32) for i in range(len(x_px))], rows, x)


def scores_of(lanes, labels):
    scores, categories = METRIC.score(lanes, [None] * len(labels), labels, [SIZE_PX] * len(labels))
    assert categories == {}
    return scores


# Scores ------------------------------------------------------------------------------------------------------


def random_predictions(num_labels, sizes_px):
    """Curves near the labels of each image and some beside them, one of fewer than two points in most images; their
    confidences, and the labels.
    """
    generator = torch.Generator().manual_seed(0)
    positions = [sorted(torch.randperm(11, generator=generator)[:count].tolist()) for count in num_labels]
    labels = []
    for i, (image, (width, height)) in enumerate(zip(positions, sizes_px, strict=True)):
        rows = np.arange(0.25 * height, height, height / (40 + i % 3))
        x = np.array([np.where(rows >= 0.3 * height, (80 + 110 * position) * width / 1280, -2.0)
                      for position in image]).reshape(len(image), len(rows))
        lanes = [np.stack((lane, rows), 1)[lane >= 0].astype(np.float32) for lane in x]
        labels.append(Label(lanes, rows, x) if i % 2 else Label(lanes))
    points = torch.stack([torch.stack([
        upright_curve(80 + 110 * position + float(8 * torch.randn(1, generator=generator)),
                      0.97 if slot == i % 9 else 0.3)
        for slot, position in enumerate((image + list(range(8)))[:6])]) for i, image in enumerate(positions)])
    return points, torch.rand(len(labels), 6, generator=generator), labels


@pytest.mark.parametrize("num_labels", [[i % 11 for i in range(40)], [0] * 4, [9, 10, 8] * 4],
                         ids=["0 to 10 lanes", "no lanes", "8 to 10 lanes"])
def test_every_threshold_scores_as_the_official_metric_does(num_labels, monkeypatch):
    """To the bit, with images of two sizes, labels of several rows, and more images of a kind than a block takes."""
    monkeypatch.setattr(tusimple_metric, "BLOCK", 3)
    sizes_px = [((1280, 720), (320, 180))[i % 5 == 0] for i in range(len(num_labels))]
    points, confidence, labels = random_predictions(num_labels, sizes_px)
    curve = METRIC.threshold_scores(points, confidence, labels, sizes_px, TOLERANCE)
    assert list(curve.scores) == ["F1", "accuracy of images with lanes"] and len(curve.thresholds) == 49
    for t, threshold in enumerate(curve.thresholds):
        keep = lane_nms(points, confidence, float(threshold))
        lanes = [METRIC.to_prediction(curves[kept], label, size_px, TOLERANCE)
                 for curves, kept, label, size_px in zip(points, keep, labels, sizes_px, strict=True)]
        expected, _ = METRIC.score(lanes, [None] * len(labels), labels, sizes_px)
        assert list(curve.figures[t]) == list(expected)
        np.testing.assert_array_equal(list(curve.figures[t].values()), list(expected.values()))
        f1, accuracy = (score[t] for score in curve.scores.values())
        np.testing.assert_array_equal((f1, accuracy), (expected["f1"], expected["accuracy_with_lanes"]))
        assert curve.objective[t] == min(f1, accuracy if any(num_labels) else f1)
    assert len(set(curve.scores["F1"].round(6))) > 5, "the thresholds must differ for this to show anything"


def test_images_without_a_lane_do_not_move_the_choice():
    """Their accuracy is 0 at every threshold: as a part of the objective it would hide what F1 says of the others."""
    with_lanes = METRIC.selection_scores({"f1": 0.9, "accuracy": 0.5, "accuracy_with_lanes": 0.95, "error_px": 8.0})
    assert with_lanes == (0.9, -8.0)
    none = METRIC.selection_scores({"f1": 1.0, "accuracy": 0.0, "accuracy_with_lanes": math.nan, "error_px": math.nan})
    assert none == (1.0, -math.inf)


def test_an_image_without_a_lane_counts_only_in_the_official_accuracy():
    labels = [label_of(300, 900), label_of(), label_of(500)]
    lanes = [labels[0].x_at_rows, np.zeros((0, len(TUSIMPLE_ROWS))), np.zeros((0, len(TUSIMPLE_ROWS)))]
    scores = scores_of(lanes, labels)
    assert scores["accuracy"] == pytest.approx(1 / 3) and scores["accuracy_with_lanes"] == pytest.approx(1 / 2)
    assert np.isnan(scores_of(lanes[1:2], labels[1:2])["accuracy_with_lanes"])


def test_images_of_other_sizes_are_scaled_to_1280x720():
    """10 px of 320 are 40 of 1280, twice the tolerance; 4 px are 16."""
    rows = np.array(TUSIMPLE_ROWS, float) / 4
    label = Label([np.stack((np.full(56, 100), rows), 1).astype(np.float32)], rows, np.full((1, 56), 100.0))
    for shift_px, accuracy in ((4, 1), (10, 0)):
        scores, _ = METRIC.score([label.x_at_rows + shift_px], [None], [label], [(320, 180)])
        assert scores["accuracy"] == accuracy


def test_the_slant_of_a_lane_is_that_in_1280x720():
    """Of 45 degrees: 20 px become 28.28, which are 14.14 of an image half as large."""
    rows = np.array(TUSIMPLE_ROWS, float) / 2
    label = Label([np.stack((rows + 100, rows), 1).astype(np.float32)], rows, rows[None] + 100)
    for shift_px, accuracy in ((14, 1), (14.3, 0)):
        scores, _ = METRIC.score([label.x_at_rows + shift_px], [None], [label], [(640, 360)])
        assert scores["accuracy"] == accuracy


def test_a_point_on_the_right_border_lies_outside_and_one_on_the_left_inside():
    left, right = label_x_at_rows(Label([np.float32([[x, 100], [x, 720]]) for x in (0, 1280)]), SIZE_PX)
    assert set(left[4:]) == {0} and set(right) == {-2}


def test_no_image_has_no_score():
    with pytest.raises(ValueError, match="no image to score"):
        METRIC.score([], [], [], [])


# The best model ----------------------------------------------------------------------------------------------


def key(f1, accuracy, error_px, images=300):
    return METRIC.selection_key({"f1": f1, "accuracy_with_lanes": accuracy, "error_px": error_px}, images)


def test_f1_decides_and_among_equals_the_error():
    assert key(0.93, 0.94, 12.0) > key(0.91, 0.94, 8.0)
    assert key(0.913, 0.94, 8.0) > key(0.914, 0.94, 9.0), "within the step of 300 images"
    assert key(0.914, 0.94, 9.0, 10_000) > key(0.911, 0.94, 8.0, 10_000), "more images show smaller differences"
    assert key(0.914, 0.94, math.nan) > key(0.911, 0.94, math.nan), "no lanes in any of them: the digits of F1"
    assert key(0.911, 0.94, 500.0) > key(0.914, 0.94, math.nan), "an error that is no number is the worst"


def test_a_model_that_reports_nothing_is_not_selected():
    """Of images with two lanes: it has an F1 of two thirds, but no accuracy."""
    silent = scores_of([np.zeros((0, 56))] * 3, [label_of(300, 900)] * 3)
    assert silent["f1"] == pytest.approx(2 / 3)
    one_of_two = scores_of([label_of(300).x_at_rows, *[label_of(300, 600).x_at_rows] * 2], [label_of(300, 900)] * 3)
    assert one_of_two["f1"] < silent["f1"]
    assert METRIC.selection_key(one_of_two | {"error_px": 300.0}, 3) > METRIC.selection_key(
        silent | {"error_px": 20.0}, 3)


# What is written ---------------------------------------------------------------------------------------------


def straight(x, y_far, y_near):
    """(1, 6, 2) a vertical curve."""
    return torch.stack((torch.full((6,), float(x)), torch.linspace(y_far, y_near, 6)), 1)[None]


@pytest.mark.parametrize("curve", [straight(0.5, 0.001, 0.01), straight(1.5, 0.3, 0.9)], ids=["short", "outside"])
def test_lanes_of_too_few_points_are_left_out(curve):
    assert METRIC.to_prediction(curve, label_of(300), SIZE_PX, TOLERANCE).shape == (0, 56)


def test_a_lane_has_a_point_in_each_row_of_its_label():
    lanes = METRIC.to_prediction(straight(0.5, 0.5, 0.9), label_of(300), SIZE_PX, TOLERANCE)
    rows = np.array(TUSIMPLE_ROWS)
    assert lanes.tolist() == [np.where((rows >= 355) & (rows <= 653), 640, -2).tolist()]
