"""Pictures of a training: the curves of its log, the sheet of its best model, and failures that never stop it."""

import json

import cv2
import numpy as np
import pytest
import torch

from config import load_config
from dataset import LaneDataset
from evaluation import evaluator
from evaluation.collapse_detector import CollapseStats, Diagnosis
from formats.registry import list_samples
from geometry.decode import DecodeSettings
from geometry.input_grid import InputGrid
from model import LanePrediction
from training import epoch_pictures
from training.run_dir import RunDir
from training.tensorboard import TENSORBOARD_DIR
from visualization.draw import CAPTION_PX
from visualization.shapes import COLORS

RECORD = {"epoch": 1, "train_loss": 2.0, "val_loss": 1.0, "error_px": 40.0, "constant_error_px": 90.0, "f1": 0.8,
          "accuracy": 0.9, "diversity": None}


@pytest.fixture(scope="module")
def evaluation(rendered):
    """The eight validation scenes with predictions that are their labels."""
    gt = evaluator.ground_truth(LaneDataset(list_samples(rendered, "tusimple")[24:], InputGrid(160, 96), 6))
    prediction = LanePrediction(gt.target.points, torch.where(gt.target.exists, 4.0, -4.0))
    return evaluator.score(prediction, gt, DecodeSettings(), CollapseStats(), Diagnosis("learning"))


def write_pictures(folder, evaluation, is_best=True):
    (folder / "log.jsonl").write_text(json.dumps(RECORD) + "\n")
    epoch_pictures.write_epoch_pictures(folder, evaluation, is_best)


def log_records(count, **values):
    return [RECORD | {"epoch": epoch, "train_loss": 2 / epoch, "val_loss": 1 / epoch, "diversity": 0.7} | values
            for epoch in range(1, count + 1)]


def panels(image):
    """The four charts of a training curve, by the titles of epoch_pictures.PANELS."""
    rows = [np.hsplit(row, 2) for row in np.vsplit(image, 2)]
    return dict(zip(epoch_pictures.PANELS, [panel for row in rows for panel in row], strict=True))


def has_color(image, name):
    return bool((image == COLORS[name]).all(2).any())


@pytest.mark.parametrize("count", [1, 2, 11, 1000])
def test_a_curve_of_any_length_has_one_size_and_all_its_lines(count):
    image = epoch_pictures.training_curve(log_records(count))
    assert image.shape == (840, 1520, 3) and image.dtype == np.uint8
    loss, error, score, diversity = panels(image).values()
    for panel in (loss, score):
        assert has_color(panel, "blue") and has_color(panel, "orange")
    assert has_color(error, "blue") and has_color(error, "gray") and has_color(diversity, "green")


def names(records, panel):
    return [series.name for series in epoch_pictures._series(records, epoch_pictures.PANELS[panel])]


def test_the_scores_are_those_of_the_data_sets_metric():
    culane = [{"epoch": 1, "f1@50": 0.5, "mf1": 0.25}, {"epoch": 2, "f1@50": 0.625, "mf1": None}]
    assert names(culane, "Validation score, %") == ["F1@50 62.5", "mF1 25"]
    assert names([RECORD], "Validation score, %") == ["F1 80", "accuracy 90"]
    assert names([RECORD], "Loss") == ["training, all terms 2", "validation 1"]


def test_a_curve_without_any_value_says_so():
    assert names([RECORD], "Diversity (1: as varied as the labels)") == ["predictions: no value"]
    panel = panels(epoch_pictures.training_curve([RECORD]))["Diversity (1: as varied as the labels)"]
    assert has_color(panel[:60], "green") and not has_color(panel[60:], "green"), "in the legend, not below"


def test_no_record_is_an_error():
    with pytest.raises(ValueError, match="no epoch to draw"):
        epoch_pictures.training_curve([])


def test_both_pictures_are_written_and_nothing_else(tmp_path, evaluation, capsys):
    write_pictures(tmp_path, evaluation)
    assert {file.name for file in tmp_path.iterdir()} == {"log.jsonl", *epoch_pictures.PICTURES}
    assert cv2.imread(str(tmp_path / "training_curve.png")).shape == (840, 1520, 3)
    height, width, _ = cv2.imread(str(tmp_path / "validation.jpg")).shape
    assert width == 3 * epoch_pictures.TILE_PX
    assert height == 2 * (360 + CAPTION_PX), "two each of eight images, three in a row"
    assert capsys.readouterr() == ("", "")


def test_the_sheet_is_that_of_the_best_model(tmp_path, evaluation):
    write_pictures(tmp_path, evaluation, is_best=False)
    assert (tmp_path / "training_curve.png").is_file() and not (tmp_path / "validation.jpg").exists()


def test_a_picture_that_cannot_be_written_costs_one_line(tmp_path, evaluation, capsys):
    (tmp_path / "validation.jpg").mkdir()
    write_pictures(tmp_path, evaluation)
    warning = capsys.readouterr().err
    assert warning.startswith("warning: ") and warning.count("\n") == 1 and "training goes on" in warning
    assert {file.name for file in tmp_path.iterdir()} == {"log.jsonl", *epoch_pictures.PICTURES}, "no temporary file"


def test_a_missing_image_costs_one_line(tmp_path, evaluation, capsys):
    missing = [sample._replace(image=tmp_path / "missing.jpg") for sample in evaluation.gt.samples]
    write_pictures(tmp_path, evaluation._replace(gt=evaluation.gt._replace(samples=missing)))
    warning = capsys.readouterr().err
    assert "missing.jpg: no such image" in warning and warning.count("\n") == 1
    assert not (tmp_path / "validation.jpg").exists()


def test_a_new_run_archives_the_pictures(tmp_path):
    for name in ("log.jsonl", *epoch_pictures.PICTURES):
        (tmp_path / name).write_text(name)
    (tmp_path / TENSORBOARD_DIR).mkdir()
    (tmp_path / TENSORBOARD_DIR / "events").write_text("events")
    RunDir(load_config(None, [f"train.checkpoint_dir={tmp_path}"])).archive_previous_run()
    archive = tmp_path / "earlier-1"
    assert [file.name for file in tmp_path.iterdir()] == ["earlier-1"]
    assert (archive / TENSORBOARD_DIR / "events").read_text() == "events"
    expected = {"log.jsonl", *epoch_pictures.PICTURES, TENSORBOARD_DIR}
    assert {file.name for file in archive.iterdir()} == expected
