"""The predictor gives what the network itself gives, and refuses what is no image."""

import pickle

import numpy as np
import pytest
import torch
from roads import picture

from geometry.bezier import CONTROL_POINTS
from geometry.decode import lane_nms
from inference.predictor import Detections, Predictor
from preprocessing.images import preprocess, read_image
from runtime.checkpoint import input_grid, load_model
from visualization.draw import write_image


def test_three_lines_of_python_give_lanes(checkpoint, tmp_path):
    write_image(tmp_path / "road.jpg", picture())
    lanes = list(Predictor.load(checkpoint, device="cpu")(read_image(tmp_path / "road.jpg")).lanes())
    slots = [slot for slot, _, _ in lanes]
    assert slots == sorted(set(slots)) and lanes
    for _, confidence, points in lanes:
        assert 0.5 <= confidence <= 1
        assert isinstance(points, np.ndarray) and points.shape == (CONTROL_POINTS, 2)
        assert np.all(np.diff(points[:, 1]) > 0) and np.abs(points).max() < 3


def test_detections_are_those_of_the_network_itself(checkpoint):
    images = [picture(seed, *size) for seed, size in enumerate([(160, 96), (333, 77), (90, 160), (1, 1)])]
    predictor = Predictor.load(checkpoint, "cpu", threshold=0.96, precision="fp32")
    detections = predictor.detect([predictor.preprocess(image) for image in images])
    model, config, _ = load_model(checkpoint, torch.device("cpu"))
    grid = input_grid(config)
    with torch.inference_mode():
        for i, image in enumerate(images):
            points, logits = model(torch.from_numpy(preprocess(image, grid)).permute(2, 0, 1)[None])
            torch.testing.assert_close(detections.points[i:i + 1], points, atol=1e-4, rtol=0)
            torch.testing.assert_close(detections.confidence[i:i + 1], logits.sigmoid(), atol=1e-4, rtol=0)
    assert torch.equal(detections.keep, lane_nms(detections.points, detections.confidence, 0.96))
    assert detections.keep.any() and not detections.keep.all()


def test_lanes_of_a_batch_are_those_of_its_images(checkpoint):
    predictor = Predictor.load(checkpoint, "cpu", precision="fp32")
    images = [picture(seed) for seed in range(3)]
    batch = predictor.detect([predictor.preprocess(image) for image in images])
    for image, detections in zip(images, batch.per_image(), strict=True):
        for actual, expected in zip(detections, predictor(image), strict=True):
            torch.testing.assert_close(actual, expected, atol=1e-4, rtol=0)


def test_settings_of_the_checkpoint_give_way_to_those_asked_for(checkpoint):
    own = Predictor.load(checkpoint, "cpu").decode
    assert Predictor.load(checkpoint, "cpu", threshold=0.0).decode == own._replace(threshold=0.0)
    assert Predictor.load(checkpoint, "cpu", end_tolerance=0.0).decode == own._replace(end_tolerance=0.0)
    assert own.threshold == 0.5 and own.end_tolerance > 0


@pytest.mark.parametrize("image", [picture()[..., 0], picture() / 255, picture()[:0], np.zeros((9, 9, 4), np.uint8)],
                         ids=["gray", "float", "empty", "rgba"])
def test_what_is_no_rgb_image_is_refused(checkpoint, image):
    with pytest.raises(ValueError, match=r"expected RGB uint8 \(height, width, 3\)"):
        Predictor.load(checkpoint, "cpu")(image)


def test_detections_of_one_image_are_pickled_without_their_batch():
    batch = Detections(torch.rand(1000, 6, CONTROL_POINTS, 2), torch.rand(1000, 6), torch.rand(1000, 6) > 0.5)
    detections = list(batch.per_image())[7]
    data = pickle.dumps(detections)
    assert len(data) < 2000
    copy = pickle.loads(data)
    assert isinstance(copy, Detections)
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(copy, detections, strict=True))
