"""What a training leaves beside its checkpoints: pictures that never stop it, and TensorBoard's scalars."""

import json
import os
import signal
import sys
from pathlib import Path

import cv2
import pytest
import torch

import train_fixed
from config import ConfigError
from dataset import LaneDataset
from evaluation.evaluator import ground_truth
from formats.registry import list_samples
from geometry.input_grid import InputGrid
from model import LanePrediction
from training import epoch_pictures
from visualization.charts import PANEL_PX

SHORT = ["model.width=96", "model.height=64", "train.batch_size=8", "train.device=cpu", "train.precision=fp32",
         "data.workers=0", "train.epochs=2", "guard.min_diversity=0"]
RECORD = {"epoch": 1, "train_loss": 2.0, "val_loss": 1.0, "error_px": 40.0, "constant_error_px": 90.0, "f1": 0.8,
          "accuracy": 0.9, "diversity": None}


@pytest.fixture(scope="module")
def validation(rendered):
    """The eight validation scenes, their labels, and predictions that are the labels."""
    dataset = LaneDataset(list_samples(rendered, "tusimple")[24:], InputGrid(160, 96), 6)
    truth = ground_truth(dataset)
    return dataset, truth.target, LanePrediction(truth.target.points, torch.where(truth.target.exists, 4.0, -4.0))


def leave(folder, validation, is_best=True):
    dataset, target, prediction = validation
    (folder / "log.jsonl").write_text(json.dumps(RECORD) + "\n")
    epoch_pictures.leave_pictures(folder, dataset, target, *prediction, threshold=0.5, is_best=is_best)


def test_both_pictures_are_left_and_nothing_else(tmp_path, validation, capsys):
    leave(tmp_path, validation)
    assert {file.name for file in tmp_path.iterdir()} == {"log.jsonl", *epoch_pictures.PICTURES}
    assert cv2.imread(str(tmp_path / "training_curve.png")).shape == (2 * PANEL_PX[1], 2 * PANEL_PX[0], 3)
    height, width, _ = cv2.imread(str(tmp_path / "validation.jpg")).shape
    assert (width, height) == (3 * epoch_pictures.TILE_PX, 2 * (360 + 30)), "two each of eight images, three in a row"
    assert capsys.readouterr() == ("", "")


def test_the_sheet_is_that_of_the_best_model(tmp_path, validation):
    leave(tmp_path, validation, is_best=False)
    assert (tmp_path / "training_curve.png").is_file() and not (tmp_path / "validation.jpg").exists()


def test_a_picture_that_cannot_be_written_costs_one_line(tmp_path, validation, capsys):
    (tmp_path / "validation.jpg").mkdir()
    leave(tmp_path, validation)
    said = capsys.readouterr().err
    assert said.startswith("warning: ") and said.count("\n") == 1 and "training goes on" in said
    assert not list(tmp_path.glob("*.tmp.*"))


def test_an_image_that_is_gone_costs_one_line(tmp_path, validation, capsys):
    dataset, *rest = validation
    lost = [sample._replace(image=tmp_path / "lost.jpg") for sample in dataset.samples]
    leave(tmp_path, (LaneDataset(lost, InputGrid(160, 96), 6), *rest))
    assert "lost.jpg: no such image" in capsys.readouterr().err


def test_a_new_run_puts_the_pictures_aside(tmp_path):
    for name in ("log.jsonl", *epoch_pictures.PICTURES):
        (tmp_path / name).write_text(name)
    (tmp_path / epoch_pictures.TENSORBOARD).mkdir()
    (tmp_path / epoch_pictures.TENSORBOARD / "events").write_text("events")
    train_fixed.put_aside(tmp_path)
    aside = tmp_path / "earlier-1"
    assert [file.name for file in tmp_path.iterdir()] == ["earlier-1"]
    assert (aside / epoch_pictures.TENSORBOARD / "events").read_text() == "events"
    expected = {"log.jsonl", *epoch_pictures.PICTURES, epoch_pictures.TENSORBOARD}
    assert {file.name for file in aside.iterdir()} == expected


def test_without_tensorboard_one_line_says_what_to_install(tmp_path, monkeypatch):
    """Before any work: not even the data is looked for."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match="pip install tensorboard") as error:
        train_fixed.main(["train.tensorboard=true", "data.root=nowhere"])
    assert "\n" not in str(error.value)


def scalars(folder):
    """{tag: [(step, value)]} as TensorBoard reads a folder of event files."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder), {"scalars": 0})
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_a_resumed_run_goes_on_without_doubled_steps(tmp_path):
    """A run that died in its third epoch, after its record was handed over, repeats it."""
    pytest.importorskip("tensorboard")
    writer = epoch_pictures.require_tensorboard()
    for first, last, f1 in ((1, 3, 0.25), (3, 4, 0.75)):
        with writer(tmp_path, purge_step=first) as run:
            for epoch in range(first, last + 1):
                record = {"epoch": epoch, "f1": f1, "verdict": "learning", "lost": float("nan")}
                epoch_pictures.write_scalars(run, record)
    assert scalars(tmp_path) == {"f1": [(1, 0.25), (2, 0.25), (3, 0.75), (4, 0.75)]}


def test_an_interrupted_training_leaves_pictures_and_each_epoch_once(tmp_path, monkeypatch, rendered):
    pytest.importorskip("tensorboard")
    monkeypatch.chdir(tmp_path)
    words = [*SHORT, f"data.root={rendered}", f"data.cache_dir={tmp_path / 'pixels'}", "train.checkpoint_dir=run",
             "train.tensorboard=true"]
    steps, original = [], train_fixed.resolve_ambiguous_assignment

    def interrupt_in_the_second_epoch(*arguments):
        steps.append(0)
        if len(steps) == 5:  # of three an epoch
            os.kill(os.getpid(), signal.SIGINT)
        return original(*arguments)

    monkeypatch.setattr(train_fixed, "resolve_ambiguous_assignment", interrupt_in_the_second_epoch)
    assert train_fixed.main(words) == 130
    with epoch_pictures.require_tensorboard()("run/tensorboard") as stale:  # as of a last.pth older than the scalars
        epoch_pictures.write_scalars(stale, {"epoch": 2, "f1": -1.0})
    assert train_fixed.main([*words, "--resume"]) == 0
    assert all((Path("run") / name).is_file() for name in epoch_pictures.PICTURES)
    logged = [json.loads(line) for line in Path("run/log.jsonl").read_text().splitlines()]
    found = scalars("run/tensorboard")
    assert found["f1"] == [(epoch, pytest.approx(record["f1"])) for epoch, record in enumerate(logged, start=1)]
    assert len(logged) == 2
    assert {"train_loss", "val_loss", "error_px", "constant_error_px", "diversity"} <= set(found)
