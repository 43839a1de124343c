"""What a run keeps of its frames: different images only, a few of their pixels, and the spread of their lanes."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from geometry.bezier import CONTROL_POINTS
from inference.inputs import Frame
from inference.predictor import Detections
from inference.run_stats import SENSITIVITY_IMAGES, RunStats, without_spare_pixels
from inference.sources import Source
from inference.writers import FrameResult
from metrics.collapse import REFERENCE_WIDTH_PX

SOURCE = Source("a.png", Path("a.png"))


def result(number, x, confidence, checksum=None):
    """Two lanes, all of whose control points are at x[0] and x[1]."""
    points = torch.zeros(2, CONTROL_POINTS, 2)
    points[..., 0] = torch.tensor(x)[:, None]
    pixels = np.full((2, 2, 3), number % 256, np.uint8)
    frame = Frame(SOURCE, pixels=pixels, checksum=(number if checksum is None else checksum, 0))
    return FrameResult(number, frame, Detections(points, torch.tensor(confidence), torch.ones(2, dtype=torch.bool)))


def test_the_spread_is_the_standard_deviation_weighted_by_confidence():
    stats = RunStats()
    stats.add(result(1, [0.2, 0.5], [0.9, 0.2]))
    stats.add(result(2, [0.4, 0.5], [0.3, 0.2]))
    assert stats.spread_px() == pytest.approx((0.6 * 0.1 + 0.2 * 0) / 0.8 * REFERENCE_WIDTH_PX)


def test_an_image_counts_once_and_an_unreadable_one_not_at_all():
    stats = RunStats()
    stats.add(result(1, [0.2, 0.5], [1.0, 1.0], checksum=7))
    stats.add(result(2, [0.2, 0.5], [1.0, 1.0], checksum=7))
    stats.add(FrameResult(3, Frame(SOURCE, error="a.png: not an image")))
    assert (stats.images, stats.unreadable) == (1, 1)


def test_a_few_images_are_kept_to_be_shifted():
    stats = RunStats()
    for number in range(1, 300):
        whole = result(number, [0.2, 0.5], [1.0, 1.0])
        stats.add(whole._replace(frame=without_spare_pixels(number, whole.frame)))
    assert [pixels[0, 0, 0] for pixels in stats.pixels] == [1, 2, 3, 4, 8, 16, 32, 64]
    assert len(stats.pixels) == SENSITIVITY_IMAGES


def test_without_an_image_the_sensitivity_is_unknown():
    assert math.isnan(RunStats().sensitivity(predictor=None))


@pytest.mark.parametrize("images", [1, 3, 4, 5, 7])
def test_of_a_few_images_four_are_moved(images):
    stats = RunStats()
    for number in range(1, images + 1):
        whole = result(number, [0.2, 0.5], [1.0, 1.0])
        stats.add(whole._replace(frame=without_spare_pixels(number, whole.frame)))
    assert len(stats.pixels) == min(images, 4)
