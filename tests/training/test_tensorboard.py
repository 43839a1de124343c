"""TensorBoard's scalars of a training: each epoch once, also of one that was interrupted."""

import json
import sys
from pathlib import Path

import pytest
from trainings import signal_in_step

import train_fixed
from config import ConfigError
from training.epoch_pictures import PICTURES
from training.tensorboard import require_tensorboard, write_scalars


def test_without_tensorboard_one_line_says_what_to_install(tmp_path, monkeypatch):
    """Before any work: data is not even listed."""
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
    writer = require_tensorboard()
    for first, last, f1 in ((1, 3, 0.25), (3, 4, 0.75)):
        with writer(tmp_path, purge_step=first) as run:
            for epoch in range(first, last + 1):
                record = {"epoch": epoch, "f1": f1, "verdict": "learning", "lost": float("nan")}
                write_scalars(run, record)
    assert scalars(tmp_path) == {"f1": [(1, 0.25), (2, 0.25), (3, 0.75), (4, 0.75)]}


def test_an_interrupted_training_leaves_pictures_and_each_epoch_once(tmp_path, monkeypatch, settings):
    pytest.importorskip("tensorboard")
    monkeypatch.chdir(tmp_path)
    words = [*settings, "train.epochs=2", "train.checkpoint_dir=run", "train.tensorboard=true"]
    with signal_in_step(5):  # of three an epoch
        assert train_fixed.main(words) == 130
    with require_tensorboard()("run/tensorboard") as stale:  # as of a last.pth older than the scalars
        write_scalars(stale, {"epoch": 2, "f1": -1.0})
    assert train_fixed.main([*words, "--resume"]) == 0
    assert all((Path("run") / name).is_file() for name in PICTURES)
    logged = [json.loads(line) for line in Path("run/log.jsonl").read_text().splitlines()]
    tags = scalars("run/tensorboard")
    assert tags["f1"] == [(epoch, pytest.approx(record["f1"])) for epoch, record in enumerate(logged, start=1)]
    assert len(logged) == 2
    assert {"train_loss", "val_loss", "error_px", "constant_error_px", "diversity"} <= set(tags)
