"""Training end to end on 32 small rendered scenes and on images of one's own: its log, its models, what it prints."""

import json
import math
import re
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from trainings import SHORT, log, same_weights

import train_fixed
from config import LossConfig
from runtime import checkpoint
from training.state import TrainProgress

KEYS = {"epoch", "train_loss", "regression", "existence", "curvature", "val_loss", "accuracy", "f1", "error_px",
        "constant_error_px", "diversity"}

pytestmark = pytest.mark.usefixtures("elsewhere")


# Training ----------------------------------------------------------------------------------------------------


def test_training_writes_its_log_and_checkpoints(trained):
    records = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    assert [r["epoch"] for r in records] == [1, 2]
    for record in records:
        assert record.keys() >= KEYS
        assert all(record[k] is not None and record[k] >= 0 for k in KEYS)
        assert 0 <= record["accuracy"] <= 1 and 0 <= record["f1"] <= 1
    assert records[1]["train_loss"] < records[0]["train_loss"]
    first, second = (record["constant_error_px"] for record in records)
    assert first == second
    assert first > 10
    assert {p.name for p in trained.iterdir()} == {"log.jsonl", "best_model.pth", "last.pth", "training_curve.png",
                                                   "validation.jpg"}


def test_the_train_loss_is_the_weighted_sum_of_its_terms(trained):
    for record in log(trained):
        total = sum(weight * record[name] for name, weight in vars(LossConfig()).items())
        assert record["train_loss"] == pytest.approx(total, rel=1e-4)


def test_the_best_model_is_the_averaged_one_and_can_be_used_alone(trained):
    model, config, payload = checkpoint.load_model(trained / "best_model.pth", torch.device("cpu"))
    assert config.model.width == 160
    assert payload["scores"]["epoch"] in (1, 2)
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, 96, 160, dtype=torch.uint8)).points.isfinite().all()
    assert not same_weights(trained / "best_model.pth", trained / "last.pth")


def test_the_same_seed_gives_the_same_log(settings, trained, tmp_path):
    train_fixed.main([*settings, "train.epochs=2", "train.checkpoint_dir=again"])
    assert log(tmp_path / "again") == log(trained)
    assert same_weights(tmp_path / "again" / "last.pth", trained / "last.pth")


@pytest.mark.parametrize("setting", ["data.on_device=true", "train.compile=true"])
def test_what_is_for_speed_gives_the_same_log(settings, trained, tmp_path, monkeypatch, setting):
    """Without a compiler: what is traced runs as it stands, in one piece, or fails."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager", fullgraph=True))
    train_fixed.main([*settings, "train.epochs=2", "train.checkpoint_dir=again", setting])
    assert log(tmp_path / "again") == log(trained)


def test_another_seed_gives_another_log(settings, trained):
    train_fixed.main([*settings, "train.epochs=1", "train.seed=1", "train.checkpoint_dir=other",
                      "guard.min_diversity=0"])
    assert log(Path("other"))[0] != log(trained)[0]


def test_output_is_one_line_an_epoch(settings, capsys):
    train_fixed.main([*settings, "train.epochs=1", "train.checkpoint_dir=run"])
    lines = capsys.readouterr().out.splitlines()
    assert "24 images to train on, 8 to validate on" in lines[0]
    epochs = [line for line in lines if line.startswith("epoch")]
    assert len(epochs) == 1
    assert re.match(r"epoch +1/1 +loss \d+\.\d+ \(regression .* existence .* curvature .*accuracy .*F1 .*px", epochs[0])
    assert "best_model.pth" in lines[-1]


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
    said = capsys.readouterr().out
    assert "9 images to train on, 3 to validate on" in said
    assert "images do not fit" not in said, "every lane of these labels is usable"
    assert log(Path("run"))[0]["error_px"] < 1280


def test_several_roots_are_shared_out_by_weight(tmp_path, settings, capsys):
    root = own_images(tmp_path / "own", [(320, 180)] * 6)
    first = next(s for s in settings if s.startswith("data.root="))
    train_fixed.main([*settings, f"data.root=[{first.removeprefix('data.root=')}, {root}]", "data.weights=[0.5, 0.5]",
                      "train.epochs=1", "train.checkpoint_dir=run"])
    assert "29 images to train on, 1 to validate on" in capsys.readouterr().out


def test_a_fraction_may_be_written_without_quotes(settings, capsys):
    train_fixed.main([*settings, "data.split=0.25", "train.epochs=1", "train.checkpoint_dir=run"])
    assert "24 images to train on, 8 to validate on" in capsys.readouterr().out
