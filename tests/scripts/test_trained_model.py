"""Lanes of the default model, where there is one: python train_fixed.py has been run in this folder."""

import cv2
import numpy as np
import pytest
from paths import ROOT

from inference.predictor import Predictor
from preprocessing.images import read_image
from renderer.no_road import draw_no_road
from runtime.checkpoint import DEFAULT_CHECKPOINT

MODEL = ROOT / DEFAULT_CHECKPOINT
SIZE_PX = (1280, 720)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not MODEL.is_file(), reason="no trained model here")]


@pytest.fixture(scope="module")
def predictor():
    return Predictor.load(MODEL, device="cpu")


def of_one_color(value):
    return np.full((SIZE_PX[1], SIZE_PX[0], 3), value, np.uint8)


def page_of_text():
    image = of_one_color(240)
    for row in range(30, SIZE_PX[1], 40):
        cv2.putText(image, "A page of text is no road. " * 3, (20, row), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (20,) * 3, 2)
    return image


NO_ROAD = {
    "black": of_one_color(0), "gray": of_one_color(128), "white": of_one_color(255), "text": page_of_text(),
    "noise": np.random.default_rng(0).integers(256, size=(SIZE_PX[1], SIZE_PX[0], 3), dtype=np.uint8),
    "sky": np.repeat(np.linspace(0, 255, SIZE_PX[1])[:, None, None], SIZE_PX[0], 1).repeat(3, 2).astype(np.uint8),
    **{f"no road {seed}": draw_no_road(np.random.default_rng(seed), 640, 360) for seed in range(6)},
}


@pytest.mark.parametrize("name", NO_ROAD)
def test_what_is_no_road_has_no_lanes(predictor, name):
    assert list(predictor(NO_ROAD[name]).lanes()) == []


def test_roads_have_lanes_that_differ(predictor):
    scenes = sorted((ROOT / "data" / "synthetic" / "clips").rglob("*.jpg"))[-20:]
    if not scenes:
        pytest.skip("the rendered scenes are not here")
    lanes = [points for path in scenes for _, _, points in predictor(read_image(path)).lanes()]
    assert len(lanes) > 40
    assert len({tuple(np.round(points[:, 0], 2)) for points in lanes}) > 30
