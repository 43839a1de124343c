"""The collapse measures against closed forms and values worked out by hand."""

import math

import numpy as np
import pytest
import torch

from geometry.bezier import control_points_from_x
from metrics import collapse


def slot(xs, y=(0.4, 1.0), points=6) -> np.ndarray:
    """(N, 1, P, 2) upright Bezier lanes, one an image, at `xs` (N,), y equally spaced from y[0] to y[1]."""
    lanes = np.zeros((len(xs), 1, points, 2))
    lanes[..., 0] = np.reshape(xs, (-1, 1, 1))
    lanes[..., 1] = np.linspace(*y, points)
    return lanes


# Diversity and errors -----------------------------------------------------------------------------------------


def test_diversity_of_the_labels_themselves_is_one():
    labels = np.random.default_rng(0).random((20, 4, 6, 2))
    exists = np.random.default_rng(1).random((20, 4)) < 0.6
    assert collapse.diversity(labels, labels, exists) == pytest.approx(1)


def test_diversity_of_a_constant_prediction_is_zero():
    labels = np.random.default_rng(0).random((20, 4, 6, 2))
    exists = np.random.default_rng(1).random((20, 4)) < 0.6
    constant = np.broadcast_to(collapse.constant_prediction(labels, exists), labels.shape)
    assert collapse.diversity(constant, labels, exists) == pytest.approx(0, abs=1e-12)


def test_diversity_counts_neither_position_nor_absent_lanes():
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
    error_px = collapse.mean_x_error(label, pred, [[1]], samples=4001)
    assert error_px == pytest.approx(0.025 * collapse.REFERENCE_WIDTH_PX, rel=1e-3)


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


# Sensitivity --------------------------------------------------------------------------------------------------


def lanes_at(x):
    """(N, 1, 6, 2) straight upright lanes at x (N)."""
    x = torch.as_tensor(x, dtype=torch.float32)[:, None, None].expand(-1, 1, 6)
    return control_points_from_x(x, torch.full((len(x), 1), 0.3), torch.full((len(x), 1), 0.9))


def bright_column(images, confidence=1.0):
    """A model that uses the image: a lane at the brightest column of the middle row."""
    columns = images[:, 0, images.shape[2] // 2].float()
    x = (columns.argmax(1) + 0.5) / images.shape[3]
    return lanes_at(x), torch.full((len(images), 1), confidence)


def striped(columns, width=200):
    images = torch.zeros(len(columns), 3, 8, width, dtype=torch.uint8)
    for i, column in enumerate(columns):
        images[i, :, :, column] = 255
    return images


def sensitivity_of(model, images):
    return collapse.sensitivity(model(images), model(collapse.shift_images(images)), images.shape[3])


def test_a_model_that_uses_the_image_follows_the_whole_shift_even_where_images_are_all_the_same():
    assert sensitivity_of(bright_column, striped([40, 90, 150])) == pytest.approx(1, abs=1e-4)
    assert sensitivity_of(bright_column, striped([90])) == pytest.approx(1, abs=1e-4)
    assert sensitivity_of(bright_column, striped([90] * 5)) == pytest.approx(1, abs=1e-4)


def test_an_image_whose_slots_are_assigned_anew_does_not_hide_the_others():
    """In one of five the lane jumps by half the width, ten times the shift."""
    images = striped([40, 60, 90, 120, 150])

    def jumps(batch):
        points, confidence = bright_column(batch)
        points[:, :, :, 0] -= 0.5 * (points[:, :, :, 0] > 0.78)  # column 150 shifted to 160
        return points, confidence

    assert sensitivity_of(jumps, images) == pytest.approx(1, abs=1e-4)


def test_lanes_that_are_gone_after_the_shift_do_not_count():
    """Of three lanes one follows; the others are no longer seen, and their points are anywhere."""
    before, after = lanes_at([0.3, 0.5, 0.7]), lanes_at([0.35, 0.9, 0.95])
    confidence = torch.tensor([[1.0], [0.0], [0.0]])
    shift = collapse.sensitivity((before, torch.ones(3, 1)), (after, confidence), 200)
    assert shift == pytest.approx(1, abs=1e-4)


def test_sensitivity_is_the_median():
    before = lanes_at([0.2, 0.4, 0.6, 0.8])
    after = before.clone()
    after[1:, ..., 0] += torch.tensor([0.02, 0.03, 0.05])[:, None, None]  # of a shift of 0.05
    assert collapse.sensitivity((before[1:], torch.ones(3, 1)), (after[1:], torch.ones(3, 1)), 200) == pytest.approx(
        0.6, abs=1e-4)


def test_a_model_that_ignores_the_image_has_no_sensitivity():
    assert sensitivity_of(lambda images: bright_column(striped([70] * len(images))), striped([40, 90, 150])) == 0


def test_without_any_confident_lane_sensitivity_is_undefined():
    assert math.isnan(sensitivity_of(lambda images: bright_column(images, confidence=0.01), striped([40, 90])))


def test_the_shift_is_a_twentieth_of_the_width_and_leaves_the_images_alone():
    images = striped([40, 90])
    assert torch.equal(collapse.shift_images(images), striped([50, 100]))
    assert torch.equal(images, striped([40, 90]))
    assert collapse.shift_images(images).dtype == torch.uint8
    ramp = torch.arange(40, dtype=torch.uint8).expand(1, 3, 2, 40)
    assert collapse.shift_images(ramp)[0, 0, 0].tolist() == [0, 0, *range(38)], "the left column fills the gap"
    assert collapse.gray_image(4, 6).shape == (1, 3, 4, 6)
