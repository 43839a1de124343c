"""The one verdict on whether a model looks at the image, and the signs that it is made from."""

import math

import numpy as np
import pytest
import torch

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
from metrics import collapse

LIMITS = (0.05, 0.1)  # diversity, sensitivity
HEALTHY = CollapseStats(0.7, 0.9, 20.0, 100.0, 110.0, 120.0)
NOTHING_KNOWN = CollapseStats()


def judge(seen, trained=None, beginning=False):
    return diagnose(seen, *LIMITS, trained, beginning)


@pytest.mark.parametrize("diversity", [0.0, 1e-6, 0.0499])
@pytest.mark.parametrize("error_px", [1.0, 200.0, math.nan])
def test_the_same_lanes_for_every_image_are_a_collapse_whatever_the_error(diversity, error_px):
    judged = judge(HEALTHY._replace(diversity=diversity, error_px=error_px))
    assert judged.state == COLLAPSING and not judged.looks
    assert f"{diversity:.3f}" in judged.reason and "0.05" in judged.reason
    assert str(judged).startswith("collapsing: the same lanes for every image")
    assert "\n" not in str(judged)


def test_lanes_that_stay_when_the_image_moves_are_a_collapse_without_any_label():
    judged = judge(NOTHING_KNOWN._replace(sensitivity=0.02))
    assert judged.state == COLLAPSING and not judged.looks
    assert "sensitivity 0.020, below 0.1" in judged.reason


def test_an_error_far_below_a_constants_has_looked_even_where_lanes_hardly_follow():
    assert judge(HEALTHY._replace(sensitivity=0.02, error_px=74.0)).state == LEARNING
    assert judge(HEALTHY._replace(sensitivity=0.02, error_px=76.0)).state == COLLAPSING
    assert judge(HEALTHY._replace(sensitivity=0.02, error_px=math.nan)).state == COLLAPSING


def test_the_likely_cause_depends_on_the_training_images():
    blind = HEALTHY._replace(diversity=0.01)
    assert "train afresh" in judge(blind).reason
    assert "train.learning_rate" in judge(blind, trained=blind).reason
    assert "another kind" in judge(blind, trained=HEALTHY).reason


def test_predictions_that_vary_without_being_better_than_a_constant_are_not_learning_yet():
    for error_px in (100.0, 120.0):
        judged = judge(HEALTHY._replace(error_px=error_px, shuffled_error_px=200.0))
        assert judged == (NOT_YET, "", True)
        assert str(judged) == NOT_YET


def test_lanes_that_fit_another_image_as_well_point_to_the_labels():
    judged = judge(HEALTHY._replace(error_px=120.0, shuffled_error_px=119.0))
    assert judged.state == NOT_YET and "labels belong to their images" in judged.reason


def test_training_images_known_by_heart_are_named_as_the_cause():
    bad = HEALTHY._replace(error_px=120.0, shuffled_error_px=150.0)
    assert "by heart" in judge(bad, trained=HEALTHY).reason
    assert judge(bad, trained=bad).reason == ""


def test_one_answer_for_all_is_no_collapse_in_the_first_steps_but_no_model_to_keep_either():
    judged = judge(HEALTHY._replace(diversity=0.01, sensitivity=0.0, error_px=150.0), beginning=True)
    assert judged.state == NOT_YET and not judged.looks
    assert "first steps" in judged.reason


@pytest.mark.parametrize("diversity", [0.05, 0.4, 1.0, 1.5, math.nan])
@pytest.mark.parametrize("sensitive", [0.1, 0.7, math.nan])
def test_a_healthy_model_is_learning(diversity, sensitive):
    judged = judge(HEALTHY._replace(diversity=diversity, sensitivity=sensitive))
    assert judged == (LEARNING, "", True)
    assert str(judged) == LEARNING


def test_one_validation_image_is_judged_by_a_grey_one():
    """Its own label is the best constant answer, with an error of 0 that no model gets below."""
    single = CollapseStats(0.7, math.nan, 30.0, 0.0, math.nan, 120.0)
    assert judge(single).state == LEARNING
    assert judge(single._replace(grey_error_px=30.0)).state == NOT_YET
    assert judge(single._replace(sensitivity=0.0)).state == COLLAPSING


def test_images_without_lanes_cannot_tell():
    judged = judge(NOTHING_KNOWN)
    assert judged.state == UNKNOWN and judged.looks


def test_limits_of_zero_turn_the_guard_off():
    assert diagnose(HEALTHY._replace(diversity=0.0, sensitivity=0.0), 0.0, 0.0).state == LEARNING


# The signs ---------------------------------------------------------------------------------------------------


def lanes_at(x):
    """(N, 1, 6, 2) straight upright lanes at x (N)."""
    x = torch.as_tensor(x, dtype=torch.float32)[:, None, None].expand(-1, 1, 6)
    return control_points_from_x(x, torch.full((len(x), 1), 0.3), torch.full((len(x), 1), 0.9))


def test_signs_of_known_lanes():
    """Labels at 0.2, 0.4, 0.6, 0.8 of the width; predictions 0.05 to the right of them."""
    label, exists = lanes_at([0.2, 0.4, 0.6, 0.8]).numpy(), np.ones((4, 1), bool)
    seen = prediction_stats(lanes_at([0.25, 0.45, 0.65, 0.85]).numpy(), label, exists)
    assert seen.error_px == pytest.approx(0.05 * 1280, abs=0.01)
    assert seen.diversity == pytest.approx(1, abs=1e-4)
    assert seen.shuffled_error_px == pytest.approx((0.45 + 0.45 + 0.35 + 0.35) / 4 * 1280, abs=0.01)


def test_a_blind_answer_loses_nothing_by_shuffling():
    label, exists = lanes_at([0.2, 0.4, 0.6, 0.8]).numpy(), np.ones((4, 1), bool)
    constant = lanes_at([0.5] * 4).numpy()
    seen = prediction_stats(constant, label, exists)
    assert seen.diversity == pytest.approx(0, abs=1e-6)
    assert seen.error_px == seen.shuffled_error_px


def test_one_image_has_no_other_to_shuffle_with():
    found, label = (lanes_at([x]).numpy() for x in (0.3, 0.2))
    seen = prediction_stats(found, label, np.ones((1, 1), bool))
    assert math.isnan(seen.shuffled_error_px) and math.isnan(seen.diversity)
    assert seen.error_px == pytest.approx(128, abs=0.01)


def bright_column(images, sure=1.0):
    """A model that looks: a lane at the brightest column of the middle row."""
    columns = images[:, 0, images.shape[2] // 2].float()
    x = (columns.argmax(1) + 0.5) / images.shape[3]
    return lanes_at(x), torch.full((len(images), 1), sure)


def striped(columns, width=200):
    images = torch.zeros(len(columns), 3, 8, width, dtype=torch.uint8)
    for i, column in enumerate(columns):
        images[i, :, :, column] = 255
    return images


def follows(model, images):
    return collapse.sensitivity(model(images), model(collapse.shift_images(images)), images.shape[3])


def test_a_model_that_looks_follows_the_whole_move_even_where_images_are_all_the_same():
    assert follows(bright_column, striped([40, 90, 150])) == pytest.approx(1, abs=1e-4)
    assert follows(bright_column, striped([90])) == pytest.approx(1, abs=1e-4)
    assert follows(bright_column, striped([90] * 5)) == pytest.approx(1, abs=1e-4)


def test_an_image_that_counts_its_lanes_anew_does_not_hide_the_others():
    """In one of five the lane jumps by half the width, ten times the move."""
    images = striped([40, 60, 90, 120, 150])

    def jumps(batch):
        points, sure = bright_column(batch)
        points[:, :, :, 0] -= 0.5 * (points[:, :, :, 0] > 0.78)  # column 150 moved to 160
        return points, sure

    assert follows(jumps, images) == pytest.approx(1, abs=1e-4)


def test_a_blind_model_does_not_follow():
    assert follows(lambda images: bright_column(striped([70] * len(images))), striped([40, 90, 150])) == 0


def test_without_any_lane_nobody_can_tell():
    assert math.isnan(follows(lambda images: bright_column(images, sure=0.01), striped([40, 90])))


def test_the_move_is_a_twentieth_of_the_width_and_leaves_the_images_alone():
    images = striped([40, 90])
    assert torch.equal(collapse.shift_images(images), striped([50, 100]))
    assert torch.equal(images, striped([40, 90]))
    assert collapse.shift_images(images).dtype == torch.uint8
    assert collapse.gray_image(4, 6).shape == (1, 3, 4, 6)
