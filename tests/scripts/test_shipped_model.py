"""The model of the repository finds lanes in scenes rendered anew and none where there is no road."""

import json
from pathlib import Path

import numpy as np
import pytest

import evaluate_fixed
import inference_fixed
from config import Config
from inference.predictor import Predictor
from renderer import dataset_writer
from renderer.camera_effects import apply_sensor
from renderer.no_road import draw_no_road
from runtime.checkpoint import SHIPPED_CHECKPOINT, load_checkpoint

SHIPPED = Path(__file__).parents[2] / SHIPPED_CHECKPOINT
SCENES, SEED = 40, 2026  # of a seed that nothing was trained on
MIN_F1, MIN_ACCURACY = 0.82, 0.85  # of 40 scenes, which vary by three points


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    root = tmp_path_factory.mktemp("scenes")
    dataset_writer.write_dataset(root, 1, SCENES, seed=SEED, width=640, height=360, workers=1)
    return root


def test_it_is_small_and_of_the_default_network():
    """So that `train.init_from` takes it without further settings."""
    assert SHIPPED.stat().st_size < 6e6
    payload = load_checkpoint(SHIPPED)
    assert payload["config"].model == Config().model
    assert {value.dtype.itemsize for value in payload["model"].values() if value.is_floating_point()} == {2}


def test_scenes_rendered_anew_are_scored_as_the_model_card_says(scenes, tmp_path):
    words = ["--checkpoint", str(SHIPPED), f"data.root={scenes}", "train.device=cpu",
             f"data.cache_dir={tmp_path / 'cache'}"]
    assert evaluate_fixed.main([*words, "--json", str(tmp_path / "scores.json")]) == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["f1"] > MIN_F1 and scores["accuracy_with_lanes"] > MIN_ACCURACY
    assert scores["verdict"] == "learning"


def test_images_of_no_road_have_no_lanes():
    predictor = Predictor.load(SHIPPED, "cpu")
    images = [apply_sensor(rng, draw_no_road(rng, 640, 360)) for rng in map(np.random.default_rng, range(40))]
    with_lanes = sum(bool(predictor(image).keep.any()) for image in images)
    assert with_lanes <= 3


def test_lanes_differ_between_images(scenes, capsys):
    assert inference_fixed.main([str(scenes / "clips"), "--checkpoint", str(SHIPPED), "train.device=cpu"]) == 0
    assert f"The predictions differ between the {SCENES + 1} images" in capsys.readouterr().out
