"""The evaluator: ground truth of a data set, the threshold and the scores by the metric of the data set, losses."""

import math

import numpy as np
import pytest
import torch
from layouts import LAYOUTS, culane, tusimple

from dataset import LaneDataset
from evaluation import evaluator
from evaluation.collapse_detector import LEARNING, CollapseStats, Diagnosis
from evaluation.evaluator import GroundTruth
from evaluation.threshold import best_threshold
from formats.base import Label
from formats.registry import DATA_SETS, METRICS, list_samples
from formats.sample_index import SampleIndex
from geometry.bezier import control_points_from_x
from geometry.decode import DecodeSettings
from geometry.input_grid import InputGrid
from geometry.slots import LaneTarget
from losses_fixed import LaneLoss
from model import LanePrediction

SIZE_PX = (1280, 720)


def upright_curve(x_px):
    return control_points_from_x(torch.full((6,), x_px / SIZE_PX[0]), torch.tensor(0.3), torch.tensor(0.98))


def ground_truth_of(metric, *x_px):
    """One image of 1280x720 with upright lanes at x_px, each in the slot of its number."""
    label = Label([np.float32([[x, 710], [x, 450], [x, 216]]) for x in x_px])
    target = LaneTarget(torch.stack([upright_curve(x) for x in x_px])[None], torch.ones(1, len(x_px), dtype=torch.bool))
    return GroundTruth([0], SampleIndex(), [label], [SIZE_PX], target, 100.0, METRICS[metric])


def prediction_of(x_px, confidence):
    return LanePrediction(torch.stack([upright_curve(x) for x in x_px])[None], torch.tensor([confidence]).logit())


# Ground truth ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYOUTS)
def test_ground_truth_has_the_labels_and_the_metric_of_its_data_set(tmp_path, name):
    samples = list_samples(LAYOUTS[name](tmp_path))
    gt = evaluator.ground_truth(LaneDataset(samples, InputGrid(96, 64), 6))
    assert gt.metric is DATA_SETS[name].metric
    assert list(gt.samples) == list(samples) and gt.indices == list(range(len(samples)))
    assert [int(exists.sum()) for exists in gt.target.exists] == [
        sum(len(lane) > 1 for lane in label.lanes) for label in gt.labels]
    sizes_px = {"llamas": [(1276, 717)], "curvelanes": [(320, 180), (256, 144)]}
    assert gt.sizes_px == sizes_px.get(name, [(320, 180)] * 2)


def test_ground_truth_of_some_images(tmp_path):
    root = tusimple(tmp_path, [f"clips/{n}/20.jpg" for n in range(5)])
    gt = evaluator.ground_truth(LaneDataset(list_samples(root), InputGrid(96, 64), 6), [3, 1])
    assert gt.indices == [3, 1] and [s.name for s in gt.samples] == ["clips/3/20.jpg", "clips/1/20.jpg"]
    assert gt.target.points.shape == (2, 6, 6, 2)
    assert gt.constant_error_px == pytest.approx(0), "the labels are all the same"


# The threshold -----------------------------------------------------------------------------------------------


def test_auto_chooses_the_threshold_by_the_metric_of_the_data_set():
    """A lane 15 px off is right for TuSimple, within 20 px, and wrong for CULane, whose IoU of 23 px is then 0.2."""
    prediction = prediction_of([300, 915], [0.9, 0.6])
    thresholds = {}
    for metric in METRICS:
        gt = ground_truth_of(metric, 300, 900)
        decode, scores = evaluator.choose_decode(prediction, gt, "auto", 0.007)
        assert decode.end_tolerance == 0.007
        assert decode.threshold == best_threshold(gt.metric.threshold_scores(
            prediction.points, prediction.logits.sigmoid(), gt.labels, gt.sizes_px, 0.007))
        thresholds[metric] = decode.threshold
        assert scores == evaluator.score(prediction, gt, decode, CollapseStats(), Diagnosis(LEARNING)).scores
    assert thresholds == {"tusimple": 0.5, "culane": pytest.approx(0.62)}


def test_a_threshold_that_is_given_stays():
    chosen = evaluator.choose_decode(prediction_of([300], [0.9]), ground_truth_of("culane", 300), 0.3, 0.01)
    assert chosen == (DecodeSettings(0.3, 0.01), None)


# Scores ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("metric", "score", "of_half"), [
    ("tusimple", "accuracy", (1 + 6 / 56) / 2), ("culane", "f1@50", 2 / 3)])
def test_a_perfect_prediction_is_perfect_by_either_metric(metric, score, of_half):
    """Of two lanes one is below the higher threshold; without it six rows above its label are right all the same."""
    gt = ground_truth_of(metric, 300, 900)
    evaluation = evaluator.score(prediction_of([300, 900], [0.9, 0.6]), gt, DecodeSettings(0.5), CollapseStats(),
                                 Diagnosis(LEARNING))
    assert evaluation.scores[score] == 1
    half = evaluator.score(evaluation.prediction, gt, DecodeSettings(0.7), CollapseStats(), Diagnosis(LEARNING))
    assert half.scores[score] == pytest.approx(of_half)


def test_validation_losses_are_those_of_the_criterion():
    gt = ground_truth_of("tusimple", 300, 900)
    losses = evaluator.validation_losses(prediction_of([300, 900], [0.9, 0.4]), gt, LaneLoss(), 0.5)
    assert losses.keys() == {"val_regression", "val_existence", "val_curvature", "val_loss", "existence_accuracy"}
    assert losses["val_regression"] == pytest.approx(0, abs=1e-6)
    assert losses["existence_accuracy"] == 0.5, "one of two lanes is below the threshold"
    lower = evaluator.validation_losses(prediction_of([300, 900], [0.9, 0.4]), gt, LaneLoss(), 0.3)
    assert lower["existence_accuracy"] == 1 and lower["val_loss"] == losses["val_loss"]


def test_statistics_that_need_labels_alone():
    gt = ground_truth_of("tusimple", 300, 900)
    stats = evaluator.label_stats(gt, prediction_of([310, 910], [0.9, 0.9]))
    assert stats.error_px == pytest.approx(10, abs=0.01) and stats.constant_error_px == 100.0
    assert math.isnan(stats.sensitivity) and math.isnan(stats.gray_error_px), "they cost a forward pass"


def test_labels_are_read_in_their_order_by_threads(tmp_path):
    samples = list_samples(culane(tmp_path, [f"drive/{n}.jpg" for n in range(30)]))
    assert evaluator.in_threads(lambda s: s.name, samples, "Reading") == list(samples.names())
