"""The curve over thresholds is the official metric at each of them, and its maximum is one worth taking."""

import numpy as np
import pytest
import torch
from formats.scores import tusimple_scores
from formats.submission import rows_of, tusimple_lanes

from evaluation.threshold import THRESHOLDS, ThresholdCurve, best_threshold, threshold_curve
from formats.base import Label
from geometry.bezier import control_points_from_x
from geometry.decode import lane_nms
from metrics.tusimple import TUSIMPLE_ROWS

SIZE_PX = (1280, 720)
TOLERANCE = 0.007


def lane(x_px, y_far=0.3):
    return control_points_from_x(torch.full((6,), x_px / 1280), torch.tensor(y_far), torch.tensor(0.98))


def label_of(*x_px):
    rows = np.array(TUSIMPLE_ROWS, float)
    x = np.array([np.where(rows >= 216, x, -2.0) for x in x_px]).reshape(len(x_px), len(rows))
    return Label([np.stack((x[i], rows), 1)[x[i] >= 0].astype(np.float32) for i in range(len(x_px))], rows, x)


def curve_of(points, confidence, labels, thresholds=THRESHOLDS):
    return threshold_curve(points, confidence, labels, [SIZE_PX] * len(labels), TOLERANCE, thresholds)


def test_every_threshold_scores_as_the_official_metric_does():
    """Random lanes and confidences, zero to six labels an image, some predictions of fewer than two points."""
    generator = torch.Generator().manual_seed(0)
    truth = [sorted(torch.randperm(11, generator=generator)[:i % 7].tolist()) for i in range(30)]
    labels = [label_of(*(80 + 110 * place for place in places)) for places in truth]
    points = torch.stack([torch.stack([
        lane(80 + 110 * place + float(8 * torch.randn(1, generator=generator)), 0.97 if slot == i % 9 else 0.3)
        for slot, place in enumerate((places + list(range(8)))[:6])]) for i, places in enumerate(truth)])
    confidence = torch.rand(30, 6, generator=generator)
    curve = curve_of(points, confidence, labels)
    for threshold, accuracy, f1 in zip(*curve, strict=True):
        keep = lane_nms(points, confidence, float(threshold))
        lanes = [tusimple_lanes(points[i][keep[i]], rows_of(labels[i], SIZE_PX), SIZE_PX, TOLERANCE)
                 for i in range(30)]
        expected = tusimple_scores(lanes, labels, [SIZE_PX] * 30)
        assert (accuracy, f1) == (pytest.approx(expected["accuracy"]), pytest.approx(expected["f1"]))
    assert len(set(curve.f1.round(6))) > 20, "the thresholds must differ for this to show anything"


def test_a_false_lane_of_low_confidence_is_left_out():
    """True lanes at 0.7 and 0.9, a false one at 0.6: any threshold above 0.6 and up to 0.7 is perfect."""
    points = torch.stack([lane(300), lane(900), lane(600)])[None]
    curve = curve_of(points, torch.tensor([[0.7, 0.9, 0.6]]), [label_of(300, 900)])
    assert best_threshold(curve) == (pytest.approx(0.62), pytest.approx(1.0))


def test_of_equal_thresholds_the_one_nearest_to_a_half_is_taken():
    curve = curve_of(lane(300)[None, None], torch.tensor([[0.9]]), [label_of(300)])
    assert best_threshold(curve) == (0.5, pytest.approx(1.0))


def test_silence_is_not_advised_although_it_has_an_f1_of_two_thirds():
    """One of two lanes found at 0.4, a false one above it: F1 1/2 with both, 2/3 with nothing reported."""
    points = torch.stack([lane(300), lane(600)])[None]
    curve = curve_of(points, torch.tensor([[0.4, 0.8]]), [label_of(300, 900)])
    silent = curve.f1[curve.thresholds > 0.8]
    assert silent == pytest.approx(np.full(len(silent), 2 / 3)) and curve.f1.max() == pytest.approx(2 / 3)
    threshold, f1 = best_threshold(curve)
    assert threshold <= 0.4 and f1 == pytest.approx(0.5)


def test_the_best_is_read_from_the_curve():
    curve = ThresholdCurve(np.array([0.2, 0.5, 0.8]), np.array([0.9, 0.9, 0.8]), np.array([0.5, 0.6, 0.7]))
    assert best_threshold(curve) == (0.8, 0.7)


def test_an_image_without_a_lane_counts_only_in_the_official_accuracy():
    labels = [label_of(300, 900), label_of(), label_of(500)]
    lanes = [labels[0].x_at_rows, np.zeros((0, len(TUSIMPLE_ROWS))), np.zeros((0, len(TUSIMPLE_ROWS)))]
    scores = tusimple_scores(lanes, labels, [SIZE_PX] * 3)
    assert scores["accuracy"] == pytest.approx(1 / 3) and scores["accuracy_with_lanes"] == pytest.approx(1 / 2)
    assert np.isnan(tusimple_scores(lanes[1:2], labels[1:2], [SIZE_PX])["accuracy_with_lanes"])
