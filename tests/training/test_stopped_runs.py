"""Runs that must not go on: a collapse, a loss that is negative or not a number, a full disk."""

import math
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from torch import nn
from trainings import log

import train_fixed
from config import ConfigError
from geometry.bezier import control_points_from_x
from geometry.feature_grid import column_centers
from geometry.slots import RowLogits
from model import LanePrediction
from runtime import checkpoint
from runtime.checkpoint import CheckpointError
from training.epoch import train_epoch
from training.run_dir import RunDir, TrainingError

pytestmark = pytest.mark.usefixtures("elsewhere")


class Constant(nn.Module):
    """Predicts the same lanes whatever the image shows; `value` is its logit."""

    def __init__(self, value=0.0):
        super().__init__()
        self.x = nn.Parameter(torch.linspace(0.1, 0.9, 6)[:, None].repeat(1, 6))
        self.logits = nn.Parameter(torch.full((6,), value))

    def forward(self, images, with_rows=False):
        count = len(images)
        points = control_points_from_x(self.x, torch.full((6,), 0.4), torch.full((6,), 0.9)).expand(count, -1, -1, -1)
        prediction = LanePrediction(points, self.logits.expand(count, -1))
        rows = RowLogits(torch.zeros(count, 6, 12, 44), torch.zeros(count, 6, 12), column_centers(44, images.device),
                       (torch.arange(12) + 0.5) / 12)
        return (prediction, rows) if with_rows else prediction


def test_a_collapsed_model_stops_the_run_and_is_never_the_best(settings, monkeypatch, capsys):
    monkeypatch.setattr(checkpoint, "build_model", lambda *_, **__: Constant())
    with pytest.raises(TrainingError, match="stopped after 2 epochs in a row of collapsing: the same lanes") as caught:
        train_fixed.main([*settings, "train.epochs=5", "guard.patience=2", "guard.first_steps=0",
                          "train.checkpoint_dir=run"])
    assert "\n" not in str(caught.value)
    assert not Path("run/best_model.pth").exists()
    assert [r["verdict"] for r in log(Path("run"))] == ["collapsing"] * 2
    assert log(Path("run"))[1]["diversity"] < 1e-6
    assert capsys.readouterr().out.count("collapsing") == 2


def test_weights_that_are_lost_in_the_last_step_are_a_divergence(settings, monkeypatch):
    """No loss has shown it: the first that it would is one of the next epoch."""
    def lost(setup, *arguments):
        progress = train_epoch(setup, *arguments)
        with torch.no_grad():
            next(setup.state.ema.module.parameters()).fill_(math.nan)
        return progress

    monkeypatch.setattr(train_fixed, "train_epoch", lost)
    with pytest.raises(TrainingError, match=r"not finite after epoch 1: training has diverged; lower train\.learning_"):
        train_fixed.main([*settings, "train.epochs=1", "train.checkpoint_dir=run"])
    assert not Path("run/best_model.pth").exists()


def test_predictions_that_are_not_finite_are_a_divergence(settings, monkeypatch):
    """Weights may be finite, and too large to compute with."""
    class Huge(Constant):
        def forward(self, images, with_rows=False):
            result = super().forward(images, with_rows)
            return result if self.training else result._replace(points=result.points * math.inf)

    monkeypatch.setattr(checkpoint, "build_model", lambda *_, **__: Huge())
    with pytest.raises(TrainingError, match=r"predictions for validation images that are not finite after epoch 1: tr"):
        train_fixed.main([*settings, "train.epochs=1", "train.checkpoint_dir=run"])


def test_a_graph_that_cannot_be_costs_no_earlier_run(settings):
    Path("run").mkdir()
    Path("run/best_model.pth").write_bytes(b"a model")
    with pytest.raises(ConfigError, match=r"^train\.cuda_graph is true, but the device is cpu; set it to auto$"):
        train_fixed.main([*settings, "train.cuda_graph=true", "train.checkpoint_dir=run"])
    assert [path.name for path in Path("run").iterdir()] == ["best_model.pth"]


def test_a_run_that_ends_collapsed_before_the_guards_patience_praises_no_model(settings, monkeypatch, capsys):
    monkeypatch.setattr(checkpoint, "build_model", lambda *_, **__: Constant())
    with pytest.raises(TrainingError, match=r"no epoch gave a model worth keeping; run/log\.jsonl has their verdicts$"):
        train_fixed.main([*settings, "train.epochs=1", "guard.patience=3", "train.checkpoint_dir=run"])
    assert not Path("run/best_model.pth").exists()
    *_, last_line = capsys.readouterr().out.splitlines()
    assert last_line.startswith("epoch   1/1"), "no closing line about a best model"


def test_a_loss_that_is_not_a_number_stops_the_run_with_every_term_named(settings, monkeypatch):
    monkeypatch.setattr(checkpoint, "build_model", lambda *_, **__: Constant(math.nan))
    with pytest.raises(TrainingError, match=r"not finite in epoch 1, step \d+: ") as caught:
        train_fixed.main([*settings, "train.epochs=2", "train.checkpoint_dir=run"])
    message = str(caught.value)
    for name in ("total nan", "regression ", "existence nan", "curvature "):
        assert name in message
    assert "train.learning_rate" in message and "\n" not in message
    assert [path.name for path in Path("run").iterdir()] == ["last.pth"]
    assert checkpoint.load_checkpoint("run/last.pth")["progress"]["step"] == 0, "the state before the first step"


def test_a_last_checkpoint_that_cannot_be_written_ends_the_run_in_one_line(settings, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        train_fixed.main([*settings, "train.epochs=1", "train.checkpoint_dir=run"])
    assert not list(Path("run").glob("*.part*"))


def test_a_signal_does_not_keep_the_last_files_from_being_written(settings, monkeypatch):
    """The run has nothing else to do any more, and ends as if there had been none."""
    missed, original = [], checkpoint.save_checkpoint

    def save_after_a_signal(path, *rest, **contents):
        if path.name == "last.pth" and contents["progress"]["epoch"] == 3:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.5)
        original(path, *rest, **contents)

    monkeypatch.setattr(train_fixed, "RunDir", lambda config, **_: RunDir(config, in_background=True))  # as on a GPU
    monkeypatch.setattr(checkpoint, "save_checkpoint", save_after_a_signal)
    before = signal.signal(signal.SIGTERM, lambda *_: missed.append("the run's handler was gone"))
    try:
        assert train_fixed.main([*settings, "train.epochs=2", "train.checkpoint_dir=run"]) == 0
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not missed and checkpoint.load_checkpoint("run/last.pth")["progress"]["epoch"] == 3
