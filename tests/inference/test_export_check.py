"""How far a file is off: closed forms, with a network in the place of the file."""

import numpy as np
import pytest
import torch

from config import load_config
from geometry.decode import DecodeSettings
from inference import export_check
from inference.export import ExportOptions
from inference.export_check import LIMITS, Errors
from inference.predictor import Predictor
from metrics.collapse import REFERENCE_WIDTH_PX
from runtime.checkpoint import build_model, input_grid

CONFIG = load_config(None, ["model.width=96", "model.height=72"])
GRID = input_grid(CONFIG)
IMAGES = np.random.default_rng(0).integers(256, size=(5, GRID.fine_rows, GRID.width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def predictor():
    """It reports about half of all lanes."""
    torch.manual_seed(0)
    predictor = Predictor(build_model(CONFIG), GRID, torch.device("cpu"), torch.float32)
    confidence = np.concatenate([outputs(predictor, image[None])[1] for image in IMAGES])
    predictor.decode = DecodeSettings(float(np.median(confidence)))
    return predictor


def outputs(predictor, images):
    """Points and confidence of images (N, F, W, 3)."""
    each = [predictor.detect([GRID.resample(image)]) for image in images]
    return [np.concatenate([part.numpy() for part in parts]) for parts in list(zip(*each, strict=True))[:2]]


def errors(predictor, change, batch=1):
    """The errors of a file whose points and confidence are those of the predictor, changed."""
    def run(images):
        assert images.shape[0] in ((batch,) if batch else (1, len(IMAGES) - 1))
        return change(*outputs(predictor, images.transpose(0, 2, 3, 1)))

    return export_check.errors(predictor, run, IMAGES, ExportOptions("onnx", "uint8", batch, 0))


@pytest.mark.parametrize("batch", [1, 2, 5, None])  # five images fill two batches and a half
def test_a_file_that_gives_the_same_has_no_error(predictor, batch):
    result = errors(predictor, lambda points, confidence: [points, confidence], batch)
    assert result == pytest.approx((0, 0, 0), abs=1e-6)
    assert all(result.within(limits) for limits in LIMITS.values())


def test_the_mean_is_that_of_the_lanes_that_the_checkpoint_reports(predictor):
    def change(points, confidence):
        reported = confidence >= predictor.decode.threshold
        points[..., 0] += np.where(reported, np.float32(0.01), np.float32(0.1))[..., None]
        return [points, confidence]

    result = errors(predictor, change)
    assert result.worst_px == pytest.approx(0.1 * REFERENCE_WIDTH_PX, rel=0.01)
    kept = predictor.detect([GRID.resample(image) for image in IMAGES]).keep
    assert kept.any() and not kept.all()
    assert result.mean_px == pytest.approx(0.01 * REFERENCE_WIDTH_PX, rel=0.01)


def test_the_worst_is_of_lanes_that_are_half_as_sure_as_a_reported_one(predictor, monkeypatch):
    confidence = np.concatenate([outputs(predictor, image[None])[1] for image in IMAGES])
    monkeypatch.setattr(predictor, "decode", DecodeSettings(2 * float(np.median(confidence))))

    def change(points, confidence):
        return [points + np.where(confidence >= predictor.decode.threshold / 2, 0.01, 0.1)[..., None, None], confidence]

    assert errors(predictor, change).worst_px == pytest.approx(0.01 * REFERENCE_WIDTH_PX, rel=0.01)


@pytest.mark.parametrize("error", range(3))
@pytest.mark.parametrize("wrong", [float("nan"), 1e6])
def test_an_error_over_its_limit_or_no_number_is_not_within(error, wrong):
    values = [0.0, 0.0, 0.0]
    values[error] = wrong
    assert not Errors(*values).within(LIMITS["fp32"]) and not Errors(*values).within(LIMITS["fp16"])
