"""Training on a data set of another benchmark: its metric chooses the threshold and the best model, and is logged."""

import re

import pytest
import torch
from layouts import culane_with_categories
from trainings import SHORT, log

import evaluate_fixed
import train_fixed
from runtime import checkpoint

pytestmark = pytest.mark.usefixtures("elsewhere")


def test_training_in_culanes_layout_is_logged_and_selected_by_culanes_metric(tmp_path, capsys):
    settings = [*SHORT, f"data.root={culane_with_categories(tmp_path / 'culane')}", "data.cache_dir=cache"]
    assert train_fixed.main([*settings, "train.epochs=2", "train.checkpoint_dir=run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "4 images to train on, 4 to validate on" in lines[0]
    epochs = [line for line in lines if line.startswith("epoch")]
    assert len(epochs) == 2
    for line, record in zip(epochs, log(tmp_path / "run"), strict=True):
        assert {"f1@50", "f1@75", "mf1", "precision@50", "recall@50", "threshold"} <= record.keys()
        assert not {"accuracy", "f1", "fp", "fn"} & record.keys()
        assert f"F1@50 {100 * record['f1@50']:.1f} % mF1 {100 * record['mf1']:.1f} %" in line
        assert "accuracy" not in line
    _, _, payload = checkpoint.load_model(tmp_path / "run" / "best_model.pth", torch.device("cpu"))
    best = log(tmp_path / "run")[payload["scores"]["epoch"] - 1]["f1@50"]
    assert re.search(rf"the best model has F1@50 {100 * best:.1f} % mF1 [\d.]+ % on validation", lines[-1])

    assert evaluate_fixed.main([*settings, "--checkpoint", "run/best_model.pth"]) == 0, "in its first steps"
    assert "4 images of 328x118, CULane metric" in capsys.readouterr().out
