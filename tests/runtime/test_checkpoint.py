"""Checkpoints: what comes back, what is refused, and that a failed write costs nothing."""

import math
import os
import pickle
import stat

import pytest
import torch

from config import Config, load_config
from runtime import checkpoint
from runtime.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from training.state import load_last

WEIGHTS = {"model": {"layer.weight": torch.arange(6000.0).reshape(60, 100)}, "scores": {"val_loss": 0.5}}


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "best_model.pth"
    save_checkpoint(path, load_config(None, ["model.width=160", "train.seed=7"]), **WEIGHTS)
    return path


def refusal(path, *arguments):
    """The message with which load_checkpoint refuses a file: one line that begins with the path."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, *arguments)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and len(message) < 500
    return message


def test_a_checkpoint_comes_back_as_it_was_saved(saved):
    payload = load_checkpoint(saved)
    assert torch.equal(payload["model"]["layer.weight"], WEIGHTS["model"]["layer.weight"])
    assert payload["scores"] == {"val_loss": 0.5}
    assert payload["config"] == load_config(None, ["model.width=160", "train.seed=7"])
    assert list(saved.parent.iterdir()) == [saved], "no temporary file stays behind"


def test_a_checkpoint_rebuilds_its_model(tmp_path):
    config = load_config(None, ["model.slots=4", "model.backbone=compact"])
    model = checkpoint.build_model(config).eval()
    save_checkpoint(tmp_path / "m.pth", config, model=model.state_dict())
    loaded, loaded_config, _ = checkpoint.load_model(tmp_path / "m.pth", torch.device("cpu"))
    image = torch.full((1, 3, 96, 160), 90, dtype=torch.uint8)
    assert loaded_config == config and not loaded.training
    with torch.inference_mode():
        assert torch.equal(loaded(image).points, model(image).points)


def test_a_checkpoint_may_be_read_by_others(saved):
    assert stat.S_IMODE(saved.stat().st_mode) == 0o644 or os.name == "nt"


def test_a_process_other_than_the_first_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint.distributed, "rank", lambda: 1)
    save_checkpoint(tmp_path / "m.pth", Config(), **WEIGHTS)
    assert not list(tmp_path.iterdir())


def test_the_threshold_auto_is_that_of_the_checkpoint():
    def threshold(scores, *overrides):
        payload = {"config": load_config(None, ["model.slots=4"]), "scores": scores}
        settings = checkpoint.with_checkpoint(load_config(None, overrides), payload)
        assert settings.model.slots == 4
        return settings.inference.threshold

    assert threshold({"threshold": 0.31}) == 0.31
    assert threshold({"threshold": 0.31}, "inference.threshold=0.7") == 0.7
    for scores in (None, {}, {"threshold": 3.0}, {"threshold": "high"}):
        assert threshold(scores) == 0.5


def test_the_steps_of_a_checkpoint_without_a_number_are_infinite():
    assert checkpoint.steps_of_training({"scores": {"steps": 7}}) == 7
    assert checkpoint.steps_of_training({"scores": {}}) == checkpoint.steps_of_training({}) == math.inf


def test_weights_of_another_shape_are_refused(tmp_path):
    model = checkpoint.build_model(load_config(None, ["model.slots=4"]))
    save_checkpoint(tmp_path / "m.pth", Config(), model=model.state_dict())
    with pytest.raises(CheckpointError, match=r"m\.pth: its weights do not fit this model") as caught:
        checkpoint.load_model(tmp_path / "m.pth", torch.device("cpu"))
    assert "\n" not in str(caught.value)
    save_checkpoint(tmp_path / "none.pth", Config())
    with pytest.raises(CheckpointError, match="do not fit this model"):
        checkpoint.load_model(tmp_path / "none.pth", torch.device("cpu"))


class Hostile:
    """Unpickled without care, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("old_format", [False, True])
def test_a_pickle_that_runs_code_is_refused_and_nothing_runs(tmp_path, old_format):
    path, trace = tmp_path / "bad.pth", tmp_path / "trace"
    payload = {"format": checkpoint.FORMAT, "version": checkpoint.VERSION, "model": Hostile(trace)}
    torch.save(payload, path, _use_new_zipfile_serialization=not old_format)
    assert "not a checkpoint that can be loaded safely" in refusal(path)
    assert not trace.exists()
    torch.load(path, weights_only=False)["model"].close()
    assert trace.exists(), "the file is harmless, so the test above shows nothing"


def test_a_plain_pickle_is_refused(tmp_path):
    path, trace = tmp_path / "bad.pth", tmp_path / "trace"
    path.write_bytes(pickle.dumps(Hostile(trace), protocol=2))
    refusal(path)
    assert not trace.exists()


def test_a_missing_checkpoint_is_answered_with_how_to_make_one(tmp_path):
    assert "make one with: python train_fixed.py" in refusal(tmp_path / "best_model.pth")
    refusal(tmp_path)


@pytest.mark.parametrize("part", [0.0, 0.001, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused(saved, part):
    data = saved.read_bytes()
    saved.write_bytes(data[:int(part * len(data))])
    assert "not a checkpoint that can be loaded safely" in refusal(saved)


def test_bytes_that_are_no_checkpoint_are_refused(tmp_path):
    path = tmp_path / "best_model.pth"
    for content in (b"not a checkpoint", b"PK\x03\x04" + bytes(100), bytes(2000), os.urandom(2000)):
        path.write_bytes(content)
        refusal(path)


def test_a_flipped_bit_is_refused_or_leaves_a_checkpoint_of_the_same_form(saved):
    """The zip reader of PyTorch does not check sums, so a bit among the numbers goes unnoticed; nothing else may."""
    data = saved.read_bytes()
    for position in range(0, len(data), len(data) // 97):
        damaged = bytearray(data)
        damaged[position] ^= 0x10
        saved.write_bytes(damaged)
        try:
            payload = load_checkpoint(saved)
        except ValueError as error:
            assert "\n" not in str(error)
        else:
            assert payload.keys() == {"format", "version", "config", "model", "scores"}
            assert payload["config"] == load_config(None, ["model.width=160", "train.seed=7"])


@pytest.mark.parametrize("content", [{"a": torch.zeros(2)}, {}, [1, 2], torch.zeros(3), {"state_dict": {}}, 3, None],
                         ids=str)
def test_a_foreign_file_is_refused(tmp_path, content):
    path = tmp_path / "foreign.pth"
    torch.save(content, path)
    assert "not a checkpoint of train_fixed.py" in refusal(path)


def test_another_version_is_named(saved):
    payload = torch.load(saved, weights_only=True)
    torch.save(payload | {"version": 99}, saved)
    assert "checkpoint version 99, this software reads 6 to 10" in refusal(saved)
    torch.save(payload | {"version": None}, saved)
    assert "checkpoint version None" in refusal(saved)


def test_version_6_is_read_under_the_present_names(saved, capsys):
    """It had train.optimiser, augment.colour and model.sky."""
    payload = torch.load(saved, weights_only=True)
    config = payload["config"]
    config["train"]["optimiser"] = config["train"].pop("optimizer")
    config["augment"]["colour"] = 0.31
    config["model"]["sky"] = 0.125
    del config["augment"]["color"], config["model"]["cut_top"]
    torch.save(payload | {"version": 6}, saved)
    loaded = load_checkpoint(saved)
    changes = ["model.width=160", "train.seed=7", "augment.color=0.31", "model.cut_top=0.125"]
    assert loaded["config"] == load_config(None, changes)
    assert torch.equal(loaded["model"]["layer.weight"], WEIGHTS["model"]["layer.weight"])
    assert capsys.readouterr() == ("", ""), "the user did not write those names"


@pytest.mark.parametrize("version", [6, 8])
def test_a_run_interrupted_under_an_earlier_version_is_not_resumed(saved, version):
    payload = torch.load(saved, weights_only=True)
    torch.save(payload | {"version": version, "progress": {}}, saved)
    with pytest.raises(CheckpointError, match="earlier version") as caught:
        load_last(saved, Config())
    message = str(caught.value)
    assert message.startswith(f"{saved}: ") and f"train.init_from={saved}" in message and "\n" not in message


@pytest.mark.parametrize("inside", [None, 3, {"train": 3}, {"model": {"widht": 3}}])
def test_a_damaged_configuration_is_refused_in_one_line(saved, inside):
    payload = torch.load(saved, weights_only=True)
    torch.save(payload | {"config": inside}, saved)
    with pytest.raises(ValueError) as caught:
        load_checkpoint(saved)
    assert str(caught.value).startswith(str(saved)) and "\n" not in str(caught.value)
    del payload["config"]
    torch.save(payload, saved)
    refusal(saved)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("enforce fail\nat inline")])
def test_a_failed_write_leaves_the_earlier_checkpoint(saved, monkeypatch, error):
    before = saved.read_bytes()

    def fails(_payload, file):
        file.write(b"half of a checkpo")
        raise error

    monkeypatch.setattr(torch, "save", fails)
    with pytest.raises(CheckpointError, match="cannot be written") as caught:
        save_checkpoint(saved, Config(), **WEIGHTS)
    assert "\n" not in str(caught.value) and str(saved) in str(caught.value)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_write_that_is_interrupted_leaves_the_earlier_checkpoint(saved, monkeypatch):
    before = saved.read_bytes()

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(saved, Config(), **WEIGHTS)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_folder_that_cannot_be_made_is_a_refusal_too(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"last\.pth: the checkpoint cannot be written"):
        save_checkpoint(tmp_path / "file" / "last.pth", Config())
