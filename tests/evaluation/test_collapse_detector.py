"""Does a model use the image? The one diagnosis, its statistics, and what evaluation and inference print of it."""

import math

import cv2
import numpy as np
import pytest
import torch

import evaluate_fixed
import inference_fixed
from config import GuardConfig, load_config
from evaluation.collapse_detector import (
    COLLAPSING,
    LEARNING,
    NOT_YET,
    UNKNOWN,
    CollapseStats,
    diagnose,
    prediction_stats,
)
from geometry.bezier import control_points_from_x
from runtime import checkpoint

GUARD = GuardConfig(min_diversity=0.05, min_sensitivity=0.1, first_steps=300)
SMALL = ["model.width=128", "model.height=96", "train.device=cpu", "train.precision=fp32"]
HEALTHY = CollapseStats(0.7, 0.9, 20.0, 100.0, 110.0, 120.0)
ALL_NAN = CollapseStats()


def diagnosis_of(stats, train_stats=None, steps=300):
    return diagnose(stats, GUARD, steps, train_stats)


@pytest.mark.parametrize("diversity", [0.0, 1e-6, 0.0499])
@pytest.mark.parametrize("error_px", [1.0, 200.0, math.nan])
def test_the_same_lanes_for_every_image_are_a_collapse_whatever_the_error(diversity, error_px):
    diagnosis = diagnosis_of(HEALTHY._replace(diversity=diversity, error_px=error_px))
    assert diagnosis.state == COLLAPSING and not diagnosis.savable
    assert f"{diversity:.3f}" in diagnosis.reason and "0.05" in diagnosis.reason
    assert str(diagnosis).startswith("collapsing: the same lanes for every image")
    assert "\n" not in str(diagnosis)


def test_lanes_that_stay_when_the_image_moves_are_a_collapse_without_any_label():
    diagnosis = diagnosis_of(ALL_NAN._replace(sensitivity=0.02))
    assert diagnosis.state == COLLAPSING and not diagnosis.savable
    assert "sensitivity 0.020, below 0.1" in diagnosis.reason


def test_an_error_far_below_a_constants_shows_that_the_image_is_used_even_where_lanes_hardly_follow():
    assert diagnosis_of(HEALTHY._replace(sensitivity=0.02, error_px=74.0)).state == LEARNING
    assert diagnosis_of(HEALTHY._replace(sensitivity=0.02, error_px=76.0)).state == COLLAPSING
    assert diagnosis_of(HEALTHY._replace(sensitivity=0.02, error_px=math.nan)).state == COLLAPSING


def test_the_likely_cause_depends_on_the_training_images():
    blind = HEALTHY._replace(diversity=0.01)
    assert "train afresh" in diagnosis_of(blind).reason
    assert "train.learning_rate" in diagnosis_of(blind, train_stats=blind).reason
    assert "another kind" in diagnosis_of(blind, train_stats=HEALTHY).reason


def test_predictions_that_vary_without_being_better_than_a_constant_are_not_learning_yet():
    for error_px in (100.0, 120.0):
        diagnosis = diagnosis_of(HEALTHY._replace(error_px=error_px, shuffled_error_px=200.0))
        assert diagnosis == (NOT_YET, "", True)
        assert str(diagnosis) == NOT_YET


def test_lanes_that_fit_another_image_as_well_point_to_the_labels():
    diagnosis = diagnosis_of(HEALTHY._replace(error_px=120.0, shuffled_error_px=119.0))
    assert diagnosis.state == NOT_YET and "labels belong to their images" in diagnosis.reason


def test_overfitting_is_named_as_the_cause():
    bad = HEALTHY._replace(error_px=120.0, shuffled_error_px=150.0)
    assert "overfitting" in diagnosis_of(bad, train_stats=HEALTHY).reason
    assert diagnosis_of(bad, train_stats=bad).reason == ""


def test_the_same_lanes_for_all_are_no_collapse_in_the_first_steps_but_no_model_to_keep_either():
    diagnosis = diagnosis_of(HEALTHY._replace(diversity=0.01, sensitivity=0.0, error_px=150.0), steps=299)
    assert diagnosis.state == NOT_YET and not diagnosis.savable
    assert "first steps" in diagnosis.reason


@pytest.mark.parametrize("diversity", [0.05, 0.4, 1.0, 1.5, math.nan])
@pytest.mark.parametrize("sensitivity", [0.1, 0.7, math.nan])
def test_a_healthy_model_is_learning(diversity, sensitivity):
    diagnosis = diagnosis_of(HEALTHY._replace(diversity=diversity, sensitivity=sensitivity))
    assert diagnosis == (LEARNING, "", True)
    assert str(diagnosis) == LEARNING


@pytest.mark.parametrize("constant_error_px", [0.0, 9.6e-14])
def test_one_validation_image_is_compared_with_a_gray_one(constant_error_px):
    """Its own label is the best constant prediction, with an error of 0, or rounding, that no model gets below."""
    single = CollapseStats(0.7, math.nan, 30.0, constant_error_px, math.nan, 120.0)
    assert diagnosis_of(single).state == LEARNING
    assert diagnosis_of(single._replace(gray_error_px=30.0)).state == NOT_YET
    assert diagnosis_of(single._replace(sensitivity=0.0)).state == COLLAPSING


def test_images_without_lanes_show_nothing():
    for stats in (ALL_NAN, ALL_NAN._replace(sensitivity=0.9)):
        diagnosis = diagnosis_of(stats)
        assert diagnosis.state == UNKNOWN and diagnosis.savable
    assert diagnosis_of(ALL_NAN._replace(sensitivity=0.0)).state == COLLAPSING
    assert diagnose(ALL_NAN._replace(sensitivity=0.9), GUARD, labelled=False).state == LEARNING, "inference"


@pytest.mark.parametrize(("probes", "sensitivity", "state"), [
    (1, 0.0, COLLAPSING), (3, -0.01, COLLAPSING), (1, -0.092, UNKNOWN), (3, 0.05, UNKNOWN), (4, 0.05, COLLAPSING),
    (8, -0.092, COLLAPSING), (1, 0.2, LEARNING)])
def test_a_few_hard_images_are_no_collapse_and_lanes_that_do_not_move_at_all_are(probes, sensitivity, state):
    """The model of the repository has -0.092 on one image of CULane, alone: it is not blind."""
    single = HEALTHY._replace(probes=probes, sensitivity=sensitivity, diversity=math.nan, constant_error_px=0.0)
    assert diagnosis_of(single).state == state
    assert diagnose(ALL_NAN._replace(probes=probes, sensitivity=sensitivity), GUARD, labelled=False).state == state


def test_limits_of_zero_turn_the_guard_off():
    assert diagnose(HEALTHY._replace(diversity=0.0, sensitivity=0.0), GuardConfig(0.0, 0.0)).state == LEARNING


# The statistics -----------------------------------------------------------------------------------------------


def lanes_at(x):
    """(N, 1, 6, 2) straight upright lanes at x (N)."""
    x = torch.as_tensor(x, dtype=torch.float32)[:, None, None].expand(-1, 1, 6)
    return control_points_from_x(x, torch.full((len(x), 1), 0.3), torch.full((len(x), 1), 0.9))


def test_the_keys_of_the_log_stay_what_they_were():
    """log.jsonl of older runs is drawn beside that of new ones."""
    assert CollapseStats(1, 2, 3, 4, 5, 6).record() == {
        "sensitivity": 1, "diversity": 2, "error_px": 3, "constant_error_px": 4, "shuffled_error_px": 5,
        "grey_error_px": 6}


def test_statistics_of_lanes_worked_out_by_hand():
    """Labels at 0.2, 0.4, 0.6, 0.8 of the width; predictions 0.05 to the right of them."""
    label, exists = lanes_at([0.2, 0.4, 0.6, 0.8]).numpy(), np.ones((4, 1), bool)
    stats = prediction_stats(lanes_at([0.25, 0.45, 0.65, 0.85]).numpy(), label, exists)
    assert stats.error_px == pytest.approx(0.05 * 1280, abs=0.01)
    assert stats.diversity == pytest.approx(1, abs=1e-4)
    assert stats.shuffled_error_px == pytest.approx((0.45 + 0.45 + 0.35 + 0.35) / 4 * 1280, abs=0.01)


def test_a_constant_prediction_loses_nothing_by_shuffling():
    label, exists = lanes_at([0.2, 0.4, 0.6, 0.8]).numpy(), np.ones((4, 1), bool)
    constant = lanes_at([0.5] * 4).numpy()
    stats = prediction_stats(constant, label, exists)
    assert stats.diversity == pytest.approx(0, abs=1e-6)
    assert stats.error_px == stats.shuffled_error_px


def test_one_image_has_no_other_to_shuffle_with():
    prediction, label = (lanes_at([x]).numpy() for x in (0.3, 0.2))
    stats = prediction_stats(prediction, label, np.ones((1, 1), bool))
    assert math.isnan(stats.shuffled_error_px) and math.isnan(stats.diversity)
    assert stats.error_px == pytest.approx(128, abs=0.01)


# The scripts --------------------------------------------------------------------------------------------------


@pytest.fixture
def blind(tmp_path):
    """A checkpoint of a whole run whose network lets nothing of the image through."""
    torch.manual_seed(0)
    config = load_config(None, SMALL)
    model = checkpoint.build_model(config)
    with torch.no_grad():
        model.head.exists[-1].bias += 3  # so that its lanes are reported
        for name, weight in model.trunk.named_parameters():
            if name.endswith("weight"):
                weight.zero_()
    path = tmp_path / "blind.pth"
    checkpoint.save_checkpoint(path, config, model=model.state_dict(), scores={"steps": 2000})
    return path


def arguments(blind, tmp_path, root):
    return [*SMALL[2:], f"data.root={root}", f"data.cache_dir={tmp_path / 'cache'}", "--checkpoint", str(blind)]


def test_evaluation_and_inference_both_name_a_collapsed_model(blind, rendered, tmp_path, capsys):
    assert evaluate_fixed.main(arguments(blind, tmp_path, rendered)) == 1
    assert "\ncollapsing: the same lanes for every image (diversity 0.000" in capsys.readouterr().out
    assert inference_fixed.main(arguments(blind, tmp_path, rendered)) == 1
    assert "verdict: collapsing: " in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize("count", [1, 3])
def test_images_without_lanes_raise_no_alarm_for_a_model_that_reports_none(blind, count, tmp_path, capsys):
    payload = torch.load(blind, weights_only=True)
    payload["model"]["head.exists.2.bias"] -= 20
    torch.save(payload, blind)
    root = tmp_path / "meadow"
    root.mkdir()
    for i in range(count):
        cv2.imwrite(str(root / f"{i}.jpg"), np.full((96, 128, 3), (40, 160, 60 + 20 * i), np.uint8))
        (root / f"{i}.lines.txt").write_text("")
    assert evaluate_fixed.main([*arguments(blind, tmp_path, root), "data.split=all"]) == 0
    assert "\ncannot tell: too few lanes are labelled or predicted" in capsys.readouterr().out
    assert inference_fixed.main([str(root), *arguments(blind, tmp_path, root)]) == 0
    assert "verdict: cannot tell" in capsys.readouterr().out.splitlines()[-1]
