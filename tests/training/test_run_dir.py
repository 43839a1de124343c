"""The folder of a run: which files it has, that no others are written, and what becomes of an earlier run."""

import copy
import json
import math
import os
import tempfile
import threading
from concurrent.futures import wait

import pytest
import torch

from config import Config, ModelConfig, TrainConfig
from dataset import LaneDataset
from evaluation import evaluator
from evaluation.collapse_detector import CollapseStats, Diagnosis
from formats.registry import list_samples
from geometry.decode import DecodeSettings
from geometry.input_grid import InputGrid
from model import LanePrediction
from runtime import checkpoint, distributed
from runtime.checkpoint import CheckpointError
from training.run_dir import RunDir, TrainingError, sole_training
from training.state import TrainProgress, build_state

RECORD = {"epoch": 1, "train_loss": 2.0, "val_loss": 1.0, "error_px": 40.0, "constant_error_px": 90.0, "f1": 0.8,
          "accuracy": 0.9, "diversity": math.nan}
FILES = {"best_model.pth", "last.pth", "log.jsonl", "training_curve.png", "validation.jpg"}


@pytest.fixture(scope="module")
def evaluation(rendered):
    """The validation scenes with predictions that are their labels."""
    gt = evaluator.ground_truth(LaneDataset(list_samples(rendered, "tusimple")[24:], InputGrid(160, 96), 6))
    prediction = LanePrediction(gt.target.points, torch.where(gt.target.exists, 4.0, -4.0))
    return evaluator.score(prediction, gt, DecodeSettings(), CollapseStats(), Diagnosis("learning"))


@pytest.fixture(scope="module")
def state():
    config = Config(model=ModelConfig(width=64, height=64))
    return build_state(checkpoint.build_model(config), config, 10, torch.device("cpu"), torch.float32)


def run_dir(folder, in_background=False, **train):
    return RunDir(Config(train=TrainConfig(checkpoint_dir=str(folder), **train)), in_background)


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_what_a_killed_run_had_begun_to_write_is_removed_and_nothing_else(tmp_path):
    left = [".last.5265f169.1-1.part.pth", ".best_model.5265f169.1-2.part.pth", ".log.5265f169.1-1.part.jsonl"]
    kept = ["last.pth", "best_model.pth", ".lanes.5265f169.7-7.part.onnx", ".lock"]
    for name in left + kept:
        (tmp_path / name).touch()
    run_dir(tmp_path).remove_unfinished()
    assert files(tmp_path) == set(kept)


@pytest.mark.parametrize("in_background", [False, True])
def test_a_run_writes_its_files_and_nothing_outside_its_folder(in_background, tmp_path, monkeypatch, state,
                                                                evaluation):
    """Not in the working directory, at home, or where temporary files go."""
    for name in ("HOME", "XDG_CACHE_HOME", "TMPDIR"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.chdir(tmp_path)
    run = run_dir("deep/run", in_background)
    run.archive_previous_run()
    run.save_last(state, TrainProgress())
    assert files(tmp_path) == {"deep/run/last.pth"}
    run.write_epoch(state, TrainProgress(2), RECORD, evaluation, is_best=True)
    run.close()
    assert files(tmp_path) == {f"deep/run/{name}" for name in FILES}
    run_dir("deep/run").archive_previous_run()
    assert files(tmp_path) == {f"deep/run/earlier-1/{name}" for name in FILES}


def test_scalars_are_in_the_folder_too(tmp_path, monkeypatch, state, evaluation):
    pytest.importorskip("tensorboard")
    monkeypatch.chdir(tmp_path)
    run = run_dir("run", tensorboard=True)
    run.open_scalars(1)
    run.write_epoch(state, TrainProgress(2), RECORD, evaluation, is_best=False)
    run.close()
    run.scalars.close()
    written = files(tmp_path)
    assert all(name.startswith("run/") for name in written)
    assert sum(name.startswith("run/tensorboard/") for name in written) == 1
    run_dir("run").archive_previous_run()
    assert files(tmp_path) == {name.replace("run/", "run/earlier-1/") for name in written}


def test_the_best_model_is_written_only_where_it_is_the_best(tmp_path, state, evaluation):
    run = run_dir(tmp_path)
    run.write_epoch(state, TrainProgress(2), RECORD, evaluation, is_best=False)
    run.close()
    assert files(tmp_path) == FILES - {"best_model.pth", "validation.jpg"}
    run.write_epoch(state, TrainProgress(2), RECORD, evaluation, is_best=True)
    run.close()
    payload = checkpoint.load_checkpoint(run.best)
    assert payload.keys() == {"format", "version", "config", "scores", "model"}
    assert payload["scores"].keys() == RECORD.keys() and payload["scores"]["f1"] == RECORD["f1"]
    average = state.ema.module.state_dict()
    assert payload["model"].keys() == average.keys()
    assert all(torch.equal(payload["model"][name], average[name]) for name in average)


def test_what_is_written_is_the_state_at_the_end_of_its_epoch(tmp_path, monkeypatch, evaluation):
    """The next epoch trains meanwhile."""
    config = Config(model=ModelConfig(width=64, height=64))
    state = build_state(checkpoint.build_model(config), config, 10, torch.device("cpu"), torch.float32)
    for tensor in state.optimizer.tensors():
        tensor.data.normal_()
    before = {name: value.clone() for name, value in state.model.state_dict().items()}
    average = {name: value.clone() for name, value in state.ema.module.state_dict().items()}
    momenta = copy.deepcopy(state.optimizer.state_dict()["state"])
    trained, save = threading.Event(), checkpoint.save_checkpoint

    def save_later(*arguments, **contents):
        assert trained.wait(30)
        save(*arguments, **contents)

    monkeypatch.setattr(checkpoint, "save_checkpoint", save_later)
    run = run_dir(tmp_path, in_background=True)
    run.write_epoch(state, TrainProgress(2), RECORD, evaluation, is_best=True)
    with torch.no_grad():
        for value in (*state.optimizer.tensors(), *state.ema.module.parameters()):
            value.add_(1)
    trained.set()
    run.close()
    last = checkpoint.load_checkpoint(run.last)
    for saved, expected in ((checkpoint.load_checkpoint(run.best)["model"], average), (last["model"], before),
                            *((last["optimizer"]["state"][number], state) for number, state in momenta.items())):
        assert saved.keys() == expected.keys() and all(torch.equal(saved[name], expected[name]) for name in expected)


def test_the_state_is_saved_although_the_files_before_it_could_not_be_written(tmp_path, monkeypatch, state, evaluation):
    def fail(*_arguments, **_contents):
        raise CheckpointError("disk full")

    run = run_dir(tmp_path, in_background=True)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_checkpoint", fail)
        run.write_epoch(state, TrainProgress(2), RECORD, evaluation, is_best=False)
        wait([run.pending])
    with pytest.raises(CheckpointError, match="disk full"):
        run.save_last(state, TrainProgress(2, step=1))
    assert checkpoint.load_checkpoint(run.last)["progress"]["step"] == 1


def test_where_the_wait_is_interrupted_the_files_before_stay(tmp_path, monkeypatch, state, evaluation):
    """A second Ctrl-C: the thread still writes last.pth, and nobody else does."""
    run, interrupted, save = run_dir(tmp_path, in_background=True), threading.Event(), checkpoint.save_checkpoint

    def save_later(*arguments, **contents):
        assert interrupted.wait(30)
        save(*arguments, **contents)

    monkeypatch.setattr(checkpoint, "save_checkpoint", save_later)
    run.write_epoch(state, TrainProgress(2), RECORD, evaluation, is_best=False)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(type(run.pending), "result", raise_interrupt)
        run.save_last(state, TrainProgress(2, step=1))
    interrupted.set()
    run.close()
    assert checkpoint.load_checkpoint(run.last)["progress"]["step"] == 0


def raise_interrupt(*_arguments):
    raise KeyboardInterrupt


def test_files_that_cannot_be_written_end_the_run_once(tmp_path, monkeypatch, state, evaluation):
    def fail(*_arguments, **_contents):
        raise CheckpointError("disk full")

    run = run_dir(tmp_path, in_background=True)
    monkeypatch.setattr(checkpoint, "save_checkpoint", fail)
    run.write_epoch(state, TrainProgress(2), RECORD, evaluation, is_best=False)
    with pytest.raises(CheckpointError, match="disk full"):
        run.write_epoch(state, TrainProgress(3), RECORD, evaluation, is_best=False)
    run.close()


def test_earlier_runs_are_kept_and_what_is_not_ours_stays(tmp_path):
    run = run_dir(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    for number in (1, 2):
        run.log.write_text(str(number))
        run.archive_previous_run()
    run.archive_previous_run()  # there is nothing left to archive
    assert files(tmp_path) == {"notes.txt", "earlier-1/log.jsonl", "earlier-2/log.jsonl"}
    assert (tmp_path / "earlier-2/log.jsonl").read_text() == "2"


def logged(run):
    return [json.loads(line) for line in run.log.read_text().splitlines()]


def test_an_epoch_that_is_repeated_replaces_its_record_and_those_after_it(tmp_path):
    run = run_dir(tmp_path)
    for epoch, f1 in ((1, 0.1), (2, 0.2), (3, 0.3), (2, 0.25)):
        run.append_log({"epoch": epoch, "f1": f1})
    assert logged(run) == [{"epoch": 1, "f1": 0.1}, {"epoch": 2, "f1": 0.25}]
    run.append_log({"epoch": 1, "f1": 0.5})
    assert logged(run) == [{"epoch": 1, "f1": 0.5}]


def test_numbers_that_are_not_finite_are_null_in_the_log(tmp_path):
    run = run_dir(tmp_path)
    run.append_log({"epoch": 1, "a": math.nan, "b": math.inf, "c": -math.inf, "d": 0.0, "e": "learning"})
    assert logged(run) == [{"epoch": 1, "a": None, "b": None, "c": None, "d": 0.0, "e": "learning"}]


def test_of_several_processes_the_first_alone_writes(tmp_path, monkeypatch, state, evaluation):
    run = run_dir(tmp_path)
    run.log.write_text("of an earlier run")
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    run.archive_previous_run()
    run.open_scalars(1)
    run.save_last(state, TrainProgress())
    run.write_epoch(state, TrainProgress(2), RECORD, evaluation, is_best=True)
    run.close()
    assert files(tmp_path) == {"log.jsonl"} and run.log.read_text() == "of an earlier run"


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot lock a folder")
def test_two_trainings_do_not_write_into_one_folder(tmp_path):
    folder = tmp_path / "run"
    with sole_training(folder):
        with (pytest.raises(TrainingError, match=r"run: another training is writing here; .*train\.checkpoint_dir"),
              sole_training(tmp_path / "run")):
            raise AssertionError("the folder is in use")
        with sole_training(tmp_path / "other"):
            pass
    with sole_training(folder):
        assert files(folder) == set()
    (tmp_path / "file").touch()
    with sole_training(tmp_path / "file"):
        pass  # RunDir says what is wrong with it
