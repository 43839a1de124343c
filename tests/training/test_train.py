"""Training end to end on 32 small rendered scenes and on images of one's own: its log, its models, what it prints."""

import json
import math
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from trainings import SHORT, log, same_weights, signal_in_step

import train_fixed
from config import LossConfig
from evaluation.collapse_detector import COLLAPSING, LEARNING, NOT_YET, CollapseStats, Diagnosis
from evaluation.evaluator import Evaluation, GroundTruth
from formats.tusimple_metric import TuSimpleMetric
from model import LaneNet
from runtime import checkpoint
from training.state import TrainProgress

LOG_KEYS = {  # of a run with TuSimple's metric; what reads a log relies on them
    "epoch", "steps", "seconds", "images_per_second",
    "train_loss", "regression", "existence", "curvature", "columns",
    "val_loss", "val_regression", "val_existence", "val_curvature", "existence_accuracy", "threshold", "verdict",
    "accuracy", "accuracy_with_lanes", "fp", "fn", "f1",
    "error_px", "constant_error_px", "shuffled_error_px", "grey_error_px", "diversity", "sensitivity",
    "train_error_px", "train_constant_error_px", "train_diversity"}
LAST_KEYS = {"format", "version", "config", "model", "ema", "optimizer", "schedule", "scaler", "progress"}
BEST_KEYS = {"format", "version", "config", "model", "scores"}
VERDICTS = {LEARNING, NOT_YET, COLLAPSING}

pytestmark = pytest.mark.usefixtures("elsewhere")


# Training ----------------------------------------------------------------------------------------------------


def test_training_writes_its_log_and_checkpoints(trained):
    records = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    assert [r["epoch"] for r in records] == [1, 2]
    for record in records:
        assert record.keys() == LOG_KEYS
        assert record["verdict"] in VERDICTS
        assert all(record[k] is not None and record[k] >= 0 for k in LOG_KEYS - {"verdict", "sensitivity"})
        assert abs(record["sensitivity"]) < 2  # a model that has learned little may move a lane the wrong way
        assert all(0 <= record[k] <= 1 for k in ("accuracy", "accuracy_with_lanes", "fp", "fn", "f1", "threshold",
                                                 "existence_accuracy"))
        assert record["steps"] == 3 * record["epoch"]
    assert records[1]["train_loss"] < records[0]["train_loss"]
    first, second = (record["constant_error_px"] for record in records)
    assert first == second
    assert first > 10
    assert {p.name for p in trained.iterdir()} == {"log.jsonl", "best_model.pth", "last.pth", "training_curve.png",
                                                   "validation.jpg"}


def test_rendered_scenes_are_trained_on_smaller_and_validated_whole(settings, monkeypatch):
    seen, forward = {True: set(), False: set()}, LaneNet.forward

    def record(model, images, **options):
        seen[model.training].add(tuple(images.shape[2:]))
        return forward(model, images, **options)

    monkeypatch.setattr(LaneNet, "forward", record)
    arguments = [*settings, "train.epochs=2", "model.width=160", "model.height=96", "train.checkpoint_dir=small"]
    assert train_fixed.main([*arguments, "train.input_scale=auto", "train.coarse=0.5"]) == 0
    assert seen == {True: {(56, 96), (80, 128)}, False: {(96, 160)}}


def test_the_keys_of_the_checkpoints_are_these(trained):
    best, last = (torch.load(trained / name, weights_only=True) for name in ("best_model.pth", "last.pth"))
    assert best.keys() == BEST_KEYS and last.keys() == LAST_KEYS
    assert best["scores"].keys() == LOG_KEYS
    assert best["version"] == last["version"] == checkpoint.VERSION
    assert last["progress"]["epoch"] == 3 and last["progress"]["step"] == 0, "where the next epoch would begin"


def test_the_train_loss_is_the_weighted_sum_of_its_terms(trained):
    for record in log(trained):
        total = sum(weight * record[name] for name, weight in vars(LossConfig()).items())
        assert record["train_loss"] == pytest.approx(total, rel=1e-4)


def test_which_of_two_epochs_is_the_better_one():
    def key(f1, accuracy, error_px, num_images=300):
        return TuSimpleMetric().selection_key({"f1": f1, "accuracy_with_lanes": accuracy, "error_px": error_px},
                                              num_images)

    assert key(0.93, 0.94, 12.0) > key(0.91, 0.94, 8.0)  # F1 decides
    assert key(0.913, 0.94, 8.0) > key(0.914, 0.94, 9.0)  # where it is the same within its error, the distance does
    assert key(0.60, 0.70, 30.0) > key(0.67, 0.30, 20.0)  # a model that reports nothing has an F1 of 0.67
    assert key(0.914, 0.94, 9.0, 10_000) > key(0.911, 0.94, 8.0, 10_000)  # more images tell more
    assert key(0.914, 0.94, math.nan) > key(0.911, 0.94, math.nan)  # no lanes in any of them
    assert key(0.01, 0.10, 200.0) > TrainProgress().best


def evaluation_of(diagnosis):
    """What `select` needs of an evaluation of 300 images by TuSimple's metric."""
    gt = GroundTruth(list(range(300)), None, [], [], None, 90.0, TuSimpleMetric())
    return Evaluation(gt, None, None, {}, {}, CollapseStats(), diagnosis)


def test_the_best_model_so_far_is_selected_and_a_collapsed_one_never():
    def select(progress, f1, state, savable=True):
        record = {"f1": f1, "accuracy_with_lanes": 0.9, "error_px": 10.0, "seconds": 7.0}
        return train_fixed.next_progress(progress, record, evaluation_of(Diagnosis(state, savable=savable)))

    progress = TrainProgress(epoch=3, step=5, sums=torch.ones(5), best=(0.5, -9.0, 0.5), data="fingerprint")
    better, is_best = select(progress, 0.8, LEARNING)
    assert is_best and better.best[2] == 0.8 and better.best > progress.best
    assert (better.epoch, better.step, better.sums, better.seconds, better.data) == (4, 0, None, 7.0, "fingerprint")
    worse, is_best = select(better, 0.7, NOT_YET)
    assert not is_best and worse.best == better.best and worse.collapsed_epochs == 0
    for number in (1, 2):
        worse, is_best = select(worse, 0.9, COLLAPSING, savable=False)
        assert not is_best and worse.best == better.best and worse.collapsed_epochs == number
    early, is_best = select(worse, 0.9, NOT_YET, savable=False)  # the same lanes for all images, in the first steps
    assert not is_best and early.collapsed_epochs == 0


def test_the_best_model_is_the_averaged_one_and_can_be_used_alone(trained):
    model, config, payload = checkpoint.load_model(trained / "best_model.pth", torch.device("cpu"))
    assert config.model.width == 96
    assert payload["scores"]["epoch"] in (1, 2)
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, 64, 96, dtype=torch.uint8)).points.isfinite().all()
    assert not same_weights(trained / "best_model.pth", trained / "last.pth")


@pytest.mark.parametrize("setting", [
    "data.on_device=true", pytest.param("train.compile=true", marks=pytest.mark.slow)])
def test_what_is_for_speed_gives_the_same_log(settings, trained, tmp_path, monkeypatch, setting):
    """As the same seed alone does. Without a compiler: what is traced runs as it stands, in one piece, or fails."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager", fullgraph=True))
    train_fixed.main([*settings, "train.epochs=2", "train.checkpoint_dir=again", setting])
    assert log(tmp_path / "again") == log(trained)
    assert same_weights(tmp_path / "again" / "last.pth", trained / "last.pth")


def test_another_seed_gives_another_log(settings, trained):
    """Of the same settings but for that: a run of one epoch would have other learning rates."""
    with signal_in_step(4):  # the first step of the second epoch
        assert train_fixed.main([*settings, "train.epochs=2", "train.seed=1", "train.checkpoint_dir=other"]) == 130
    assert log(Path("other")) != log(trained)[:1]


# Data --------------------------------------------------------------------------------------------------------


def own_images(root, sizes):
    """A folder of one's own: X.jpg beside X.lines.txt, an image for each of the sizes."""
    root.mkdir()
    rng = np.random.default_rng(0)
    for i, (width, height) in enumerate(sizes):
        image = rng.integers(60, 120, (height, width, 3), dtype=np.uint8)
        lines = []
        for near in (0.2 + 0.02 * i, 0.75 - 0.02 * i):
            far = (int(width / 2), int(height * 0.4))
            cv2.line(image, far, (int(near * width), height - 1), (255, 255, 255), max(2, width // 100))
            steps = np.linspace(0, 1, 12)[::-1]  # from the bottom up, as CULane has it
            points = [(far[0] + t * (near * width - far[0]), far[1] + t * (height - 1 - far[1])) for t in steps]
            lines.append(" ".join(f"{x:.1f} {y:.1f}" for x, y in points))
        cv2.imwrite(str(root / f"{i:02}.jpg"), image)
        (root / f"{i:02}.lines.txt").write_text("\n".join(lines) + "\n")
    return root


@pytest.mark.parametrize("cached", ["true", "false"])
def test_images_of_mixed_sizes_train_together(tmp_path, cached, capsys):
    root = own_images(tmp_path / "own", [(320, 180), (640, 360), (200, 300), (160, 96), (333, 77), (100, 60)] * 2)
    status = train_fixed.main([*SHORT, f"data.root={root}", "data.split='0.25'", f"data.cache={cached}",
                               "train.epochs=1", "data.cache_dir=pixels", "train.checkpoint_dir=run",
                               "guard.min_diversity=0"])  # nine images and one epoch teach it nothing yet
    assert status == 0
    output = capsys.readouterr().out
    assert "9 images to train on, 3 to validate on" in output
    assert "images do not fit" not in output, "every lane of these labels is usable"
    assert log(Path("run"))[0]["error_px"] < 1280


def test_several_roots_are_shared_out_by_weight(tmp_path, settings, capsys):
    root = own_images(tmp_path / "own", [(320, 180)] * 6)
    first = next(s for s in settings if s.startswith("data.root="))
    assert train_fixed.main([*settings, f"data.root=[{first.removeprefix('data.root=')}, {root}]",
                             "data.weights=[0.5, 0.5]", "train.epochs=1", "train.checkpoint_dir=run",
                             "guard.min_diversity=0"]) == 0
    assert "29 images to train on, 1 to validate on" in capsys.readouterr().out


def test_the_state_of_a_run_is_judged_by_the_average_that_was_validated(trained):
    model, _, payload = checkpoint.load_model(trained / "last.pth", torch.device("cpu"))
    average = payload["ema"]
    assert all(torch.equal(value, average[f"module.{name}"]) for name, value in model.state_dict().items())
    assert any(not torch.equal(value, payload["model"][name]) for name, value in model.state_dict().items())
    assert checkpoint.steps_of_training(payload) == log(trained)[-1]["steps"]

