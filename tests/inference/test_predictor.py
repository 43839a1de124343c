"""The predictor gives what the network itself gives, and refuses what is no image."""

import math
import pickle

import numpy as np
import pytest
import torch
from recorders import StandIn
from roads import picture

from config import ConfigError
from geometry.bezier import CONTROL_POINTS
from geometry.decode import lane_nms
from geometry.input_grid import InputGrid
from inference.batch_runner import to_batch
from inference.onednn import SWITCH
from inference.predictor import Detections, Predictor
from model import LanePrediction
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


def test_of_one_line_in_two_slots_one_is_reported(checkpoint, monkeypatch):
    """Slots 3 and 4 see the line under the camera, 6 px of 1280 apart."""
    points, logits = torch.zeros(1, 6, CONTROL_POINTS, 2), torch.full((1, 6), -4.0)
    points[..., 1] = torch.linspace(0.4, 1, CONTROL_POINTS)
    points[0, 2, :, 0], points[0, 3, :, 0] = 0.5, 0.505
    logits[0, 2:4] = torch.tensor([2.0, 3.0])
    predictor = Predictor.load(checkpoint, "cpu")
    monkeypatch.setattr(predictor, "predict", lambda pixels: LanePrediction(points, logits))
    assert [slot for slot, *_ in predictor(picture()).lanes()] == [4]


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


def test_images_that_were_not_prepared_are_refused(checkpoint):
    predictor = Predictor.load(checkpoint, "cpu")
    good = predictor.preprocess(np.zeros((90, 160, 3), np.uint8))
    for pixels in ([], [np.zeros((90, 160, 3), np.uint8)], [good, good / 255], good):
        with pytest.raises(ValueError, match=r"got .*; expected a sequence of uint8 \(\d+, \d+, 3\), each of p"):
            predictor.detect(pixels)
    with pytest.raises(ValueError, match="an image is a list; expected a NumPy array"):
        predictor([[0]])


@pytest.mark.parametrize("settings", [{"device": "cuda:0"}, {"precision": "float32"}, {"threshold": 2.0},
                                      {"threshold": "0.5"}, {"threshold": math.nan}])
def test_settings_that_are_none_are_refused(checkpoint, settings):
    with pytest.raises(ConfigError, match=r"is '?.*'?[,;] (which this machine|expected)"):
        Predictor.load(checkpoint, **{"device": "cpu"} | settings)


def test_detections_of_one_image_are_pickled_without_their_batch():
    batch = Detections(torch.rand(1000, 6, CONTROL_POINTS, 2), torch.rand(1000, 6), torch.rand(1000, 6) > 0.5)
    detections = list(batch.per_image())[7]
    data = pickle.dumps(detections)
    assert len(data) < 2000
    copy = pickle.loads(data)
    assert isinstance(copy, Detections)
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(copy, detections, strict=True))


def recording_predictor(checkpoint, monkeypatch, record):
    """A predictor that records on the CPU; its kernels are not packed, since there is nothing to pack on a GPU."""
    monkeypatch.setenv(SWITCH, "0")
    model, config, _ = load_model(checkpoint, torch.device("cpu"))
    return model, Predictor(model, input_grid(config), torch.device("cpu"), torch.float32, record=record)


def test_recorded_detections_are_those_of_the_plain_network(checkpoint, monkeypatch):
    record = StandIn()
    _, recorded = recording_predictor(checkpoint, monkeypatch, record)
    plain = Predictor.load(checkpoint, "cpu", precision="fp32")
    batches = [[plain.preprocess(picture(seed)) for seed in range(first, first + count)]
               for first, count in ((0, 3), (3, 1), (4, 3), (7, 4))]
    kept = [recorded.detect(batch) for batch in batches]
    forward = [recorded.forward(to_batch(batch)) for batch in batches]
    for batch, detections, prediction in zip(batches, kept, forward, strict=True):
        expected = plain.detect(batch)
        torch.testing.assert_close(detections[:2], expected[:2], atol=1e-4, rtol=0)
        assert torch.equal(detections.keep, expected.keep)
        torch.testing.assert_close(prediction.points, expected.points, atol=1e-4, rtol=0)
        torch.testing.assert_close(prediction.logits.sigmoid(), expected.confidence, atol=1e-4, rtol=0)
    assert (record.recordings, record.replays) == (2, 8)


@pytest.mark.parametrize("record", [None, StandIn()], ids=["as they come", "recorded"])
def test_a_predictor_takes_over_other_weights(checkpoint, monkeypatch, record):
    model, predictor = recording_predictor(checkpoint, monkeypatch, record)
    pixels = [predictor.preprocess(picture(seed)) for seed in range(2)]
    before = predictor.detect(pixels)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    predictor.load_weights(model)
    after, fresh = predictor.detect(pixels), Predictor(model, predictor.grid, predictor.device, torch.float32)
    torch.testing.assert_close(after[:2], fresh.detect(pixels)[:2], atol=1e-4, rtol=0)
    assert (after.points - before.points).abs().max() > 0.01
    assert record is None or record.recordings == 1


def test_cuda_graphs_can_be_turned_off(checkpoint, monkeypatch):
    """Without a GPU, so what would record is a stand-in."""
    monkeypatch.setattr("inference.predictor.cuda_recorder", lambda device: device)
    monkeypatch.setattr("inference.predictor.fuse_batch_norms", lambda model, dtype: model)
    cuda, grid = torch.device("cuda"), InputGrid(160, 96)
    assert Predictor(None, grid, cuda, torch.float32).runner.record == cuda
    assert Predictor(None, grid, cuda, torch.float32, cuda_graphs=False).runner.record is None
    assert Predictor(None, grid, torch.device("cpu"), torch.float32).runner.record is None
