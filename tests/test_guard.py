"""The one verdict on whether a model looks at the image."""

import math

import pytest

from guard import COLLAPSING, LEARNING, NOT_YET, verdict


@pytest.mark.parametrize("diversity", [0.0, 1e-6, 0.0499])
@pytest.mark.parametrize("error_px", [1.0, 200.0, math.nan])
def test_the_same_lanes_for_every_image_are_a_collapse_whatever_the_error(diversity, error_px):
    judged = verdict(diversity, error_px, 100.0, 0.05)
    assert judged.state == COLLAPSING
    assert f"{diversity:.3f}" in judged.reason and "0.05" in judged.reason
    assert str(judged).startswith("collapsing: the same lanes for every image")
    assert "\n" not in str(judged)


def test_predictions_that_vary_without_being_better_than_a_constant_are_not_learning_yet():
    assert verdict(0.3, 120.0, 100.0, 0.05).state == NOT_YET
    assert verdict(0.3, 100.0, 100.0, 0.05).state == NOT_YET
    assert str(verdict(0.3, 120.0, 100.0, 0.05)) == NOT_YET


@pytest.mark.parametrize("diversity", [0.05, 0.4, 1.0, 1.5])
def test_a_healthy_model_is_learning(diversity):
    judged = verdict(diversity, 20.0, 100.0, 0.05)
    assert judged == (LEARNING, "")
    assert str(judged) == LEARNING


def test_nothing_is_said_where_there_is_nothing_to_compare():
    assert verdict(math.nan, 20.0, 100.0, 0.05).state == LEARNING
    assert verdict(math.nan, math.nan, math.nan, 0.05).state == LEARNING
    assert verdict(math.nan, 120.0, 100.0, 0.05).state == NOT_YET


def test_a_minimum_of_zero_turns_the_guard_off():
    assert verdict(0.0, 20.0, 100.0, 0.0).state == LEARNING
