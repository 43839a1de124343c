"""The threshold that is used: the best of its curve, and of near equals the one nearest to a half."""

import numpy as np
import pytest
import torch

from evaluation.threshold import SLACK, best_threshold
from formats.base import Label
from formats.metric import THRESHOLDS, ThresholdCurve
from formats.registry import METRICS
from geometry.bezier import control_points_from_x

SIZE_PX = (1280, 720)


def upright_curve(x_px):
    return control_points_from_x(torch.full((6,), x_px / 1280), torch.tensor(0.3), torch.tensor(0.98))


def label_of(*x_px):
    return Label([np.float32([[x, 710], [x, 450], [x, 216]]) for x in x_px])


def curve_of(metric, x_px, confidence, label):
    """The curve of one image with lanes at x_px."""
    points = torch.stack([upright_curve(x) for x in x_px])[None]
    return METRICS[metric].threshold_scores(points, torch.tensor([confidence]), [label], [SIZE_PX], 0.007)


@pytest.mark.parametrize("metric", METRICS)
def test_a_false_lane_of_low_confidence_is_left_out(metric):
    """True lanes at 0.7 and 0.9, a false one at 0.6: any threshold above 0.6 and up to 0.7 is perfect."""
    curve = curve_of(metric, [300, 900, 600], [0.7, 0.9, 0.6], label_of(300, 900))
    assert best_threshold(curve) == pytest.approx(0.62)
    assert curve.objective[THRESHOLDS == 0.62] == pytest.approx(1.0)


@pytest.mark.parametrize("metric", METRICS)
def test_of_equal_thresholds_the_one_nearest_to_a_half_is_taken(metric):
    curve = curve_of(metric, [300], [0.9], label_of(300))
    assert best_threshold(curve) == 0.5 and curve.objective[THRESHOLDS == 0.5] == pytest.approx(1.0)


def test_silence_is_not_advised_although_it_has_an_f1_of_two_thirds():
    """One of two lanes detected at 0.4, a false one above it: F1 1/2 with both, 2/3 with nothing reported."""
    curve = curve_of("tusimple", [300, 600], [0.4, 0.8], label_of(300, 900))
    f1 = curve.scores["F1"]
    silent = f1[curve.thresholds > 0.8]
    assert silent == pytest.approx(np.full(len(silent), 2 / 3)) and f1.max() == pytest.approx(2 / 3)
    threshold = best_threshold(curve)
    assert threshold <= 0.4 and f1[curve.thresholds == threshold] == pytest.approx(0.5)


def test_a_silent_model_has_no_score_by_culanes_metric():
    curve = curve_of("culane", [300, 600], [0.4, 0.8], label_of(300, 900))
    assert curve.objective[curve.thresholds > 0.8].max() == 0
    assert best_threshold(curve) == pytest.approx(0.4)


def curve_with(objective):
    return ThresholdCurve(np.array([0.2, 0.5, 0.8]), {}, np.array(objective))


def test_the_objective_decides():
    assert best_threshold(curve_with([0.5, 0.6, 0.7])) == 0.8
    assert best_threshold(curve_with([0.7, 0.6, 0.5])) == 0.2
    assert best_threshold(curve_with([0.7, 0.69, 0.5])) == 0.2, "a percent is no chance"


def test_less_than_the_slack_does_not_move_the_threshold():
    assert best_threshold(curve_with([0.7, 0.7 - 0.9 * SLACK, 0.5])) == 0.5
    assert best_threshold(curve_with([0.7, 0.7 - 1.1 * SLACK, 0.5])) == 0.2
